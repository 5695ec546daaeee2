"""The base of everything that the RPC server answers with."""

from __future__ import annotations

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the answers: plain data, JSON objects with these field names."""
