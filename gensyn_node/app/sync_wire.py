"""What a joining node asks: snapshots, their chunks, and the headers before a snapshot."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.ledger.fields import Hash
from consensus.light.types import Members
from consensus.statesync.manifest import CHUNK_BYTES, CHUNKS_MAX
from consensus.tendermint.types import Evidence, Header
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct

METHOD_SNAPSHOTS = "chain/snapshots"
METHOD_SNAPSHOT = "chain/snapshot"
METHOD_CHUNK = "chain/snapshot-chunk"
METHOD_HEADERS = "chain/headers"

HEIGHT_MAX = 1 << 62
"""A block above every height that can be offered still has a height that can be asked for."""
OFFERS_MAX = 16
"""Snapshots of one peer; nobody keeps more than a few."""
HEADERS_MAX = 512
"""Headers in one reply, at some 600 bytes each."""
CHUNK_REPLY_BYTES_MAX = CHUNK_BYTES + 64
"""A chunk and its frame: a larger reply is cut off while it is read."""


class SnapshotsQuery(Struct):
    """Which snapshots are there."""


class SnapshotOffer(Struct):
    """One that is there."""

    height: Annotated[int, Meta(ge=1, lt=HEIGHT_MAX)]
    manifest_id: Hash


class SnapshotsReply(Struct):
    """All of them."""

    offers: Annotated[tuple[SnapshotOffer, ...], Meta(max_length=OFFERS_MAX)]


class SnapshotQuery(Struct):
    """The manifest of an offer; the reply is the encoded `Manifest`."""

    height: Annotated[int, Meta(ge=1)]
    manifest_id: Hash


class ChunkQuery(Struct):
    """One chunk of an offer; the reply is a `ChunkReply`."""

    height: Annotated[int, Meta(ge=1)]
    manifest_id: Hash
    index: Annotated[int, Meta(ge=0, lt=CHUNKS_MAX)]


class ChunkReply(Struct):
    """The chunk."""

    data: Annotated[bytes, Meta(max_length=CHUNK_BYTES)]


class HeadersQuery(Struct):
    """Headers from `last` downwards."""

    last: Annotated[int, Meta(ge=1)]
    count: Annotated[int, Meta(ge=1, le=HEADERS_MAX)]


class PastHeader(Struct):
    """A header, what its block punished, and who signed it."""

    header: Header
    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=limits.EVIDENCE_PER_BLOCK_MAX)]
    validators: Members | None
    """None when they are those of the header before it in the reply."""


class HeadersReply(Struct):
    """As many of them as are here and fit, falling."""

    headers: Annotated[tuple[PastHeader, ...], Meta(max_length=HEADERS_MAX)]
