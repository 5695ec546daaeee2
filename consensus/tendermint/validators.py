"""Making and changing validator sets (CometBFT's rules: what is refused, and the priority a newcomer starts with).

Order: power descending, then address ascending. A change is a list of validators with their new power, 0 for leaving.
The result does not depend on the order of the list. A refused change leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.tendermint import reasons
from consensus.tendermint.proposer import centre, rescale, rotate
from consensus.tendermint.types import Validator, ValidatorSet
from gensyn_node.primitives.errors import Rejection

TOTAL_POWER_MAX = ((1 << 63) - 1) // 8
"""So that no priority ever leaves a signed 64-bit integer."""


def new_validator_set(validators: Sequence[Validator]) -> ValidatorSet:
    """The set of a genesis, rotated to the first proposer. `Rejection` BAD_VALIDATOR_UPDATE for an impossible set."""
    return rotate(update_validators(None, validators), 1)


def next_validator_set(validators: ValidatorSet, changes: Sequence[Validator]) -> ValidatorSet:
    """The set after one more height: changes applied, then one turn of the rotation."""
    return rotate(update_validators(validators, changes) if changes else validators, 1)


def update_validators(current: ValidatorSet | None, changes: Sequence[Validator]) -> ValidatorSet:
    """Apply changes without turning the rotation. `Rejection` BAD_VALIDATOR_UPDATE when they are not allowed.

    A newcomer starts at -1.125 times the total power (before removals): leaving and coming back never gains a turn.
    A change of power keeps the priority; a known address may come with a new public key.
    """
    before = {v.address: v for v in current.validators} if current else {}
    priority = dict(zip(before, current.priorities, strict=True)) if current else {}
    removed, changed = _split(before, changes)
    _check_total(before, changed, removed)
    total_before_removals = sum(v.power for v in (before | changed).values())
    newcomer = -(total_before_removals + (total_before_removals >> 3))
    after = {address: v for address, v in (before | changed).items() if address not in removed}
    if not after:
        raise Rejection(reasons.BAD_VALIDATOR_UPDATE, "no validator would be left")
    ordered = sorted(after.values(), key=lambda v: (-v.power, v.address))
    priorities = [priority.get(v.address, newcomer) for v in ordered]
    total = sum(v.power for v in ordered)
    proposer = current.proposer if current and current.proposer in after else ordered[0].address
    return ValidatorSet(tuple(ordered), centre(rescale(priorities, total)), proposer)


def members_fault(members: Sequence[Validator]) -> str:
    """Why no chain can have this set: somebody would count twice, or a power is out of range; empty when it can."""
    if not members or sum(max(0, member.power) for member in members) > TOTAL_POWER_MAX:
        return "a validator set is empty or its power is out of range"
    if any(member.power < 1 for member in members):
        return "a validator has no power"
    if len({member.address for member in members}) < len(members):
        return "a validator is listed twice"
    if len({member.public_key for member in members}) < len(members):
        return "a key is listed twice"
    return ""


def _split(before: dict[bytes, Validator], changes: Sequence[Validator]) -> tuple[set[bytes], dict[bytes, Validator]]:
    """Removals and other changes; each address once, powers in range, only members can leave."""
    removed: set[bytes] = set()
    changed: dict[bytes, Validator] = {}
    for change in changes:
        if change.address in removed or change.address in changed:
            raise Rejection(reasons.BAD_VALIDATOR_UPDATE, f"{change.address.hex()} is named twice")
        if not 0 <= change.power <= TOTAL_POWER_MAX:
            raise Rejection(reasons.BAD_VALIDATOR_UPDATE, f"power {change.power} is out of range")
        if change.power:
            changed[change.address] = change
        elif change.address in before:
            removed.add(change.address)
        else:
            raise Rejection(reasons.BAD_VALIDATOR_UPDATE, f"{change.address.hex()} is no validator and cannot leave")
    return removed, changed


def _check_total(before: dict[bytes, Validator], changed: dict[bytes, Validator], removed: set[bytes]) -> None:
    """The bound on the total, counted after removals and in any order, so that it never fires falsely."""
    total = sum(v.power for address, v in (before | changed).items() if address not in removed)
    if total > TOTAL_POWER_MAX:
        raise Rejection(reasons.BAD_VALIDATOR_UPDATE, f"the total power {total} exceeds {TOTAL_POWER_MAX}")
