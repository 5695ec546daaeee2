"""Peers without a stake that repeat what validators signed, or put another body under a signed header."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec import structs
from node_cluster import make_cluster, run
from test_node_driver import Rig as DriverRig
from test_node_intake import Rig, block_with

from consensus.ledger.messages import transaction_id
from consensus.tendermint.types import VoteType
from consensus.tendermint.verify import verify_vote
from gensyn_node.app import wire
from gensyn_node.app.broadcaster import compact
from gensyn_node.primitives import codec, crypto
from gensyn_node.primitives.errors import Rejection
from p2p.api import GossipMessage
from p2p.scoring import ScoreBoard


def test_signatures_are_checked_once_however_often_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        checks = 0
        check = crypto.verify

        def counted(public_key: bytes, message: bytes, signature: bytes) -> bool:
            nonlocal checks
            checks += 1
            return check(public_key, message, signature)

        monkeypatch.setattr(verify_vote, "__defaults__", (counted,))
        bundle = wire.VoteBundle(tuple(rig.vote(number % 4) for number in range(wire.BUNDLE_VOTES_MAX)))
        for _ in range(3):
            rig.intake._check_votes("peer", codec.encode(bundle))
        assert checks == 4

    run(scenario)


def test_repeated_votes_do_not_grow_the_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        rig, votes = DriverRig(cluster), Rig(make_cluster(tmp_path / "other", 4))
        appended = 0
        append = rig.opened.wal.append

        def seen(payload: bytes) -> None:
            nonlocal appended
            appended += 1
            append(payload)

        rig.opened.wal.append = seen  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            validators = rig.chain.state.validators
            before = appended
            for _ in range(100):
                for number in (1, 2):
                    await rig.driver.offer(verify_vote(rig.chain.chain_id, validators, votes.vote(number)))
            await trio.testing.wait_all_tasks_blocked()
            assert appended - before == 2
            assert len(rig.driver.core.machine.votes.rounds[0].of(VoteType.PREVOTE).first) >= 2
            nursery.cancel_scope.cancel()
        rig.close()

    run(scenario)


def test_who_forwards_a_proposal_with_an_altered_body_is_not_blamed(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        block = await block_with(rig, 2)
        rig.answers.transactions = {transaction_id(data): data for data in block.transactions}
        whole = compact(rig.propose(block))
        await rig.gossip_compact(structs.replace(whole, transaction_ids=whole.transaction_ids[:1]))
        assert rig.driver.items == []
        assert rig.reports.reported == []
        await rig.gossip_compact(whole)
        assert len(rig.driver.items) == 1

    run(scenario)


def test_a_peer_that_answers_bit_by_bit_does_not_keep_the_places(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        block = await block_with(rig, 1)
        whole = compact(rig.propose(block))
        slow = trio.Event()

        async def never(*_: object, **__: object) -> bytes:
            await slow.wait()
            return b""

        rig.answers.request = never  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                message = GossipMessage(wire.TOPIC_PROPOSALS, codec.encode(whole), "slow")
                await rig.intake._take_compact(message, nursery)
            assert rig.intake._fetching.total() == 2
        assert rig.intake._fetching.total() == 0

    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


def test_votes_of_other_heights_are_not_passed_on_unchecked_and_nobody_is_blamed(tmp_path: Path) -> None:
    async def scenario() -> None:
        rig = Rig(make_cluster(tmp_path, 4))
        for height in (3, 1_000):
            with pytest.raises(Rejection) as caught:
                rig.intake._check_votes("peer", codec.encode(wire.VoteBundle((rig.vote(1), rig.vote(2, height)))))
            assert caught.value.reason.name == "out_of_season"
            board = ScoreBoard(60.0)
            board.charge("peer", caught.value, 0.0)
            assert board.score("peer", 0.0) == 0
        rig.intake._check_votes("peer", codec.encode(wire.VoteBundle((rig.vote(1), rig.vote(2, 2)))))

    run(scenario)
