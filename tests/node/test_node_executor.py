"""Blocks on a chain's head: the same block gives the same state everywhere, wrong blocks are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from msgspec import structs
from node_cluster import Cluster, make_cluster, run, transfer

from consensus.ledger import keys, tree
from consensus.ledger.messages import transaction_id
from consensus.tendermint import effects
from consensus.tendermint.block import build_block
from consensus.tendermint.types import (
    Block,
    Commit,
    CommitFlag,
    CommitSlot,
    DuplicateVoteEvidence,
    Vote,
    VoteType,
    vote_sign_bytes,
)
from gensyn_node.app import certify
from gensyn_node.app.chain import Chain
from gensyn_node.app.executor import Executor, Pace, execute
from gensyn_node.app.node import wall_clock_ms
from gensyn_node.app.pool import Pool
from gensyn_node.app.settings import NodeSettings
from gensyn_node.app.startup import check_chain, create_chain, open_home
from gensyn_node.config.home import Home
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons


class Bench:
    """Chain, pool and executor of one home."""

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        # Its commits are made by `commit_of`, past any signer's record: it opens as a node that only follows.
        follows = structs.replace(settings.config.node, validator=False)
        opened = open_home(replace(settings, config=structs.replace(settings.config, node=follows)))
        opened.wal.close()
        self.chain: Chain = opened.chain
        self.pool = Pool(self.chain)
        self.executor = Executor(
            chain=self.chain,
            pool=self.pool,
            key=settings.consensus_key,
            pace=Pace(0, 0),
            clock_ms=wall_clock_ms,
            on_commit=lambda committed: None,
            upgrades=settings.upgrades,
        )

    async def build(self, last_commit: Commit | None) -> Block:
        """The block that this node would propose now."""
        return await self.executor.build(effects.BuildValue(self.chain.head.height + 1, 0, last_commit))


def commit_of(cluster: Cluster, chain: Chain, block: Block, signers: int = 4) -> Commit:
    """The precommits of the first `signers` nodes for a block."""
    height = block.header.height
    by_address = {settings.consensus_key.address: settings.consensus_key for settings in cluster.settings[:signers]}
    slots = []
    for member in chain.state.validators.validators:
        key = by_address.get(member.address)
        vote = Vote(VoteType.PRECOMMIT, height, 0, block.id, member.address)
        signature = key.sign(vote_sign_bytes(chain.chain_id, vote)) if key else b""
        slots.append(CommitSlot(CommitFlag.COMMIT if key else CommitFlag.ABSENT, signature))
    return Commit(height, 0, block.id, tuple(slots))


def test_two_homes_execute_the_same_blocks_to_the_same_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        first, second = Bench(cluster.settings[0]), Bench(cluster.settings[1])
        last_commit = None
        for number in range(5):
            for sender in range(4):
                first.pool.add(transfer(cluster, sender, number, 1_000 + number, bytes([sender]) * 20))
            block = await first.build(last_commit)
            assert len(block.transactions) == 4
            last_commit = commit_of(cluster, first.chain, block)
            await second.executor.check_sealed(block, last_commit)
            await first.executor.commit(block, last_commit)
            await second.executor.commit(block, last_commit)
            assert first.chain.head == second.chain.head
            assert len(first.pool) == 0
        assert dict(first.chain.view().items(b"")) == dict(second.chain.view().items(b""))
        check_chain(first.chain)
        expected = second.chain.state
        assert first.chain.state == expected
        first.chain.close()
        second.chain.close()
        again = Bench(cluster.settings[0])
        assert again.chain.head.height == 5
        assert again.chain.state == expected
        again.chain.close()

    run(scenario)


def changed(**fields: object) -> Callable[[Block], Block]:
    """A block with other header fields."""
    return lambda block: structs.replace(block, header=structs.replace(block.header, **fields))


WRONG: dict[str, Callable[[Block], Block]] = {
    "app hash": changed(app_hash=b"\1" * 32),
    "results root": changed(results_root=b"\1" * 32),
    "data root": changed(data_root=b"\1" * 32),
    "validators": changed(validators_hash=b"\1" * 32),
    "next validators": changed(next_validators_hash=b"\1" * 32),
    "previous block": changed(previous_block_id=b"\1" * 32),
    "height": changed(height=7),
    "chain": changed(chain_id="devnet-other"),
    "time of genesis": changed(time_ms=1),
    "proposer unknown": changed(proposer=b"\1" * 20),
    "beacon proof": changed(beacon_proof=bytes(80)),
    "beacon proof short": changed(beacon_proof=b""),
    "transaction added": lambda block: structs.replace(block, transactions=(*block.transactions, b"x")),
    "transaction dropped": lambda block: structs.replace(block, transactions=()),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_blocks_are_refused(name: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        bench = Bench(cluster.settings[0])
        bench.pool.add(transfer(cluster, 0, 0, 5, b"\2" * 20))
        block = await bench.build(None)
        assert await bench.executor.validate(block)
        assert not await bench.executor.validate(WRONG[name](block))
        bench.chain.close()

    run(scenario)


def test_a_block_with_another_proposers_beacon_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 2)
        first, second = Bench(cluster.settings[0]), Bench(cluster.settings[1])
        block = await first.build(None)
        stolen = structs.replace(
            block, header=structs.replace(block.header, proposer=second.settings.consensus_key.address)
        )
        assert await second.executor.validate(block)
        assert not await second.executor.validate(stolen)
        first.chain.close()
        second.chain.close()

    run(scenario)


def test_a_sealed_block_needs_a_quorum_and_every_signature(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        block = await bench.build(None)
        good = commit_of(cluster, bench.chain, block)
        await bench.executor.check_sealed(block, good)
        await bench.executor.check_sealed(block, commit_of(cluster, bench.chain, block, signers=3))
        forged = structs.replace(good, slots=(*good.slots[:3], CommitSlot(CommitFlag.COMMIT, b"\1" * 64)))
        for bad in (
            commit_of(cluster, bench.chain, block, signers=2),
            forged,
            structs.replace(good, height=2),
            structs.replace(good, block_id=b"\1" * 32),
            structs.replace(good, slots=good.slots[:3]),
        ):
            with pytest.raises(Rejection):
                await bench.executor.check_sealed(block, bad)
        bench.chain.close()

    run(scenario)


def test_evidence_goes_into_a_block_once_and_is_known_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        block = await bench.build(None)
        commit = commit_of(cluster, bench.chain, block)
        await bench.executor.commit(block, commit)
        cheat = cluster.settings[3].consensus_key
        votes = [Vote(VoteType.PREVOTE, 1, 0, name * 32, cheat.address) for name in (b"\1", b"\2")]
        signed = [
            structs.replace(vote, signature=cheat.sign(vote_sign_bytes(cluster.genesis.chain_id, vote)))
            for vote in votes
        ]
        evidence = DuplicateVoteEvidence(signed[0], signed[1])
        bench.executor.add_evidence(evidence)
        punishing = await bench.build(commit)
        assert punishing.evidence == (evidence,)
        assert await bench.executor.validate(punishing)
        commit = commit_of(cluster, bench.chain, punishing)
        await bench.executor.commit(punishing, commit)
        assert bench.executor.evidence.pending() == ()
        assert cheat.address not in bench.chain.state.next_validators.positions
        assert certify.prove_key(bench.chain, keys.validator(cheat.address), None) is not None
        bench.chain.close()
        again = Bench(cluster.settings[0])
        tip = again.chain.tip()
        following = await again.build(commit)
        repeated = build_block(
            tip,
            proposer=following.header.proposer,
            time_ms=following.header.time_ms,
            transactions=(),
            last_commit=commit,
            evidence=(evidence,),
            beacon_proof=following.header.beacon_proof,
        )
        assert await again.executor.validate(following)
        assert not await again.executor.validate(repeated)
        again.chain.close()

    run(scenario)


def test_proofs_and_transactions_of_committed_blocks(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        data = transfer(cluster, 0, 0, 5, b"\2" * 20)
        bench.pool.add(data)
        block = await bench.build(None)
        await bench.executor.commit(block, commit_of(cluster, bench.chain, block))
        place = bench.chain.store.place_of(transaction_id(data))
        assert place is not None
        assert (place.height, place.index) == (1, 0)
        results, events = bench.chain.results(1), bench.chain.events(1)
        assert results is not None
        assert results[0].applied
        assert events is not None
        assert [event.get("amount_nano") for event in events if event.kind == "transfer"] == [5]
        for key in (keys.account(b"\2" * 20), keys.account(b"\3" * 20)):
            proof = certify.prove_key(bench.chain, key, None)
            assert proof is not None
            assert tree.verify(bench.chain.head.app_hash, key, bench.chain.view().get(key), proof)
        before = certify.prove_key(bench.chain, keys.account(b"\2" * 20), 0)
        assert before is not None
        assert tree.verify(block.header.app_hash, keys.account(b"\2" * 20), None, before)
        bench.chain.close()

    run(scenario)


def test_pool_refuses_what_can_never_be_applied(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 1)
    bench = Bench(cluster.settings[0])
    good = transfer(cluster, 0, 0, 5, b"\2" * 20)
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    for data in (b"", b"\x00", good[:-1], good + b"\x00", flipped, codec.encode((1, 2, 3))):
        with pytest.raises(Rejection):
            bench.pool.add(data)
    name = bench.pool.add(good)
    assert bench.pool.get(name) == good
    assert bench.pool.next_nonce(cluster.settings[0].account_key.address) == 1
    with pytest.raises(Rejection):
        bench.pool.add(good)
    bench.chain.close()


def test_disagreeing_files_are_refused(tmp_path: Path) -> None:
    """A log of a height far beyond the database's: somebody put an old database back."""
    cluster = make_cluster(tmp_path, 1)
    logs = cluster.settings[0].home.data / "wal"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / f"{9:012d}.log").write_bytes(b"")
    with pytest.raises(Rejection) as caught:
        open_home(cluster.settings[0])
    assert caught.value.reason is reasons.HEADS_DISAGREE


def test_a_ledger_that_is_not_its_tree_is_refused(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 1)
    bench = Bench(cluster.settings[0])
    bench.chain.store.database.write([(b"s" + keys.SUPPLY, b"another supply")])
    bench.chain.close()
    with pytest.raises(Rejection) as caught:
        open_home(cluster.settings[0])
    assert caught.value.reason is reasons.HEADS_DISAGREE


def test_genesis_is_deterministic(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 3)
    homes = [Home(tmp_path / name) for name in ("a", "b")]
    heads = []
    for home in homes:
        chain = create_chain(home, cluster.genesis)
        heads.append(chain.head)
        chain.close()
    assert heads[0] == heads[1]


@pytest.mark.parametrize(("idle_ms", "busy_ms", "pending"), [(50, 10, False), (60_000, 10, True)])
def test_a_block_comes_when_it_is_due_or_when_there_is_work(
    idle_ms: int, busy_ms: int, pending: bool, tmp_path: Path
) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        bench = Bench(cluster.settings[0])
        bench.executor._pace = Pace(idle_ms, busy_ms)
        first = await bench.executor.build(effects.BuildValue(1, 1, None))
        sealed = commit_of(cluster, bench.chain, first)
        await bench.executor.commit(first, sealed)
        async with trio.open_nursery() as nursery:
            if pending:
                nursery.start_soon(_add_soon, bench, transfer(cluster, 0, 0, 5, b"\2" * 20))
            with trio.fail_after(30):
                block = await bench.build(sealed)
        assert bool(block.transactions) is pending
        bench.chain.close()

    run(scenario)


async def _add_soon(bench: Bench, data: bytes) -> None:
    await trio.sleep(0.05)
    bench.pool.add(data)


def test_head_and_view_change_together(tmp_path: Path) -> None:
    """While a block is being written readers see the head before it, with the ledger of then."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        block = await bench.build(None)
        committed = execute(bench.chain, block)
        bench.chain.write(committed, commit_of(cluster, bench.chain, block), ())
        assert (bench.chain.head.height, bench.chain.view().root) == (0, bench.chain.head.app_hash)
        check_chain(bench.chain)
        bench.chain.adopt(committed)
        assert (bench.chain.head.height, bench.chain.view().root) == (1, bench.chain.head.app_hash)
        check_chain(bench.chain)
        bench.chain.close()

    run(scenario)
