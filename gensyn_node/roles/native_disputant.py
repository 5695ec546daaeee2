"""A party of a native dispute: the solver shows its values, a verifier points at what it found in them."""

from __future__ import annotations

import structlog

from consensus.ledger.duties import Duty
from consensus.ledger.messages import DisputeMove
from consensus.ledger.records import DISPUTE_EVIDENCE, DisputeRecord, Task
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.materials import Materials
from gensyn_node.roles.native_values import NativeValues
from gensyn_node.roles.worker_client import Worker
from ml.worker.messages import Job, Responded, RespondNative
from proofs.native.types import NativeGame

NOTHING_DISCLOSED = "re-executed"
"""A folder without values: who defends evidence stands by its own execution, never by what the solver disclosed."""

log = structlog.get_logger()


class NativeDisputant:
    """Plays this node's native disputes."""

    def __init__(self, account: NodeAccount, materials: Materials, values: NativeValues, worker: Worker) -> None:
        self._account = account
        self._materials = materials
        self._values = values
        self._worker = worker

    async def move(self, duty: Duty, task: Task, dispute: DisputeRecord, game: NativeGame, job: Job, line: str) -> None:
        """Make the move that is due, from the states of `line`."""
        states = self._materials.states(task.task_id, line)
        accused = None
        if dispute.defender != self._account.address:
            folder = self._values.disclosed(task.task_id, line)
            accused = self._values.accused(task.task_id, line, dispute.segment)
        elif dispute.kind == DISPUTE_EVIDENCE:
            folder = states / NOTHING_DISCLOSED
        else:
            folder = self._values.own(task.task_id)
        answer = await self._worker.final(RespondNative(job, str(states), str(folder), encode(game), accused))
        if not isinstance(answer, Responded):
            raise InvariantViolation(f"the worker answered {type(answer).__name__} to RespondNative")
        await self._account.send(DisputeMove(duty.dispute_id, answer.move))
        log.info("dispute_moved", dispute=duty.dispute_id.hex(), phase=dispute.phase, bytes=len(answer.move))
