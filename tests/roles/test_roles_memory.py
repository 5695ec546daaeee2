"""A solver accepts nothing that does not fit, and takes as much of a batch at a time as does. Refusals have numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from roles_fakes import FakeWorker

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.limits import MIB
from gensyn_node.roles.memory import Fitting, records_that_fit
from gensyn_node.roles.reasons import TASK_TOO_LARGE, WORKER_DIED, WORKER_REFUSED
from ml.worker.messages import Job, MemoryPredicted, PredictMemory

JOB = Job(b"", "", bytes(32), "", 2)
Answer = Callable[[PredictMemory], MemoryPredicted]


def fitting(answer: Answer, memory_mib: int = 1000) -> int:
    return trio.run(records_that_fit, FakeWorker(answer), JOB, memory_mib * MIB)


def refusal(answer: Answer, memory_mib: int = 1000) -> str:
    with pytest.raises(Rejection) as caught:
        fitting(answer, memory_mib)
    assert caught.value.reason is TASK_TOO_LARGE
    return caught.value.message


def told(request: PredictMemory, predicted: dict[int, int], measured: dict[int, int]) -> MemoryPredicted:
    """A worker that knows what so many records at a time take (MiB), predicted and measured."""
    assert request.threads == 2 and request.memory_bytes == 1000 * MIB
    possible = [size for size in predicted if not request.records or size <= request.records]
    fit = [size for size in possible if predicted[size] <= 1000]
    records = max(fit) if fit else min(possible)
    known = measured.get(records, predicted[records]) * MIB if request.measure else 0
    return MemoryPredicted(1, 2, predicted[records] * MIB, known, records)


@pytest.mark.parametrize(
    ("predicted", "measured", "records"),
    [
        ({8: 900, 4: 500}, {}, 8),
        ({8: 1500, 4: 900}, {}, 4),
        ({8: 900, 4: 500}, {8: 1001}, 4),
        ({8: 900, 4: 800, 2: 700}, {8: 1500, 4: 1001, 2: 1000}, 2),
        ({8: 1100}, {8: 1000}, 8),
    ],
)
def test_as_much_of_the_batch_as_fits_when_tried(
    predicted: dict[int, int], measured: dict[int, int], records: int
) -> None:
    assert fitting(partial(told, predicted=predicted, measured=measured)) == records


def test_what_never_fits_is_refused_with_the_last_number() -> None:
    message = refusal(partial(told, predicted={2: 900, 1: 800}, measured={2: 1300, 1: 1001}))
    assert "1001 MiB (measured in a trial, 1 records at a time)" in message and "gives 1000 MiB" in message


def test_what_is_predicted_far_too_large_is_not_tried() -> None:
    def answer(request: PredictMemory) -> MemoryPredicted:
        assert not request.measure
        return MemoryPredicted(1, 2, 2001 * MIB, 0, 8, "node 7, matmul: every record meets every other")

    message = refusal(answer)
    assert "2001 MiB (by prediction, 8 records" in message and "no parts: node 7, matmul" in message


@pytest.mark.parametrize(
    "end", [Rejection(WORKER_REFUSED, "E1905 out of memory"), Rejection(WORKER_DIED, "the worker ended without a word")]
)
def test_a_trial_that_dies_is_followed_by_a_smaller_one(end: Rejection) -> None:
    dies: set[int] = set()

    def answer(request: PredictMemory) -> MemoryPredicted:
        found = told(request, {8: 900, 4: 890, 1: 880}, {4: 700})
        if request.measure and found.records in dies:
            raise end
        return found

    dies.add(8)
    assert fitting(answer) == 4
    dies |= {4, 1}
    message = refusal(answer)
    assert "880 MiB" in message and end.message in message


def test_other_refusals_and_bugs_stay_what_they_are() -> None:
    def invalid(request: PredictMemory) -> MemoryPredicted:
        if request.measure:
            raise Rejection(WORKER_REFUSED, "E1501 no such operator")
        return MemoryPredicted(1, 2, 3, 0, 4)

    with pytest.raises(Rejection) as caught:
        fitting(invalid)
    assert caught.value.reason is WORKER_REFUSED
    with pytest.raises(InvariantViolation):
        fitting(str)  # type: ignore[arg-type]


def test_a_program_is_tried_once() -> None:
    asked: list[PredictMemory] = []

    def answer(request: PredictMemory) -> MemoryPredicted:
        asked.append(request)
        return told(request, {8: 900, 4: 500}, {})

    async def twice() -> list[Any]:
        fits = Fitting(FakeWorker(answer), 1000 * MIB)  # type: ignore[arg-type]
        return [(await fits.fitted(JOB)).records for _ in range(2)]

    assert trio.run(twice) == [8, 8] and len(asked) == 2
