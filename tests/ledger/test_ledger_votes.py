"""Delegators' votes: each stake counts once, with what it is worth when the votes are counted, wherever it moved."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_world import CHAIN, GSN, World, key

from consensus.ledger import keys, proposal_queries, staking
from consensus.ledger.block import Misbehaviour
from consensus.ledger.fees import transaction_units
from consensus.ledger.messages import Bond, Delegate, Transfer, Unbond, Undelegate, validator_key_proof_bytes
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.proposal_messages import ABSTAIN, CHOICES, NO, VETO, YES, CastVote, Propose, Statement
from consensus.ledger.proposal_records import Proposal, Tally
from consensus.ledger.tally import count
from consensus.ledger.view import State
from consensus.ledger.voting import PAGES_PRUNED_PER_BLOCK

FIRST = key("validator").address
"""Operated by `operator` with 100 of its own."""
SECOND = key("alice's validator").address
"""Operated by `alice` with 100 of her own."""
OPERATORS = {FIRST: "operator", SECOND: "alice"}
DELEGATORS = ("bob", "carol", "dave")


def chain(**changes: Any) -> World:
    world = World(msgspec.structs.replace(devnet_parameters(), **changes))
    proof = key("alice's validator").sign(validator_key_proof_bytes(CHAIN, key("alice").address))
    world.do("alice", Bond(key("alice's validator").public, 100 * GSN, proof))
    return world


def ask(world: World) -> int:
    """Open a proposal of text; its number."""
    world.do("erin", Propose("well?", "", Statement()))
    return State(world.ledger).counters.proposals - 1


def tally(world: World, number: int = 0) -> tuple[int, int, int, int]:
    """The count as it stands, in whole GSN: yes, no, abstain, veto."""
    found = count(State(world.ledger), number)
    return found.yes_nano // GSN, found.no_nano // GSN, found.abstain_nano // GSN, found.veto_nano // GSN


def proposal(world: World, number: int = 0) -> Proposal:
    return State(world.ledger).proposal(number)


def accuse(world: World, validator: bytes) -> None:
    """A block that punishes a double vote."""
    context = msgspec.structs.replace(
        world.context(world.height + 1), misbehaviours=(Misbehaviour(validator, world.height),)
    )
    world.block_in(context)


def test_a_delegator_overrides_its_validator_for_its_own_part() -> None:
    world = chain()
    world.do("bob", Delegate(FIRST, 50 * GSN, 0))
    number = ask(world)
    world.do("bob", CastVote(number, FIRST, NO))
    assert tally(world) == (0, 50, 0, 0), "a delegator counts although its validator is silent"
    world.do("operator", CastVote(number, FIRST, YES))
    assert tally(world) == (100, 50, 0, 0)
    world.do("bob", CastVote(number, FIRST, ABSTAIN))
    assert tally(world) == (100, 0, 50, 0)
    world.do("operator", CastVote(number, FIRST, VETO))
    assert tally(world) == (0, 0, 50, 100)


def test_without_its_delegators_voting_an_operator_votes_for_them() -> None:
    world = chain()
    for name in DELEGATORS:
        world.do(name, Delegate(FIRST, 20 * GSN, 0))
    number = ask(world)
    world.do("operator", CastVote(number, FIRST, YES))
    world.do("dave", CastVote(number, FIRST, NO))
    assert tally(world) == (140, 20, 0, 0)


def test_the_same_stake_never_counts_twice_wherever_it_moves() -> None:
    world = chain(unbonding_blocks=45, voting_blocks=40)
    world.do("bob", Delegate(FIRST, 50 * GSN, 0))
    number = ask(world)
    world.do("bob", CastVote(number, FIRST, NO))
    world.do("bob", Undelegate(FIRST, 50 * GSN))
    assert tally(world) == (0, 0, 0, 0), "what is leaving has no vote"
    world.do("operator", CastVote(number, FIRST, YES))
    assert tally(world) == (100, 0, 0, 0), "and silences nobody who stays"
    # The money that is free already votes for whoever has it then, once.
    world.do("bob", Transfer(key("carol").address, 900 * GSN))
    world.do("carol", Delegate(SECOND, 900 * GSN, 0))
    world.do("carol", CastVote(number, SECOND, NO))
    assert tally(world) == (100, 900, 0, 0)
    world.do("carol", Undelegate(SECOND, 600 * GSN))
    assert tally(world) == (100, 300, 0, 0)
    world.do("carol", Delegate(SECOND, 100 * GSN, 0))
    assert tally(world) == (100, 400, 0, 0), "the vote follows what is delegated"
    bonded = sum(State(world.ledger).validator(one).stake_nano for one in (FIRST, SECOND)) // GSN
    assert sum(tally(world)) <= bonded == 600


def test_a_slash_during_the_vote_reaches_every_part_and_none_exceeds_the_stake() -> None:
    world = chain(equivocation_slash_bps=5_000)
    for name in DELEGATORS:
        world.do(name, Delegate(SECOND, 100 * GSN, 0))
    number = ask(world)
    for name, choice in zip(DELEGATORS, (YES, NO, NO), strict=True):
        world.do(name, CastVote(number, SECOND, choice))
    world.do("alice", CastVote(number, SECOND, VETO))
    assert tally(world) == (100, 200, 0, 100)
    accuse(world, SECOND)
    assert tally(world) == (0, 0, 0, 0), "a validator out of the set has no vote, nor has who trusted it"
    state = State(world.ledger)
    state.put(keys.validator(SECOND), msgspec.structs.replace(state.validator(SECOND), tombstoned=False))
    found = count(state, number)
    assert (found.yes_nano, found.no_nano, found.veto_nano) == (50 * GSN, 100 * GSN, 50 * GSN)


def test_an_operator_that_leaves_takes_its_part_and_its_choice_keeps_standing_for_who_stays() -> None:
    world = chain()
    world.do("bob", Delegate(SECOND, 30 * GSN, 0))
    number = ask(world)
    world.do("alice", CastVote(number, SECOND, YES))
    world.do("alice", Unbond(SECOND, 60 * GSN))
    assert tally(world) == (70, 0, 0, 0)
    world.do("alice", Unbond(SECOND, 40 * GSN))
    assert tally(world) == (0, 0, 0, 0), "below the least own stake a validator is not in the set"


def test_who_waits_for_a_place_in_the_set_does_not_count() -> None:
    world = chain(validators_active_max=1)
    number = ask(world)
    world.do("alice", CastVote(number, SECOND, NO))
    world.do("operator", CastVote(number, FIRST, YES))
    state = State(world.ledger)
    (member,) = staking.active_powers(state)
    expected = Tally(yes_nano=100 * GSN) if member == FIRST else Tally(no_nano=100 * GSN)
    assert count(state, number) == msgspec.structs.replace(expected, bonded_nano=100 * GSN)


def test_where_an_account_can_vote() -> None:
    world = chain()
    world.do("alice", Delegate(FIRST, 5 * GSN, 0))
    number = ask(world)
    world.do("alice", CastVote(number, FIRST, NO))
    places = proposal_queries.voting_places(world.ledger, number, key("alice").address)
    assert sorted((one.as_operator, one.stake_nano // GSN, one.choice) for one in places) == [
        (False, 5, NO),
        (True, 100, None),
    ]


def test_many_votes_are_deleted_a_few_pages_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.ledger.view.PAGE", 2)
    monkeypatch.setattr("consensus.ledger.voting.PAGE", 2)
    monkeypatch.setattr("consensus.ledger.voting.PAGES_PRUNED_PER_BLOCK", 1)
    world = chain()
    for name in DELEGATORS:
        world.block((name, Delegate(FIRST, GSN, 0)), (name, Delegate(SECOND, GSN, 0)))
    number = ask(world)
    for name in DELEGATORS:
        world.block((name, CastVote(number, FIRST, YES)), (name, CastVote(number, SECOND, NO)))
    world.do("operator", CastVote(number, FIRST, YES))
    assert proposal(world).votes == 8
    left = []
    while world.height < proposal(world).voting_end_height + 6:
        world.block()
        left.append(proposal(world).votes)
    assert left[-6:] == [6, 4, 2, 0, 0, 0]
    assert not [name for name, _ in world.ledger.items() if name.startswith((b"vote", b"ballot"))]
    assert PAGES_PRUNED_PER_BLOCK > 1


def test_a_block_holds_few_proposals() -> None:
    parameters = devnet_parameters()
    units = transaction_units(Propose("x", "", Statement()), 200, parameters)
    assert parameters.block_units_max // units <= 40, "each looks at every stake"


# --- anything in any order, against a count that looks at every delegator


def slow_count(world: World, number: int, votes: dict[tuple[bytes, str], int]) -> Tally:
    """What the votes come to when every account is asked."""
    state, sums, bonded = State(world.ledger), Counter[int](), 0
    for validator in staking.active_powers(state):
        record = state.validator(validator)
        bonded += record.stake_nano
        shares = {name: staking.delegation(state, validator, key(name).address).shares for name in DELEGATORS}
        parts = Counter[int]()
        for name, held in shares.items():
            if (validator, name) in votes:
                parts[votes[validator, name]] += held
        rest = record.shares - parts.total()
        for choice, held in parts.items():
            sums[choice] += record.stake_nano * held // record.shares
        if (validator, OPERATORS[validator]) in votes:
            sums[votes[validator, OPERATORS[validator]]] += record.stake_nano * rest // record.shares
    return Tally(sums[YES], sums[NO], sums[ABSTAIN], sums[VETO], bonded)


steps = st.tuples(
    st.sampled_from(["vote", "vote", "delegate", "delegate", "undelegate", "leave", "bond", "unbond", "slash"]),
    st.sampled_from([FIRST, SECOND]),
    st.sampled_from(DELEGATORS),
    st.integers(0, len(CHOICES) - 1),
    st.integers(1, 90 * GSN),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=5, max_size=24))
def test_the_running_sums_are_what_every_delegator_has(story: list[tuple[str, bytes, str, int, int]]) -> None:
    world = chain(voting_blocks=48, equivocation_slash_bps=3_333)
    number = ask(world)
    votes: dict[tuple[bytes, str], int] = {}
    slashed: set[bytes] = set()
    for kind, validator, name, choice, amount in story:
        operator = OPERATORS[validator]
        match kind:
            case "vote":
                for who in (name, operator) if amount % 2 else (name,):
                    if world.block((who, CastVote(number, validator, choice)))[0].applied:
                        votes[validator, who] = choice
            case "delegate":
                world.block((name, Delegate(validator, amount, 10_000)))
            case "undelegate":
                world.block((name, Undelegate(validator, amount)))
            case "leave":
                held = staking.delegated_nano(State(world.ledger), validator, key(name).address)
                world.block((name, Undelegate(validator, held)))
            case "bond":
                public = key("validator" if validator == FIRST else "alice's validator").public
                world.block((operator, Bond(public, amount, b"")))
            case "unbond":
                world.block((operator, Unbond(validator, amount)))
            case "slash" if not slashed:
                accuse(world, validator)
                slashed.add(validator)
        assert count(State(world.ledger), number) == slow_count(world, number, votes)
    while not world.height >= proposal(world, number).voting_end_height:
        expected = slow_count(world, number, votes)
        world.block()
    ended = proposal(world, number)
    assert ended.state != "voting"
    assert ended.tally == expected
    assert ended.tally.voted_nano <= ended.tally.bonded_nano
