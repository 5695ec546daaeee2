"""Stake and power: what is delegated to whom, who is in the set, and how small the set may become.

The set is the strongest `validators_active_max` of those that may sign; equal power goes by address. When nobody may
sign any more, the jailed do, and when there are none, the tombstoned: a chain without power could never recover.
"""

from __future__ import annotations

from consensus.ledger import keys
from consensus.ledger.block import ValidatorUpdate
from consensus.ledger.parameters import Parameters
from consensus.ledger.reasons import BAD_STAKE, LAST_VALIDATOR
from consensus.ledger.shares import ZERO_RATIO, worth
from consensus.ledger.stake_records import Delegation, ValidatorRecord
from consensus.ledger.view import State
from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection

SET_DELAY = 2
"""A block's stakes decide who signs so many heights later; until then, stake that left still answers for votes."""


def delegation(state: State, validator: bytes, delegator: bytes) -> Delegation:
    """An account's delegation; without shares when it has none."""
    found = state.find(keys.delegation(validator, delegator), Delegation)
    return found or Delegation(validator, delegator, 0, ZERO_RATIO, ())


def delegated_nano(state: State, validator: bytes, delegator: bytes) -> int:
    """What an account's delegation to a validator is worth now, in nano; the operator's own stake included."""
    record = state.validator(validator)
    return worth(delegation(state, validator, delegator).shares, record.stake_nano, record.shares)


def own_nano(state: State, record: ValidatorRecord) -> int:
    """The operator's own stake."""
    return worth(delegation(state, record.address, record.operator).shares, record.stake_nano, record.shares)


# --- power


def power_of(state: State, record: ValidatorRecord) -> int:
    """Voting power it may have: whole units of stake; none when jailed, tombstoned or below the least own stake."""
    if record.tombstoned or record.jailed_height or own_nano(state, record) < state.parameters.stake_min_nano:
        return 0
    return _units(record, state.parameters)


def active_powers(state: State) -> dict[bytes, int]:
    """Voting power by validator address, in order of address: the set that this block's stakes make."""
    able = able_powers(state)
    if able:
        return able
    records = [state.validator(address) for address in state.addresses(keys.VALIDATORS)]
    everybody = {record.address: _last_resort(record, state.parameters) for record in records}
    jailed = {record.address: everybody[record.address] for record in records if not record.tombstoned}
    return _strongest(jailed if any(jailed.values()) else everybody, state.parameters.validators_active_max)


def able_powers(state: State) -> dict[bytes, int]:
    """The set as far as it may sign: without the last resort."""
    records = (state.validator(address) for address in state.addresses(keys.VALIDATORS))
    powers = {record.address: power_of(state, record) for record in records}
    return _strongest(powers, state.parameters.validators_active_max)


def _strongest(powers: dict[bytes, int], most: int) -> dict[bytes, int]:
    ranked = sorted((-power, address) for address, power in powers.items() if power)
    return {address: powers[address] for address in sorted(address for _, address in ranked[:most])}


def _units(record: ValidatorRecord, parameters: Parameters) -> int:
    return record.stake_nano // parameters.power_unit_nano


def _last_resort(record: ValidatorRecord, parameters: Parameters) -> int:
    return max(_units(record, parameters), min(record.stake_nano, 1))


def validator_updates(state: State, before: dict[bytes, int], after: dict[bytes, int]) -> tuple[ValidatorUpdate, ...]:
    """What changed, in order of public key."""
    changed = (address for address in before.keys() | after.keys() if before.get(address, 0) != after.get(address, 0))
    updates = (ValidatorUpdate(state.validator(address).public_key, after.get(address, 0)) for address in changed)
    return tuple(sorted(updates, key=lambda update: update.public_key))


# --- the registry


def list_candidate(state: State, address: bytes) -> None:
    """Give a validator a place among the candidates; when all are taken, the weakest that does not sign makes room."""
    listed = state.addresses(keys.VALIDATORS)
    if address in listed:
        return
    if len(listed) >= limits.CANDIDATES_MAX:
        active = active_powers(state)
        idle = [_rank(state, other) for other in listed if other not in active]
        if not idle or min(idle) >= _rank(state, address):
            raise Rejection(BAD_STAKE, f"there are {len(listed)} candidates with more stake already")
        state.remove_address(keys.VALIDATORS, min(idle)[-1])
    state.add_address(keys.VALIDATORS, address)


def _rank(state: State, address: bytes) -> tuple[int, int, bytes]:
    record = state.validator(address)
    return power_of(state, record), record.stake_nano, address


def check_set_size(state: State, validator: bytes, power_before: int) -> None:
    """`Rejection` LAST_VALIDATOR when stake that leaves would take a validator that the set cannot spare.

    Only leaving is refused; what takes validators out as a penalty looks after the set itself.
    """
    if power_of(state, state.validator(validator)):
        return
    least = state.parameters.validators_min
    others = (one for one in state.addresses(keys.VALIDATORS) if power_of(state, state.validator(one)))
    if power_before:
        left = sum(1 for _ in others)
        if left < least:
            raise Rejection(LAST_VALIDATOR, f"{left} validators would be left, at least {least} must stay")
    elif next(others, None) is None and not active_powers(state):
        raise Rejection(LAST_VALIDATOR, "no voting power would be left")
