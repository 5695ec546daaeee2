"""Mistakes that others published about ledgers, governance and mempools; `published.py` is the table."""

from __future__ import annotations

import msgspec
import pytest
from ledger_world import CHAIN, GSN, World, key

from consensus.ledger import queries
from consensus.ledger.genesis import genesis_delta
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.messages import (
    Bond,
    Transfer,
    Unbond,
    WithdrawRewards,
    encode_transaction,
    sign_transaction,
    validator_key_proof_bytes,
)
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.proposal_messages import (
    ABSTAIN,
    YES,
    CancelUpgrade,
    CastVote,
    ChangeParameters,
    Content,
    Grant,
    NewValue,
    PlanUpgrade,
    Propose,
    Statement,
)
from consensus.ledger.proposal_records import Ballot, Proposal, Tally
from consensus.ledger.records import Genesis, GenesisAccount, GenesisValidator
from consensus.ledger.tally import outcome, split
from consensus.ledger.view import State
from consensus.mempool import Mempool, PendingTransaction
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

FIRST = key("validator").address


def bond_of(name: str, amount: int) -> Bond:
    proof = key(name + "'s validator").sign(validator_key_proof_bytes(CHAIN, key(name).address))
    return Bond(key(name + "'s validator").public, amount, proof)


def put_to_the_vote(world: World, content: Content, *choices: int, by: str = "erin") -> int:
    """A proposal with the operator's votes, one after the other; its number."""
    world.do(by, Propose("title", "", content))
    number = State(world.ledger).counters.proposals - 1
    for choice in choices:
        world.do("operator", CastVote(number, FIRST, choice))
    return number


def after_vote(world: World, number: int) -> Proposal:
    """The proposal when it has had its effect, or never will."""
    for _ in range(world.parameters.voting_blocks + world.parameters.enactment_blocks + 2):
        world.block()
    return State(world.ledger).proposal(number)


def test_a_vote_in_which_nobody_or_nothing_votes_is_counted() -> None:
    """Cosmos SDK GHSA-x5vx-95h7-rv4p: a proposal whose count divided by zero stopped the chain."""
    world = World()
    assert after_vote(world, put_to_the_vote(world, Statement())).state == "no_quorum"
    assert after_vote(world, put_to_the_vote(world, Statement(), ABSTAIN)).state == "rejected"
    assert outcome(Tally(), devnet_parameters()) == "no_quorum", "nothing is bonded at all"
    assert split(Ballot(YES, (0, 0, 0, 0)), 0, 0) == (0, 0, 0, 0), "a validator without stake or shares"


def test_accepted_proposals_that_cannot_be_done_fail_and_blocks_go_on() -> None:
    """Cosmos SDK GHSA-47ww-ff84-4jrg: an error in what a proposal did at a block's end stopped the chain."""
    world = World(msgspec.structs.replace(devnet_parameters(), unbonding_blocks=100))
    plan = PlanUpgrade("v2", 10_000, 2)
    contents: list[Content] = [
        Grant(key("bob").address, SUPPLY_NANO_MAX),
        ChangeParameters((NewValue("unbonding_blocks", 200),)),
        ChangeParameters((NewValue("unbonding_blocks", 150),)),
        plan,
        PlanUpgrade("v3", 10_000, 3),
    ]
    numbers = [put_to_the_vote(world, content, YES) for content in contents]
    after_vote(world, numbers[-1])
    states = [State(world.ledger).proposal(number).state for number in numbers]
    assert states == ["failed", "enacted", "failed", "enacted", "failed"]
    assert all(State(world.ledger).proposal(number).why for number in (numbers[0], numbers[2], numbers[4]))
    cancels = [put_to_the_vote(world, CancelUpgrade("v2"), YES) for _ in range(2)]
    after_vote(world, cancels[-1])
    assert [State(world.ledger).proposal(number).state for number in cancels] == ["enacted", "failed"]
    world.do("alice", Transfer(key("bob").address, 1))


def test_the_largest_supply_pays_rewards_grants_and_fees() -> None:
    """Cosmos SDK GHSA-p22h-3m2v-cmgh: an amount beyond its type in the reward pool stopped the chain."""
    rich = SUPPLY_NANO_MAX - 200 * GSN
    genesis = Genesis(
        CHAIN,
        0,
        (GenesisValidator(key("validator").public, key("operator").address, 100 * GSN, "v"),),
        (GenesisAccount(key("operator").address, rich),),
        msgspec.structs.replace(devnet_parameters(), block_reward_nano=90 * GSN, treasury_fee_bps=5_000),
    )
    world = World(genesis.parameters)
    world.ledger = MemoryLedger()
    world.ledger.apply(genesis_delta(genesis))
    for _ in range(4):
        world.block()
    supply = queries.supply(world.ledger)
    assert supply.minted_nano == SUPPLY_NANO_MAX, "new money ends where amounts do"
    largest = sign_transaction(key("operator"), CHAIN, 0, rich - GSN, Transfer(key("bob").address, 10))
    assert world.raw_block(encode_transaction(largest))[0].applied
    assert queries.supply(world.ledger).treasury_nano == (rich - GSN) // 2
    world.do("operator", WithdrawRewards(FIRST))
    number = put_to_the_vote(world, Grant(key("bob").address, (rich - GSN) // 2), YES, by="operator")
    assert after_vote(world, number).state == "enacted"
    assert queries.account(world.ledger, key("bob").address).balance_nano == 10 + (rich - GSN) // 2


def test_a_validator_that_leaves_before_it_ever_signed_changes_no_set() -> None:
    """Tendermint: an update that removes a validator which is not in the set is an error that stops every node."""
    world = World(msgspec.structs.replace(devnet_parameters(), validators_active_max=1))
    results = world.block(
        ("alice", bond_of("alice", 5 * GSN)), ("alice", Unbond(key("alice's validator").address, 5 * GSN))
    )
    assert [result.applied for result in results] == [True, True]
    assert world.deltas[-1].validator_updates == (), "it came and went in one block"
    world.do("bob", bond_of("bob", 5 * GSN))
    assert world.deltas[-1].validator_updates == (), "it waits outside of a full set"
    world.do("bob", Unbond(key("bob's validator").address, 5 * GSN))
    assert world.deltas[-1].validator_updates == ()


@pytest.mark.parametrize("count", [2, 50])
def test_transactions_that_pay_the_same_all_stay(count: int) -> None:
    """CometBFT #5613: transactions of equal priority replaced each other in an index by priority."""
    pool = Mempool()
    for number in range(count):
        sender = number.to_bytes(20, "big")
        pool.insert(PendingTransaction(number.to_bytes(32, "big"), sender, 0, 1_000, bytes(100), 1), 0)
    assert len(pool) == count
    assert len({pending.id for pending in pool.reap(1 << 20)}) == count
