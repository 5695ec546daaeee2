"""A native solver under suspicion: run the segment again, serve the values of its steps, stand by their roots."""

from __future__ import annotations

import structlog

from consensus.ledger import queries
from consensus.ledger.duties import Duty, SegmentWork
from consensus.ledger.messages import DiscloseValues
from consensus.ledger.records import Task
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.cheats import Cheats, as_told
from gensyn_node.roles.materials import OWN, Materials, largest_state
from gensyn_node.roles.native_values import NativeValues
from gensyn_node.roles.reasons import NOT_REPEATED
from gensyn_node.roles.status import Activity
from gensyn_node.roles.worker_client import Worker
from ml.worker.messages import Disclose, Disclosed

log = structlog.get_logger()


class Discloser:
    """Answers for one node's native training."""

    def __init__(
        self,
        chain: ChainApi,
        account: NodeAccount,
        materials: Materials,
        worker: Worker,
        activity: Activity,
        values: NativeValues,
        cheats: Cheats,
    ) -> None:
        self._chain = chain
        self._account = account
        self._materials = materials
        self._values = values
        self._worker = worker
        self._activity = activity
        self._cheats = cheats

    async def disclose(self, duty: Duty) -> None:
        """Answer for every segment that is asked about."""
        task = queries.task(self._chain.view(), duty.task_id)
        if task is None:
            raise InvariantViolation("a duty of a task that does not exist")
        for work in duty.segments:
            self._activity.now(f"disclosing segment {work.segment} of task {duty.task_id.hex()[:12]}", duty.task_id)
            await self._disclose(task, duty, work)

    async def _disclose(self, task: Task, duty: Duty, work: SegmentWork) -> None:
        job = as_told(await self._materials.job(self._chain.view(), task), self._cheats, solving=True)
        states, folder = self._materials.states(task.task_id, OWN), self._values.own(task.task_id)
        if work.first_step:
            most = largest_state(self._chain.view(), task)
            await self._materials.fetch_state(task, work.start_root, work.start_blob, work.first_step, states, most)
        made = await self._worker.final(Disclose(job, str(states), str(folder), work.first_step, work.steps))
        if not isinstance(made, Disclosed):
            raise InvariantViolation(f"the worker answered {type(made).__name__} to Disclose")
        roots = made.state_roots
        start = work.start_root
        if (roots[0], roots[-1]) != (start, work.end_root):
            raise Rejection(NOT_REPEATED, f"segment {work.segment} of task {task.task_id.hex()[:12]}")
        steps = range(work.first_step, work.first_step + work.steps)
        blobs = [await self._values.publish(task.task_id, step) for step in steps]
        where = (task.task_id, duty.instalment, duty.attempt, work.segment)
        states_roots, values_roots = b"".join(roots), b"".join(made.values_roots)
        await self._account.send(DiscloseValues(*where, states_roots, values_roots, tuple(blobs)))
        log.info("values_disclosed", task=task.task_id.hex(), segment=work.segment)
