"""How many threads the kernels of this process use."""

from __future__ import annotations

import os

import torch

from ml.kernels import pool
from ml.kernels.call import run_parts

__all__ = ["a_core_is_free", "get_threads", "run_parts", "set_threads"]

THREADS_MAX = 256


def set_threads(threads: int) -> None:
    """Threads of this process's kernels (torch's too), at least one."""
    threads = max(1, min(threads, THREADS_MAX))
    # First: a new thread begins with its creator's floating-point mode.
    torch.set_flush_denormal(False)
    pool.set_helpers(threads - 1)
    torch.set_num_threads(threads)


def get_threads() -> int:
    """Threads that kernels use now."""
    return pool.helpers() + 1


def a_core_is_free() -> bool:
    """Whether this process may use more cores than its kernels have threads."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable > get_threads()
