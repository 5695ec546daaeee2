"""Double votes: what they cost whom, who is paid, and what cannot be got out of; named after others' mistakes."""

from __future__ import annotations

import msgspec
from ledger_world import GSN, World, key
from staking_world import ANY, FIRST, accuse, active, blocks, bond, four, owed, record, staked, validator_of

from consensus.ledger import keys, queries, stake_queries
from consensus.ledger.block import LIGHT_CLIENT_ATTACK, Misbehaviour
from consensus.ledger.messages import Bond, Delegate, Unbond, Undelegate, Unjail, WithdrawRewards
from consensus.ledger.view import State


def leaving(world: World, name: str) -> list[int]:
    """A named account's entries on their way out, as they will be paid."""
    shown = stake_queries.delegations(world.ledger, key(name).address)
    return [entry.amount_nano for one in shown for entry in one.unbonding]


def test_a_slash_hits_all_delegators_alike_and_ends_the_power_for_good() -> None:
    world = four()
    alices = validator_of("alice")
    world.do("dave", Delegate(alices, 60 * GSN, ANY))
    world.do("erin", Delegate(alices, 40 * GSN, ANY))
    accuse(world, alices, world.height)
    assert [staked(world, alices, name) for name in ("alice", "dave", "erin")] == [95 * GSN, 57 * GSN, 38 * GSN]
    assert alices not in active(world)
    assert world.refused("dave", Delegate(alices, GSN, ANY)) == "E1206"
    assert world.refused("alice", Bond(key("alice's validator").public, GSN, b"")) == "E1206"
    assert world.refused("alice", Unjail(alices)) == "E1218"
    world.do("dave", Undelegate(alices, 57 * GSN))
    world.do("alice", Unbond(alices, 95 * GSN))
    world.do("erin", Undelegate(alices, 38 * GSN))
    assert record(world, alices).shares == record(world, alices).stake_nano == 0


def test_who_undelegates_before_the_evidence_comes_does_not_escape() -> None:
    world = four()
    alices = validator_of("alice")
    world.block(("dave", Delegate(alices, 60 * GSN, ANY)), ("erin", Delegate(alices, 60 * GSN, ANY)))
    blocks(world, 10)
    world.do("dave", Undelegate(alices, 40 * GSN))
    before_dave_left = world.height - 1
    world.do("erin", Undelegate(alices, 40 * GSN))
    blocks(world, world.parameters.unbonding_blocks - 10)
    accuse(world, alices, before_dave_left)
    assert leaving(world, "dave") == leaving(world, "erin") == [38 * GSN]
    start = world.balance("dave")
    blocks(world, 12)
    assert world.balance("dave") - start == 38 * GSN


def test_stake_answers_for_the_heights_that_it_gave_power_to_and_no_others() -> None:
    """Stake that leaves in block s still signs s and s + 1; what left before an offence had no part in it."""
    for offset, expected in ((-1, 38), (0, 38), (1, 38), (2, 40), (3, 40)):
        world = four()
        alices = validator_of("alice")
        world.do("dave", Delegate(alices, 60 * GSN, ANY))
        blocks(world, 5)
        world.do("dave", Undelegate(alices, 40 * GSN))
        left = world.height
        blocks(world, 5)
        accuse(world, alices, left + offset)
        assert leaving(world, "dave") == [expected * GSN], offset


def test_evidence_is_in_time_for_all_stake_that_it_concerns() -> None:
    """The last block that takes evidence comes before the first that pays the stake out."""
    world = four()
    alices = validator_of("alice")
    world.do("alice", Unbond(alices, 50 * GSN))
    offence = world.height + 1
    last_block = offence + world.parameters.unbonding_blocks
    blocks(world, last_block - 1 - world.height)
    assert queries.oldest_evidence(world.ledger, last_block) <= offence
    start = world.balance("alice")
    accuse(world, alices, offence)
    blocks(world, 3)
    assert world.balance("alice") - start == 50 * GSN * 95 // 100


def test_the_same_evidence_twice_slashes_once() -> None:
    world = four()
    alices = validator_of("alice")
    world.do("dave", Delegate(alices, 60 * GSN, ANY))
    world.do("dave", Undelegate(alices, 20 * GSN))
    for _ in range(3):
        accuse(world, alices, world.height, times=2)
    assert staked(world, alices, "dave") == 38 * GSN
    assert leaving(world, "dave") == [19 * GSN]
    assert world.kinds().count("validator_tombstoned") == 1


def test_an_entry_is_never_slashed_twice_nor_for_stake_that_was_slashed_already() -> None:
    world = four()
    alices = validator_of("alice")
    world.do("dave", Delegate(alices, 100 * GSN, ANY))
    blocks(world, 3)
    world.do("dave", Undelegate(alices, 20 * GSN))
    offence = world.height
    accuse(world, alices, offence)
    world.do("dave", Undelegate(alices, 19 * GSN))
    accuse(world, alices, world.height)
    assert leaving(world, "dave") == [19 * GSN, 19 * GSN]
    start = world.balance("dave")
    blocks(world, world.parameters.unbonding_blocks + 2)
    assert world.balance("dave") - start == 38 * GSN


def test_evidence_of_an_earlier_offence_reaches_further_back_and_slashes_nothing_again() -> None:
    world = four()
    alices = validator_of("alice")
    world.do("dave", Delegate(alices, 100 * GSN, ANY))
    blocks(world, 3)
    world.do("dave", Undelegate(alices, 20 * GSN))
    left = world.height
    blocks(world, 5)
    accuse(world, alices, world.height)
    assert leaving(world, "dave") == [20 * GSN], "it left before that offence"
    accuse(world, alices, left)
    assert leaving(world, "dave") == [19 * GSN]
    assert staked(world, alices, "dave") == 76 * GSN


def test_the_finder_is_the_operator_of_who_proposed_the_evidence() -> None:
    world = four()
    alices, bobs = validator_of("alice"), validator_of("bob")
    before = world.balance("bob")
    accuse(world, alices, world.height, proposer=bobs)
    assert world.balance("bob") - before == 5 * GSN * world.parameters.winner_bps // 10_000
    supply = queries.supply(world.ledger)
    assert supply.jackpot_nano == 5 * GSN * world.parameters.jackpot_bps // 10_000
    assert supply.burnt_nano == 5 * GSN - (world.balance("bob") - before) - supply.jackpot_nano
    assert [(event.subject, event.get("amount_nano")) for event in world.events if event.kind == "finder_paid"] == [
        (key("bob").address, world.balance("bob") - before)
    ]


def test_accusing_oneself_gives_nothing_back() -> None:
    """Who proposes the evidence of its own offence is no finder: it would get two fifths of its slash again.

    A share of *everything* slashed would even pay an operator for burning its delegators' stake.
    """
    world = four()
    alices = validator_of("alice")
    for name in ("dave", "erin"):
        world.do(name, Delegate(alices, 900 * GSN, ANY))
    before = world.balance("alice")
    accuse(world, alices, world.height, proposer=alices)
    assert (world.balance("alice"), staked(world, alices, "alice")) == (before, 95 * GSN)
    supply = queries.supply(world.ledger)
    assert supply.burnt_nano + supply.jackpot_nano == 95 * GSN, "of alice's 100 and the others' 1,800"


def test_own_stake_that_left_pays_the_finder_when_it_is_paid_out() -> None:
    world = four()
    alices = validator_of("alice")
    world.do("alice", Unbond(alices, 100 * GSN))
    before = world.balance("bob")
    accuse(world, alices, world.height + 1, proposer=validator_of("bob"))
    assert world.balance("bob") == before, "nothing is staked any more"
    blocks(world, world.parameters.unbonding_blocks + 2)
    assert world.balance("bob") - before == 5 * GSN * world.parameters.winner_bps // 10_000


def test_a_validator_that_left_altogether_is_slashed_all_the_same() -> None:
    world = four()
    alices = validator_of("alice")
    world.do("alice", Unbond(alices, 100 * GSN))
    left = world.height
    blocks(world, 30)
    accuse(world, alices, left)
    assert leaving(world, "alice") == [95 * GSN]
    assert world.refused("alice", Bond(key("alice's validator").public, 5 * GSN, b"")) == "E1206"


def test_several_accused_in_one_block_are_punished_each() -> None:
    world = four()
    accused = [validator_of(name) for name in ("alice", "bob")]
    offences = tuple(Misbehaviour(one, world.height, LIGHT_CLIENT_ATTACK) for one in (*accused, bytes(20)))
    world.block_in(msgspec.structs.replace(world.context(world.height + 1), misbehaviours=offences))
    assert list(active(world)) == sorted([FIRST, validator_of("carol")])
    whys = [event.get("why") for event in world.events if event.kind == "stake_slashed"]
    assert whys == [LIGHT_CLIENT_ATTACK] * 2


def test_when_everybody_voted_twice_the_chain_goes_on_until_somebody_new_takes_over() -> None:
    world = four()
    names = ("operator", "alice", "bob", "carol")
    for name in names:
        accuse(world, validator_of(name), world.height)
    assert len(active(world)) == 4, "a chain without power could never recover"
    assert staked(world, FIRST, "operator") == 95 * GSN
    for name in names[:3]:
        world.do(name, Unbond(validator_of(name), 95 * GSN))
    assert world.refused("carol", Unbond(validator_of("carol"), 95 * GSN)) == "E1209"
    world.do("dave", bond("dave", 10 * GSN))
    assert list(active(world)) == [validator_of("dave")]
    world.do("carol", Unbond(validator_of("carol"), 95 * GSN))


def test_the_last_ones_stake_may_be_less_than_a_unit_of_power() -> None:
    world = World()
    world.do("operator", Unbond(FIRST, 99 * GSN))
    accuse(world, FIRST, world.height)
    assert staked(world, FIRST, "operator") < world.parameters.power_unit_nano
    assert active(world) == {FIRST: 1}


def test_who_voted_twice_keeps_what_was_earned_before_and_earns_nothing_after() -> None:
    world = four()
    alices = validator_of("alice")
    world.do("dave", Delegate(alices, 100 * GSN, ANY))
    blocks(world, 10)
    earned = owed(world, alices, "dave")
    accuse(world, alices, world.height)
    blocks(world, 5)
    assert owed(world, alices, "dave") == earned > 0
    world.do("dave", WithdrawRewards(alices))
    assert State(world.ledger).find(keys.validator(alices), object) is not None
