"""What RPC asks about stakes: the candidates with their state, and what an account has delegated."""

from __future__ import annotations

import msgspec

from consensus.ledger import keys, rewards, staking
from consensus.ledger.block import Reader
from consensus.ledger.downtime import missed_blocks
from consensus.ledger.fields import Address, Count, Endpoints, Hash, Nano, Small, Text
from consensus.ledger.stake_records import Unbonding, ValidatorRecord
from consensus.ledger.unbonding import slashed_nano
from consensus.ledger.view import State
from gensyn_node.primitives.codec import Struct

CANDIDATE_ACTIVE = "active"
CANDIDATE_WAITING = "waiting"
"""Others have more power."""
CANDIDATE_SHORT = "short of own stake"
CANDIDATE_JAILED = "jailed"
CANDIDATE_TOMBSTONED = "tombstoned"


class Candidate(Struct):
    """A validator with a place in the registry."""

    address: Address
    public_key: Hash
    operator: Address
    name: Text
    endpoints: Endpoints
    state: Text
    """One of the CANDIDATE_ words."""
    power: Count
    """In the set that the stakes of now make; it signs two heights later."""
    stake_nano: Nano
    """All that is delegated to it."""
    own_nano: Nano
    """The operator's part of that."""
    commission_bps: Small
    missed_blocks: Small
    """Of the window."""
    unjail_height: Count
    """First height at which it may return; 0 when it is not in jail."""


def candidates(reader: Reader) -> list[Candidate]:
    """All validators in the registry, the strongest first."""
    state = State(reader)
    powers = staking.active_powers(state)
    missed = {entry.validator: int.from_bytes(entry.bits, "big").bit_count() for entry in missed_blocks(state)}
    records = (state.validator(address) for address in state.addresses(keys.VALIDATORS))
    found = [_candidate(state, one, powers.get(one.address, 0), missed.get(one.address, 0)) for one in records]
    return sorted(found, key=lambda one: (-one.power, -one.stake_nano, one.address))


def _candidate(state: State, record: ValidatorRecord, power: int, missed: int) -> Candidate:
    jailed = bool(record.jailed_height)
    return Candidate(
        address=record.address,
        public_key=record.public_key,
        operator=record.operator,
        name=record.name,
        endpoints=record.endpoints,
        state=_state_of(state, record, power),
        power=power,
        stake_nano=record.stake_nano,
        own_nano=staking.own_nano(state, record),
        commission_bps=record.commission_bps,
        missed_blocks=missed,
        unjail_height=record.jailed_height + state.parameters.jail_blocks if jailed else 0,
    )


def _state_of(state: State, record: ValidatorRecord, power: int) -> str:
    if record.tombstoned:
        return CANDIDATE_TOMBSTONED
    if record.jailed_height:
        return CANDIDATE_JAILED
    if power:
        return CANDIDATE_ACTIVE
    return CANDIDATE_WAITING if staking.power_of(state, record) else CANDIDATE_SHORT


class DelegationView(Struct):
    """What an account has with one validator."""

    validator: Address
    stake_nano: Nano
    """What its shares are worth now."""
    rewards_nano: Nano
    """What it could withdraw now, an operator's commission included."""
    unbonding: tuple[Unbonding, ...]
    """What is on its way out, with what a double vote took already off."""


def delegations(reader: Reader, delegator: bytes) -> list[DelegationView]:
    """Everything an account has delegated, by validator; an operator's own stake included."""
    state = State(reader)
    return [_delegation(state, one, delegator) for one in state.addresses(keys.delegations_of(delegator))]


def _delegation(state: State, validator: bytes, delegator: bytes) -> DelegationView:
    record, found = state.validator(validator), staking.delegation(state, validator, delegator)
    entries = (state.need(keys.unbonding(number), Unbonding) for number in found.unbondings)
    return DelegationView(
        validator,
        staking.delegated_nano(state, validator, delegator),
        rewards.pending_rewards(state, validator, delegator)
        + (rewards.pending_commission(state, validator) if delegator == record.operator else 0),
        tuple(
            msgspec.structs.replace(entry, amount_nano=entry.amount_nano - slashed_nano(record, entry))
            for entry in entries
        ),
    )
