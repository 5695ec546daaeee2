"""Evidence of a node: judged by its own chain, kept over restarts, punished once, spread without gossip."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from node_cluster import Cluster, balance, eventually, key, make_cluster, run
from test_node_executor import Bench, commit_of
from test_node_sync_hostile import grow

from consensus.ledger import keys
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.stake_records import ValidatorRecord
from consensus.tendermint.evidence import offenders
from consensus.tendermint.light_attack import as_set
from consensus.tendermint.reasons import BAD_COMMIT, BAD_EVIDENCE, EVIDENCE_OUT_OF_REACH
from consensus.tendermint.types import (
    Block,
    Commit,
    CommitFlag,
    CommitSlot,
    DuplicateVoteEvidence,
    Evidence,
    LightClientAttackEvidence,
    Validator,
    Vote,
    VoteType,
    vote_sign_bytes,
)
from gensyn_node.app import wire
from gensyn_node.app.evidence_exchange import EvidenceExchange
from gensyn_node.app.evidence_keeper import EvidenceKeeper
from gensyn_node.app.node import Node, open_node
from gensyn_node.app.settings import EVIDENCE_FILE
from gensyn_node.app.startup import init_storage
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import DevnetSection
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Reason, Rejection
from gensyn_node.primitives.money import NANO_PER_GSN
from p2p.api import Direction, PeerInfo, Peers, Requests


def double_vote(cluster: Cluster, member: int, height: int, *, round: int = 0) -> DuplicateVoteEvidence:
    """Two prevotes of one validator."""
    cheat = cluster.settings[member].consensus_key
    votes = [Vote(VoteType.PREVOTE, height, round, name * 32, cheat.address) for name in (b"\1", b"\2")]
    first, second = (
        structs.replace(vote, signature=cheat.sign(vote_sign_bytes(cluster.genesis.chain_id, vote))) for vote in votes
    )
    return DuplicateVoteEvidence(first, second)


def false_header(cluster: Cluster, block: Block, signers: int, *, round: int = 0, **fields: Any) -> Any:
    """A header beside a block of the chain, sealed by the first nodes: (header, commit, validators)."""
    header = structs.replace(block.header, **(fields or {"app_hash": b"z" * 32}))
    members = tuple(
        sorted(
            (Validator(one.consensus_key.address, one.consensus_key.public, 100) for one in cluster.settings),
            key=lambda one: (-one.power, one.address),
        )
    )
    header = structs.replace(header, validators_hash=as_set(members).hash) if not fields else header
    by_address = {one.consensus_key.address: one.consensus_key for one in cluster.settings[:signers]}
    slots = []
    for member in members:
        signer = by_address.get(member.address)
        vote = Vote(VoteType.PRECOMMIT, header.height, round, header.id, member.address)
        signature = signer.sign(vote_sign_bytes(header.chain_id, vote)) if signer else b""
        slots.append(CommitSlot(CommitFlag.COMMIT if signer else CommitFlag.ABSENT, signature))
    return header, Commit(header.height, round, header.id, tuple(slots)), members


def light_attack(cluster: Cluster, block: Block, signers: int = 3, common: int = 0, **kw: Any) -> Evidence:
    return LightClientAttackEvidence(common, *false_header(cluster, block, signers, **kw), ())


def tombstoned(bench: Bench, cluster: Cluster, member: int) -> bool:
    data = bench.chain.view().get(keys.validator(cluster.settings[member].consensus_key.address))
    assert data is not None
    record: ValidatorRecord = codec.decode(ValidatorRecord, data)
    return record.tombstoned


def why(call: Any) -> Reason:
    with pytest.raises(Rejection) as caught:
        call()
    return caught.value.reason


async def commit_next(cluster: Cluster, bench: Bench, commit: Commit | None) -> tuple[Block, Commit]:
    """Build, check and commit the next block."""
    block = await bench.build(commit)
    assert await bench.executor.validate(block)
    sealed = commit_of(cluster, bench.chain, block)
    await bench.executor.commit(block, sealed)
    return block, sealed


def test_an_attack_on_a_light_client_is_punished_on_the_ledger(tmp_path: Path) -> None:
    """With a double vote of one of them in the pool as well: everybody is accused once, and the block is valid."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        sealed = await grow(cluster, bench, 4)
        keeper = bench.executor.evidence
        attack = light_attack(cluster, sealed[2].block, signers=2)
        assert why(lambda: keeper.add_attack(attack)) is BAD_COMMIT, "without two thirds it fools nobody"
        attack = light_attack(cluster, sealed[2].block)
        kept = keeper.add_attack(attack)
        accused = tuple(sorted(cluster.settings[n].consensus_key.address for n in range(3)))
        assert [offenders(item) for item in kept] == [accused]
        assert keeper.add_attack(attack) == ()
        bench.executor.add_evidence(double_vote(cluster, 1, 1))
        block, commit = await commit_next(cluster, bench, sealed[-1].commit)
        assert sorted(name for item in block.evidence for name in offenders(item)) == list(accused)
        assert [tombstoned(bench, cluster, member) for member in range(4)] == [True, True, True, False]
        assert keeper.all() == ()
        assert why(lambda: keeper.add_attack(attack)) is EVIDENCE_OUT_OF_REACH
        following, _ = await commit_next(cluster, bench, commit)
        assert following.evidence == ()
        bench.chain.close()

    run(scenario)


def test_a_second_header_in_the_same_round_is_double_votes_and_in_another_round_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        sealed = await grow(cluster, bench, 3)
        keeper = bench.executor.evidence
        amnesia = light_attack(cluster, sealed[1].block, round=1, data_root=b"q" * 32)
        assert why(lambda: keeper.add_attack(amnesia)) is BAD_EVIDENCE
        own = light_attack(cluster, sealed[1].block, time_ms=sealed[1].block.header.time_ms)
        assert why(lambda: keeper.add_attack(own)) is BAD_EVIDENCE
        ahead = light_attack(cluster, sealed[2].block, height=9)
        assert why(lambda: keeper.add_attack(ahead)) is EVIDENCE_OUT_OF_REACH
        equivocation = light_attack(cluster, sealed[1].block, data_root=b"q" * 32)
        kept = keeper.add_attack(equivocation)
        assert all(isinstance(item, DuplicateVoteEvidence) for item in kept)
        assert len(kept) == 3
        block, _ = await commit_next(cluster, bench, sealed[-1].commit)
        assert len(block.evidence) == 3
        assert [tombstoned(bench, cluster, member) for member in range(4)] == [True, True, True, False]
        # As evidence of its own kind an equivocation is refused: it would be a second name for the same offence.
        assert why(lambda: keeper.add(equivocation)) in (BAD_EVIDENCE, EVIDENCE_OUT_OF_REACH)
        bench.chain.close()

    run(scenario)


def test_a_punished_validator_cannot_fill_blocks_with_more_of_its_double_votes(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        sealed = await grow(cluster, bench, 3)
        bench.executor.add_evidence(double_vote(cluster, 3, 2))
        bench.executor.add_evidence(double_vote(cluster, 3, 2, round=1))
        block, commit = await commit_next(cluster, bench, sealed[-1].commit)
        assert len(block.evidence) == 1
        assert bench.executor.evidence.all() == ()
        assert why(lambda: bench.executor.evidence.add(double_vote(cluster, 3, 3))) is EVIDENCE_OUT_OF_REACH
        # What our own core finds after that is no error either: the cheat signs on for two heights.
        bench.executor.add_evidence(double_vote(cluster, 3, 4))
        again = structs.replace(await bench.build(commit), evidence=(double_vote(cluster, 3, 3),))
        with pytest.raises(Rejection):
            await bench.executor.check(again)
        bench.chain.close()

    run(scenario)


def test_pending_evidence_survives_a_restart_and_committed_never_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        sealed = await grow(cluster, bench, 3)
        file = cluster.settings[0].home.data / EVIDENCE_FILE
        keeper = EvidenceKeeper(bench.chain, file)
        found = double_vote(cluster, 3, 2)
        in_progress = double_vote(cluster, 2, 4)
        assert keeper.add(found) == found
        assert keeper.add(found) is None
        assert keeper.add(in_progress) == in_progress
        assert keeper.pending() == (found,), "votes of the height in progress wait until it is over"
        assert EvidenceKeeper(bench.chain, file).all() == keeper.all()
        file.write_bytes(file.read_bytes()[:-1])
        assert EvidenceKeeper(bench.chain, file).all() == ()
        bench.executor.evidence = keeper
        block, _ = await commit_next(cluster, bench, sealed[-1].commit)
        assert block.evidence == (found,)
        reopened = EvidenceKeeper(bench.chain, file)
        assert reopened.all() == (in_progress,)
        assert why(lambda: reopened.add(found)) is EVIDENCE_OUT_OF_REACH
        bench.chain.close()

    run(scenario)


def test_evidence_expires_with_the_unbonding_time_in_force(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        genesis = structs.replace(
            cluster.genesis, parameters=structs.replace(cluster.genesis.parameters, unbonding_blocks=3)
        )
        home = Home(tmp_path / "short")
        init_storage(home, genesis, key("consensus", 0))
        cluster = replace(cluster, genesis=genesis)
        bench = Bench(replace(cluster.settings[0], home=home, genesis=genesis))
        await grow(cluster, bench, 5)
        keeper = bench.executor.evidence
        assert keeper.oldest() == 3
        assert why(lambda: keeper.add(double_vote(cluster, 3, 2))) is EVIDENCE_OUT_OF_REACH
        assert keeper.add(double_vote(cluster, 3, 3)) is not None
        assert why(lambda: keeper.add(double_vote(cluster, 3, 7))) is EVIDENCE_OUT_OF_REACH
        bench.chain.close()

    run(scenario)


# --- between nodes


class Line:
    """Stands for the network: requests go straight to the other side's exchange."""

    def __init__(self) -> None:
        self.others: dict[str, EvidenceExchange] = {}
        self.reported: list[str] = []

    def connected(self) -> list[PeerInfo]:
        """All others."""
        return [
            PeerInfo(name, "/ip4/1.2.3.4/tcp/1", Direction.INBOUND, "x", 1, 0, None, 0, 1)
            for name in sorted(self.others)
        ]

    async def request(self, peer: str, method: str, data: bytes, **_: Any) -> bytes:
        """Ask."""
        assert method == wire.METHOD_EVIDENCE
        return await self.others[peer].serve("asker", data)

    async def report(self, peer: str, rejection: Rejection) -> None:
        """Score."""
        await trio.lowlevel.checkpoint()
        self.reported.append(rejection.reason.name)


def exchange_of(keeper: EvidenceKeeper, line: Line) -> EvidenceExchange:
    return EvidenceExchange(keeper=keeper, gossip=None, requests=cast(Requests, line), peers=cast(Peers, line))


def test_one_exchange_brings_both_sides_what_they_lack(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        one, other = Bench(cluster.settings[0]), Bench(cluster.settings[1])
        for sealed in await grow(cluster, one, 3):
            await other.executor.commit(sealed.block, sealed.commit)
        line = Line()
        mine, theirs = exchange_of(one.executor.evidence, line), exchange_of(other.executor.evidence, line)
        line.others["other"] = theirs
        one.executor.add_evidence(double_vote(cluster, 2, 1))
        other.executor.add_evidence(double_vote(cluster, 3, 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mine.run)
            mine.announce(double_vote(cluster, 2, 1))
            await eventually(lambda: len(one.executor.evidence.all()) == 2, "the other's came")
            nursery.cancel_scope.cancel()
        assert set(one.executor.evidence.all()) == set(other.executor.evidence.all())
        assert line.reported == []
        one.chain.close()
        other.chain.close()

    run(scenario)


def test_hostile_exchanges_are_refused_and_differing_heads_blame_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        await grow(cluster, bench, 2)
        server = exchange_of(bench.executor.evidence, Line())
        good = double_vote(cluster, 3, 1)
        unsigned = structs.replace(good, second=structs.replace(good.second, signature=bytes(64)))
        with pytest.raises(Rejection) as caught:
            await server.serve("liar", codec.encode(wire.EvidenceExchange((good, unsigned))))
        assert caught.value.reason is BAD_EVIDENCE
        ahead = codec.encode(wire.EvidenceExchange((double_vote(cluster, 3, 50),)))
        reply: wire.EvidenceExchange = codec.decode(wire.EvidenceExchange, await server.serve("ahead", ahead))
        assert reply.evidence == (good,)
        too_many = codec.encode(wire.EvidenceExchange((good,) * (wire.EXCHANGED_EVIDENCE_MAX + 1)))
        with pytest.raises(Rejection):
            await server.serve("flood", too_many)
        bench.chain.close()

    run(scenario)


def test_mutated_evidence_never_raises_anything_but_a_rejection(tmp_path: Path) -> None:
    async def prepare() -> tuple[EvidenceExchange, list[bytes], Bench]:
        cluster = make_cluster(tmp_path, 4)
        bench = Bench(cluster.settings[0])
        sealed = await grow(cluster, bench, 3)
        items = (double_vote(cluster, 3, 1), light_attack(cluster, sealed[1].block))
        whole = [codec.encode(wire.EvidenceExchange((item,))) for item in items]
        return exchange_of(bench.executor.evidence, Line()), whole, bench

    server, valid, bench = trio.run(prepare)

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(valid), st.integers(0, 5_000), st.binary(min_size=1, max_size=4))
    def mutate(data: bytes, at: int, patch: bytes) -> None:
        at %= len(data)
        changed = data[:at] + patch + data[at + len(patch) :]

        async def serve() -> None:
            try:
                await server.serve("fuzz", changed)
            except Rejection:
                return

        trio.run(serve)

    mutate()
    bench.chain.close()


@pytest.mark.integration
def test_a_node_that_votes_twice_is_punished_and_its_finder_paid(tmp_path: Path) -> None:
    """Double votes on the wire between running nodes end in a slash on the ledger."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        cheat = key("consensus", 3).address
        liar = cluster.settings[3]
        config = structs.replace(liar.config, devnet=DevnetSection(cheat="equivocation"))
        settings = (*cluster.settings[:3], replace(liar, config=config))
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(open_node(one)) for one in settings]
            honest = nodes[:3]
            await eventually(lambda: all(_punished(node, cheat) for node in honest), "the cheat is punished")
            await eventually(lambda: cheat not in honest[0].ledger.state.validators.positions, "its power is gone")
            at = honest[0].ledger.head.height
            await eventually(lambda: all(node.ledger.head.height >= at + 2 for node in honest), "the chain goes on")
            accusing = [
                block
                for height in range(1, at + 1)
                if (block := honest[0].ledger.block(height)) is not None and block.evidence
            ]
            assert [offenders(item) for block in accusing for item in block.evidence] == [(cheat,)]
            # Its stake is slashed, and whoever operates the validator that proposed that block is paid for it.
            parameters, stake = cluster.genesis.parameters, cluster.genesis.validators[3].stake_nano
            slashed = stake * parameters.equivocation_slash_bps // BASIS_POINTS
            finder = next(n for n in range(4) if key("consensus", n).address == accusing[0].header.proposer)
            await eventually(lambda: _record(honest[0], cheat).stake_nano == stake - slashed, "the slash is known")
            assert _record(honest[0], cheat).finder == key("account", finder).address
            paid = balance(honest[0], key("account", finder).address) - 1_000_000 * NANO_PER_GSN
            assert paid == slashed * parameters.winner_bps // BASIS_POINTS

    run(scenario)


def _punished(node: Node, validator: bytes) -> bool:
    return _record(node, validator).tombstoned


def _record(node: Node, validator: bytes) -> ValidatorRecord:
    data = node.ledger.view().get(keys.validator(validator))
    record: ValidatorRecord = codec.decode(ValidatorRecord, data or b"")
    return record
