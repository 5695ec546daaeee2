"""The node's home and configuration: where its files lie, and `config.toml` as one frozen struct.

In: a path, a TOML file. Out: `Home`, `NodeConfig`. Reading order: `home`, `strict_toml` (strict TOML with line numbers,
also used for task files), `node_config`, `template` (the commented file that `gensyn node init` writes). Protocol
parameters are in the genesis, never here; so are no secrets. Imports nothing above the primitives.
"""
