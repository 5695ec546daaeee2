"""Bounded field types: what a decoder refuses before any rule is asked."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gensyn_node.primitives import limits
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

UINT32_MAX = (1 << 32) - 1

Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""A 32-byte hash, root, id or key."""
OptionalHash = Annotated[bytes, Meta(max_length=32)]
"""A 32-byte hash, or empty; the rules refuse other lengths."""
Address = Annotated[bytes, Meta(min_length=20, max_length=20)]
"""A 20-byte account address."""
Nano = Annotated[int, Meta(ge=0, le=SUPPLY_NANO_MAX)]
"""An amount of money."""
Count = Annotated[int, Meta(ge=0, le=SUPPLY_NANO_MAX)]
"""A size, height, nonce or quantity of gas."""
Small = Annotated[int, Meta(ge=0, le=UINT32_MAX)]
"""A number of steps, segments, blocks, or the bits of an f32."""
Text = Annotated[str, Meta(max_length=128)]
"""A short text from a stranger; printed as text only."""
Endpoints = Annotated[tuple[Text, ...], Meta(max_length=8)]
"""Peer ids or multiaddresses that serve data."""
Roots = Annotated[tuple[Hash, ...], Meta(max_length=limits.SEGMENTS_PER_INSTALMENT_MAX)]
"""State roots or blob ids, one a segment."""
