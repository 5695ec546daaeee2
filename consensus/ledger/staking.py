"""Accounts and stake: transfer, bond, unbond, pay-out, equivocation, voting power."""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.block import Misbehaviour, ValidatorUpdate
from consensus.ledger.call import Call
from consensus.ledger.messages import Bond, Transfer, Unbond, validator_key_proof_bytes
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from consensus.ledger.reasons import BAD_KEY_PROOF, BAD_STAKE, LAST_VALIDATOR, NOT_OPERATOR, ZERO_AMOUNT
from consensus.ledger.records import Unbonding, ValidatorRecord
from consensus.ledger.view import State
from gensyn_node.primitives import crypto, limits
from gensyn_node.primitives.errors import Rejection

PAY_OUT = "pay_out"
"""Due item: an unbonding entry is released."""
UNBONDINGS_MAX = 16
"""A validator's unbonding entries at a time: each is looked at when it is slashed or paid out."""


def power_of(record: ValidatorRecord, parameters: Parameters) -> int:
    """Voting power: whole units of stake; none below the least stake or after voting twice."""
    if record.tombstoned or record.stake_nano < parameters.stake_min_nano:
        return 0
    return record.stake_nano // parameters.power_unit_nano


def transfer(state: State, call: Call, message: Transfer) -> None:
    """Send money to an account."""
    if message.amount_nano == 0:
        raise Rejection(ZERO_AMOUNT, "a transfer of nothing")
    money.transfer(state, money.balance(call.sender), money.balance(message.to), message.amount_nano)
    state.emit("transfer", message.to, sender=call.sender, amount_nano=message.amount_nano)


def bond(state: State, call: Call, message: Bond) -> None:
    """Stake behind a validator; the first bond registers it."""
    address = crypto.address_of(message.validator_key)
    record = state.find(keys.validator(address), ValidatorRecord)
    if record is None:
        _register_validator(state, call, message, address)
    elif record.operator != call.sender:
        raise Rejection(NOT_OPERATOR, f"{record.operator.hex()} operates this validator")
    elif record.tombstoned:
        raise Rejection(BAD_STAKE, "the validator voted twice and never returns")
    if message.amount_nano == 0:
        raise Rejection(ZERO_AMOUNT, "a stake of nothing")
    _list(state, address)
    money.transfer(state, money.balance(call.sender), money.stake(address), message.amount_nano)
    _check_stake(state, address)
    state.emit("bonded", address, operator=call.sender, amount_nano=message.amount_nano)


def _register_validator(state: State, call: Call, message: Bond, address: bytes) -> None:
    proof = validator_key_proof_bytes(call.context.chain_id, call.sender)
    if not crypto.verify(message.validator_key, proof, message.key_proof):
        raise Rejection(BAD_KEY_PROOF, "the first bond needs the validator key's signature for this operator")
    state.put(keys.validator(address), ValidatorRecord(address, message.validator_key, call.sender, 0, False, ()))


def _list(state: State, address: bytes) -> None:
    """Give a validator one of the places; who has no stake left gives it back."""
    listed = state.addresses(keys.VALIDATORS)
    if address in listed:
        return
    if len(listed) >= limits.VALIDATORS_MAX:
        raise Rejection(BAD_STAKE, f"there are {limits.VALIDATORS_MAX} validators already")
    state.add_address(keys.VALIDATORS, address)


def _check_stake(state: State, address: bytes) -> None:
    stake, least = state.validator(address).stake_nano, state.parameters.stake_min_nano
    if 0 < stake < least:
        raise Rejection(BAD_STAKE, f"the stake would be {stake} nano; it is 0 or at least {least}")


def unbond(state: State, call: Call, message: Unbond) -> None:
    """Take stake back, paid out after the unbonding time."""
    record = state.validator(message.validator)
    if record.operator != call.sender:
        raise Rejection(NOT_OPERATOR, f"{record.operator.hex()} operates this validator")
    if message.amount_nano == 0:
        raise Rejection(ZERO_AMOUNT, "unbonding nothing")
    if message.amount_nano > record.stake_nano:
        raise Rejection(BAD_STAKE, f"the stake is {record.stake_nano} nano")
    if len(record.unbondings) >= UNBONDINGS_MAX:
        raise Rejection(BAD_STAKE, f"{UNBONDINGS_MAX} unbondings wait to be paid out already")
    number = start_unbonding(
        state, call.height, call.sender, money.stake(message.validator), message.amount_nano, message.validator
    )
    state.change(keys.validator(message.validator), ValidatorRecord, unbondings=(*record.unbondings, number))
    _check_stake(state, message.validator)
    if message.amount_nano == record.stake_nano:
        state.remove_address(keys.VALIDATORS, message.validator)
    if total_power(state) == 0:
        raise Rejection(LAST_VALIDATOR, "no voting power would be left")
    state.emit("unbonding", message.validator, operator=call.sender, amount_nano=message.amount_nano)


def start_unbonding(
    state: State, height: int, owner: bytes, source: money.Place, amount_nano: int, validator: bytes
) -> int:
    """Move money into a new unbonding entry, released `unbonding_blocks` later; the entry's number."""
    number = state.counters.unbondings
    state.count(unbondings=number + 1)
    release = height + state.parameters.unbonding_blocks
    state.put(keys.unbonding(number), Unbonding(owner, 0, release, validator))
    money.transfer(state, source, money.unbonding(number), amount_nano)
    state.schedule(release, PAY_OUT, owner, number)
    return number


def pay_out(state: State, number: int) -> None:
    """Release an unbonding entry."""
    entry = state.need(keys.unbonding(number), Unbonding)
    money.transfer(state, money.unbonding(number), money.balance(entry.owner), entry.amount_nano)
    state.put(keys.unbonding(number), None)
    if entry.validator:
        record = state.validator(entry.validator)
        left = tuple(other for other in record.unbondings if other != number)
        state.change(keys.validator(entry.validator), ValidatorRecord, unbondings=left)
    state.emit("paid_out", entry.owner, amount_nano=entry.amount_nano)


def punish(state: State, misbehaviour: Misbehaviour) -> None:
    """A validator voted twice: part of its stake, leaving stake included, is burnt, and its power ends for good."""
    record = state.find(keys.validator(misbehaviour.validator), ValidatorRecord)
    if record is None or record.tombstoned:
        return
    share = state.parameters.equivocation_slash_bps
    places = [(money.stake(record.address), record.stake_nano)]
    for number in record.unbondings:
        places.append((money.unbonding(number), state.need(keys.unbonding(number), Unbonding).amount_nano))
    for place, held in places:
        money.transfer(state, place, money.BURNT, held * share // BASIS_POINTS)
    state.change(keys.validator(record.address), ValidatorRecord, tombstoned=True)
    if total_power(state) == 0:  # a chain without any power could never recover; the stake is burnt all the same
        state.change(keys.validator(record.address), ValidatorRecord, tombstoned=False)
    state.emit("validator_tombstoned", record.address, height=misbehaviour.height)


def powers(state: State) -> dict[bytes, int]:
    """Voting power by public key, of every bonded validator, zero included; in order of address."""
    records = [state.validator(address) for address in state.addresses(keys.VALIDATORS)]
    return {record.public_key: power_of(record, state.parameters) for record in records}


def total_power(state: State) -> int:
    """All voting power."""
    return sum(powers(state).values())


def validator_updates(before: dict[bytes, int], after: dict[bytes, int]) -> tuple[ValidatorUpdate, ...]:
    """What changed, in order of public key."""
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key, 0) != after.get(key, 0))
    return tuple(ValidatorUpdate(key, after.get(key, 0)) for key in changed)
