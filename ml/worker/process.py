"""How a worker is started: its command line and its bare environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

KEPT = ("HOME", "LANG", "PATH", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH", "TMPDIR")
"""Names of variables that a worker gets to see; nothing else of the node's environment."""


_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
"""Without these glibc maps every large tensor anew, and the kernel zeroes its pages at first touch."""


def worker_command(memory_bytes: int = 0, cpu_seconds: int = 0) -> list[str]:
    """The command line; the bounds hold on top of what the libraries map and use (0: none)."""
    bounds = ["--memory-bytes", str(memory_bytes), "--cpu-seconds", str(cpu_seconds)]
    return [sys.executable, "-P", "-W", "ignore", "-m", "ml.worker", *bounds]


def worker_environment(threads: int = 1) -> dict[str, str]:
    """The environment: no secrets, threads of the libraries bounded, freed memory kept for the next tensor (glibc)."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    root = str(Path(__file__).resolve().parents[2])
    return {
        **kept,
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        **_KEEP_MEMORY,
    }
