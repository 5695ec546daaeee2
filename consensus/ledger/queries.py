"""What RPC and roles ask of the ledger: pure functions over any `Reader`."""

from __future__ import annotations

from collections.abc import Callable

from consensus.ledger import keys
from consensus.ledger.assignment import Exclusion, solver_exclusion, verifier_exclusion
from consensus.ledger.block import Reader
from consensus.ledger.disclosure import find as find_disclosure
from consensus.ledger.fields import Address, Count, Small, Text
from consensus.ledger.messages import ROLE_SOLVER, ROLE_VERIFIER, TaskSpec
from consensus.ledger.parameters import Parameters
from consensus.ledger.profile_records import Profile
from consensus.ledger.records import (
    DISPUTE_SEGMENT,
    INSTALMENT_DRAWING,
    TASK_WAITING,
    Account,
    Disclosure,
    DisputeRecord,
    Instalment,
    ProgramRecord,
    Provider,
    Supply,
    Task,
    TaskRecord,
)
from consensus.ledger.stake_records import ValidatorRecord
from consensus.ledger.view import PAGE, State
from gensyn_node.primitives.codec import Struct
from proofs.native.types import NativeGame
from proofs.pinpoint import Game

# --- single records


def account(reader: Reader, address: bytes) -> Account:
    """Balance and nonce; zeros for an unused account."""
    return State(reader).account(address)


def supply(reader: Reader) -> Supply:
    """Where all money is."""
    return State(reader).supply


def parameters(reader: Reader) -> Parameters:
    """The chain's parameters."""
    return State(reader).parameters


def oldest_evidence(reader: Reader, height: int) -> int:
    """The lowest height of an offence that block `height`, on top of the ledger given, may still punish.

    Below it the stakes it would be paid from may be gone. It never falls, whatever becomes of the unbonding time.
    """
    state = State(reader)
    return max(1, state.governance.evidence_floor, height - state.parameters.unbonding_blocks)


def is_punishable(reader: Reader, validator: bytes, height: int) -> bool:
    """Whether there is something to take from a validator for an offence at `height`.

    It is punished once; only an earlier offence than the one known reaches further back into what was leaving.
    """
    record = State(reader).find(keys.validator(validator), ValidatorRecord)
    return record is not None and (not record.tombstoned or height < record.offence_height)


def provider(reader: Reader, address: bytes) -> Provider | None:
    """A provider, or None."""
    return State(reader).find(keys.provider(address), Provider)


def program(reader: Reader, program_id: bytes) -> ProgramRecord | None:
    """A published program, or None."""
    return State(reader).find(keys.program(program_id), ProgramRecord)


def task(reader: Reader, task_id: bytes) -> Task | None:
    """A task, or None."""
    return State(reader).find(keys.task(task_id), Task)


def spec(reader: Reader, task_id: bytes) -> TaskSpec | None:
    """A task's spec, or None."""
    return State(reader).find(keys.spec(task_id), TaskSpec)


def instalments(reader: Reader, task_id: bytes) -> list[Instalment]:
    """The latest version of every instalment of a task that was ever committed."""
    state = State(reader)
    found = (
        state.find(keys.instalment(task_id, number), Instalment) for number in range(state.task(task_id).instalments)
    )
    return [instalment for instalment in found if instalment is not None]


def task_record(reader: Reader, task_id: bytes) -> TaskRecord | None:
    """The certificate's content, once the task ended."""
    return State(reader).find(keys.record(task_id), TaskRecord)


def dispute(reader: Reader, dispute_id: bytes) -> DisputeRecord | None:
    """A dispute, or None."""
    return State(reader).find(keys.dispute(dispute_id), DisputeRecord)


def game(reader: Reader, dispute_id: bytes) -> Game | None:
    """The game of an open dispute, or None."""
    return State(reader).find(keys.game(dispute_id), Game)


def native_game(reader: Reader, dispute_id: bytes) -> NativeGame | None:
    """The game of an open dispute over a native task's segment, or None."""
    return State(reader).find(keys.native_game(dispute_id), NativeGame)


def profile(reader: Reader, task_id: bytes) -> Profile | None:
    """The profile of a native task, or None."""
    return State(reader).find(keys.profile(task_id), Profile)


def disclosure(reader: Reader, instalment: Instalment, segment: int) -> Disclosure | None:
    """What was demanded about a native segment, answered or not; None when nothing was."""
    return find_disclosure(State(reader), instalment, segment)


def disclosed(reader: Reader, dispute: DisputeRecord) -> Disclosure | None:
    """What the solver had disclosed about a dispute's segment; None: nothing."""
    key = keys.disclosure(dispute.task_id, dispute.attempt, dispute.segment)
    return State(reader).find(key, Disclosure) if dispute.kind == DISPUTE_SEGMENT else None


# --- lists


def recent_ids(state: State, page_key: Callable[[int], bytes], count: int, limit: int, before: int = 0) -> list[bytes]:
    """The last `limit` ids of a paged index, oldest first, leaving out the `before` newest."""
    stop = max(0, count - before)
    first = max(0, stop - limit)
    found: list[bytes] = []
    for page in range(first // PAGE, -(-stop // PAGE)):
        ids = state.find(page_key(page), tuple[bytes, ...]) or ()
        found += ids[max(0, first - page * PAGE) : stop - page * PAGE]
    return found


def tasks(reader: Reader, limit: int = 50, before: int = 0) -> list[Task]:
    """Tasks, newest first; `before` of the newest are left out (paging)."""
    state = State(reader)
    ids = recent_ids(state, keys.tasks_page, state.counters.tasks, limit, before)
    return [state.task(task_id) for task_id in reversed(ids)]


def disputes(reader: Reader, limit: int = 50, before: int = 0) -> list[DisputeRecord]:
    """Disputes, newest first; `before` of the newest are left out (paging)."""
    state = State(reader)
    ids = recent_ids(state, keys.disputes_page, state.counters.disputes, limit, before)
    return [state.dispute(dispute_id) for dispute_id in reversed(ids)]


def providers(reader: Reader) -> list[Provider]:
    """All registered providers, by address."""
    state = State(reader)
    return [state.provider(address) for address in state.addresses(keys.PROVIDERS)]


def validators(reader: Reader) -> list[ValidatorRecord]:
    """All candidates with stake, signing or waiting, by address."""
    state = State(reader)
    return [state.validator(address) for address in state.addresses(keys.VALIDATORS)]


# --- why


class Eligibility(Struct):
    """Whether a provider can be drawn, and if not, what excludes it."""

    provider: Address
    role: Small
    """ROLE_SOLVER or ROLE_VERIFIER."""
    task_id: bytes
    instalment: Count
    eligible: bool
    why: Text
    """Empty when eligible; else state, role, memory, price, bond, busy, removed, submitter, solver or drawn."""
    have: Count
    need: Count
    """What it has and what it would need, where that is a number (bytes, nano, tasks)."""


def why_task(reader: Reader, task_id: bytes) -> list[Eligibility]:
    """For every provider, whether this task's next draw can take it; empty when the task draws nobody now.

    A waiting task draws a solver; an instalment being drawn draws verifiers.
    """
    state = State(reader)
    everybody = [state.provider(address) for address in state.addresses(keys.PROVIDERS)]
    return [entry for one in everybody for entry in _why(state, state.task(task_id), one)]


def why_provider(reader: Reader, address: bytes, limit: int = 50) -> list[Eligibility]:
    """For each of the latest tasks that draw somebody now, whether they can take this provider."""
    state = State(reader)
    one = state.provider(address)
    ids = recent_ids(state, keys.tasks_page, state.counters.tasks, limit)
    return [entry for task_id in reversed(ids) for entry in _why(state, state.task(task_id), one)]


def _why(state: State, task: Task, one: Provider) -> list[Eligibility]:
    if task.state == TASK_WAITING:
        return [_eligibility(task, 0, ROLE_SOLVER, one, solver_exclusion(state, task, one))]
    found = []
    for number in range(task.settled, task.committed):
        instalment = state.instalment(task.task_id, number)
        if instalment.state == INSTALMENT_DRAWING:
            exclusion = verifier_exclusion(state, task, instalment, one)
            found.append(_eligibility(task, number, ROLE_VERIFIER, one, exclusion))
    return found


def _eligibility(task: Task, number: int, role: int, one: Provider, exclusion: Exclusion | None) -> Eligibility:
    if exclusion is None:
        return Eligibility(one.address, role, task.task_id, number, True, "", 0, 0)
    return Eligibility(one.address, role, task.task_id, number, False, exclusion.word, exclusion.have, exclusion.need)


# --- results


class FinalState(Struct):
    """Where a task's last settled state is found."""

    root: bytes
    blob: bytes
    """Blob id, or empty when states are asked for by root."""
    steps: Count
    endpoints: tuple[str, ...]


def final_state(reader: Reader, task_id: bytes) -> FinalState | None:
    """The last settled state of a task (finished or not), or None when nothing is settled."""
    state = State(reader)
    task = state.task(task_id)
    if not task.settled:
        return None
    last = state.instalment(task_id, task.settled - 1)
    spec = state.spec(task_id)
    segment = last.first_segment + len(last.segment_roots)
    steps = min(segment * spec.segment_steps, spec.steps)
    return FinalState(last.end_root, last.state_blobs[-1] if last.state_blobs else b"", steps, last.endpoints)
