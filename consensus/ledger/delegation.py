"""Stake that comes and goes: the operator bonds and unbonds, anybody delegates and undelegates.

Both are the same thing, a delegation; the operator's is the validator's own stake and has a least amount. Delegations
do not move from one validator to another: whoever could hop would leave a slash behind.
"""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.call import Call
from consensus.ledger.messages import Bond, Delegate, Unbond, Undelegate, validator_key_proof_bytes
from consensus.ledger.reasons import (
    BAD_DELEGATION,
    BAD_KEY_PROOF,
    BAD_STAKE,
    COMMISSION_ABOVE,
    NOT_OPERATOR,
    TOO_MANY_ENTRIES,
    ZERO_AMOUNT,
)
from consensus.ledger.rewards import pay_rewards, settle, sweep
from consensus.ledger.shares import shares_for, shares_of
from consensus.ledger.stake_records import Delegation, ValidatorRecord
from consensus.ledger.staking import (
    check_set_size,
    delegated_nano,
    delegation,
    list_candidate,
    own_nano,
    power_of,
)
from consensus.ledger.unbonding import drop_if_empty, start_unbonding
from consensus.ledger.view import State
from consensus.ledger.voting import delegation_changed
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

UNBONDINGS_MAX = 16
"""Unbonding entries of one delegation at a time."""
DELEGATIONS_MAX = 32
"""Validators that one account delegates to: what a list of its delegations reads."""


def bond(state: State, call: Call, message: Bond) -> None:
    """Stake behind one's own validator; the first bond registers it."""
    address = crypto.address_of(message.validator_key)
    record = state.find(keys.validator(address), ValidatorRecord)
    if record is None:
        _register(state, call, message, address)
    elif record.operator != call.sender:
        raise Rejection(NOT_OPERATOR, f"{record.operator.hex()} operates this validator")
    _put_in(state, address, call.sender, message.amount_nano)
    _check_own(state, address)
    if not state.validator(address).jailed_height:  # who is jailed weighs nothing and gets its place when it returns
        list_candidate(state, address)
    state.emit("bonded", address, operator=call.sender, amount_nano=message.amount_nano)


def _register(state: State, call: Call, message: Bond, address: bytes) -> None:
    proof = validator_key_proof_bytes(call.context.chain_id, call.sender)
    if not crypto.verify(message.validator_key, proof, message.key_proof):
        raise Rejection(BAD_KEY_PROOF, "the first bond needs the validator key's signature for this operator")
    state.put(keys.validator(address), ValidatorRecord(address, message.validator_key, call.sender, 0, 0))


def delegate(state: State, call: Call, message: Delegate) -> None:
    """Stake behind somebody's validator, unless its commission was raised above what the sender accepts."""
    record = state.validator(message.validator)
    if record.commission_bps > message.commission_max_bps:
        raise Rejection(COMMISSION_ABOVE, f"the commission is {record.commission_bps} basis points")
    if call.sender == record.operator:
        raise Rejection(BAD_DELEGATION, "the operator's own stake is bonded")
    _put_in(state, record.address, call.sender, message.amount_nano)
    held, least = delegated_nano(state, record.address, call.sender), state.parameters.delegation_min_nano
    if held < least:
        raise Rejection(BAD_DELEGATION, f"the delegation would be {held} nano, at least {least} are required")
    state.emit("delegated", record.address, delegator=call.sender, amount_nano=message.amount_nano)


def unbond(state: State, call: Call, message: Unbond) -> None:
    """Take own stake back, paid out after the unbonding time."""
    record = state.validator(message.validator)
    if record.operator != call.sender:
        raise Rejection(NOT_OPERATOR, f"{record.operator.hex()} operates this validator")
    _take_out(state, call, record, message.amount_nano)
    _check_own(state, record.address)
    state.emit("unbonding", record.address, operator=call.sender, amount_nano=message.amount_nano)


def undelegate(state: State, call: Call, message: Undelegate) -> None:
    """Take delegated stake back, paid out after the unbonding time."""
    record = state.validator(message.validator)
    if call.sender == record.operator:
        raise Rejection(BAD_DELEGATION, "the operator's own stake is unbonded")
    _take_out(state, call, record, message.amount_nano)
    left, least = delegated_nano(state, record.address, call.sender), state.parameters.delegation_min_nano
    if delegation(state, record.address, call.sender).shares and left < least:
        raise Rejection(BAD_DELEGATION, f"{left} nano would be left; take all or leave {least}")
    state.emit("undelegated", record.address, delegator=call.sender, amount_nano=message.amount_nano)


# --- inside


def _check_own(state: State, address: bytes) -> None:
    stake, least = own_nano(state, state.validator(address)), state.parameters.stake_min_nano
    if 0 < stake < least:
        raise Rejection(BAD_STAKE, f"the own stake would be {stake} nano; it is 0 or at least {least}")


def _put_in(state: State, address: bytes, delegator: bytes, amount_nano: int) -> None:
    """Tokens into the stake, shares at the present price to the delegator."""
    record = state.validator(address)
    if record.tombstoned:
        raise Rejection(BAD_STAKE, "the validator voted twice and never returns")
    if amount_nano == 0:
        raise Rejection(ZERO_AMOUNT, "a stake of nothing")
    settle(state, address)
    pay_rewards(state, address, delegator)
    bought = shares_for(amount_nano, record.stake_nano, record.shares)
    if record.shares + bought > SUPPLY_NANO_MAX:
        raise Rejection(BAD_STAKE, "the validator was slashed too often to take more stake")
    money.transfer(state, money.balance(delegator), money.stake(address), amount_nano)
    record = state.change(keys.validator(address), ValidatorRecord, shares=record.shares + bought)
    found = delegation(state, address, delegator)
    if state.find(keys.delegation(address, delegator), Delegation) is None:
        _index(state, address, delegator)
    state.put(
        keys.delegation(address, delegator),
        Delegation(address, delegator, found.shares + bought, record.reward_per_share, found.unbondings),
    )
    delegation_changed(state, address, delegator)


def _index(state: State, address: bytes, delegator: bytes) -> None:
    index = keys.delegations_of(delegator)
    if len(state.addresses(index)) >= DELEGATIONS_MAX:
        raise Rejection(TOO_MANY_ENTRIES, f"the account delegates to {DELEGATIONS_MAX} validators already")
    state.add_address(index, address)


def _take_out(state: State, call: Call, record: ValidatorRecord, amount_nano: int) -> None:
    """Shares at the present price back into tokens, which begin to unbond."""
    address, owner = record.address, call.sender
    power_before = power_of(state, record)
    settle(state, address)
    pay_rewards(state, address, owner)
    found = delegation(state, address, owner)
    held = delegated_nano(state, address, owner)
    if amount_nano > held:
        raise Rejection(BAD_STAKE, f"the stake is {held} nano")
    if amount_nano == 0 and (held or not found.shares):
        raise Rejection(ZERO_AMOUNT, "unbonding nothing")
    if len(found.unbondings) >= UNBONDINGS_MAX:
        raise Rejection(TOO_MANY_ENTRIES, f"{UNBONDINGS_MAX} unbondings wait to be paid out already")
    given = shares_of(amount_nano, found.shares, record.stake_nano, record.shares)
    entries = found.unbondings
    if amount_nano:
        entries = (*entries, start_unbonding(state, call.height, owner, money.stake(address), amount_nano, address))
    state.change(keys.delegation(address, owner), Delegation, shares=found.shares - given, unbondings=entries)
    drop_if_empty(state, address, owner)
    delegation_changed(state, address, owner)
    left = state.change(keys.validator(address), ValidatorRecord, shares=record.shares - given)
    if left.shares == 0:
        money.transfer(state, money.stake(address), money.BURNT, left.stake_nano)  # what rounding left to nobody
        sweep(state, address)
    check_set_size(state, address, power_before)
    if left.shares == 0:
        state.remove_address(keys.VALIDATORS, address)
