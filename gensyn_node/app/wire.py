"""What nodes say to each other about the chain, and under which topic or method.

Gossip carries transactions in batches, votes in bundles, proposals without their transactions. Everything that gossip
may lose can be asked for: the missing transactions of a proposal, what a node lacks of its height, whole blocks.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.tendermint.types import (
    Block,
    Certificate,
    Commit,
    Evidence,
    FullProposal,
    Header,
    HeightStatus,
    Proposal,
    Vote,
)
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct

TOPIC_TRANSACTIONS = "tx"
TOPIC_VOTES = "vote"
TOPIC_PROPOSALS = "proposal"
TOPIC_EVIDENCE = "evidence"
METHOD_STATUS = "chain/status"
METHOD_BLOCKS = "chain/blocks"
METHOD_TRANSACTIONS = "chain/transactions"
METHOD_EVIDENCE = "chain/evidence"

BATCH_BYTES_MAX = 512 * limits.KIB
"""Transactions in one gossip message, unless a single one is larger; gossip carries 1 MiB."""
BATCH_TRANSACTIONS_MAX = 256
"""Transactions in one gossip message: they are checked before it is passed on, in some hundredths of a second."""
BUNDLE_VOTES_MAX = 4 * limits.VALIDATORS_MAX
"""Votes in one gossip message: both kinds of two rounds."""
REPLY_BYTES_MAX = limits.MESSAGE_BYTES_MAX - 64 * limits.KIB
"""What a reply is filled up to: one message, less its envelope."""
REPLY_BLOCKS_MAX = 64
"""Blocks in one reply: what the asker verifies in some seconds."""
REPLY_MESSAGES_MAX = 4_096
"""Catch-up messages in one reply."""

EVIDENCE_ITEM_BYTES_MAX = 64 * limits.KIB
"""One piece of evidence: a false header with the commit of the largest set takes about 25 KiB."""
EXCHANGED_EVIDENCE_MAX = 16
"""Evidence in one exchange."""
EXCHANGED_BYTES_MAX = 256 * limits.KIB
"""Bytes of it."""

Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
TransactionBytes = Annotated[bytes, Meta(max_length=limits.TRANSACTION_BYTES_MAX)]


class TransactionBatch(Struct):
    """Transactions that the sender has accepted."""

    transactions: Annotated[tuple[TransactionBytes, ...], Meta(min_length=1, max_length=BATCH_TRANSACTIONS_MAX)]


class VoteBundle(Struct):
    """Votes and certificates that were ready at the same time."""

    votes: Annotated[tuple[Vote | Certificate, ...], Meta(min_length=1, max_length=BUNDLE_VOTES_MAX)]


class CompactProposal(Struct):
    """A proposal whose transactions are named, not carried: most nodes have them already."""

    proposal: Proposal
    header: Header
    last_commit: Commit | None
    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=limits.EVIDENCE_PER_BLOCK_MAX)]
    transaction_ids: Annotated[tuple[Hash, ...], Meta(max_length=limits.BLOCK_TRANSACTIONS_MAX)]


class StatusQuery(Struct):
    """What the asker has of its height; the answer is what it lacks."""

    status: HeightStatus


class StatusReply(Struct):
    """What the asker lacks in its height, when both are at the same one, and how far the answerer is."""

    head_height: int
    messages: Annotated[tuple[Vote | FullProposal | Certificate, ...], Meta(max_length=REPLY_MESSAGES_MAX)]


class BlocksQuery(Struct):
    """Blocks from a height on."""

    first: Annotated[int, Meta(ge=1)]
    count: Annotated[int, Meta(ge=1, le=REPLY_BLOCKS_MAX)]


class SealedBlock(Struct):
    """A block and the commit that decided it."""

    block: Block
    commit: Commit


class BlocksReply(Struct):
    """As many of the blocks asked for as there are and fit."""

    head_height: int
    blocks: Annotated[tuple[SealedBlock, ...], Meta(max_length=REPLY_BLOCKS_MAX)]


class TransactionsQuery(Struct):
    """Transactions by id."""

    ids: Annotated[tuple[Hash, ...], Meta(min_length=1, max_length=limits.BLOCK_TRANSACTIONS_MAX)]


class TransactionsReply(Struct):
    """Those of the transactions asked for that the answerer has and that fit."""

    transactions: Annotated[tuple[TransactionBytes, ...], Meta(max_length=limits.BLOCK_TRANSACTIONS_MAX)]


class EvidenceExchange(Struct):
    """Evidence that waits for a block at the sender; the answer is what the receiver has beyond it."""

    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=EXCHANGED_EVIDENCE_MAX)]
