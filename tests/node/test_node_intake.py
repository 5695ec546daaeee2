"""What peers send, before the core sees it: forged, swapped, outdated and oversized messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from node_cluster import Cluster, make_cluster, run, transfer
from test_node_executor import Bench

from consensus.ledger.messages import transaction_id
from consensus.tendermint import inputs
from consensus.tendermint.types import (
    NO_ROUND,
    Block,
    FullProposal,
    Proposal,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from gensyn_node.app import wire
from gensyn_node.app.broadcaster import compact
from gensyn_node.app.driver import Driver
from gensyn_node.app.intake import Intake
from gensyn_node.app.outbox import Outbox
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from p2p.api import GossipMessage, Peers, RequestFailed, Requests


class Offered:
    """Stands for the driver: remembers what it was given."""

    def __init__(self) -> None:
        self.items: list[object] = []

    async def offer(self, item: object) -> None:
        """Take an input."""
        await trio.lowlevel.checkpoint()
        self.items.append(item)


class Answers:
    """Stands for the network's requests: answers from a table of transactions."""

    def __init__(self, transactions: Mapping[bytes, bytes] | None = None, limit: int = 1_000) -> None:
        self.transactions = dict(transactions or {})
        self.limit = limit
        self.asked: list[Sequence[bytes]] = []

    async def request(self, peer: str, method: str, data: bytes, **_: Any) -> bytes:
        """Answer `chain/transactions`."""
        await trio.lowlevel.checkpoint()
        if not self.transactions:
            raise RequestFailed("gone")
        query: wire.TransactionsQuery = codec.decode(wire.TransactionsQuery, data)
        self.asked.append(query.ids)
        found = [self.transactions[name] for name in query.ids if name in self.transactions]
        return codec.encode(wire.TransactionsReply(tuple(found[: self.limit])))


class Reports:
    """Stands for the peer table: remembers who was reported."""

    def __init__(self) -> None:
        self.reported: list[str] = []

    async def report(self, peer: str, rejection: Rejection) -> None:
        """Score a peer."""
        await trio.lowlevel.checkpoint()
        self.reported.append(rejection.reason.name)


class Rig:
    """An intake over a real chain, with everything around it replaced."""

    def __init__(self, cluster: Cluster, answers: Answers | None = None) -> None:
        self.cluster = cluster
        self.bench = Bench(cluster.settings[0])
        self.driver, self.answers, self.reports = Offered(), answers or Answers(), Reports()
        self.intake = Intake(
            chain=self.bench.chain,
            driver=cast(Driver, self.driver),
            pool=self.bench.pool,
            requests=cast(Requests, self.answers),
            peers=cast(Peers, self.reports),
            clock_ms=lambda: 1_000_000,
        )

    def proposer(self) -> int:
        """Number of the node that proposes in round 0."""
        address = self.bench.chain.state.validators.proposer
        return [one.consensus_key.address for one in self.cluster.settings].index(address)

    def propose(self, block: Block) -> FullProposal:
        """The block, proposed by whose turn it is."""
        key = self.cluster.settings[self.proposer()].consensus_key
        proposal = Proposal(1, 0, NO_ROUND, block.id, key.address)
        signature = key.sign(proposal_sign_bytes(self.cluster.genesis.chain_id, proposal))
        return FullProposal(structs.replace(proposal, signature=signature), block)

    def vote(self, number: int, height: int = 1) -> Vote:
        """A prevote of a validator."""
        key = self.cluster.settings[number].consensus_key
        vote = Vote(VoteType.PREVOTE, height, 0, b"\5" * 32, key.address)
        return structs.replace(vote, signature=key.sign(vote_sign_bytes(self.cluster.genesis.chain_id, vote)))

    async def gossip_compact(self, message: wire.CompactProposal) -> None:
        """Let the intake take a compact proposal, and what it starts finish."""
        data = codec.encode(message)
        self.intake._check_compact("peer", data)
        async with trio.open_nursery() as nursery:
            await self.intake._take_compact(GossipMessage(wire.TOPIC_PROPOSALS, data, "peer"), nursery)


async def block_with(rig: Rig, count: int) -> Block:
    """A block of some transfers that the rig's pool does not know."""
    other = Bench(rig.cluster.settings[1])
    for nonce in range(count):
        other.pool.add(transfer(rig.cluster, 1, nonce, 5, b"\2" * 20))
    block = await other.build(None)
    other.chain.close()
    return block


def test_a_swapped_body_under_a_signed_header_never_reaches_the_core(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        full = rig.propose(await block_with(rig, 2))
        for body in ((), full.block.transactions[:1], full.block.transactions[::-1], (*full.block.transactions, b"x")):
            swapped = FullProposal(full.proposal, structs.replace(full.block, transactions=body))
            with pytest.raises(Rejection):
                await rig.intake.take_messages([swapped])
        assert rig.driver.items == []
        await rig.intake.take_messages([full])
        (item,) = rig.driver.items
        assert isinstance(item, inputs.VerifiedProposal)
        assert item.block == full.block

    run(scenario)


@pytest.mark.parametrize("limit", [1_000, 1])
def test_missing_transactions_of_a_proposal_are_asked_for(limit: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        block = await block_with(rig, 3)
        rig.answers.transactions = {transaction_id(data): data for data in block.transactions}
        rig.answers.limit = limit
        rig.bench.pool.add(block.transactions[0])
        await rig.gossip_compact(compact(rig.propose(block)))
        (item,) = rig.driver.items
        assert isinstance(item, inputs.VerifiedProposal)
        assert item.block == block
        assert item.received_ms == 1_000_000
        assert set(rig.answers.asked[0]) == {transaction_id(data) for data in block.transactions[1:]}

    run(scenario)


def test_a_proposal_whose_transactions_nobody_has_is_left_to_catch_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        await rig.gossip_compact(compact(rig.propose(await block_with(rig, 1))))
        assert rig.driver.items == []
        assert rig.reports.reported == []

    run(scenario)


def test_wrong_transactions_in_an_answer_do_not_make_a_block(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        block = await block_with(rig, 1)
        other = transfer(rig.cluster, 2, 0, 5, b"\2" * 20)
        rig.answers.transactions = {transaction_id(block.transactions[0]): other}
        await rig.gossip_compact(compact(rig.propose(block)))
        assert rig.driver.items == []

    run(scenario)


def test_votes_are_checked_for_the_heights_that_matter(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        good, next_height, far = rig.vote(1), rig.vote(2, 2), rig.vote(3, 9)
        verified = rig.intake.verify([good, next_height, far])
        assert [item.vote for item in verified if isinstance(item, inputs.VerifiedVote)] == [good, next_height]
        stranger = structs.replace(good, validator=b"\1" * 20)
        forged = structs.replace(good, block_id=b"\6" * 32)
        unsigned = structs.replace(good, signature=b"")
        for bad in (stranger, forged, unsigned, structs.replace(good, round=-1)):
            with pytest.raises(Rejection):
                rig.intake.verify([bad])

    run(scenario)


def test_a_forged_bundle_is_refused_before_it_is_passed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        forged = structs.replace(rig.vote(1), block_id=b"\6" * 32)
        with pytest.raises(Rejection):
            rig.intake._check_votes("peer", codec.encode(wire.VoteBundle((rig.vote(2), forged))))
        data = codec.encode(wire.VoteBundle((rig.vote(1), rig.vote(2))))
        rig.intake._check_votes("peer", data)
        async with trio.open_nursery() as nursery:
            await rig.intake._take_votes(GossipMessage(wire.TOPIC_VOTES, data, "peer"), nursery)
        assert len(rig.driver.items) == 2

    run(scenario)


MESSAGES = (
    wire.TransactionBatch,
    wire.VoteBundle,
    wire.CompactProposal,
    wire.StatusQuery,
    wire.StatusReply,
    wire.BlocksQuery,
    wire.BlocksReply,
    wire.TransactionsQuery,
    wire.TransactionsReply,
)


@given(st.binary(max_size=300), st.sampled_from(MESSAGES))
@settings(max_examples=300, deadline=None)
def test_any_bytes_decode_or_are_refused(data: bytes, type_: Any) -> None:
    try:
        message = codec.decode(type_, data)
    except Rejection:
        return
    assert codec.encode(message) == data


def test_bounds_of_messages() -> None:
    with pytest.raises(Rejection):
        codec.decode(wire.TransactionBatch, codec.encode(wire.TransactionBatch(())))
    with pytest.raises(Rejection):
        codec.decode(wire.BlocksQuery, codec.encode(wire.BlocksQuery(1, wire.REPLY_BLOCKS_MAX + 1)))
    with pytest.raises(Rejection):
        codec.decode(wire.BlocksQuery, codec.encode(wire.BlocksQuery(0, 1)))
    with pytest.raises(Rejection):
        codec.decode(wire.TransactionsQuery, codec.encode(wire.TransactionsQuery((b"\1" * 31,))))


def test_outbox_groups_what_is_ready_and_bounds_it() -> None:
    async def scenario() -> None:
        sent: list[tuple[bytes, ...]] = []

        async def send(group: tuple[bytes, ...]) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(group)

        outbox: Outbox[bytes] = Outbox(send, delay_s=0, group_items_max=3, group_bytes_max=10, size_of=len, capacity=8)
        for size in (1, 1, 1, 1, 9, 9, 20, 1, 1):
            outbox.put(b"x" * size)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.run)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        # The first item was dropped: nine do not fit into a capacity of eight.
        assert [[len(item) for item in group] for group in sent] == [[1, 1, 1], [9], [9], [20], [1, 1]]

    run(scenario)
