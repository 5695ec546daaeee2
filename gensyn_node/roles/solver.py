"""The solver: accept an assignment, train an instalment segment by segment, serve its states, commit."""

from __future__ import annotations

import math
import secrets
import struct
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from consensus.ledger import queries
from consensus.ledger.duties import Duty
from consensus.ledger.messages import CommitInstalment, Heartbeat, StartTask, TaskSpec
from consensus.ledger.records import TASK_TRAINING, Task
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.roles.account import NodeAccount, Unconfirmed
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.cheats import Cheats, as_told
from gensyn_node.roles.forced_errors import ForcedErrors
from gensyn_node.roles.materials import OWN, Materials, largest_state
from gensyn_node.roles.memory import Fitting
from gensyn_node.roles.reasons import NO_LONGER_OURS
from gensyn_node.roles.status import Activity
from gensyn_node.roles.verifier import is_bad_checkpoint
from gensyn_node.roles.worker_client import Worker
from ml.worker.messages import (
    Job,
    Progress,
    SegmentDone,
    Train,
    Trained,
    state_path,
)

HEARTBEAT_INTERVAL_S = 4.0
"""Between two heartbeats at least: live to people, cheap to the chain."""
PROGRESS_PER_SEGMENT = 10

log = structlog.get_logger()


@dataclass
class _Done:
    """What training has brought so far in an instalment."""

    initial_root: bytes
    segment_roots: list[bytes]
    state_blobs: list[bytes]
    losses: list[float]


class Solver:
    """Drives one node's training."""

    def __init__(
        self,
        chain: ChainApi,
        account: NodeAccount,
        materials: Materials,
        worker: Worker,
        activity: Activity,
        endpoint: str,
        memory_bytes: int,
        cheats: Cheats,
    ) -> None:
        self._chain = chain
        self._account = account
        self._materials = materials
        self._worker = worker
        self._activity = activity
        self._endpoint = endpoint
        self._fitting = Fitting(worker, memory_bytes)
        self._cheats = cheats
        self._last_heartbeat = -math.inf
        self.forced_errors = ForcedErrors(chain, account, materials)
        """The duties of a solver that may be drawn to show an error."""

    async def start(self, duty: Duty) -> None:
        """Fetch everything, see that it fits, accept."""
        task = self._task(duty)
        self._activity.now(f"preparing task {duty.task_id.hex()[:12]}", duty.task_id)
        job = await self._job(task)
        await self._fitting.fitted(job)
        anchor = await self.forced_errors.anchor(task, self._spec(duty))
        await self._account.send(StartTask(duty.task_id, anchor))
        log.info("task_started", task=duty.task_id.hex())

    async def train(self, duty: Duty) -> None:
        """Train the instalment that is due and commit it. Work done before an interruption is found on disk."""
        task = self._task(duty)
        spec = self._spec(duty)
        states = self._materials.states(duty.task_id, OWN)
        done = _Done(b"", [], [], [])
        async with trio.open_nursery() as heartbeats:
            heartbeats.start_soon(self._keep_alive, duty)
            job = await self._fitting.fitted(await self._job(task))
            if duty.start_root:  # That of a sealed instalment is this node's own, and here.
                most = largest_state(self._chain.view(), task)
                await self._materials.fetch_state(task, duty.start_root, duty.start_blob, duty.first_step, states, most)
            for first in range(duty.first_step, duty.first_step + duty.steps, spec.segment_steps):
                steps = min(spec.segment_steps, duty.first_step + duty.steps - first)
                request = Train(
                    job, str(states), first, steps, spec.segment_steps, max(1, steps // PROGRESS_PER_SEGMENT)
                )
                try:
                    await self._train_segment(duty, spec, request, done, heartbeats)
                except Rejection as refusal:
                    if is_bad_checkpoint(refusal) and first == duty.first_step:
                        self._materials.drop_state(first, states)  # The next try fetches it anew.
                    raise
                if not self._still_ours(duty):
                    raise Rejection(NO_LONGER_OURS, f"task {duty.task_id.hex()[:12]} is not ours to train any more")
            heartbeats.cancel_scope.cancel()
        await self._commit(duty, spec, done)

    async def _train_segment(
        self, duty: Duty, spec: TaskSpec, request: Train, done: _Done, heartbeats: trio.Nursery
    ) -> None:
        start: bytes = b""
        async with aclosing(self._worker.run(request)) as replies:  # type: ignore[type-var]
            async for reply in replies:
                match reply:
                    case Progress():
                        self._activity.training(
                            duty.task_id, reply.step + 1, spec.steps, reply.loss, request.job.records
                        )
                        self._maybe_heartbeat(duty, reply.step + 1, reply.loss, heartbeats)
                    case SegmentDone() if reply.step > request.first_step:
                        done.segment_roots.append(reply.state_root)
                        done.losses.append(reply.loss)
                        # The name is ours to know: what the worker calls its file could be any file of this machine.
                        path = state_path(request.states_directory, reply.step)
                        if not spec.forced_error_bps:  # What is sealed is served when it is opened.
                            done.state_blobs.append(await self._publish(reply.state_root, path))
                    case Trained():
                        start = reply.initial_root
                    case _:
                        continue
        if request.first_step == 0:
            done.initial_root = start

    def _maybe_heartbeat(self, duty: Duty, step: int, loss: float, heartbeats: trio.Nursery) -> None:
        if trio.current_time() - self._last_heartbeat >= HEARTBEAT_INTERVAL_S:
            self._last_heartbeat = trio.current_time()
            heartbeats.start_soon(self._heartbeat, Heartbeat(duty.task_id, step, loss_bits(loss), b""))

    async def _keep_alive(self, duty: Duty) -> None:
        """Heartbeats by the chain's time: a download or a long step is no reason to be taken for dead."""
        while self._still_ours(duty):
            task = self._task(duty)
            if 3 * (self._chain.head_height() - task.heartbeat_height) >= self._chain.parameters.heartbeat_blocks:
                await self._heartbeat(Heartbeat(duty.task_id, task.step, task.loss_bits, b""))
            await trio.sleep(HEARTBEAT_INTERVAL_S)

    async def _heartbeat(self, message: Heartbeat) -> None:
        try:
            await self._account.send(message)
        except (Rejection, Unconfirmed) as error:
            # A heartbeat that comes too late is no loss: the next one, or the commit, says the same.
            log.info("heartbeat_lost", task=message.task_id.hex(), error=str(error))

    async def _commit(self, duty: Duty, spec: TaskSpec, done: _Done) -> None:
        roots, losses, seal = tuple(done.segment_roots), tuple(loss_bits(loss) for loss in done.losses), b""
        if spec.forced_error_bps:
            seal = await self.forced_errors.seal(duty, spec, roots, losses)
        message = CommitInstalment(
            task_id=duty.task_id,
            instalment=duty.instalment,
            initial_root=done.initial_root if duty.instalment == 0 else b"",
            segment_roots=() if seal else roots,
            state_blobs=tuple(done.state_blobs),
            losses=() if seal else losses,
            endpoints=(self._endpoint,),
            seal=seal,
        )
        await self._account.send(message)
        log.info("instalment_committed", task=duty.task_id.hex(), instalment=duty.instalment, loss=done.losses[-1])

    async def _job(self, task: Task) -> Job:
        job = await self._materials.job(self._chain.view(), task)
        return as_told(job, self._cheats, solving=True)

    async def _publish(self, root: bytes, path: Path) -> bytes:
        """Serve a state; its blob id. A liar that withholds names what nobody has."""
        return secrets.token_bytes(32) if self._cheats.withholds else await self._materials.publish_state(root, path)

    def _spec(self, duty: Duty) -> TaskSpec:
        spec = queries.spec(self._chain.view(), duty.task_id)
        if spec is None:
            raise InvariantViolation("a duty of a task without a spec")
        return spec

    def _task(self, duty: Duty) -> Task:
        task = queries.task(self._chain.view(), duty.task_id)
        if task is None:
            raise InvariantViolation("a duty of a task that does not exist")
        return task

    def _still_ours(self, duty: Duty) -> bool:
        task = self._task(duty)
        return (task.solver, task.attempt, task.state, task.committed) == (
            self._account.address,
            duty.attempt,
            TASK_TRAINING,
            duty.instalment,
        )


def loss_bits(loss: float) -> int:
    """The IEEE-754 bits of a loss as f32; beyond its range, infinity."""
    try:
        packed = struct.pack("<f", loss)
    except OverflowError:
        packed = struct.pack("<f", math.copysign(math.inf, loss))
    return int.from_bytes(packed, "little")
