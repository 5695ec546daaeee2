"""From the driver to gossip: votes in bundles, proposals without their transactions, transactions in batches."""

from __future__ import annotations

import structlog
import trio

from consensus.ledger.messages import transaction_id
from consensus.tendermint.types import Certificate, ConsensusMessage, FullProposal, Vote
from gensyn_node.app import wire
from gensyn_node.app.outbox import Outbox
from gensyn_node.primitives import codec
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from p2p.api import Gossip

TRANSACTION_DELAY_S = 0.04
"""Transactions that arrive within this time travel together."""
WAITING_TRANSACTIONS_MAX = 20_000
WAITING_MESSAGES_MAX = 1_024

log = structlog.get_logger()


class Broadcaster:
    """Publishes without making the caller wait. `gossip` may be None: then peers have to ask (tests do that)."""

    def __init__(self, gossip: Gossip | None) -> None:
        self._gossip = gossip
        self._votes: Outbox[Vote | Certificate] = Outbox(
            self._send_votes,
            delay_s=0,
            group_items_max=wire.BUNDLE_VOTES_MAX,
            group_bytes_max=wire.BATCH_BYTES_MAX,
            size_of=lambda vote: len(vote.signatures) * 70 if isinstance(vote, Certificate) else 200,
            capacity=WAITING_MESSAGES_MAX,
        )
        self._proposals: Outbox[wire.CompactProposal] = Outbox(
            self._send_proposals,
            delay_s=0,
            group_items_max=1,
            group_bytes_max=wire.BATCH_BYTES_MAX,
            size_of=lambda proposal: 32 * len(proposal.transaction_ids),
            capacity=WAITING_MESSAGES_MAX,
        )
        self._transactions: Outbox[bytes] = Outbox(
            self._send_transactions,
            delay_s=TRANSACTION_DELAY_S,
            group_items_max=wire.BATCH_TRANSACTIONS_MAX,
            group_bytes_max=wire.BATCH_BYTES_MAX,
            size_of=len,
            capacity=WAITING_TRANSACTIONS_MAX,
        )

    def consensus_message(self, message: ConsensusMessage) -> None:
        """Queue a message of the consensus core."""
        if isinstance(message, FullProposal):
            self._proposals.put(compact(message))
        else:
            self._votes.put(message)

    def transaction(self, data: bytes) -> None:
        """Queue a transaction that this node was the first to see."""
        self._transactions.put(data)

    async def run(self) -> None:
        """Publish until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._votes.run)
            nursery.start_soon(self._proposals.run)
            nursery.start_soon(self._transactions.run)

    async def _send_votes(self, votes: tuple[Vote | Certificate, ...]) -> None:
        await self._publish(wire.TOPIC_VOTES, wire.VoteBundle(votes))

    async def _send_proposals(self, proposals: tuple[wire.CompactProposal, ...]) -> None:
        for proposal in proposals:
            await self._publish(wire.TOPIC_PROPOSALS, proposal)

    async def _send_transactions(self, transactions: tuple[bytes, ...]) -> None:
        await self._publish(wire.TOPIC_TRANSACTIONS, wire.TransactionBatch(transactions))

    async def _publish(self, topic: str, message: Struct) -> None:
        if self._gossip is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._gossip.publish(topic, codec.encode(message))
        except Rejection as error:
            # Too large for gossip: peers get it by asking.
            log.warning("not_published", topic=topic, why=str(error))


def compact(full: FullProposal) -> wire.CompactProposal:
    """The proposal with its transactions named instead of carried."""
    block = full.block
    ids = tuple(transaction_id(data) for data in block.transactions)
    return wire.CompactProposal(full.proposal, block.header, block.last_commit, block.evidence, ids)
