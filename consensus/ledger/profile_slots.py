"""Profilers' slots: found, changed, freed. Apart from `profiling`, because a task's end frees them as well."""

from __future__ import annotations

import msgspec

from consensus.ledger import keys, money
from consensus.ledger.profile_records import Profile, ProfileSlot
from consensus.ledger.providers import end_duty
from consensus.ledger.records import (
    VERIFICATION_COMMITTED,
    VERIFICATION_DRAWN,
    VERIFICATION_RELEASED,
    VERIFICATION_REVEALED,
)
from consensus.ledger.view import State


def active(profile: Profile) -> list[ProfileSlot]:
    """Slots whose profiler is at work or has done it."""
    working = (VERIFICATION_DRAWN, VERIFICATION_COMMITTED, VERIFICATION_REVEALED)
    return [slot for slot in profile.slots if slot.state in working]


def slot_of(profile: Profile, profiler: bytes) -> ProfileSlot | None:
    """The profiler's slot, or None; the latest, should there be several."""
    return next((slot for slot in reversed(profile.slots) if slot.profiler == profiler), None)


def change(state: State, task_id: bytes, slot: ProfileSlot) -> None:
    """Put the new version of a profiler's slot into the profile."""
    slots = state.profile(task_id).slots
    state.change_profile(task_id, slots=tuple(slot if other.profiler == slot.profiler else other for other in slots))


def free(state: State, height: int, task_id: bytes, slot: ProfileSlot, new_state: str, fee_nano: int = 0) -> None:
    """Give the slot's bond back and end the duty."""
    money.unlock(state, slot.profiler, slot.bond_nano)
    change(state, task_id, msgspec.structs.replace(slot, state=new_state, bond_nano=0, fee_nano=fee_nano))
    end_duty(state, height, slot.profiler, task_id, verifying=1)


def release_all(state: State, height: int, task_id: bytes) -> None:
    """The task ends: free whoever is still at work, unpaid."""
    profile = state.find(keys.profile(task_id), Profile)
    for slot in active(profile) if profile else ():
        free(state, height, task_id, slot, VERIFICATION_RELEASED)
