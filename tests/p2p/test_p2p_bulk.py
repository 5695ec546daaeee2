"""Bulk waits: frames of votes overtake it, a flood of it costs its sender alone, and what does not fit is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2
from p2p_hosts import mesh, pair, run, until

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.reasons import MALFORMED
from p2p import bounds
from p2p.api import PeerId
from p2p.bulk import ROUNDS_MAX, BulkQueue, let_others_work
from p2p.pubsub import BoundedQueue

BULK, URGENT = "/gensyn/test/tx/1", "/gensyn/test/votes/1"


@pytest.fixture(autouse=True)
def _bulk_topic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(BoundedQueue, "bulk_topics", {BULK})
    monkeypatch.setattr(BoundedQueue, "lost", type(BoundedQueue.lost)())
    yield


def frame(topic: str, data: bytes) -> Any:
    """What gossip puts into a neighbour's queue."""
    return rpc_pb2.RPC(publish=[rpc_pb2.Message(data=data, topicIDs=[topic])])


def test_a_vote_overtakes_a_thousand_frames_of_transactions() -> None:
    async def test() -> None:
        queue = BoundedQueue()
        for number in range(1_000):
            assert queue.push(frame(BULK, b"%d" % number))
        for number in range(3):
            assert queue.push(frame(URGENT, b"vote %d" % number))
        announcement = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=BULK)])
        assert queue.push(announcement)
        urgent = [await queue.pop() for _ in range(4)]
        assert [rpc.publish[0].data for rpc in urgent[:3]] == [b"vote 0", b"vote 1", b"vote 2"]
        assert urgent[3] == announcement
        assert [(await queue.pop()).publish[0].data for _ in range(1_000)] == [b"%d" % one for one in range(1_000)]
        assert queue.waiting_bytes == 0

    run(test)


@pytest.mark.parametrize("size", [1, 900_000])
def test_a_queue_full_of_transactions_has_room_for_votes(size: int) -> None:
    async def test() -> None:
        queue = BoundedQueue()
        taken = 0
        while queue.push(frame(BULK, bytes(size))):
            taken += 1
        assert BoundedQueue.lost["gossip_queue_full"] == 1
        room = bounds.GOSSIP_QUEUE_MESSAGES // 2
        assert sum(queue.push(frame(URGENT, b"vote")) for _ in range(room)) == room
        for _ in range(room):
            await queue.pop()
        await queue.pop()  # one of the transactions
        assert queue.push(frame(BULK, bytes(size)))
        assert not queue.push(frame(BULK, bytes(size)))
        assert taken > 10

    run(test)


def test_neighbours_take_turns_and_a_flood_costs_its_sender_alone() -> None:
    async def test() -> None:
        queue: BulkQueue[int] = BulkQueue(items_per_peer=5, bytes_per_peer=100)
        assert [queue.put("flood", number, 10) for number in range(8)] == [True] * 5 + [False] * 3
        assert queue.put("bytes", 20, 1_000)  # larger than all its room: alone it passes, or it never could
        assert not queue.put("bytes", 21, 1)
        assert queue.put("quiet", 30, 10)
        assert len(queue) == 7
        assert [await queue.take() for _ in range(4)] == [0, 20, 30, 1]
        assert queue.put("bytes", 22, 99)
        assert [await queue.take() for _ in range(4)] == [2, 22, 3, 4]
        with trio.move_on_after(0.01) as waited:
            await queue.take()
        assert waited.cancelled_caught

    run(test)


def test_waiting_taker_gets_what_comes() -> None:
    async def test() -> None:
        queue: BulkQueue[str] = BulkQueue(items_per_peer=1, bytes_per_peer=1)
        async with trio.open_nursery() as nursery:

            async def put() -> None:
                await trio.lowlevel.checkpoint()
                queue.put("peer", "it", 1)

            nursery.start_soon(put)
            assert await queue.take() == "it"

    run(test)


def test_others_work_first_but_not_for_ever() -> None:
    async def test() -> None:
        done = 0

        async def busy() -> None:
            nonlocal done
            while True:
                begun = trio.current_time()
                while trio.current_time() - begun < 0.001:
                    pass
                done += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy)
            await let_others_work()
            assert 2 * ROUNDS_MAX - 1 <= done <= 2 * ROUNDS_MAX + 1
            nursery.cancel_scope.cancel()

    run(test)


@pytest.mark.integration
def test_votes_pass_while_transactions_wait_to_be_checked(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            taken: list[bytes] = []
            gate = trio.Event()

            async def take(peer: PeerId, data: bytes) -> None:
                await gate.wait()
                if data == b"bad":
                    raise Rejection(MALFORMED, "bad")
                if data == b"failing":
                    raise ValueError("a mistake of ours")
                taken.append(data)

            await alice.gossip.subscribe_bulk("tx", take, per_second=1e6)
            await bob.gossip.subscribe_bulk("tx", take, per_second=1e6)
            votes = await alice.gossip.subscribe("votes", lambda peer, data: None)
            await bob.gossip.subscribe("votes", lambda peer, data: None)
            await mesh(alice, bob, topic="tx")
            await mesh(alice, bob, topic="votes")
            batches = [
                b"bad",
                b"failing",
                *(b"batch %d" % number for number in range(bounds.GOSSIP_BULK_MESSAGES + 50)),
            ]
            for data in batches:
                await bob.gossip.publish("tx", data)
            await bob.gossip.publish("votes", b"vote")
            assert (await votes.receive()).data == b"vote"
            assert taken == []
            # One is being taken, as many as fit wait; the newest are lost and counted.
            await until(lambda: alice.counters().get("gossip_bulk_lost") == 51, "51 counted losses")
            gate.set()
            whole = bounds.GOSSIP_BULK_MESSAGES - 1
            await until(lambda: len(taken) == whole, "the others")
            assert taken == batches[2 : whole + 2]
            counted = alice.counters()
            assert (counted["gossip_refused"], counted["validator_failures"]) == (1, 1)
            await bob.gossip.publish("tx", batches[-1])  # lost before, so it is no message that was seen
            assert alice.counters()["rejected_malformed"] == 1

    run(test)


@pytest.mark.integration
def test_a_broken_invariant_of_a_taker_ends_the_context(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(InvariantViolation, match="ledger is broken"):
            async with pair(tmp_path) as (alice, bob):

                async def take(peer: PeerId, data: bytes) -> None:
                    await trio.lowlevel.checkpoint()
                    raise InvariantViolation("ledger is broken")

                for network in (alice, bob):
                    await network.gossip.subscribe_bulk("tx", take)
                await mesh(alice, bob, topic="tx")
                await bob.gossip.publish("tx", b"batch")
                await trio.sleep_forever()

    run(test)
