"""The disputant: whoever is party to a pinpoint game makes its next move by re-executing what the game asks about."""

from __future__ import annotations

import structlog

from consensus.ledger import queries
from consensus.ledger.duties import Duty, segment_work
from consensus.ledger.messages import DisputeMove
from consensus.ledger.records import DISPUTE_EVIDENCE, DISPUTE_INITIAL, DisputeRecord, Task
from consensus.ledger.view import State
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.cheats import Cheats, as_told
from gensyn_node.roles.materials import OWN, Materials, largest_state
from gensyn_node.roles.native_disputant import NativeDisputant
from gensyn_node.roles.native_values import NativeValues
from gensyn_node.roles.status import Activity
from gensyn_node.roles.verifier import line_of
from gensyn_node.roles.worker_client import Worker
from ml.worker.messages import Respond, Responded
from proofs.native.types import NativeGame

LAST_BLOCKS = 2
"""How many blocks before its clock runs out a staller moves: one later may miss it."""

log = structlog.get_logger()


class Disputant:
    """Plays this node's disputes."""

    def __init__(
        self,
        chain: ChainApi,
        account: NodeAccount,
        materials: Materials,
        worker: Worker,
        activity: Activity,
        cheats: Cheats,
    ) -> None:
        self._chain = chain
        self._account = account
        self._materials = materials
        self._worker = worker
        self._activity = activity
        self._cheats = cheats
        self._native = NativeDisputant(account, materials, NativeValues(materials), worker)

    async def move(self, duty: Duty) -> None:
        """Make the move that is due."""
        view = self._chain.view()
        dispute = queries.dispute(view, duty.dispute_id)
        game = queries.game(view, duty.dispute_id) or queries.native_game(view, duty.dispute_id)
        task = queries.task(view, duty.task_id)
        if dispute is None or game is None or task is None:
            return  # It was decided in the meantime.
        self._activity.now(f"dispute {duty.dispute_id.hex()[:12]}: {dispute.phase}", duty.task_id)
        defends_training = dispute.defender == self._account.address and dispute.kind != DISPUTE_EVIDENCE
        job = await self._materials.job(view, task)
        job = as_told(job, self._cheats, solving=defends_training)
        instalment = State(view).instalment(duty.task_id, dispute.instalment)
        line = OWN if defends_training else line_of(instalment)
        if dispute.kind != DISPUTE_INITIAL:
            await self._fetch_start(task, dispute, line)
        if isinstance(game, NativeGame):
            await self._native.move(duty, task, dispute, game, job, line)
            return
        states = self._materials.states(task.task_id, line)
        answer = await self._worker.final(Respond(job, str(states), encode(game)))
        if not isinstance(answer, Responded):
            raise InvariantViolation(f"the worker answered {type(answer).__name__} to Respond")
        if self._cheats.stalls:
            await self._wait_for(duty.due_height - LAST_BLOCKS)
        await self._account.send(DisputeMove(duty.dispute_id, answer.move))
        log.info("dispute_moved", dispute=duty.dispute_id.hex(), phase=dispute.phase, bytes=len(answer.move))

    async def _wait_for(self, height: int) -> None:
        async with self._chain.blocks() as heights:
            if self._chain.head_height() < height:
                async for reached in heights:
                    if reached >= height:
                        return

    async def _fetch_start(self, task: Task, dispute: DisputeRecord, line: str) -> None:
        """Bring the agreed start of the disputed segment, unless the seed gives it."""
        state = State(self._chain.view())
        instalment = state.instalment(task.task_id, dispute.instalment)
        work = segment_work(state, state.spec(task.task_id), instalment, dispute.segment)
        if work.first_step:
            states = self._materials.states(task.task_id, line)
            most = largest_state(self._chain.view(), task)
            await self._materials.fetch_state(task, work.start_root, work.start_blob, work.first_step, states, most)
