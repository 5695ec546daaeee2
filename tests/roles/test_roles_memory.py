"""A solver accepts nothing that does not fit: the refusal has the numbers."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from roles_fakes import FakeWorker

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.limits import MIB
from gensyn_node.roles.memory import check_memory
from gensyn_node.roles.reasons import TASK_TOO_LARGE, WORKER_DIED, WORKER_REFUSED
from ml.worker.messages import Job, MemoryPredicted, PredictMemory

JOB = Job(b"", "", bytes(32), "", 2)


def refusal(answer: Any, memory_mib: int = 1000) -> str:
    with pytest.raises(Rejection) as caught:
        trio.run(check_memory, FakeWorker(answer), JOB, memory_mib * MIB)
    assert caught.value.reason is TASK_TOO_LARGE
    return caught.value.message


def told(predicted_mib: int, measured_mib: int) -> Any:
    asked: list[PredictMemory] = []

    def answer(request: PredictMemory) -> MemoryPredicted:
        asked.append(request)
        assert request.threads == 2 and request.measure == (len(asked) == 2)
        return MemoryPredicted(1, 2, predicted_mib * MIB, measured_mib * MIB if request.measure else 0)

    return answer


def test_what_was_measured_decides() -> None:
    trio.run(check_memory, FakeWorker(told(1500, 1000)), JOB, 1000 * MIB)
    message = refusal(told(500, 1001))
    assert "1001 MiB (measured" in message and "gives 1000 MiB" in message


def test_what_is_predicted_far_too_large_is_not_tried() -> None:
    message = refusal(told(2001, 0))
    assert "2001 MiB (by prediction)" in message and "gives 1000 MiB" in message


@pytest.mark.parametrize(
    "end", [Rejection(WORKER_REFUSED, "E1905 out of memory"), Rejection(WORKER_DIED, "the worker ended without a word")]
)
def test_a_trial_that_dies_is_a_refusal(end: Rejection) -> None:
    def answer(request: PredictMemory) -> MemoryPredicted:
        if request.measure:
            raise end
        return MemoryPredicted(1, 2, 1100 * MIB)

    message = refusal(answer)
    assert "1100 MiB" in message and end.message in message


def test_other_refusals_and_bugs_stay_what_they_are() -> None:
    def invalid(request: PredictMemory) -> MemoryPredicted:
        if request.measure:
            raise Rejection(WORKER_REFUSED, "E1501 no such operator")
        return MemoryPredicted(1, 2, 3)

    with pytest.raises(Rejection) as caught:
        trio.run(check_memory, FakeWorker(invalid), JOB, MIB)
    assert caught.value.reason is WORKER_REFUSED
    with pytest.raises(InvariantViolation):
        trio.run(check_memory, FakeWorker(str), JOB, MIB)
