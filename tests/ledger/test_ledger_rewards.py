"""Rewards: who gets what of a block, that nothing is made or lost on the way, and that nobody gets another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import GSN, World, key
from staking_world import ANY, FIRST, accuse, active, blocks, four, owed, record, validator_of, world_with

from consensus.ledger import queries
from consensus.ledger.messages import Delegate, EditValidator, Transfer, Unbond, Undelegate, WithdrawRewards
from consensus.ledger.rewards import earnings
from consensus.ledger.shares import ZERO_RATIO, add_reward, reward
from consensus.ledger.view import State
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

BLOCK = 1_000_003
NO_BONUS = {"proposer_base_bps": 0, "proposer_signatures_bps": 0, "block_reward_nano": BLOCK}


def test_a_block_deals_new_money_by_power() -> None:
    world = four(**NO_BONUS)
    world.do("dave", Delegate(validator_of("alice"), 100 * GSN, ANY))
    blocks(world, 2)
    before = {name: owed(world, validator_of(name), name) for name in ("operator", "alice", "bob", "carol")}
    minted = queries.supply(world.ledger).minted_nano
    blocks(world, 10)
    assert queries.supply(world.ledger).minted_nano - minted == 10 * BLOCK
    gained = {name: owed(world, validator_of(name), name) - before[name] for name in before}
    assert max(gained.values()) - min(gained.values()) <= 10, "100 GSN each, alice's beside 100 GSN of dave's"
    assert abs(owed(world, validator_of("alice"), "dave") - gained["alice"]) <= BLOCK
    everything = sum(gained.values()) * 5 // 4
    assert 10 * BLOCK - 100 < everything <= 10 * BLOCK


def test_fees_are_dealt_in_their_own_block_and_a_tenth_of_them_is_the_treasurys() -> None:
    world = four(**NO_BONUS)
    before = queries.supply(world.ledger)
    fee = world.do("dave", Transfer(key("erin").address, GSN)).fee_nano
    after = queries.supply(world.ledger)
    assert after.treasury_nano - before.treasury_nano == fee // 10
    dealt = after.rewards_nano + after.fees_nano - before.rewards_nano - before.fees_nano
    assert dealt == BLOCK + fee - fee // 10
    assert after.fees_nano < 4, "the rest of the division waits for the next block"


def test_the_absent_earn_nothing_and_nobody_gains_by_their_absence_at_once() -> None:
    world = four(**NO_BONUS)
    absent = validator_of("carol")
    before = {name: owed(world, validator_of(name), name) for name in ("alice", "carol")}
    blocks(world, 1, absent=[absent])
    assert owed(world, absent, "carol") == before["carol"]
    assert owed(world, validator_of("alice"), "alice") - before["alice"] <= BLOCK // 4 + 1
    assert queries.supply(world.ledger).fees_nano >= BLOCK // 4, "it is dealt with the next block, to all"


def test_a_proposer_gains_by_every_signature_that_it_puts_in() -> None:
    gains = []
    for absent in ([], [validator_of("carol")]):
        world = four(proposer_base_bps=100, proposer_signatures_bps=400, block_reward_nano=1_000_000)
        before = owed(world, FIRST, "operator")
        pool = 1_000_000 + queries.supply(world.ledger).fees_nano
        blocks(world, 1, absent=absent)
        gains.append(owed(world, FIRST, "operator") - before)
        bonus = pool * (100 + 400 * (4 - len(absent)) // 4) // 10_000
        assert gains[-1] in range(bonus + (pool - bonus) // 4 - 1, bonus + (pool - bonus) // 4 + 2)
    assert gains[0] - gains[1] == 7_500, "a hundredth of the pool more, less its own part of that"


def test_the_operator_keeps_its_commission_of_what_others_earn_and_delegators_the_rest() -> None:
    world = four(**NO_BONUS)
    alices = validator_of("alice")
    world.do("alice", EditValidator(alices, "", 1_000, ()))
    world.do("dave", Delegate(alices, 300 * GSN, ANY))
    blocks(world, 2)
    before = owed(world, alices, "alice"), owed(world, alices, "dave")
    blocks(world, 20)
    earned = 20 * BLOCK * 400 // 700
    alice, dave = (owed(world, alices, name) - was for name, was in zip(("alice", "dave"), before, strict=True))
    assert abs(dave - earned * 3 // 4 * 9 // 10) < 100
    assert abs(alice - (earned // 10 + earned // 4 * 9 // 10)) < 100
    balance, due = world.balance("alice"), owed(world, alices, "alice")
    result = world.do("alice", WithdrawRewards(alices))
    assert world.balance("alice") == balance - result.fee_nano + due
    assert record(world, alices).commission_nano == 0


def test_rewards_are_withdrawn_once_and_come_along_when_a_delegation_changes() -> None:
    world = four(**NO_BONUS)
    world.do("dave", Delegate(FIRST, 100 * GSN, ANY))
    blocks(world, 5)
    due, balance = owed(world, FIRST, "dave"), world.balance("dave")
    results = world.block(("dave", WithdrawRewards(FIRST)), ("dave", WithdrawRewards(FIRST)))
    assert [result.code for result in results] == ["", "E1217"]
    assert world.balance("dave") == balance + due - sum(result.fee_nano for result in results)
    blocks(world, 5)
    due, balance = owed(world, FIRST, "dave"), world.balance("dave")
    result = world.do("dave", Undelegate(FIRST, 100 * GSN))
    assert world.balance("dave") == balance + due - result.fee_nano
    assert world.refused("erin", WithdrawRewards(FIRST)) == "E1217"
    assert world.refused("erin", WithdrawRewards(bytes(20))) == "E1210"


def test_delegating_just_before_a_payout_takes_nothing_of_what_was_earned_before() -> None:
    """Reward theft: join, collect what others' stake earned for weeks, leave."""
    world = four(**NO_BONUS)
    world.do("dave", Delegate(FIRST, 10 * GSN, ANY))
    blocks(world, 100)
    others = owed(world, FIRST, "operator"), owed(world, FIRST, "dave")
    world.block(("erin", Delegate(FIRST, 900 * GSN, ANY)), ("erin", WithdrawRewards(FIRST)))
    assert world.deltas[-1].results[1].code == "E1217"
    assert owed(world, FIRST, "erin") <= BLOCK // 4, "at most what this one block gave the validator"
    assert owed(world, FIRST, "operator") >= others[0] and owed(world, FIRST, "dave") >= others[1]


def test_delegating_twice_does_not_count_the_first_shares_twice() -> None:
    world = four(**NO_BONUS)
    world.do("dave", Delegate(FIRST, 50 * GSN, ANY))
    blocks(world, 30)
    before = world.balance("dave") + owed(world, FIRST, "dave")
    fee = world.do("dave", Delegate(FIRST, 50 * GSN, ANY)).fee_nano
    gained = world.balance("dave") + owed(world, FIRST, "dave") - before + fee + 50 * GSN
    assert 0 <= gained <= BLOCK


def test_what_rounding_leaves_goes_back_to_the_fees_with_the_last_share() -> None:
    world = four(**NO_BONUS)
    alices = validator_of("alice")
    for name in ("dave", "erin"):
        world.do(name, Delegate(alices, 3 * GSN + 7, ANY))
    blocks(world, 3)
    for name in ("dave", "erin"):
        world.do(name, Undelegate(alices, 3 * GSN + 7))
    assert record(world, alices).rewards_nano >= 0
    world.do("alice", Unbond(alices, 100 * GSN))
    assert (record(world, alices).rewards_nano, record(world, alices).stake_nano) == (0, 0)


def test_new_money_ends_where_amounts_do() -> None:
    world = world_with(block_reward_nano=SUPPLY_NANO_MAX - 7_100 * GSN - 5)
    blocks(world, 4)
    assert queries.supply(world.ledger).minted_nano == SUPPLY_NANO_MAX


def test_rewards_of_who_left_the_set_wait_for_the_next_block() -> None:
    world = four(**NO_BONUS)
    accuse(world, validator_of("alice"), world.height)
    waiting = queries.supply(world.ledger).fees_nano
    assert waiting >= BLOCK // 4
    blocks(world, 4)
    assert validator_of("alice") not in active(world)
    assert queries.supply(world.ledger).fees_nano < waiting


def test_the_list_of_earnings_is_as_short_as_the_set() -> None:
    world = four(validators_active_max=1)
    for name in ("alice", "bob", "carol"):
        world.do("dave", Delegate(validator_of(name), 50 * GSN, ANY))
        blocks(world, 3)
        earning = [entry.validator for entry in earnings(State(world.ledger))]
        assert earning == [validator_of(name)] == list(active(world))
        world.do("dave", Undelegate(validator_of(name), 50 * GSN))
    assert all(owed(world, validator_of(name), name) for name in ("alice", "bob"))


@pytest.mark.parametrize("shares", [1, 3, 10**9, SUPPLY_NANO_MAX])
def test_a_share_s_reward_only_grows(shares: int) -> None:
    ratio = ZERO_RATIO
    for amount in (0, 1, 7, SUPPLY_NANO_MAX):
        grown = add_reward(ratio, amount, shares)
        assert grown >= ratio and reward(shares, ratio, grown) <= amount
        assert amount - reward(shares, ratio, grown) <= 1
        ratio = grown


@given(st.lists(st.integers(1, 10**15), min_size=1, max_size=8), st.lists(st.integers(0, 10**12), max_size=20))
def test_all_delegations_together_never_get_more_than_was_earned(held: list[int], amounts: list[int]) -> None:
    ratio = ZERO_RATIO
    for amount in amounts:
        ratio = add_reward(ratio, amount, sum(held))
    paid = sum(reward(one, ZERO_RATIO, ratio) for one in held)
    assert sum(amounts) - len(held) - len(amounts) <= paid <= sum(amounts)


def test_empty_blocks_of_a_chain_without_a_commit_mint_nothing() -> None:
    world = World()
    world.block()
    assert queries.supply(world.ledger).minted_nano == 7_100 * GSN
