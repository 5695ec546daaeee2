"""What a vote changed, in the node's own code: in force from exactly the height said, and the same for every node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from msgspec import structs
from node_cluster import Cluster, key, make_cluster, run, transfer
from test_node_executor import Bench, commit_of

from consensus.ledger import queries
from consensus.ledger.messages import Message, encode_transaction, sign_transaction
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.proposal_messages import YES, CastVote, ChangeParameters, NewValue, PlanUpgrade, Propose
from consensus.ledger.upgrades import Upgrade, Upgrades
from consensus.ledger.view import State
from consensus.tendermint.types import Block, Commit, DuplicateVoteEvidence, Vote, VoteType, vote_sign_bytes
from gensyn_node.primitives.errors import Rejection

FEE_NANO = 20_000
PARAMETERS = structs.replace(devnet_parameters(), voting_blocks=10, enactment_blocks=3, unbonding_blocks=20)


@dataclass
class Pair:
    """Two nodes' chains that take the same blocks; the first proposes."""

    cluster: Cluster
    benches: list[Bench]
    last_commit: Commit | None = None
    nonces: dict[int, int] = field(default_factory=dict)

    @property
    def height(self) -> int:
        return self.benches[0].chain.head.height

    def add(self, sender: int, message: Message, fee_nano: int = FEE_NANO) -> None:
        """Put a message of a node's account into the first pool."""
        nonce = self.nonces.get(sender, 0)
        transaction = sign_transaction(key("account", sender), self.cluster.genesis.chain_id, nonce, fee_nano, message)
        self.benches[0].pool.add(encode_transaction(transaction))
        self.nonces[sender] = nonce + 1

    async def build(self) -> Block:
        return await self.benches[0].build(self.last_commit)

    async def step(self) -> Block:
        """One block on both."""
        block = await self.build()
        commit = commit_of(self.cluster, self.benches[0].chain, block)
        for bench in self.benches:
            await bench.executor.check_sealed(block, commit)
            await bench.executor.commit(block, commit)
        assert self.benches[0].chain.head == self.benches[1].chain.head
        self.last_commit = commit
        return block

    async def go_to(self, height: int) -> None:
        while self.height < height:
            await self.step()

    async def pass_(self, message: Propose) -> int:
        """Propose and accept; the height at which it takes effect."""
        number = State(self.benches[0].chain.view()).counters.proposals
        self.add(0, message, 10 * FEE_NANO)
        await self.step()
        for voter in range(3):
            self.add(voter, CastVote(number, key("consensus", voter).address, YES))
        await self.step()
        await self.go_to(State(self.benches[0].chain.view()).proposal(number).voting_end_height)
        found = State(self.benches[0].chain.view()).proposal(number)
        assert found.state in ("passed", "enacted")
        return found.effect_height

    def close(self) -> None:
        for bench in self.benches:
            bench.chain.close()


def with_pair(directory: Path, scenario: Callable[[Pair], object], known: tuple[Upgrades, Upgrades] = ({}, {})) -> None:
    """Run a scenario on two of four nodes, which know these upgrades."""

    async def body() -> None:
        cluster = make_cluster(directory, 4, parameters=PARAMETERS)
        settings = [replace(one, upgrades=mine) for one, mine in zip(cluster.settings, known, strict=False)]
        pair = Pair(cluster, [Bench(one) for one in settings])
        try:
            await scenario(pair)  # type: ignore[misc]
        finally:
            pair.close()

    run(body)


def change(**values: int) -> Propose:
    return Propose("change", "", ChangeParameters(tuple(NewValue(name, value) for name, value in values.items())))


def test_pool_roles_and_rpc_use_a_changed_fee_from_exactly_its_height_on(tmp_path: Path) -> None:
    async def scenario(pair: Pair) -> None:
        effect = await pair.pass_(change(fee_base_nano=500_000))
        pool, chain = pair.benches[0].pool, pair.benches[0].chain
        assert effect == pair.height + 3
        await pair.go_to(effect - 2)
        assert chain.parameters.fee_base_nano == PARAMETERS.fee_base_nano
        pool.add(transfer(pair.cluster, 3, 0, 5, bytes(20)))  # enough for the old fee, and it goes into its last block
        block = await pair.step()
        assert (pair.height, len(block.transactions)) == (effect - 1, 1)
        assert chain.parameters.fee_base_nano == 500_000
        assert queries.parameters(chain.view()) == chain.parameters
        with pytest.raises(Rejection, match="fee_too_low"):
            pool.add(transfer(pair.cluster, 3, 1, 5, bytes(20)))
        assert chain.genesis.parameters.fee_base_nano == PARAMETERS.fee_base_nano

    with_pair(tmp_path, scenario)


def test_what_waits_is_checked_again_when_the_parameters_change(tmp_path: Path) -> None:
    async def scenario(pair: Pair) -> None:
        effect = await pair.pass_(change(fee_base_nano=500_000))
        pool = pair.benches[0].pool
        await pair.go_to(effect - 2)
        cheap = pool.add(transfer(pair.cluster, 2, 7, 5, bytes(20)))  # behind a gap: no block takes it
        assert pool.get(cheap) is not None
        await pair.step()
        assert pool.get(cheap) is None  # though no transaction of its account was in the block
        assert (len(pool), pool.dropped) == (0, 1)

    with_pair(tmp_path, scenario)


def test_a_smaller_block_space_fills_the_first_block_under_it(tmp_path: Path) -> None:
    async def scenario(pair: Pair) -> None:
        effect = await pair.pass_(change(block_units_max=2_500_000))
        seen = []
        while pair.height <= effect:
            seen.append((pair.height + 1, pair.benches[1].chain.parameters.block_units_max))
            await pair.step()
        assert [height for height, units in seen if units == 2_500_000] == [effect, effect + 1]

    with_pair(tmp_path, scenario)


def double_vote(cluster: Cluster, height: int, node: int = 3) -> DuplicateVoteEvidence:
    """Node 3 prevoted twice at a height."""
    cheat = cluster.settings[node].consensus_key
    votes = [Vote(VoteType.PREVOTE, height, 0, name * 32, cheat.address) for name in (b"\1", b"\2")]
    first, second = (
        structs.replace(vote, signature=cheat.sign(vote_sign_bytes(cluster.genesis.chain_id, vote))) for vote in votes
    )
    return DuplicateVoteEvidence(first, second)


def test_a_longer_evidence_age_holds_from_its_height_on_and_brings_nothing_expired_back(tmp_path: Path) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.go_to(15)
        effect = await pair.pass_(change(unbonding_blocks=40))
        floor = effect - PARAMETERS.unbonding_blocks
        chain, executor = pair.benches[1].chain, pair.benches[1].executor
        assert floor > 1
        while pair.height < effect + 18:
            oldest = queries.oldest_evidence(chain.view(), pair.height + 1)
            assert oldest == min(floor, pair.height + 1 - PARAMETERS.unbonding_blocks) or oldest == 1
            await pair.step()
        with pytest.raises(Rejection, match="too old"):
            executor.evidence.add(double_vote(pair.cluster, floor - 1))
        for bench in pair.benches:
            bench.executor.add_evidence(double_vote(pair.cluster, floor))
        block = await pair.step()
        assert len(block.evidence) == 1, "older than the age before, younger than the one voted for"
        await pair.go_to(floor + 45)
        assert queries.oldest_evidence(chain.view(), pair.height + 1) == pair.height + 1 - 40

    with_pair(tmp_path, scenario)


def test_a_node_stops_before_the_height_of_an_upgrade_it_does_not_know(tmp_path: Path) -> None:
    async def scenario(pair: Pair) -> None:
        height = await pair.pass_(Propose("v2", "", PlanUpgrade("v2", 30, 2)))
        assert height == 30
        await pair.go_to(height - 1)
        old, new = pair.benches
        with pytest.raises(Rejection, match="E1258 upgrade_needed: upgrade 'v2' begins at block 30"):
            old.executor.start_input()
        assert new.executor.start_input().height == height
        block = await new.build(pair.last_commit)
        commit = commit_of(pair.cluster, new.chain, block)
        head = old.chain.head
        with pytest.raises(Rejection, match="upgrade_needed"):
            await old.executor.commit(block, commit)
        assert old.chain.head == head, "nothing of that height is stored"
        await new.executor.commit(block, commit)
        assert State(new.chain.view()).governance.protocol == 2
        # A newer program on the old home goes on where the old one stopped.
        old.chain.close()
        again = Bench(replace(old.settings, upgrades={"v2": Upgrade(2)}))
        pair.benches[0] = again
        await again.executor.check_sealed(block, commit)
        await again.executor.commit(block, commit)
        assert again.chain.head == new.chain.head

    with_pair(tmp_path, scenario, known=({}, {"v2": Upgrade(2)}))
