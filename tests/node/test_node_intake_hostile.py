"""Peers without a stake that repeat what validators signed, or put another body under a signed header."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec import structs
from node_cluster import FEE_NANO, key, make_cluster, run, transfer
from test_node_driver import Rig as DriverRig
from test_node_executor import commit_of
from test_node_intake import Rig, block_with

from consensus.ledger.messages import Transfer, decode_transaction, sign_transaction, transaction_id
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


def test_a_forged_transaction_is_blamed_on_who_sends_it_and_not_passed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        rig = Rig(cluster)
        good = transfer(cluster, 1, 0, 5, b"\2" * 20)
        transaction = decode_transaction(good)
        forged = codec.encode(structs.replace(transaction, signature=bytes(64)))
        elsewhere = codec.encode(structs.replace(transaction, chain_id="devnet-other"))
        for bad, code in ((forged, "bad_signature"), (elsewhere, "signed_for_other_chain"), (b"\xc1", "malformed")):
            with pytest.raises(Rejection) as caught:
                await rig.intake._take_transactions("peer", codec.encode(wire.TransactionBatch((bad,))))
            assert caught.value.reason.name == code
            board = ScoreBoard(60.0)
            board.charge("peer", caught.value, 0.0)
            assert board.score("peer", 0.0) < 0
        # The forgery has another id: the true transaction is not mistaken for it.
        await rig.intake._take_transactions("peer", codec.encode(wire.TransactionBatch((good,))))
        assert len(rig.bench.pool) == 1

    run(scenario)


def test_a_transaction_s_signature_is_checked_once_whatever_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        rig = Rig(cluster)
        checks = 0
        check = crypto.verify

        def counted(public_key: bytes, message: bytes, signature: bytes) -> bool:
            nonlocal checks
            checks += 1
            return check(public_key, message, signature)

        monkeypatch.setattr(crypto, "verify", counted)
        good = [transfer(cluster, sender, 0, 5, b"\2" * 20) for sender in range(3)]
        forged = codec.encode(structs.replace(decode_transaction(good[0]), signature=b"\1" * 64))
        for batch in ((good[0],), (good[0], good[1]), (good[1], good[2])):
            await rig.intake._take_transactions("peer", codec.encode(wire.TransactionBatch(batch)))
        for _ in range(3):
            with pytest.raises(Rejection):
                await rig.intake._take_transactions("peer", codec.encode(wire.TransactionBatch((forged,))))
            with pytest.raises(Rejection) as caught:
                await rig.intake._take_transactions("peer", codec.encode(wire.TransactionBatch(tuple(good))))
            assert caught.value.reason.name == "out_of_season"  # all are known: nothing is passed on, nobody blamed
        assert checks == 4
        block = await rig.bench.build(None)
        await rig.bench.executor.commit(block, commit_of(cluster, rig.bench.chain, block))
        assert len(block.transactions) == 3
        assert checks == 4
        assert rig.bench.pool.already_received > 0

    run(scenario)


def test_transactions_that_the_ledger_refuses_cost_no_signature_and_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        rig = Rig(cluster)

        def never(public_key: bytes, message: bytes, signature: bytes) -> bool:
            raise AssertionError("a signature was checked")

        poor = key("poor", 1)
        message = sign_transaction(poor, cluster.genesis.chain_id, 0, FEE_NANO, Transfer(b"\2" * 20, 1))
        monkeypatch.setattr(crypto, "verify", never)
        with pytest.raises(Rejection) as caught:
            await rig.intake._take_transactions("peer", codec.encode(wire.TransactionBatch((codec.encode(message),))))
        assert caught.value.reason.name == "out_of_season"

    run(scenario)


def test_a_forgery_that_the_ledger_refuses_here_is_not_passed_on_beside_others(tmp_path: Path) -> None:
    """A neighbour with an older head would see nothing but the forged signature, and ban who forwarded it."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        rig, behind = Rig(cluster), Rig(make_cluster(tmp_path / "behind", 4))
        rig.bench.pool.add(transfer(cluster, 2, 0, 5, b"\2" * 20))
        block = await rig.bench.build(None)
        await rig.bench.executor.commit(block, commit_of(cluster, rig.bench.chain, block))
        used = decode_transaction(transfer(cluster, 2, 0, 6, b"\2" * 20))
        stale, forged = codec.encode(used), codec.encode(structs.replace(used, signature=b"\1" * 64))
        for new, other in ((1, forged), (3, stale)):
            batch = codec.encode(wire.TransactionBatch((other, transfer(cluster, new, 0, 5, b"\2" * 20))))
            verdicts = []
            for intake in (rig.intake, behind.intake):
                try:
                    await intake._take_transactions("peer", batch)
                    verdicts.append("")
                except Rejection as rejection:
                    verdicts.append(rejection.reason.name)
            assert verdicts == (["bad_signature"] * 2 if other is forged else ["", ""])

    run(scenario)
