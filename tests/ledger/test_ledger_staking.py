"""Stake that comes and goes, and the set that it makes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import CHAIN, GSN, World, key
from staking_world import (
    ANY,
    FIRST,
    active,
    blocks,
    bond,
    four,
    owed,
    record,
    staked,
    validator_of,
    world_with,
)

from consensus.chain_state import signatures_of
from consensus.ledger import keys, stake_queries
from consensus.ledger.fees import transaction_units
from consensus.ledger.genesis import check_parameters
from consensus.ledger.messages import (
    Bond,
    Delegate,
    EditValidator,
    Message,
    Transfer,
    Unbond,
    Undelegate,
    Unjail,
    validator_key_proof_bytes,
)
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.shares import shares_for, shares_of, worth
from consensus.ledger.stake_records import Delegation
from consensus.ledger.view import State
from consensus.tendermint.types import Commit, CommitFlag, CommitSlot, Validator
from consensus.tendermint.validators import new_validator_set
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

# --- delegating and leaving


def test_delegated_stake_gives_power_is_shown_and_comes_back_after_the_unbonding_time() -> None:
    world = World()
    world.do("alice", Delegate(FIRST, 50 * GSN, 0))
    assert world.deltas[-1].validator_updates[0].power == 150
    assert staked(world, FIRST, "alice") == 50 * GSN and staked(world, FIRST, "operator") == 100 * GSN
    shown = stake_queries.delegations(world.ledger, key("alice").address)
    assert [(one.validator, one.stake_nano) for one in shown] == [(FIRST, 50 * GSN)]
    world.do("alice", Undelegate(FIRST, 50 * GSN))
    assert world.deltas[-1].validator_updates[0].power == 100
    waiting = world.balance("alice")
    blocks(world, world.parameters.unbonding_blocks + 1)
    assert world.balance("alice") == waiting
    world.block()
    assert world.balance("alice") == waiting + 50 * GSN
    assert stake_queries.delegations(world.ledger, key("alice").address) == []
    assert State(world.ledger).find(keys.delegation(FIRST, key("alice").address), object) is None
    assert State(world.ledger).find(keys.delegations_of(key("alice").address), object) is None


@pytest.mark.parametrize(
    ("who", "message", "code"),
    [
        ("alice", Delegate(bytes(20), GSN, ANY), "E1210"),
        ("alice", Delegate(FIRST, 0, ANY), "E1211"),
        ("alice", Delegate(FIRST, 5_000 * GSN, ANY), "E1204"),
        ("alice", Delegate(FIRST, 1, ANY), "E1213"),
        ("operator", Delegate(FIRST, GSN, ANY), "E1213"),
        ("operator", Undelegate(FIRST, GSN), "E1213"),
        ("alice", Undelegate(FIRST, GSN), "E1206"),
        ("alice", Undelegate(bytes(20), GSN), "E1210"),
        ("bob", Undelegate(FIRST, 0), "E1211"),
        ("bob", Undelegate(FIRST, 11 * GSN), "E1206"),
        ("bob", Undelegate(FIRST, 10 * GSN - 1), "E1213"),
        ("bob", Unbond(FIRST, GSN), "E1207"),
    ],
)
def test_what_is_not_a_delegation_is_refused(who: str, message: Message, code: str) -> None:
    world = World()
    world.do("bob", Delegate(FIRST, 10 * GSN, 0))
    assert world.refused(who, message) == code


def test_an_account_delegates_to_a_bounded_number_of_validators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.ledger.delegation.DELEGATIONS_MAX", 2)
    world = four()
    for name in ("operator", "alice"):
        world.do("dave", Delegate(validator_of(name), GSN, ANY))
    world.do("dave", Delegate(FIRST, GSN, ANY))
    assert world.refused("dave", Delegate(validator_of("bob"), GSN, ANY)) == "E1214"


def test_the_operators_own_stake_has_a_least_amount_however_much_others_delegate() -> None:
    world = four(stake_min_nano=50 * GSN)
    alices = validator_of("alice")
    world.do("dave", Delegate(alices, 500 * GSN, ANY))
    assert world.refused("alice", Unbond(alices, 51 * GSN)) == "E1206"
    world.do("alice", Unbond(alices, 100 * GSN))
    assert alices not in active(world), "without a stake of its own it signs nothing"
    world.do("dave", Undelegate(alices, 500 * GSN))
    world.do("alice", Bond(key("alice's validator").public, 50 * GSN, b""))
    assert active(world)[alices] == 50


# --- shares


@given(st.integers(1, 1 << 62), st.integers(0, 1 << 62), st.integers(1, 1 << 62))
def test_rounding_never_gives_more_than_came_in(amount: int, burnt: int, stake: int) -> None:
    shares = stake
    stake = max(1, stake - burnt)
    bought = shares_for(amount, stake, shares)
    assert bought >= amount, "a share is never worth more than a nano"
    back = worth(bought, stake + amount, shares + bought)
    assert amount - 1 <= back <= amount, "who comes gets its worth and no more"
    assert (stake + amount) * shares >= stake * (shares + bought), "whoever was there before loses nothing"
    if back:
        taken = max(1, back // 3)
        given_up = shares_of(taken, bought, stake + amount, shares + bought)
        assert 0 < given_up <= bought
        left, left_shares = stake + amount - taken, shares + bought - given_up
        assert left * (shares + bought) >= (stake + amount) * left_shares


def test_the_first_delegator_cannot_blow_up_the_price_of_a_share() -> None:
    """The share inflation attack: buy one share, give the pool much money, the next buyer's shares round to none."""
    world = world_with(delegation_min_nano=1, stake_min_nano=1, power_unit_nano=8)
    world.do("alice", bond("alice", 8))
    alices = validator_of("alice")
    world.do("carol", Transfer(alices, 500 * GSN))
    blocks(world, 5)
    assert record(world, alices).stake_nano == record(world, alices).shares == 8, "no gift and no reward raises it"
    world.do("bob", Delegate(alices, 7, ANY))
    assert staked(world, alices, "bob") == 7


def test_a_validator_cannot_keep_shares_of_nothing() -> None:
    """Division by zero and worthless shares that vote: no slash takes everything."""
    for name in ("equivocation_slash_bps", "downtime_slash_bps"):
        with pytest.raises(Rejection, match="bad_genesis"):
            check_parameters(msgspec.structs.replace(devnet_parameters(), **{name: 10_000}))


def test_shares_of_an_often_slashed_validator_end_before_the_encoding_does() -> None:
    world = four()
    alices = validator_of("alice")
    state = State(world.ledger)
    validator = record(world, alices)
    own = keys.delegation(alices, key("alice").address)
    many = SUPPLY_NANO_MAX - 5 * GSN
    written = {
        keys.validator(alices): msgspec.structs.replace(validator, shares=many),
        own: msgspec.structs.replace(state.need(own, Delegation), shares=many),
    }
    for where, value in written.items():
        state.put(where, value)
    world.ledger._values.update({k: v for k, v in state.writes().items() if v is not None})
    assert world.block(("dave", Delegate(alices, 10 * GSN, ANY)))[0].code == "E1206"


# --- the set


def test_the_strongest_are_the_set_and_equal_power_goes_by_address() -> None:
    world = four(validators_active_max=2)
    everybody = sorted(validator_of(name) for name in ("operator", "alice", "bob", "carol"))
    assert list(active(world)) == everybody[:2]
    weakest = everybody[3]
    world.do("dave", Delegate(weakest, GSN, ANY))
    assert list(active(world)) == sorted([weakest, everybody[0]])
    world.do("dave", Undelegate(weakest, GSN))
    assert list(active(world)) == everybody[:2]


def test_when_all_places_are_taken_the_weakest_that_does_not_sign_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CANDIDATES_MAX", 4)
    world = four(validators_active_max=3)
    (waiting,) = {validator_of(name) for name in ("operator", "alice", "bob", "carol")} - set(active(world))
    assert world.refused("dave", bond("dave", 99 * GSN)) == "E1206"
    world.do("dave", bond("dave", 101 * GSN))
    assert validator_of("dave") in active(world)
    assert waiting not in State(world.ledger).addresses(keys.VALIDATORS)
    name = next(name for name in ("operator", "alice", "bob", "carol") if validator_of(name) == waiting)
    delegated = [one for one in stake_queries.delegations(world.ledger, key(name).address) if one.validator == waiting]
    assert delegated[0].stake_nano == 100 * GSN, "it still has its stake, and may return with more"
    public = key("validator" if name == "operator" else name + "'s validator").public
    world.do(name, Bond(public, 10 * GSN, b""))
    assert active(world)[waiting] == 110


def test_nobody_leaves_a_set_that_cannot_spare_one() -> None:
    world = four(validators_min=3)
    world.do("alice", Unbond(validator_of("alice"), 100 * GSN))
    assert world.refused("bob", Unbond(validator_of("bob"), 100 * GSN)) == "E1209"
    world.do("bob", Unbond(validator_of("bob"), 99 * GSN))
    world.do("dave", bond("dave", 5 * GSN))
    world.do("bob", Unbond(validator_of("bob"), GSN))
    assert len(active(world)) == 3


def test_a_key_belongs_to_the_operator_that_it_signed_for() -> None:
    world = four()
    public = key("alice's validator").public
    assert world.refused("bob", Bond(public, GSN, b"")) == "E1207"
    proof = key("new").sign(validator_key_proof_bytes("other chain", key("bob").address))
    assert world.refused("bob", Bond(key("new").public, GSN, proof)) == "E1208"
    proof = key("new").sign(validator_key_proof_bytes(CHAIN, key("carol").address))
    assert world.refused("bob", Bond(key("new").public, GSN, proof)) == "E1208"


def test_who_signed_is_read_from_the_commit_and_nil_is_a_sign_of_life() -> None:
    members = [Validator(key(name).address, key(name).public, 10) for name in ("a", "b", "c")]
    signers = new_validator_set(members)
    flags = (CommitFlag.COMMIT, CommitFlag.NIL, CommitFlag.ABSENT)
    slots = tuple(CommitSlot(flag, b"" if flag is CommitFlag.ABSENT else bytes(64)) for flag in flags)
    found = signatures_of(signers, Commit(7, 0, bytes(32), slots))
    assert [one.validator for one in found] == [one.address for one in signers.validators]
    assert [(one.power, one.signed) for one in found] == [(10, True), (10, True), (10, False)]
    assert signatures_of(None, None) == ()


# --- what operators say of themselves


def test_a_commission_rises_in_small_steps_once_others_have_delegated() -> None:
    """The commission jump: low until enough have delegated, then everything."""
    world = four(commission_rise_max_bps=100, commission_rise_blocks=10)
    alices = validator_of("alice")

    def edit(bps: int) -> EditValidator:
        return EditValidator(alices, "Alice & Co", bps, ("/dns/alice",))

    world.do("alice", edit(2_000))
    world.do("alice", edit(1_000))
    assert world.refused("dave", Delegate(alices, GSN, 999)) == "E1215"
    world.do("dave", Delegate(alices, GSN, 1_000))
    assert world.refused("bob", edit(1_000)) == "E1207"
    assert world.refused("alice", edit(10_001)) == "E1216"
    blocks(world, 10)
    assert world.refused("alice", edit(1_101)) == "E1216"
    world.do("alice", edit(1_100))
    assert world.refused("alice", edit(1_101)) == "E1216"
    world.do("alice", edit(500))
    assert world.refused("alice", edit(501)) == "E1216", "lowering first does not shorten the wait"
    blocks(world, 10)
    world.do("alice", edit(600))
    shown = record(world, alices)
    assert (shown.name, shown.endpoints, shown.commission_bps) == ("Alice & Co", ("/dns/alice",), 600)


def test_a_new_commission_does_not_reach_back() -> None:
    world = four(commission_rise_blocks=10)
    alices = validator_of("alice")
    world.do("alice", EditValidator(alices, "", 100, ()))
    world.do("dave", Delegate(alices, 100 * GSN, ANY))
    blocks(world, 20)
    earned = owed(world, alices, "dave")
    world.do("alice", EditValidator(alices, "", 600, ()))
    assert owed(world, alices, "dave") >= earned > 0


def test_who_lost_its_place_in_jail_bonds_more_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CANDIDATES_MAX", 4)
    world = four(stake_min_nano=100 * GSN, downtime_window_blocks=4, jail_blocks=2, validators_active_max=3)
    jailed = min(active(world))
    name = next(one for one in ("operator", "alice", "bob", "carol") if validator_of(one) == jailed)
    while not record(world, jailed).jailed_height:
        blocks(world, 1, {jailed})
    blocks(world, 3)
    assert world.refused(name, Unjail(jailed)) == "E1206", "the slash took it below the least own stake"
    world.do("dave", bond("dave", 200 * GSN))
    assert jailed not in State(world.ledger).addresses(keys.VALIDATORS)
    public = key("validator" if name == "operator" else name + "'s validator").public
    world.do(name, Bond(public, 50 * GSN, b""))
    world.do(name, Unjail(jailed))
    assert jailed in active(world)


def test_what_may_look_at_every_candidate_takes_block_space_for_it() -> None:
    parameters = devnet_parameters()
    for message in Bond(bytes(32), GSN, bytes(64)), Unbond(bytes(20), GSN), Unjail(bytes(20)):
        assert parameters.block_units_max // transaction_units(message, 150, parameters) <= 40, message
