"""The threads beside the caller's: every part is run exactly once, whoever runs it, and no caller waits for another."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from ml.kernels import pool
from ml.kernels.call import Call
from ml.kernels.threads import get_threads, run_parts, set_threads

COUNTER = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)
ITEMS, SIZE = 103, 10


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = get_threads()
    yield
    set_threads(before)


def tasks_of(kernel: object, numbers: np.ndarray, count: int) -> np.ndarray:
    """`count` tasks of 103 items in parts of 10."""
    address = ctypes.cast(kernel, ctypes.c_void_p).value  # type: ignore[arg-type]
    return np.array([[address, numbers.ctypes.data, ITEMS, SIZE, -(-ITEMS // SIZE)]] * count, np.int64)


def test_every_item_is_visited_once_per_task() -> None:
    seen: list[tuple[int, int]] = []
    kernel = COUNTER(lambda numbers, first, end, scratch: seen.append((first, end)))
    numbers = np.zeros(1, np.int64)
    for threads in (1, 2, 3, 2, 1):
        set_threads(threads)
        for count in (1, 7):
            seen.clear()
            tasks = tasks_of(kernel, numbers, count)
            pool.execute(tasks.ctypes.data, count)
            visited = np.zeros(ITEMS, np.int64)
            for first, end in seen:
                visited[first:end] += 1
            assert (visited == count).all()


def test_tasks_run_in_order() -> None:
    set_threads(3)
    order: list[int] = []
    kernel = COUNTER(lambda numbers, first, end, scratch: order.append(numbers))
    numbers = np.zeros(40, np.int64)
    tasks = tasks_of(kernel, numbers, 40)
    tasks[:, 1] = np.arange(40)
    pool.execute(tasks.ctypes.data, 40)
    assert order == sorted(order) and len(order) == 40 * 11


def test_a_second_caller_works_alone() -> None:
    set_threads(2)
    inside, go_on = threading.Event(), threading.Event()

    def wait(numbers: int, first: int, end: int, scratch: int) -> None:
        inside.set()
        go_on.wait(30)

    slow, quick = COUNTER(wait), COUNTER(lambda *_: None)
    numbers = np.zeros(1, np.int64)
    slow_tasks, quick_tasks = tasks_of(slow, numbers, 1), tasks_of(quick, numbers, 50)
    first = threading.Thread(target=pool.execute, args=(slow_tasks.ctypes.data, 1))
    first.start()
    assert inside.wait(30)
    pool.execute(quick_tasks.ctypes.data, 50)
    assert first.is_alive()
    go_on.set()
    first.join(30)
    assert not first.is_alive()


def test_a_forked_child_has_no_helpers_and_works() -> None:
    set_threads(2)
    child = os.fork()
    if child == 0:
        kernel = COUNTER(lambda *_: None)
        numbers = np.zeros(1, np.int64)
        pool.execute(tasks_of(kernel, numbers, 3).ctypes.data, 3)
        os._exit(7 if pool.helpers() == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_parts_cover_the_items_and_small_work_is_one_part() -> None:
    for items in (1, 2, 3, 100, 1001):
        for nanoseconds in (10.0, 1e5, 1e9):
            for grain in (1, 64):
                call = Call(0, (), (), items, nanoseconds, grain)
                for threads in (1, 2, 7):
                    size, parts = call.parts(threads)
                    assert (parts - 1) * size < items <= parts * size
                    assert parts == 1 or (threads > 1 and nanoseconds > 1e4 and size % grain == 0)


def test_parts_in_python_cover_the_range_and_raise_what_they_raise() -> None:
    set_threads(3)
    seen: list[tuple[int, int]] = []
    run_parts(100, 1000, 10, lambda first, end: seen.append((first, end)))
    assert sorted(place for first, end in seen for place in range(first, end)) == list(range(100)) and len(seen) > 1
    with pytest.raises(ValueError, match="odd"):
        run_parts(100, 1000, 10, lambda first, end: int("odd"))
    seen.clear()
    run_parts(100, 5, 10, lambda first, end: seen.append((first, end)))
    assert seen == [(0, 100)]
