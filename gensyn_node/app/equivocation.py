"""A validator that votes for two blocks, for rehearsals on local networks: what it costs can be watched."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from consensus.tendermint.types import ConsensusMessage, Vote, VoteType, vote_sign_bytes
from gensyn_node.primitives.crypto import SecretKey

OTHER_BLOCK = b"\x07" * 32
Broadcast = Callable[[ConsensusMessage], None]


def voting_twice(broadcast: Broadcast, key: SecretKey, chain_id: str) -> Broadcast:
    """A `broadcast` that sends a second prevote, for a block that does not exist, after each of one's own.

    It signs past the record that keeps an honest node from voting twice.
    """

    def both(message: ConsensusMessage) -> None:
        broadcast(message)
        if isinstance(message, Vote) and message.kind is VoteType.PREVOTE and message.validator == key.address:
            other = structs.replace(message, block_id=OTHER_BLOCK, signature=b"")
            broadcast(structs.replace(other, signature=key.sign(vote_sign_bytes(chain_id, other))))

    return both
