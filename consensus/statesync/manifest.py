"""What a snapshot is: height, hashes of the chunks, the validator sets around it. Every honest node makes the same."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.ledger.fields import Count, Hash, Text
from consensus.statesync.reasons import BAD_MANIFEST
from consensus.tendermint.types import Validator, ValidatorSet
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import tagged_hash

FORMAT = 1
CHUNK_BYTES = limits.MIB
"""Every chunk but the last has exactly this size."""
CHUNKS_MAX = 65_536
"""64 GiB; their hashes fill half a message."""


class Manifest(Struct, dict=True):
    """A snapshot of the ledger after block `height`."""

    format: Annotated[int, Meta(ge=FORMAT, le=FORMAT)]
    chain_id: Text
    height: Annotated[int, Meta(ge=1)]
    entries: Count
    size: Count
    """Bytes of all chunks together."""
    chunks: Annotated[tuple[Hash, ...], Meta(min_length=1, max_length=CHUNKS_MAX)]
    """SHA-256 of each."""
    last_validators: ValidatorSet
    """That signed block `height`."""
    validators: ValidatorSet
    """Of the next height, with the state of the proposer rotation."""
    next_validators: Annotated[tuple[Validator, ...], Meta(max_length=limits.VALIDATORS_MAX)]
    """Of the height after that."""

    @property
    def id(self) -> bytes:
        """Its name: two peers with the same id serve the same chunks."""
        return tagged_hash("gensyn/snapshot", encode(self))

    def chunk_size(self, index: int) -> int:
        """Bytes of a chunk."""
        return min(CHUNK_BYTES, self.size - index * CHUNK_BYTES)


def check_manifest(manifest: Manifest, chain_id: str) -> None:
    """`Rejection` BAD_MANIFEST when it cannot be one of this chain, whatever its chunks hold."""
    if manifest.chain_id != chain_id:
        raise Rejection(BAD_MANIFEST, f"it is of chain {manifest.chain_id[:40]!r}")
    if len(manifest.chunks) != -(-manifest.size // CHUNK_BYTES):
        raise Rejection(BAD_MANIFEST, f"{len(manifest.chunks)} chunks for {manifest.size} bytes")
    for members in (manifest.last_validators, manifest.validators):
        if not 1 <= len(members.validators) <= limits.VALIDATORS_MAX:
            raise Rejection(BAD_MANIFEST, f"a set of {len(members.validators)} validators")
        if len(members.priorities) != len(members.validators):
            raise Rejection(BAD_MANIFEST, "a set without the state of its rotation")
