"""Rewards: fees and inflation go to who signed the last block, from there to delegators by their shares.

A block writes one list of what each validator earned; a validator's record takes that over (`settle`) before its shares
or its commission change, so that rewards are divided by the shares and the rate under which they were earned. What a
share earned since the beginning only grows; a delegation remembers up to where it was paid. No block ever looks at the
delegations. Whoever was absent earns nothing: its part stays for the next block, so nobody gains by leaving votes out.
"""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.block import BlockContext
from consensus.ledger.call import Call
from consensus.ledger.messages import WithdrawRewards
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.reasons import NO_REWARDS
from consensus.ledger.shares import add_reward, reward
from consensus.ledger.stake_records import Delegation, Earning, ValidatorRecord
from consensus.ledger.staking import delegation
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

# --- each block


def distribute(state: State, context: BlockContext) -> None:
    """Deal the fees so far and new money to the signers of the last commit, and a bonus to this block's proposer.

    The bonus grows with the power of the signatures that the proposer put in. What cannot be dealt (the absent's part,
    the rest of divisions) stays among the fees.
    """
    total = sum(one.power for one in context.signatures)
    if not total:
        return
    parameters = state.parameters
    money.mint(state, money.FEES, min(parameters.block_reward_nano, SUPPLY_NANO_MAX - state.supply.minted_nano))
    pool = state.supply.fees_nano
    signed = sum(one.power for one in context.signatures if one.signed)
    weight = parameters.proposer_base_bps * total + parameters.proposer_signatures_bps * signed
    bonus = pool * weight // (BASIS_POINTS * total)
    earned = {one.validator: (pool - bonus) * one.power // total for one in context.signatures if one.signed}
    earned[context.proposer] = earned.get(context.proposer, 0) + bonus
    dealt, book = 0, {entry.validator: entry.amount_nano for entry in earnings(state)}
    for validator, amount in sorted(earned.items()):
        record = state.find(keys.validator(validator), ValidatorRecord)
        if amount and record is not None and record.shares and not record.tombstoned:
            dealt += amount
            book[validator] = book.get(validator, 0) + amount
    money.transfer(state, money.FEES, money.REWARDS, dealt)
    state.put(keys.EARNINGS, tuple(Earning(validator, amount) for validator, amount in sorted(book.items())))
    for validator in sorted(book.keys() - {one.validator for one in context.signatures}):
        settle(state, validator)  # the list holds members of the set, and so stays as short as the set


def earnings(state: State) -> tuple[Earning, ...]:
    """What validators earned since they were last settled, in order of address."""
    return state.find(keys.EARNINGS, tuple[Earning, ...]) or ()


def settle(state: State, validator: bytes) -> ValidatorRecord:
    """Divide what the validator earned between its operator's commission and its shares; the new record."""
    record, amount = state.validator(validator), _earned(state, validator)
    if not amount:
        return record
    state.put(keys.EARNINGS, tuple(entry for entry in earnings(state) if entry.validator != validator))
    commission = _commission(record, amount)
    return state.change(
        keys.validator(validator),
        ValidatorRecord,
        reward_per_share=add_reward(record.reward_per_share, amount - commission, record.shares),
        rewards_nano=record.rewards_nano + amount - commission,
        commission_nano=record.commission_nano + commission,
    )


def sweep(state: State, validator: bytes) -> None:
    """The last share is gone: what rounding left of the rewards goes back to the fees."""
    record = state.validator(validator)
    money.transfer(state, money.REWARDS, money.FEES, record.rewards_nano)
    state.change(keys.validator(validator), ValidatorRecord, rewards_nano=0)


# --- withdrawing


def withdraw_rewards(state: State, call: Call, message: WithdrawRewards) -> None:
    """Pay the sender what its delegation earned; the operator its commission as well."""
    record = settle(state, message.validator)
    paid = pay_rewards(state, record.address, call.sender)
    if call.sender == record.operator:
        paid += record.commission_nano
        money.transfer(state, money.REWARDS, money.balance(call.sender), record.commission_nano)
        state.change(keys.validator(record.address), ValidatorRecord, commission_nano=0)
    if not paid:
        raise Rejection(NO_REWARDS, "nothing has been earned there since the last time")
    state.emit("rewards_withdrawn", record.address, delegator=call.sender, amount_nano=paid)


def pay_rewards(state: State, validator: bytes, delegator: bytes) -> int:
    """Pay out what a delegation to a settled validator earned; the amount."""
    record, found = state.validator(validator), delegation(state, validator, delegator)
    owed = reward(found.shares, found.reward_mark, record.reward_per_share)
    if found.reward_mark != record.reward_per_share and found.shares:
        state.change(keys.delegation(validator, delegator), Delegation, reward_mark=record.reward_per_share)
    if owed:
        money.transfer(state, money.REWARDS, money.balance(delegator), owed)
        state.change(keys.validator(validator), ValidatorRecord, rewards_nano=record.rewards_nano - owed)
    return owed


def pending_rewards(state: State, validator: bytes, delegator: bytes) -> int:
    """What a delegation could withdraw now, in nano, without commission."""
    record, found = state.validator(validator), delegation(state, validator, delegator)
    if not record.shares:
        return 0
    amount = _earned(state, validator)
    ratio = add_reward(record.reward_per_share, amount - _commission(record, amount), record.shares)
    return reward(found.shares, found.reward_mark, ratio)


def pending_commission(state: State, validator: bytes) -> int:
    """Commission that the operator could withdraw now, in nano."""
    record = state.validator(validator)
    return record.commission_nano + _commission(record, _earned(state, validator))


def _earned(state: State, validator: bytes) -> int:
    return sum(entry.amount_nano for entry in earnings(state) if entry.validator == validator)


def _commission(record: ValidatorRecord, amount_nano: int) -> int:
    return amount_nano * record.commission_bps // BASIS_POINTS
