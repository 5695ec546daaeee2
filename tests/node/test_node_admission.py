"""Overload: a node that cannot keep up says so with a code, keeps what it took, takes more when the block is there."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing
from node_cluster import make_cluster, run, transfer
from test_node_executor import commit_of
from test_node_intake import Rig

from consensus.ledger.messages import transaction_id
from consensus.mempool import NODE_BEHIND
from gensyn_node.app import wire
from gensyn_node.app.admission import Admission
from gensyn_node.app.backend import Backend
from gensyn_node.app.broadcaster import Broadcaster
from gensyn_node.app.light_service import LightService
from gensyn_node.app.node import Node
from gensyn_node.light import wire as light_wire
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection

TARGET = b"\2" * 20


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_admission_closes_only_when_a_block_is_overdue_and_plenty_waits() -> None:
    clock, pending = Clock(), 0
    admission = Admission(lambda: pending, now_s=clock, overdue_s=1.0, plenty=10)
    pending = 1_000
    assert admission.is_open  # no block yet: a chain that starts or catches up is not late
    admission.after_block()
    clock.now_s += 1.0
    assert admission.is_open
    clock.now_s += 0.1
    assert not admission.is_open
    with pytest.raises(Rejection) as caught:
        admission.check()
    assert caught.value.reason is NODE_BEHIND and admission.refused == 1
    pending = 9
    assert admission.is_open  # a stalled chain with little to do takes what comes
    pending = 10
    assert not admission.is_open
    admission.after_block()
    admission.check()
    assert admission.refused == 1


def test_gossip_waits_for_the_block() -> None:
    async def scenario() -> None:
        clock, passed = Clock(), 0
        admission = Admission(lambda: 10, now_s=clock, overdue_s=1.0, plenty=10)

        async def gossip() -> None:
            nonlocal passed
            await admission.wait_open()
            passed += 1

        await gossip()
        admission.after_block()
        clock.now_s += 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gossip)
            nursery.start_soon(gossip)
            await trio.testing.wait_all_tasks_blocked()
            assert (passed, admission.waits) == (1, 2)
            admission.after_block()
        assert passed == 3

    run(scenario)


class Only:
    """Stands for a node of which the backend asks two parts only."""

    def __init__(self, rig: Rig) -> None:
        self.pool = rig.bench.pool
        self.chain = self

    async def submit_transaction(self, data: bytes) -> bytes:
        """Take a transaction."""
        await trio.lowlevel.checkpoint()
        return self.pool.add(data)


def test_overload_is_refused_with_a_reason_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        rig, clock = Rig(cluster), Clock()
        pool, chain = rig.bench.pool, rig.bench.chain
        pool.admission = Admission(pool.__len__, now_s=clock, overdue_s=1.0, plenty=20)
        pool.admission.after_block()
        clock.now_s += 5.0
        backend = Backend(cast(Node, Only(rig)))
        light = LightService(chain=chain, pool=pool, broadcaster=Broadcaster(None))
        offered = [transfer(cluster, sender, nonce, 1, TARGET) for nonce in range(10) for sender in range(4)]
        acknowledged, refused = [], 0
        for data in offered:
            try:
                acknowledged.append(await backend.submit_transaction(data))
            except Rejection as rejection:
                assert rejection.reason is NODE_BEHIND
                refused += 1
        assert (len(acknowledged), refused) == (20, 20)
        reply = codec.decode(light_wire.SubmitReply, await light.serve_submit("laptop", offered[-1]))
        assert reply.code == NODE_BEHIND.code
        async with trio.open_nursery() as nursery:
            batch = codec.encode(wire.TransactionBatch(tuple(offered)))
            nursery.start_soon(rig.intake._take_transactions, "peer", batch)
            await trio.testing.wait_all_tasks_blocked()
            assert len(pool) == 20  # gossip waits, and what waits is in no pool yet
            block = await rig.bench.build(None)
            assert {transaction_id(data) for data in block.transactions} == set(acknowledged)
            await rig.bench.executor.commit(block, commit_of(cluster, chain, block))
        results = chain.results(1)
        assert results is not None and all(result.applied for result in results)
        assert len(pool) == 20  # the block opened the door: the rest of the batch is in
        clock.now_s += 0.5
        with pytest.raises(Rejection) as caught:
            await backend.submit_transaction(offered[-1])
        assert caught.value.reason.name == "transaction_known"

    run(scenario)
