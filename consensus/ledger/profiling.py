"""The profiling stage of a native task: drawn profilers measure how far honest machines are apart.

Before a solver is drawn, profilers of as many device classes as there are run the first segment from seeds of their
own, by their vendor's kernels and by `rep-v1`, commit to the distances, and show them when all have. The thresholds
follow by `proofs.native.profile`. Whoever does not show what it committed to loses as much as for any missed duty. A
task for which no entry can be measured, or whose profilers mostly fail, expires and is refunded.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from consensus.ledger import keys, life, money, profile_slots
from consensus.ledger.assignment import profiler_candidates, profiler_sortition
from consensus.ledger.block import BlockContext
from consensus.ledger.call import Call
from consensus.ledger.messages import ProfileCommit, ProfileReveal
from consensus.ledger.parameters import Parameters
from consensus.ledger.profile_records import (
    PROFILE_COMMITTING,
    PROFILE_DONE,
    PROFILE_DRAWING,
    PROFILE_FAILED,
    PROFILE_REVEALING,
    Profile,
    ProfileSlot,
)
from consensus.ledger.programs import program_record
from consensus.ledger.providers import add_duty, did_duty
from consensus.ledger.reasons import (
    BAD_PROFILE,
    BAD_VERDICT_STATE,
    COMMITMENT_MISMATCH,
    NO_PROFILE,
    NOT_PROFILER,
    TOO_LATE,
)
from consensus.ledger.records import (
    TASK_EXPIRED,
    TASK_PROFILING,
    VERIFICATION_COMMITTED,
    VERIFICATION_DRAWN,
    VERIFICATION_MISSED,
    VERIFICATION_PAID,
    VERIFICATION_REVEALED,
    Provider,
)
from consensus.ledger.schedule import profile_blocks, profile_gas
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection
from proofs.native.profile import Rule, measured_entries, profile_commitment, profile_seed, thresholds

PROFILE = "profile"
"""Due item: a phase of a task's profile may be over."""


def profile_rule(parameters: Parameters) -> Rule:
    """How the chain makes thresholds."""
    return Rule(
        parameters.native_quantile_bps,
        parameters.native_margin_bps,
        parameters.native_floor_parts,
        parameters.native_cap_parts,
    )


def begin(state: State, height: int, task_id: bytes) -> None:
    """Draw profilers when the next block begins: its beacon is not known to anybody who acts in this one."""
    spec, task = state.spec(task_id), state.task(task_id)
    patience = state.parameters.verifier_draws_max * profile_blocks(spec, task.gas_per_step, state.parameters)
    profile = Profile(
        task_id=task_id,
        state=PROFILE_DRAWING,
        wanted=state.parameters.native_profilers,
        due_height=height,
        patience_height=height + patience,
        draws=0,
        slots=(),
        missed=(),
        limits=(),
    )
    state.put(keys.profile(task_id), profile)
    state.change_task(task_id, state=TASK_PROFILING)
    _enter(state, task_id, PROFILE_DRAWING, height)


def _enter(state: State, task_id: bytes, phase: str, due_height: int) -> None:
    state.change_profile(task_id, state=phase, due_height=due_height)
    state.change_task(task_id, due_height=due_height)
    state.schedule(due_height + 1, PROFILE, task_id)


def profile_due(state: State, context: BlockContext, task_id: bytes) -> None:
    """A phase's time is over, unless it ended before."""
    profile = state.profile(task_id)
    if state.task(task_id).state != TASK_PROFILING or context.height <= profile.due_height:
        return
    match profile.state:
        case "drawing":
            _draw_profilers(state, context, profile)
        case "committing":
            _late_commits(state, context, profile)
        case "revealing":
            _end_reveals(state, context.height, task_id)
        case _:
            return


# --- drawing


def _draw_profilers(state: State, context: BlockContext, profile: Profile) -> None:
    """Fill the empty slots; wait while there are too few candidates, in the end for a majority only."""
    task_id, height = profile.task_id, context.height
    task = state.task(task_id)
    active = profile_slots.active(profile)
    empty = profile.wanted - len(active)
    candidates = profiler_candidates(state, task, profile)
    enough = empty if height < profile.patience_height else profile.wanted // 2 + 1 - len(active)
    if len(candidates) < enough:
        waited = height - task.submitted_height
        retry = height + max(state.parameters.retry_blocks, waited // life.RETRY_SHARE)
        retry = state.schedule(retry, PROFILE, task_id, 0, life.RETRIES_PER_HEIGHT_MAX)
        state.change_profile(task_id, due_height=retry - 1)
        state.change_task(task_id, due_height=retry - 1)
        return
    purpose = (b"profiler", task_id, profile.draws.to_bytes(4, "little"))
    bond = state.parameters.verifier_bond_min_nano
    for provider in _of_different_classes(candidates, empty, active, context.beacon, purpose):
        money.lock(state, provider.address, bond)
        add_duty(state, provider.address, task_id, verifying=1)
        slot = ProfileSlot(
            profiler=provider.address,
            state=VERIFICATION_DRAWN,
            device_class=provider.device_class,
            price_nano=provider.ask_price_nano,
            bond_nano=bond,
            seed=profile_seed(task_id, provider.address, context.beacon),
            commitment=b"",
            distances=(),
            fee_nano=0,
        )
        state.change_profile(task_id, slots=(*state.profile(task_id).slots, slot))
        state.emit("profiler_drawn", task_id, profiler=provider.address, device_class=provider.device_class)
    due = height + profile_blocks(state.spec(task_id), task.gas_per_step, state.parameters)
    _enter(state, task_id, PROFILE_COMMITTING, due)
    _reveal_if_all_committed(state, height, task_id)


def _of_different_classes(
    candidates: Sequence[Provider],
    count: int,
    active: Sequence[ProfileSlot],
    beacon: bytes,
    purpose: tuple[bytes, ...],
) -> list[Provider]:
    """Draw one after another among the device classes that are not represented yet, then among all."""
    left, seen, drawn = list(candidates), {slot.device_class for slot in active}, list[Provider]()
    while left and len(drawn) < count:
        one = profiler_sortition(left, seen).draw(beacon, *purpose, len(drawn).to_bytes(4, "little"))[0]
        drawn.append(one)
        seen.add(one.device_class)
        left.remove(one)
    return drawn


def _miss(state: State, height: int, task_id: bytes, slot: ProfileSlot) -> None:
    """A profiler missed its duty: the small slash; it is not drawn for this task again."""
    life.penalise(state, slot.profiler, slot.bond_nano, "profiler missed its time")
    kept = msgspec.structs.replace(slot, bond_nano=slot.bond_nano - life.penalty(state, slot.bond_nano))
    profile_slots.free(state, height, task_id, kept, VERIFICATION_MISSED)
    state.change_profile(task_id, missed=(*state.profile(task_id).missed, slot.profiler))
    state.emit("profiler_missed", task_id, profiler=slot.profiler)


def _late_commits(state: State, context: BlockContext, profile: Profile) -> None:
    """Replace the profilers that did not commit; after enough draws go on without them."""
    task_id, height = profile.task_id, context.height
    for slot in profile_slots.active(profile):
        if slot.state == VERIFICATION_DRAWN:
            _miss(state, height, task_id, slot)
    profile = state.change_profile(task_id, draws=profile.draws + 1)
    if profile.draws < state.parameters.verifier_draws_max and height < profile.patience_height:
        _draw_profilers(state, context, profile)
    elif 2 * len(profile_slots.active(profile)) > profile.wanted:
        _reveal_if_all_committed(state, height, task_id)
    else:
        _give_up(state, height, task_id)


# --- measurements


def _own_slot(state: State, call: Call, task_id: bytes) -> tuple[Profile, ProfileSlot]:
    profile = state.find(keys.profile(task_id), Profile)
    if profile is None or state.task(task_id).state != TASK_PROFILING:
        raise Rejection(NO_PROFILE, f"task {task_id.hex()} is not being profiled")
    slot = profile_slots.slot_of(profile, call.sender)
    if slot is None or slot.state == VERIFICATION_MISSED:
        raise Rejection(NOT_PROFILER, "the task has other profilers")
    if call.height > profile.due_height:
        raise Rejection(TOO_LATE, f"it was due by height {profile.due_height}")
    return profile, slot


def profile_commit(state: State, call: Call, message: ProfileCommit) -> None:
    """A profiler binds itself to its measurements; when all have, showing begins."""
    profile, slot = _own_slot(state, call, message.task_id)
    if profile.state != PROFILE_COMMITTING or slot.state != VERIFICATION_DRAWN:
        raise Rejection(BAD_VERDICT_STATE, f"the profile is {profile.state}, the measurement {slot.state}")
    committed = msgspec.structs.replace(slot, state=VERIFICATION_COMMITTED, commitment=message.commitment)
    profile_slots.change(state, message.task_id, committed)
    state.emit("profile_committed", message.task_id, profiler=call.sender)
    _reveal_if_all_committed(state, call.height, message.task_id)


def _reveal_if_all_committed(state: State, height: int, task_id: bytes) -> None:
    slots = profile_slots.active(state.profile(task_id))
    if slots and all(slot.state == VERIFICATION_COMMITTED for slot in slots):
        _enter(state, task_id, PROFILE_REVEALING, height + state.parameters.reveal_blocks)


def profile_reveal(state: State, call: Call, message: ProfileReveal) -> None:
    """A profiler shows its measurements; with the last one the thresholds are known."""
    profile, slot = _own_slot(state, call, message.task_id)
    if profile.state != PROFILE_REVEALING or slot.state != VERIFICATION_COMMITTED:
        raise Rejection(BAD_VERDICT_STATE, f"the profile is {profile.state}, the measurement {slot.state}")
    if profile_commitment(message.task_id, call.sender, message.distances, message.salt) != slot.commitment:
        raise Rejection(COMMITMENT_MISMATCH, "the measurements are not the ones committed to")
    entries = program_record(state, state.task(message.task_id).program_id).entries
    if len(message.distances) != entries:
        raise Rejection(BAD_PROFILE, f"{len(message.distances)} distances, the program's state has {entries} entries")
    shown = msgspec.structs.replace(slot, state=VERIFICATION_REVEALED, distances=message.distances)
    profile_slots.change(state, message.task_id, shown)
    did_duty(state, call.sender)
    state.emit("profile_revealed", message.task_id, profiler=call.sender)
    if all(one.state == VERIFICATION_REVEALED for one in profile_slots.active(state.profile(message.task_id))):
        _end_reveals(state, call.height, message.task_id)


# --- the end


def _end_reveals(state: State, height: int, task_id: bytes) -> None:
    """All measurements that come are in."""
    for slot in profile_slots.active(state.profile(task_id)):
        if slot.state == VERIFICATION_COMMITTED:
            _miss(state, height, task_id, slot)
    profile = state.profile(task_id)
    reports = [slot.distances for slot in profile_slots.active(profile)]
    if 2 * len(reports) <= profile.wanted:
        _give_up(state, height, task_id)
        return
    limits = thresholds(reports, profile_rule(state.parameters))
    if not measured_entries(limits):
        _give_up(state, height, task_id)
        return
    _pay(state, height, task_id)
    state.change_profile(task_id, state=PROFILE_DONE, due_height=0, limits=limits)
    state.emit("task_profiled", task_id, measured=measured_entries(limits), entries=len(limits))
    life.wait_for_solver(state, height, task_id)


def _pay(state: State, height: int, task_id: bytes) -> None:
    """What two runs of the segment are worth, to everyone who showed its measurements."""
    task, spec = state.task(task_id), state.spec(task_id)
    for slot in profile_slots.active(state.profile(task_id)):
        if slot.state != VERIFICATION_REVEALED:
            continue
        fee = money.work_price(profile_gas(spec, task.gas_per_step), slot.price_nano)
        money.pay(state, money.escrow(task_id), slot.profiler, fee)
        paid = state.task(task_id).verifiers_paid_nano + fee
        state.change_task(task_id, verifiers_paid_nano=paid)
        profile_slots.free(state, height, task_id, slot, VERIFICATION_PAID, fee)


def _give_up(state: State, height: int, task_id: bytes) -> None:
    """No thresholds can be had: who measured is paid, the rest is refunded."""
    _pay(state, height, task_id)
    state.change_profile(task_id, state=PROFILE_FAILED, due_height=0)
    state.emit("task_unprofiled", task_id)
    life.end(state, height, task_id, TASK_EXPIRED)
