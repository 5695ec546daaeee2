"""The verifier of native segments: run it again, measure the distance, and look at the solver's values when it is far.

A verdict follows from the distance alone when the segment is near. Beyond the threshold the solver has to disclose its
values, and every operator is held against its proven bound: far off and within all bounds is honest noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from consensus.ledger import queries
from consensus.ledger.duties import SegmentWork
from consensus.ledger.messages import APPROVED, DISAGREED, UNAVAILABLE, DemandValues, Finding
from consensus.ledger.records import Disclosure, Task
from consensus.ledger.view import State
from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.primitives.limits import PROGRAM_BYTES_MAX
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.materials import Materials
from gensyn_node.roles.native_values import NativeValues, values_bytes_max
from gensyn_node.roles.reasons import BLOB_TOO_LARGE, STATE_UNAVAILABLE, VALUES_AWAITED
from gensyn_node.roles.worker_client import Worker
from ml.reasons import BAD_CHECKPOINT
from ml.worker.messages import Compare, Compared, Job, Look, Looked
from proofs.merkle import split_hashes
from proofs.native.profile import BASIS_POINTS, DISTANCE_MAX
from proofs.program.types import Program

EXCESS_MAX = (1 << 32) - 1
PHASE_SHARE = 3
"""Into so many parts falls the time for a verdict: running again, the solver's answer, looking at it."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a segment was drawn for: by when the verdict is due."""

    instalment: int
    attempt: int
    line: str
    drawn_height: int
    due_height: int

    @property
    def answer_height(self) -> int:
        """Until here the solver's answer is waited for."""
        return self.due_height - (self.due_height - self.drawn_height) // PHASE_SHARE


def excess_bps(distances: tuple[int, ...], limits: tuple[int, ...]) -> int:
    """The largest distance of a measured entry in basis points of its threshold, rounded up."""
    measured = [
        -(-distance * BASIS_POINTS // limit)
        for distance, limit in zip(distances, limits, strict=True)
        if limit < DISTANCE_MAX
    ]
    return min(EXCESS_MAX, max(measured, default=0))


class NativeVerifier:
    """Drives one node's verifications of native segments."""

    def __init__(
        self, chain: ChainApi, account: NodeAccount, materials: Materials, values: NativeValues, worker: Worker
    ) -> None:
        self._chain = chain
        self._account = account
        self._materials = materials
        self._values = values
        self._worker = worker
        self._compared: dict[tuple[bytes, int, int], Compared] = {}
        self._findings: dict[tuple[bytes, int, int], Finding] = {}
        """By task, height of the draw and segment: what need not be done again while an answer is waited for."""

    async def examine(self, task: Task, drawn: Drawn, job: Job, work: SegmentWork) -> Finding:
        """The finding. Raises Rejection VALUES_AWAITED or STATE_UNAVAILABLE while there is time to wait."""
        key = (task.task_id, drawn.drawn_height, work.segment)
        if key not in self._findings:
            self._findings[key] = await self._examine(task, drawn, job, work, key)
        return self._findings[key]

    def judged(self, task_id: bytes) -> None:
        """A verdict was made: what it came from is not needed any more."""
        for known in (self._compared, self._findings):
            for key in [key for key in known if key[0] == task_id]:
                known.pop(key)

    async def _examine(
        self, task: Task, drawn: Drawn, job: Job, work: SegmentWork, key: tuple[bytes, int, int]
    ) -> Finding:
        found = self._compared.get(key) or await self._compare(task, drawn, job, work)
        if found is None:
            return Finding(work.segment, UNAVAILABLE, b"")
        self._compared[key] = found
        profile = queries.profile(self._chain.view(), task.task_id)
        if profile is None:
            raise InvariantViolation("a native task without a profile")
        excess = excess_bps(found.distances, profile.limits)
        if excess > BASIS_POINTS:
            return await self._look(task, drawn, job, work, found, excess)
        return Finding(work.segment, APPROVED, found.evidence_root, excess)

    async def _compare(self, task: Task, drawn: Drawn, job: Job, work: SegmentWork) -> Compared | None:
        """The own execution beside the claimed end; None when what was served is not what was committed to."""
        states = self._materials.states(task.task_id, drawn.line)
        request = Compare(job, str(states), work.first_step, work.steps, work.start_root, work.end_root)
        try:
            found = await self._worker.final(request)
        except Rejection as refusal:
            if not refusal.message.startswith(BAD_CHECKPOINT.code):
                raise
            for step in (work.first_step, work.first_step + work.steps):
                self._materials.drop_state(step, states)
            log.warning("state_is_wrong", task=task.task_id.hex(), segment=work.segment, error=refusal.message)
            return None
        if not isinstance(found, Compared):
            raise InvariantViolation(f"the worker answered {type(found).__name__} to Compare")
        return found

    async def _look(self, task: Task, drawn: Drawn, job: Job, work: SegmentWork, own: Compared, excess: int) -> Finding:
        unavailable = Finding(work.segment, UNAVAILABLE, b"")
        said = await self._demanded(task, drawn, work)
        if said is None:
            return unavailable
        program: Program = decode(Program, job.program, max_bytes=PROGRAM_BYTES_MAX)
        states, values = split_hashes(said.states), split_hashes(said.values)
        for number, blob_id in enumerate(said.blobs):
            step = work.first_step + number
            try:
                where = (task.task_id, drawn.line, step, blob_id)
                folder = await self._values.fetch(*where, values_bytes_max(program))
            except Rejection as refusal:
                solvers_fault = refusal.reason in (STATE_UNAVAILABLE, BLOB_TOO_LARGE)
                if not solvers_fault or self._chain.head_height() < drawn.answer_height:
                    raise
                log.warning("values_unavailable", task=task.task_id.hex(), step=step, error=refusal.message)
                return unavailable
            roots = (states[number], states[number + 1], values[number])
            seen = await self._worker.final(Look(job, str(folder), step, *roots))
            if not isinstance(seen, Looked):
                raise InvariantViolation(f"the worker answered {type(seen).__name__} to Look")
            if seen.served and seen.accused is not None:
                self._values.accuse(task.task_id, drawn.line, work.segment, seen.accused)
                log.warning(
                    "segment_disagreed", task=task.task_id.hex(), step=step, value=seen.accused.value, excess=excess
                )
                return Finding(work.segment, DISAGREED, own.end_root, excess)
            await self._values.drop(task.task_id, drawn.line, step, blob_id)
            if not seen.served:
                log.warning("values_are_others", task=task.task_id.hex(), step=step)
                return unavailable
        log.info("segment_far_and_right", task=task.task_id.hex(), segment=work.segment, excess=excess)
        return Finding(work.segment, APPROVED, own.evidence_root, excess)

    async def _demanded(self, task: Task, drawn: Drawn, work: SegmentWork) -> Disclosure | None:
        """The solver's answer; None when it has not come in its time. Raises Rejection VALUES_AWAITED before."""
        instalment = State(self._chain.view()).instalment(task.task_id, drawn.instalment)
        said = queries.disclosure(self._chain.view(), instalment, work.segment)
        if said is None:
            await self._account.send(DemandValues(task.task_id, drawn.instalment, drawn.attempt, work.segment))
        elif len(said.states) == HASH_BYTES * (work.steps + 1):
            return said
        elif self._chain.head_height() >= drawn.answer_height:
            return None
        raise Rejection(VALUES_AWAITED, f"segment {work.segment} of task {task.task_id.hex()[:12]}")
