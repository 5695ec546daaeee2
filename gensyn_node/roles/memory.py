"""Whether a task fits this node: predicted, then tried, before anything is promised."""

from __future__ import annotations

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.limits import MIB
from gensyn_node.roles.reasons import TASK_TOO_LARGE, WORKER_DIED, WORKER_REFUSED
from gensyn_node.roles.worker_client import Worker
from ml.reasons import OUT_OF_MEMORY
from ml.worker.messages import Job, MemoryPredicted, PredictMemory


async def check_memory(worker: Worker, job: Job, memory_bytes: int) -> None:
    """A training in small by a fresh worker process. Raises Rejection TASK_TOO_LARGE with the numbers."""
    predicted = _answer(await worker.final(PredictMemory(job.program, job.threads, job.arithmetic), fresh=True))
    if predicted.process_bytes > 2 * memory_bytes:
        # No prediction is that wrong: trying would only press the machine.
        raise _too_large(predicted.process_bytes, memory_bytes, "by prediction")
    try:
        request = PredictMemory(job.program, job.threads, job.arithmetic, measure=True)
        measured = _answer(await worker.final(request))
    except Rejection as refusal:
        if not is_out_of_memory(refusal):
            raise
        raise _too_large(predicted.process_bytes, memory_bytes, f"a trial ended with: {refusal.message}") from None
    if measured.measured_bytes > memory_bytes:
        raise _too_large(measured.measured_bytes, memory_bytes, "measured in a trial")


def is_out_of_memory(refusal: Rejection) -> bool:
    """Whether the worker ran into its bound, or was ended by the system."""
    if refusal.reason is WORKER_REFUSED:
        return refusal.message.startswith(OUT_OF_MEMORY.code)
    return refusal.reason is WORKER_DIED


def _answer(reply: object) -> MemoryPredicted:
    if not isinstance(reply, MemoryPredicted):
        raise InvariantViolation(f"the worker answered {type(reply).__name__} to PredictMemory")
    return reply


def _too_large(need: int, have: int, how: str) -> Rejection:
    return Rejection(
        TASK_TOO_LARGE, f"the task needs {-(-need // MIB)} MiB ({how}), worker.memory_mib gives {have // MIB} MiB"
    )
