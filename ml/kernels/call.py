"""How a compiled kernel is called: numbers in memory, a range of items, when to cut the range into parts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ml.kernels.pool import TASK_WORDS, execute, execute_alone, helpers

_KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)

PART_NS = 8_000
"""Work of a part at least: handing one to another thread costs some 100 ns, and a cache line or two has to move."""
PARTS_PER_THREAD = 4
"""More parts than threads: a thread that is late or interrupted leaves parts to the others."""


@dataclass(frozen=True)
class Call:
    """A kernel made ready for inputs and outputs of known shapes and strides, wherever they lie.

    The kernel's C signature is (numbers, first item, end item, scratch); its numbers begin with what `addresses` says.
    """

    kernel: int
    """Address of the machine code."""
    numbers: tuple[int, ...]
    """What the kernel reads beside the tensors, with zeros where their addresses go."""
    addresses: tuple[int, ...]
    """For each input, then each output, the place of its address among the numbers."""
    items: int
    """Independent items; a range of them can be computed by itself."""
    nanoseconds: float
    """What all items take on one thread, roughly."""
    grain: int = 1
    """Parts begin at multiples of so many items."""

    def parts(self, threads: int) -> tuple[int, int]:
        """(items of a part, parts) for this many threads."""
        if threads < 2 or self.items < 2:
            return self.items, 1
        wanted = min(self.items, threads * PARTS_PER_THREAD, int(self.nanoseconds / PART_NS))
        if wanted < 2:
            return self.items, 1
        size = -(-self.items // wanted)
        size = -(-size // self.grain) * self.grain
        return size, -(-self.items // size)


def run(call: Call, tensors: Sequence[torch.Tensor]) -> None:
    """Run a call on its inputs and outputs, on this process's threads."""
    words = np.array([0] * TASK_WORDS + list(call.numbers), np.int64)
    at = words.ctypes.data
    for place, tensor in zip(call.addresses, tensors, strict=True):
        words[TASK_WORDS + place] = tensor.data_ptr()
    words[:TASK_WORDS] = (call.kernel, at + 8 * TASK_WORDS, call.items, *call.parts(helpers() + 1))
    execute(at, 1)


def run_listed(calls: Sequence[Call], together: bool) -> None:
    """Run calls that need no addresses, in order: on all threads of this process, or on this one alone."""
    header = len(calls) * TASK_WORDS
    words = np.empty(header + sum(len(call.numbers) for call in calls), np.int64)
    start, at, threads = words.ctypes.data, header, helpers() + 1 if together else 1
    for row, call in enumerate(calls):
        task = (call.kernel, start + 8 * at, call.items, *call.parts(threads))
        words[row * TASK_WORDS : (row + 1) * TASK_WORDS] = task
        words[at : at + len(call.numbers)] = call.numbers
        at += len(call.numbers)
    (execute if together else execute_alone)(start, len(calls))


def run_parts(items: int, work: int, grain: int, part: Callable[[int, int], object]) -> None:
    """Run `part(first, end)` over all of `range(items)`, for kernels that are called through Python.

    In one call, or in several on this process's threads when `work` exceeds `grain`; the part should release the
    interpreter lock for most of its time. What a part raises is raised here.
    """
    threads = helpers() + 1
    pieces = min(items, threads * PARTS_PER_THREAD if threads > 1 else 1, max(1, work // grain))
    if pieces <= 1:
        part(0, items)
        return
    raised: list[BaseException] = []

    def one(numbers: int, first: int, end: int, scratch: int) -> None:
        try:
            part(first, end)
        except BaseException as error:  # noqa: BLE001  (it passes through machine code, and is raised again below)
            raised.append(error)

    callback = _KERNEL(one)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    size = -(-items // pieces)
    words = np.array([address, 0, items, size, -(-items // size)], np.int64)
    execute(words.ctypes.data, 1)
    if raised:
        raise raised[0]
