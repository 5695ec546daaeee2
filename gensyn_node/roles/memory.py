"""Whether a task fits this node, and how many records of its batch at a time: predicted, then tried, then promised."""

from __future__ import annotations

import msgspec

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.hashing import tagged_hash
from gensyn_node.primitives.limits import MIB
from gensyn_node.roles.reasons import TASK_TOO_LARGE, WORKER_DIED, WORKER_REFUSED
from gensyn_node.roles.worker_client import Worker
from ml.reasons import OUT_OF_MEMORY
from ml.worker.messages import Job, MemoryPredicted, PredictMemory

TRIALS_MAX = 4
"""Trials of one task, each with less of the batch at a time."""
TRY_PERCENT = 200
"""Of the bound: what is predicted beyond it is not tried. No prediction is that wrong."""


class Fitting:
    """How each program fits into a node's memory; found once by trials."""

    def __init__(self, worker: Worker, memory_bytes: int) -> None:
        self._worker = worker
        self._memory_bytes = memory_bytes
        self._records: dict[bytes, int] = {}

    async def fitted(self, job: Job) -> Job:
        """The job with as many records at a time as fit. Raises Rejection TASK_TOO_LARGE with the numbers."""
        key = tagged_hash("gensyn/fitting/1", job.program, job.arithmetic.encode(), job.threads.to_bytes(4, "little"))
        if key not in self._records:
            self._records[key] = await records_that_fit(self._worker, job, self._memory_bytes)
        return msgspec.structs.replace(job, records=self._records[key])


async def records_that_fit(worker: Worker, job: Job, memory_bytes: int) -> int:
    """Records of the batch at a time, by trainings in small in fresh worker processes.

    Raises Rejection TASK_TOO_LARGE with the numbers.
    """
    records, need, how = 0, 0, ""
    for _ in range(TRIALS_MAX):
        request = PredictMemory(job.program, job.threads, job.arithmetic, memory_bytes, records)
        told = _answer(await worker.final(request, fresh=True))
        need, why = told.process_bytes, told.whole_because
        how = f"by prediction, {told.records} records at a time"
        if need > memory_bytes * TRY_PERCENT // 100:
            raise _too_large(need, memory_bytes, how, why)
        try:
            measured = _answer(await worker.final(msgspec.structs.replace(request, measure=True)))
        except Rejection as refusal:
            if not is_out_of_memory(refusal):
                raise
            how = f"{how}; a trial ended with: {refusal.message}"
        else:
            need, how = measured.measured_bytes, f"measured in a trial, {measured.records} records at a time"
            if need <= memory_bytes:
                return measured.records
        if why or told.records == 1:
            raise _too_large(need, memory_bytes, how, why)
        records = told.records - 1
    raise _too_large(need, memory_bytes, how, "")


def is_out_of_memory(refusal: Rejection) -> bool:
    """Whether the worker ran into its bound, or was ended by the system."""
    if refusal.reason is WORKER_REFUSED:
        return refusal.message.startswith(OUT_OF_MEMORY.code)
    return refusal.reason is WORKER_DIED


def _answer(reply: object) -> MemoryPredicted:
    if not isinstance(reply, MemoryPredicted):
        raise InvariantViolation(f"the worker answered {type(reply).__name__} to PredictMemory")
    return reply


def _too_large(need: int, have: int, how: str, whole_because: str) -> Rejection:
    numbers = f"the task needs {-(-need // MIB)} MiB ({how}), worker.memory_mib gives {have // MIB} MiB"
    return Rejection(TASK_TOO_LARGE, f"{numbers}; no parts: {whole_because}" if whole_because else numbers)
