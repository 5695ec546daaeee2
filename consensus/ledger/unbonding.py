"""Money on its way out: it waits, it stays slashable for what was done while it was staked, it is paid out.

A slash does not look at the entries, of which there may be any number: the validator's record says what is taken, and
each entry asks it when it is paid out. Taken are entries begun before the slash and no earlier than the offence.
"""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.slashing import split_slash
from consensus.ledger.stake_records import Delegation, Unbonding, ValidatorRecord
from consensus.ledger.staking import SET_DELAY, delegation
from consensus.ledger.view import State

PAY_OUT = "pay_out"
"""Due item: an unbonding entry is released."""


def start_unbonding(
    state: State, height: int, owner: bytes, source: money.Place, amount_nano: int, validator: bytes = b""
) -> int:
    """Move money into a new entry, released when no offence it answers for can be proven any more; its number."""
    number = state.counters.unbondings
    state.count(unbondings=number + 1)
    release = height + state.parameters.unbonding_blocks + (SET_DELAY if validator else 0)
    state.put(keys.unbonding(number), Unbonding(owner, 0, height, release, validator))
    money.transfer(state, source, money.unbonding(number), amount_nano)
    state.schedule(release, PAY_OUT, owner, number)
    return number


def slashed_nano(record: ValidatorRecord, entry: Unbonding) -> int:
    """What an entry loses to the validator's double vote."""
    if not record.tombstoned:
        return 0
    staked_then = entry.start_height + SET_DELAY > record.offence_height
    if not staked_then or entry.start_height >= record.tombstoned_height:
        return 0
    return entry.amount_nano * record.offence_slash_bps // BASIS_POINTS


def pay_out(state: State, number: int) -> None:
    """Release an unbonding entry."""
    entry = state.need(keys.unbonding(number), Unbonding)
    if entry.validator:
        _slash(state, number, entry)
        _forget(state, number, entry)
    amount = state.need(keys.unbonding(number), Unbonding).amount_nano
    money.transfer(state, money.unbonding(number), money.balance(entry.owner), amount)
    state.put(keys.unbonding(number), None)
    state.emit("paid_out", entry.owner, amount_nano=amount)


def _slash(state: State, number: int, entry: Unbonding) -> None:
    record = state.validator(entry.validator)
    taken = slashed_nano(record, entry)
    if taken:
        own = taken if entry.owner == record.operator else 0
        split_slash(state, money.unbonding(number), taken, own, record.finder)
        state.emit("stake_slashed", record.address, amount_nano=taken, why="left after a double vote")


def _forget(state: State, number: int, entry: Unbonding) -> None:
    """The delegation no longer lists the entry."""
    found = delegation(state, entry.validator, entry.owner)
    left = tuple(other for other in found.unbondings if other != number)
    state.change(keys.delegation(entry.validator, entry.owner), Delegation, unbondings=left)
    drop_if_empty(state, entry.validator, entry.owner)


def drop_if_empty(state: State, validator: bytes, delegator: bytes) -> None:
    """Delete a delegation without shares and entries."""
    found = delegation(state, validator, delegator)
    if found.shares == 0 and not found.unbondings:
        state.put(keys.delegation(validator, delegator), None)
        index = keys.delegations_of(delegator)
        state.remove_address(index, validator)
        if not state.addresses(index):
            state.put(index, None)
