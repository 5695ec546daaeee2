"""The node: primitives at the bottom; storage, keys and config; roles, RPC and SDK; the composed application on top."""

__version__ = "0.1.0"
