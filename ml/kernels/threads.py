"""Cutting a kernel's work into independent parts for several threads.

Compiled kernels release the interpreter lock, so plain threads suffice. A part is a range of independent outputs: how
many parts there are, and who computes them, changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

THREADS_MAX = 256

_pools: dict[int, ThreadPoolExecutor] = {}
_threads = 1


def set_threads(threads: int) -> None:
    """Threads of this process's kernels (torch's too), at least one."""
    global _threads
    _threads = max(1, min(threads, THREADS_MAX))
    torch.set_num_threads(_threads)
    torch.set_flush_denormal(False)


def get_threads() -> int:
    """Threads that kernels use now."""
    return _threads


def run_parts(items: int, work: int, grain: int, part: Callable[[int, int], object]) -> None:
    """Run `part(first, end)` over all of `range(items)`: in one call, or one a thread when `work` exceeds `grain`."""
    pieces = min(_threads, items, max(1, work // grain))
    if pieces <= 1:
        part(0, items)
        return
    pool = _pools.get(_threads)
    if pool is None:
        pool = _pools.setdefault(_threads, ThreadPoolExecutor(_threads - 1, thread_name_prefix="kernel"))
    bounds = [items * piece // pieces for piece in range(pieces + 1)]
    running = [pool.submit(part, first, end) for first, end in pairwise(bounds[1:])]
    part(bounds[0], bounds[1])
    for future in running:
        future.result()
