"""Stakes through a node's own path: signed blocks, sets two heights later, evidence, absence, two homes in step."""

from __future__ import annotations

from pathlib import Path

from node_cluster import FEE_NANO, Cluster, key, make_cluster, run
from test_node_executor import Bench, commit_of

from consensus.ledger import keys, stake_queries, staking
from consensus.ledger.messages import (
    Bond,
    Delegate,
    Message,
    encode_transaction,
    sign_transaction,
    validator_key_proof_bytes,
)
from consensus.ledger.stake_queries import CANDIDATE_TOMBSTONED
from consensus.ledger.stake_records import MissedBlocks
from consensus.ledger.view import State
from consensus.tendermint.types import DuplicateVoteEvidence, Vote, VoteType, vote_sign_bytes
from gensyn_node.app.chain import Chain
from gensyn_node.primitives.money import NANO_PER_GSN

STAKE = 50 * NANO_PER_GSN


def signed(cluster: Cluster, sender: int, nonce: int, message: Message) -> bytes:
    """A message of node `sender`'s account."""
    return encode_transaction(
        sign_transaction(key("account", sender), cluster.genesis.chain_id, nonce, 2 * FEE_NANO, message)
    )


def powers(chain: Chain) -> dict[bytes, int]:
    """Who signs the next block."""
    return {one.address: one.power for one in chain.state.validators.validators}


def test_stake_evidence_and_absence_reach_the_set_two_heights_later_at_every_node(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        first, second = Bench(cluster.settings[0]), Bench(cluster.settings[1])
        addresses = [settings.consensus_key.address for settings in cluster.settings]
        last_commit = None

        async def block(*transactions: bytes, signers: int = 4) -> None:
            nonlocal last_commit
            for data in transactions:
                first.pool.add(data)
            made = await first.build(last_commit)
            assert len(made.transactions) == len(transactions)
            last_commit = commit_of(cluster, first.chain, made, signers)
            await second.executor.check_sealed(made, last_commit)
            await first.executor.commit(made, last_commit)
            await second.executor.commit(made, last_commit)
            assert first.chain.head == second.chain.head
            assert first.chain.state == second.chain.state

        new = key("newcomer", 0)
        proof = new.sign(validator_key_proof_bytes(cluster.genesis.chain_id, key("account", 1).address))
        await block(
            signed(cluster, 0, 0, Delegate(addresses[3], STAKE, 0)),
            signed(cluster, 1, 0, Bond(new.public, STAKE, proof)),
        )
        before = powers(first.chain)
        assert before == dict.fromkeys(addresses, 100), "height 2 is signed by the old set"
        await block()
        assert powers(first.chain) == before | {addresses[3]: 150, new.address: 50}, "height 3 by the new one"
        await block(signers=4)
        rewards = [stake_queries.candidates(first.chain.view())]
        await block(signers=4)
        state = State(first.chain.view())
        missed = state.find(keys.MISSED, tuple[MissedBlocks, ...]) or ()
        assert [entry.validator for entry in missed] == [new.address], "it is in the set, and nobody signs for it"
        shown = stake_queries.delegations(first.chain.view(), key("account", 0).address)
        assert [one.stake_nano for one in shown if one.validator == addresses[3]] == [STAKE]
        assert all(one.rewards_nano > 0 for one in shown)
        assert len(rewards[0]) == 5

        offence = [Vote(VoteType.PRECOMMIT, 3, 0, bytes([number]) * 32, addresses[2]) for number in (1, 2)]
        voter = cluster.settings[2].consensus_key
        votes = [
            Vote(
                v.kind, v.height, v.round, v.block_id, v.validator, voter.sign(vote_sign_bytes(first.chain.chain_id, v))
            )
            for v in offence
        ]
        first.executor.add_evidence(DuplicateVoteEvidence(votes[0], votes[1]))
        finder = key("account", 0).address
        balance = state.account(finder).balance_nano
        await block()
        await block()
        assert addresses[2] not in powers(first.chain)
        state = State(first.chain.view())
        states = {one.address: one.state for one in stake_queries.candidates(first.chain.view())}
        assert states[addresses[2]] == CANDIDATE_TOMBSTONED
        assert state.account(finder).balance_nano == balance + 100 * NANO_PER_GSN * 5 // 100 * 40 // 100
        assert set(powers(first.chain)) == set(staking.active_powers(state))

    run(scenario)
