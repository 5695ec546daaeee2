"""What a provider has to do now: the ledger's answer to a role driver, complete enough to act on."""

from __future__ import annotations

from consensus.ledger import disclosure, keys, life, profile_slots
from consensus.ledger.block import Reader
from consensus.ledger.challenges import CHALLENGEABLE
from consensus.ledger.evidence_keys import evidence_key_of
from consensus.ledger.fields import Count, Endpoints, Hash, OptionalHash, Small, Text
from consensus.ledger.messages import TaskSpec
from consensus.ledger.profile_records import PROFILE_COMMITTING, PROFILE_REVEALING
from consensus.ledger.queries import recent_ids
from consensus.ledger.records import (
    DISPUTE_OPEN,
    INSTALMENT_CLOSING,
    INSTALMENT_OPENING,
    INSTALMENT_REVEALING,
    INSTALMENT_UNSEALING,
    INSTALMENT_VERIFYING,
    INSTALMENT_WATCHING,
    INSTALMENT_WINDOW,
    TASK_ASSIGNED,
    TASK_ENDED,
    TASK_PROFILING,
    TASK_TRAINING,
    TURN_DEFENDER,
    VERIFICATION_COMMITTED,
    VERIFICATION_DRAWN,
    VERIFICATION_REVEALED,
    DisputeRecord,
    Instalment,
    PendingChallenge,
    Provider,
    Task,
    Verification,
)
from consensus.ledger.schedule import instalment_segments, instalment_steps, segment_span
from consensus.ledger.settlement import slot_of
from consensus.ledger.view import State
from consensus.ledger.window import approved_the_error
from gensyn_node.primitives.codec import Struct

DUTY_START = "start"
"""Send `StartTask`."""
DUTY_TRAIN = "train"
"""Train `steps` steps from `first_step` (state `start_root`), heartbeat on the way, then send `CommitInstalment`."""
DUTY_SERVE = "serve"
"""Keep serving the states of a committed instalment: its verifiers, challengers and successor fetch them."""
DUTY_VERIFY = "verify"
"""Re-execute `segments` (and derive the initial state when `check_initial`), then send `VerdictCommit`."""
DUTY_REVEAL = "reveal"
"""Send `VerdictReveal` with what was committed."""
DUTY_DISCLOSE = "disclose"
"""Native: send `DiscloseValues` for each of `segments`, and serve the values of their steps."""
DUTY_OPEN = "open"
"""Send `OpenInstalment`: the sealed roots, or with the error that the draw forces."""
DUTY_UNSEAL = "unseal"
"""Send `RevealSecret`."""
DUTY_CONTEST = "contest"
"""A segment that we approved is said to be a forced error: send `ContestForcedError` when the approval was right."""
DUTY_PROFILE = "profile"
"""Run the first `steps` steps from `seed` by vendor kernels and by `rep-v1`, then send `ProfileCommit`."""
DUTY_REVEAL_PROFILE = "reveal_profile"
"""Send `ProfileReveal` with what was committed."""
DUTY_MOVE = "move"
"""It is our turn in dispute `dispute_id`: send `DisputeMove`."""
DUTY_REVEAL_CHALLENGE = "reveal_challenge"
"""Send `OpenChallengeReveal` with what was committed."""


class SegmentWork(Struct):
    """One segment to re-execute."""

    segment: Small
    first_step: Small
    steps: Small
    start_root: OptionalHash
    start_blob: OptionalHash
    """Blob of the start state; empty: derive it from the seed (segment 0) or ask for it by root."""
    end_root: OptionalHash
    """What the solver claims."""
    end_blob: OptionalHash
    evidence_key: OptionalHash = b""
    """What draws the samples of the evidence; empty before verifiers are drawn, and in a native task."""


class Duty(Struct):
    """One thing to do; `due_height` is the last height at which it counts."""

    kind: Text
    task_id: Hash
    attempt: Small
    instalment: Small
    due_height: Count
    dispute_id: OptionalHash = b""
    first_step: Small = 0
    steps: Small = 0
    start_root: OptionalHash = b""
    """Training: the state to start from; empty: derive it from the seed."""
    start_blob: OptionalHash = b""
    endpoints: Endpoints = ()
    """Who serves the start state or the states to verify."""
    segments: tuple[SegmentWork, ...] = ()
    """Verification: the segments drawn. Training: empty."""
    check_initial: bool = False
    """Verification of instalment 0: compare the solver's initial root with the one derived from the seed."""
    seed: OptionalHash = b""
    """Profiling: what to start from."""


def duties(reader: Reader, address: bytes, height: int) -> list[Duty]:
    """Everything that `address` has to do at the head `height`, most urgent first."""
    state = State(reader)
    provider = state.find(keys.provider(address), Provider)
    if provider is None:
        return []
    found: list[Duty] = []
    for task_id in dict.fromkeys(provider.work):
        task, spec = state.task(task_id), state.spec(task_id)
        if task.state in TASK_ENDED:
            continue
        found += _solving(state, task, spec, address)
        found += _profiling(state, task, spec, address)
        for number in life.unsettled(task):
            instalment = state.instalment(task_id, number)
            found += _verifying(state, task, spec, instalment, address)
            found += _disclosing(state, task, spec, instalment, address)
            found += _challenging(state, instalment, address, height)
            disputes = [state.dispute(dispute_id) for dispute_id in instalment.open_disputes]
            found += [_move(instalment, dispute) for dispute in disputes if in_turn(dispute) == address]
    return sorted(found, key=lambda duty: (duty.due_height, duty.kind, duty.task_id, duty.instalment))


def in_turn(dispute: DisputeRecord) -> bytes | None:
    """The account that has to move; None when the dispute is over."""
    if dispute.state != DISPUTE_OPEN:
        return None
    return dispute.defender if dispute.turn == TURN_DEFENDER else dispute.challengers[dispute.lead].address


def _move(instalment: Instalment, dispute: DisputeRecord) -> Duty:
    return Duty(DUTY_MOVE, dispute.task_id, dispute.attempt, instalment.number, dispute.due_height, dispute.dispute_id)


def _solving(state: State, task: Task, spec: TaskSpec, address: bytes) -> list[Duty]:
    if task.solver != address:
        return []
    found = [
        Duty(DUTY_SERVE, task.task_id, task.attempt, number, task.deadline_height) for number in life.unsettled(task)
    ]
    for number in life.unsettled(task):
        instalment = state.instalment(task.task_id, number)
        kind = {INSTALMENT_OPENING: DUTY_OPEN, INSTALMENT_UNSEALING: DUTY_UNSEAL}.get(instalment.state)
        if kind:
            found.append(Duty(kind, task.task_id, instalment.attempt, number, instalment.due_height))
    due = min(task.due_height, task.deadline_height)
    if task.state == TASK_ASSIGNED:
        found.append(Duty(DUTY_START, task.task_id, task.attempt, task.committed, due))
    elif task.state == TASK_TRAINING:
        first, steps = instalment_steps(spec, task.committed)
        before = state.instalment(task.task_id, task.committed - 1) if task.committed else None
        if before is not None and before.secret_pending:
            before = None  # What it shows may be the error; its solver has the right state.
        found.append(
            Duty(
                DUTY_TRAIN,
                task.task_id,
                task.attempt,
                task.committed,
                due,
                first_step=first,
                steps=steps,
                start_root=before.end_root if before else b"",
                start_blob=before.state_blobs[-1] if before and before.state_blobs else b"",
                endpoints=before.endpoints if before else (),
            )
        )
    return found


def _profiling(state: State, task: Task, spec: TaskSpec, address: bytes) -> list[Duty]:
    profile = state.profile(task.task_id) if task.state == TASK_PROFILING else None
    slot = profile_slots.slot_of(profile, address) if profile else None
    if profile is None or slot is None:
        return []
    if (profile.state, slot.state) == (PROFILE_COMMITTING, VERIFICATION_DRAWN):
        kind = DUTY_PROFILE
    elif (profile.state, slot.state) == (PROFILE_REVEALING, VERIFICATION_COMMITTED):
        kind = DUTY_REVEAL_PROFILE
    else:
        return []
    steps = min(spec.segment_steps, spec.steps)
    return [Duty(kind, task.task_id, 0, 0, profile.due_height, steps=steps, seed=slot.seed)]


def segment_work(state: State, spec: TaskSpec, instalment: Instalment, segment: int) -> SegmentWork:
    """What re-executing a committed segment needs."""
    position = segment - instalment.first_segment
    first, steps = segment_span(spec, segment)
    blobs = instalment.state_blobs
    start_blob = blobs[position - 1] if blobs and position else b""
    if position == 0 and instalment.number:
        before = state.instalment(instalment.task_id, instalment.number - 1)
        start_blob = before.state_blobs[-1] if before.state_blobs else b""
    return SegmentWork(
        segment=segment,
        first_step=first,
        steps=steps,
        start_root=instalment.segment_roots[position - 1] if position else instalment.start_root,
        start_blob=start_blob,
        end_root=instalment.segment_roots[position],
        end_blob=blobs[position] if blobs else b"",
        evidence_key=evidence_key_of(spec, instalment, segment),
    )


def _serving(state: State, instalment: Instalment) -> tuple[str, ...]:
    """Who serves the instalment's states and its start: its solver, and whoever committed the one before."""
    endpoints = instalment.endpoints
    if instalment.number:
        endpoints += state.instalment(instalment.task_id, instalment.number - 1).endpoints
    return tuple(dict.fromkeys(endpoints))[:8]


def _verifying(state: State, task: Task, spec: TaskSpec, instalment: Instalment, address: bytes) -> list[Duty]:
    slot = slot_of(instalment, address)
    if slot is None:
        return []
    phase = INSTALMENT_WATCHING if slot.watch else INSTALMENT_VERIFYING
    if (instalment.state, slot.state) == (phase, VERIFICATION_DRAWN):
        kind = DUTY_VERIFY
    elif (instalment.state, slot.state) == (INSTALMENT_REVEALING, VERIFICATION_COMMITTED):
        kind = DUTY_REVEAL
    elif instalment.state == INSTALMENT_CLOSING and _may_contest(state, instalment, slot):
        return [Duty(DUTY_CONTEST, task.task_id, instalment.attempt, instalment.number, instalment.due_height)]
    else:
        return []
    return [
        Duty(
            kind,
            task.task_id,
            instalment.attempt,
            instalment.number,
            instalment.due_height,
            endpoints=_serving(state, instalment),
            segments=tuple(segment_work(state, spec, instalment, segment) for segment in slot.segments),
            check_initial=instalment.number == 0,
        )
    ]


def _disclosing(state: State, task: Task, spec: TaskSpec, instalment: Instalment, address: bytes) -> list[Duty]:
    if instalment.solver != address or instalment.state != INSTALMENT_VERIFYING:
        return []
    asked = [disclosure.find(state, instalment, segment) for segment in instalment.demanded]
    works = tuple(segment_work(state, spec, instalment, one.segment) for one in asked if one and not one.states)
    if not works:
        return []
    number, due = instalment.number, instalment.due_height
    return [Duty(DUTY_DISCLOSE, task.task_id, instalment.attempt, number, due, segments=works)]


def _may_contest(state: State, instalment: Instalment, slot: Verification) -> bool:
    """Whether the verifier approved a forced error and has not insisted yet."""
    disputes = (state.dispute(dispute_id) for dispute_id in instalment.open_disputes)
    insists = any(one.address == slot.verifier for dispute in disputes for one in dispute.challengers)
    return slot.state == VERIFICATION_REVEALED and approved_the_error(instalment, slot) and not insists


def _challenging(state: State, instalment: Instalment, address: bytes, height: int) -> list[Duty]:
    pending = state.find(keys.challenge(instalment.task_id, instalment.number, address), PendingChallenge)
    if pending is None or instalment.state not in (INSTALMENT_WINDOW, INSTALMENT_CLOSING) or height < pending.height:
        return []
    if instalment.secret_pending:
        return []
    due = instalment.due_height
    if instalment.state == INSTALMENT_WINDOW:
        due += state.parameters.reveal_blocks
    return [Duty(DUTY_REVEAL_CHALLENGE, instalment.task_id, instalment.attempt, instalment.number, due)]


class Audit(Struct):
    """An instalment that a whistleblower may look into now; challenges are shown once its window is open."""

    task_id: Hash
    attempt: Small
    instalment: Small
    state: Text
    """The instalment's phase; verdicts with their evidence are known from `window` on."""
    due_height: Count
    """Last height of that phase; the last to announce a challenge is the window's."""
    segments: tuple[SegmentWork, ...]
    """All of the instalment's."""
    endpoints: Endpoints


def audits(reader: Reader, address: bytes, tasks: int = 64) -> list[Audit]:
    """Instalments open to challenges, of the latest `tasks` tasks, in which `address` is no party."""
    state = State(reader)
    found: list[Audit] = []
    for task_id in reversed(recent_ids(state, keys.tasks_page, state.counters.tasks, tasks)):
        task = state.task(task_id)
        if task.state in TASK_ENDED or task.solver == address:
            continue
        spec = state.spec(task_id)
        for number in life.unsettled(task):
            instalment = state.instalment(task_id, number)
            if instalment.state in CHALLENGEABLE and slot_of(instalment, address) is None:
                segments = (segment_work(state, spec, instalment, s) for s in instalment_segments(spec, number))
                found.append(
                    Audit(
                        task_id,
                        instalment.attempt,
                        number,
                        instalment.state,
                        instalment.due_height,
                        tuple(segments),
                        _serving(state, instalment),
                    )
                )
    return found
