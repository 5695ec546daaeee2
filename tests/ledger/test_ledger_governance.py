"""Governance: whole proposals as transcripts, the rules of the count as tables, upgrades and grants."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from ledger_world import CHAIN, GSN, World, key

from consensus.ledger import keys, queries, upgrades
from consensus.ledger.execute import execute_block
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.messages import Bond, Transfer, Unbond, validator_key_proof_bytes
from consensus.ledger.parameter_bounds import BOUNDS
from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.proposal_messages import (
    ABSTAIN,
    NO,
    VETO,
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
from consensus.ledger.tally import outcome, split
from consensus.ledger.upgrades import Upgrade, check_known
from consensus.ledger.view import State
from gensyn_node.primitives.errors import InvariantViolation, Rejection

VALIDATORS = {"alice": 100, "bob": 100, "carol": 100}
"""Besides `operator`, whose validator has 100 as well."""
DEPOSIT = devnet_parameters().proposal_deposit_nano


def chain(**changes: Any) -> World:
    """Four validators of equal stake."""
    world = World(msgspec.structs.replace(devnet_parameters(), **changes))
    for name, stake in VALIDATORS.items():
        proof = key(name + "'s validator").sign(validator_key_proof_bytes(CHAIN, key(name).address))
        world.do(name, Bond(key(name + "'s validator").public, stake * GSN, proof))
    return world


def validator_of(name: str) -> bytes:
    return key("validator" if name == "operator" else name + "'s validator").address


def change(**values: int) -> ChangeParameters:
    return ChangeParameters(tuple(NewValue(name, value) for name, value in values.items()))


def proposal(world: World, number: int) -> Proposal:
    return State(world.ledger).proposal(number)


def propose(world: World, content: Content, who: str = "dave") -> int:
    """Open a proposal; its number."""
    world.do(who, Propose("a title", "why", content))
    return State(world.ledger).counters.proposals - 1


def vote(world: World, number: int, **choices: int) -> None:
    for name, choice in choices.items():
        world.do(name, CastVote(number, validator_of(name), choice))


def go_to(world: World, height: int) -> None:
    """Blocks until `height` is the head."""
    while world.height < height:
        world.block()


def pass_(world: World, content: Content) -> Proposal:
    """A proposal that everybody wants, at the end of its vote."""
    number = propose(world, content)
    vote(world, number, operator=YES, alice=YES, bob=YES)
    go_to(world, proposal(world, number).voting_end_height)
    return proposal(world, number)


def parameters(world: World) -> Parameters:
    return queries.parameters(world.ledger)


# --- whole proposals


def test_a_changed_parameter_is_in_force_from_exactly_the_height_said() -> None:
    world = chain()
    passed = pass_(world, change(fee_base_nano=50_000, window_blocks=7))
    assert (passed.state, passed.deposit_nano) == ("passed", 0)
    assert passed.effect_height == passed.voting_end_height + world.parameters.enactment_blocks
    assert world.balance("dave") > 999 * GSN, "the deposit is back"
    go_to(world, passed.effect_height - 2)
    world.do("alice", Transfer(key("bob").address, 1))  # at the old fee, in the last block under the old parameters
    assert world.height == passed.effect_height - 1
    assert proposal(world, passed.number).state == "enacted"
    assert (parameters(world).fee_base_nano, parameters(world).window_blocks) == (50_000, 7)
    result = world.block(("alice", Transfer(key("bob").address, 1)))[0]
    assert (world.height, result.code) == (passed.effect_height, "E1203")
    world.parameters = parameters(world)
    world.do("alice", Transfer(key("bob").address, 1))
    assert world.kinds().count("parameter_changed") == 2


def test_what_is_not_named_stays_as_other_proposals_left_it() -> None:
    world = chain()
    first, second = propose(world, change(window_blocks=7)), propose(world, change(start_blocks=11))
    for number in (first, second):
        vote(world, number, operator=YES, alice=YES)
    go_to(world, world.height + 40)
    assert (parameters(world).window_blocks, parameters(world).start_blocks) == (7, 11)


def test_a_change_that_became_impossible_fails_and_changes_nothing() -> None:
    world = chain(unbonding_blocks=100)
    longer = propose(world, change(unbonding_blocks=200))
    shorter = propose(world, change(unbonding_blocks=150))
    for number in (longer, shorter):
        vote(world, number, operator=YES, alice=YES)
    go_to(world, world.height + 40)
    assert [proposal(world, number).state for number in (longer, shorter)] == ["enacted", "failed"]
    assert proposal(world, shorter).why == "E1257"
    (failed,) = [event for event in world.events if event.kind == "proposal_failed"]
    assert str(failed.get("why")).startswith("unbonding_blocks: 150 is below 200")
    assert parameters(world).unbonding_blocks == 200


def test_programs_that_word_a_failure_otherwise_have_the_same_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    roots = []
    for words in "as it is now", "as a later release says it":
        bound = dataclasses.replace(BOUNDS["unbonding_blocks"], why=words)
        monkeypatch.setitem(BOUNDS, "unbonding_blocks", bound)
        world = chain(unbonding_blocks=100)
        for value in 200, 150:
            vote(world, propose(world, change(unbonding_blocks=value)), operator=YES, alice=YES)
        go_to(world, world.height + 40)
        assert proposal(world, 1).state == "failed"
        roots.append(world.ledger.root)
    assert roots[0] == roots[1]


def test_the_deposit_burns_without_a_quorum_and_with_a_veto() -> None:
    for choices, state in ({"alice": YES}, "no_quorum"), ({"alice": YES, "bob": VETO}, "vetoed"):
        world = chain()
        burnt = queries.supply(world.ledger).burnt_nano
        number = propose(world, Statement())
        assert queries.supply(world.ledger).deposits_nano == DEPOSIT
        vote(world, number, **choices)
        go_to(world, proposal(world, number).voting_end_height)
        assert (proposal(world, number).state, proposal(world, number).effect_height) == (state, 0)
        assert queries.supply(world.ledger).burnt_nano == burnt + DEPOSIT


def test_a_rejected_proposal_gets_its_deposit_back_and_a_later_vote_is_refused() -> None:
    world = chain()
    number = propose(world, change(window_blocks=7))
    vote(world, number, alice=NO, bob=YES)
    go_to(world, proposal(world, number).voting_end_height)
    assert proposal(world, number).state == "rejected", "a tie passes nothing"
    assert world.balance("dave") > 999 * GSN
    assert world.refused("carol", CastVote(number, validator_of("carol"), YES)) == "E1253"
    go_to(world, world.height + 20)
    assert parameters(world) == world.parameters


def test_votes_of_the_last_block_count_and_may_be_changed_until_then() -> None:
    world = chain()
    number = propose(world, Statement())
    vote(world, number, operator=NO, alice=NO)
    go_to(world, proposal(world, number).voting_end_height - 1)
    world.block(*[(name, CastVote(number, validator_of(name), YES)) for name in ("operator", "alice")])
    assert proposal(world, number).state == "enacted"
    assert proposal(world, number).tally == Tally(yes_nano=200 * GSN, bonded_nano=400 * GSN)


def test_stake_that_leaves_before_the_end_does_not_count() -> None:
    world = chain()
    number = propose(world, Statement())
    vote(world, number, alice=YES, bob=NO)
    world.do("alice", Unbond(validator_of("alice"), 60 * GSN))
    go_to(world, proposal(world, number).voting_end_height)
    assert proposal(world, number).tally == Tally(yes_nano=40 * GSN, no_nano=100 * GSN, bonded_nano=340 * GSN)


def test_a_grant_is_paid_from_fees_and_fails_when_the_treasury_has_less() -> None:
    world = chain(treasury_fee_bps=5_000)
    fees = queries.supply(world.ledger).treasury_nano
    assert fees > 0
    before = world.balance("erin")
    passed = pass_(world, Grant(key("erin").address, fees))
    too_much = pass_(world, Grant(key("erin").address, 10**15))
    go_to(world, too_much.effect_height)
    assert world.balance("erin") == before + fees
    assert [proposal(world, one.number).state for one in (passed, too_much)] == ["enacted", "failed"]
    assert proposal(world, too_much.number).why == "E1204"


def test_votes_of_ended_proposals_are_deleted() -> None:
    world = chain()
    number = pass_(world, Statement()).number
    assert proposal(world, number).votes == 3
    go_to(world, world.height + 2)
    assert proposal(world, number).votes == 0
    left = [name for name, _ in world.ledger.items() if name.startswith((b"ballot/", b"vote/", b"votes/"))]
    assert left == []


# --- what is refused


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (ChangeParameters(()), "E1256"),
        (change(nonsense=1), "E1256"),
        (ChangeParameters((NewValue("window_blocks", 5), NewValue("window_blocks", 6))), "E1256"),
        (change(voting_blocks=0), "E1256"),
        (change(voting_blocks=50), "E1256"),
        (change(quorum_bps=10_000), "E1256"),
        (change(veto_bps=1), "E1256"),
        (change(fee_base_nano=0), "E1256"),
        (change(fee_per_unit_nano=10**9), "E1256"),
        (change(block_units_max=0), "E1256"),
        (change(referee_units=1), "E1256"),
        (change(winner_bps=6_000, jackpot_bps=4_000), "E1256"),
        (change(task_deadline_blocks_min=200, task_deadline_blocks_max=100), "E1256"),
        (change(stake_min_nano=101 * GSN), "E1256"),
        (change(proposal_deposit_nano=100 * GSN), "E1256"),
        (change(power_unit_nano=1), "E1257"),
        (change(unbonding_blocks=49), "E1257"),
        (Grant(bytes(20), 0), "E1251"),
        (CancelUpgrade("v2"), "E1251"),
        (PlanUpgrade("v2", 10, 2), "E1251"),
        (PlanUpgrade("V 2", 1_000, 2), "E1251"),
        (PlanUpgrade("v2", 1_000, 1), "E1251"),
        (PlanUpgrade("v2", 1 << 40, 2), "E1251"),
    ],
)
def test_what_cannot_be_proposed(content: Content, code: str) -> None:
    assert chain().refused("dave", Propose("a title", "", content)) == code


def test_a_proposal_needs_a_title_a_deposit_and_a_free_place() -> None:
    world = chain(proposals_open_max=2)
    assert world.refused("dave", Propose(" ", "", Statement())) == "E1251"
    world.do("dave", Transfer(key("erin").address, world.balance("dave") - GSN))
    assert world.refused("dave", Propose("poor", "", Statement())) == "E1204"
    for _ in range(2):
        propose(world, Statement(), "erin")
    assert world.refused("erin", Propose("third", "", Statement())) == "E1252"
    go_to(world, world.height + 31)
    propose(world, Statement(), "erin")


def test_the_least_stake_never_rises_over_a_third_of_the_power() -> None:
    world = chain()
    world.do("alice", Bond(key("alice's validator").public, 400 * GSN, b""))
    assert world.refused("dave", Propose("rich", "", change(stake_min_nano=101 * GSN))) == "E1256", "500 of 800 stay"
    world.do("alice", Bond(key("alice's validator").public, 150 * GSN, b""))
    passed = pass_(world, change(stake_min_nano=101 * GSN))
    go_to(world, passed.effect_height - 2)
    world.do("alice", Unbond(validator_of("alice"), 550 * GSN))
    assert proposal(world, passed.number).state == "failed", "what was possible then is not now"
    assert parameters(world) == world.parameters


def test_who_may_vote() -> None:
    world = chain()
    number = propose(world, Statement())
    assert world.refused("dave", CastVote(number, validator_of("alice"), YES)) == "E1254"
    assert world.refused("alice", CastVote(number, validator_of("alice"), 4)) == "E1255"
    assert world.refused("alice", CastVote(number + 1, validator_of("alice"), YES)) == "E1250"
    assert world.refused("alice", CastVote(number, bytes(20), YES)) == "E1210"
    world.do("alice", Unbond(validator_of("alice"), 100 * GSN))
    assert world.refused("alice", CastVote(number, validator_of("alice"), YES)) == "E1254"


# --- the count


@pytest.mark.parametrize(
    ("votes", "word"),
    [
        ((0, 0, 0, 0), "no_quorum"),
        ((333, 0, 0, 0), "no_quorum"),
        ((334, 0, 0, 0), "passed"),
        ((167, 167, 0, 0), "rejected"),
        ((168, 167, 0, 0), "passed"),
        ((1, 0, 333, 0), "passed"),
        ((0, 0, 400, 0), "rejected"),
        ((666, 0, 0, 334), "passed"),
        ((665, 0, 0, 335), "vetoed"),
        ((0, 0, 0, 333), "no_quorum"),
        ((0, 100, 0, 234), "vetoed"),
    ],
)
def test_quorum_veto_and_majority(votes: tuple[int, int, int, int], word: str) -> None:
    rules = msgspec.structs.replace(devnet_parameters(), quorum_bps=3_340, threshold_bps=5_000, veto_bps=3_340)
    assert outcome(Tally(*votes, bonded_nano=1_000), rules) == word


@pytest.mark.parametrize(
    ("choice", "own", "stake", "units", "expected"),
    [
        (YES, (0, 0, 0, 0), 100, 100, (100, 0, 0, 0)),
        (None, (0, 30, 0, 0), 100, 100, (0, 30, 0, 0)),
        (YES, (0, 30, 0, 10), 100, 100, (60, 30, 0, 10)),
        (NO, (50, 0, 50, 0), 100, 100, (50, 0, 50, 0)),
        (YES, (0, 40, 0, 0), 95, 100, (57, 38, 0, 0)),
        (YES, (0, 150, 0, 50), 100, 100, (0, 75, 0, 25)),
        (ABSTAIN, (0, 5, 0, 0), 0, 0, (0, 0, 0, 0)),
    ],
)
def test_a_validators_stake_is_split_and_never_exceeded(
    choice: int | None, own: tuple[int, int, int, int], stake: int, units: int, expected: tuple[int, ...]
) -> None:
    assert split(Ballot(choice, own), stake, units) == expected
    assert sum(expected) <= stake


# --- upgrades


def step(ledger: MemoryLedger, world: World, height: int, known: dict[str, Upgrade]) -> None:
    ledger.apply(execute_block(ledger, world.context(height), [], known_upgrades=known))


def test_an_upgrade_stops_who_does_not_know_it_and_changes_the_rules_of_who_does() -> None:
    world = chain()
    planned = pass_(world, PlanUpgrade("v2", world.height + 60, 2))
    height = planned.effect_height
    assert (planned.state, height) == ("enacted", planned.submitted_height - 1 + 60)
    go_to(world, height - 1)
    known = {"v2": Upgrade(2, lambda state: state.put(keys.account(bytes(20)), queries_account(state)))}
    check_known(world.ledger, height - 1, {})
    with pytest.raises(Rejection, match=rf"upgrade_needed: upgrade 'v2' begins at block {height} and needs .* 2\)"):
        check_known(world.ledger, height, {})
    with pytest.raises(Rejection, match="upgrade_needed"):
        check_known(world.ledger, height, {"v2": Upgrade(3)})
    with pytest.raises(InvariantViolation, match="without knowing"):
        execute_block(world.ledger, world.context(height), [])
    check_known(world.ledger, height, known)
    step(world.ledger, world, height, known)
    governance = State(world.ledger).governance
    assert (governance.protocol, governance.upgrade, governance.upgrades[0].name) == (2, None, "v2")
    assert queries.account(world.ledger, bytes(20)).nonce == 7
    with pytest.raises(Rejection, match="upgrade_needed"):
        check_known(world.ledger, height + 1, {})  # the old program on the new chain
    step(world.ledger, world, height + 1, known)


def queries_account(state: State) -> Any:
    return msgspec.structs.replace(state.account(bytes(20)), nonce=7)


def test_a_name_that_the_chain_went_through_is_not_planned_again_by_a_vote_from_before() -> None:
    world = chain()
    first = propose(world, PlanUpgrade("v2", world.height + 40, 2))
    go_to(world, world.height + 20)
    again = propose(world, PlanUpgrade("v2", world.height + 90, 3))  # not gone through yet
    vote(world, first, operator=YES, alice=YES, bob=YES)
    vote(world, again, operator=YES, alice=YES, bob=YES)
    ledger, height = world.ledger, world.height
    while State(ledger).proposal(again).state == "voting":
        height += 1
        step(ledger, world, height, {"v2": Upgrade(2)})
    assert State(ledger).governance.protocol == 2
    assert State(ledger).proposal(again).state == "failed"
    assert State(ledger).governance.upgrade is None


def test_a_cancelled_upgrade_stops_nobody_and_may_be_planned_again() -> None:
    world = chain()
    planned = pass_(world, PlanUpgrade("v2", world.height + 120, 2))
    assert pass_(world, PlanUpgrade("v3", world.height + 90, 3)).why == "E1251"
    cancelled = pass_(world, CancelUpgrade("v2"))
    assert (cancelled.state, cancelled.effect_height) == ("enacted", world.height + 1)
    assert world.height < planned.effect_height
    go_to(world, planned.effect_height + 1)
    assert State(world.ledger).governance.protocol == upgrades.PROTOCOL
    assert pass_(world, PlanUpgrade("v2", world.height + 90, 2)).state == "enacted"
