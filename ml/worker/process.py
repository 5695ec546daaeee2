"""How a worker is started: its command line and its bare environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

KEPT = ("LANG", "PATH", "LD_LIBRARY_PATH")
"""Names of variables that a worker gets to see; nothing else of the node's environment."""

_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
"""Without these glibc maps every large tensor anew, and the kernel zeroes its pages at first touch."""

SANDBOX_EXEC = "/usr/bin/sandbox-exec"
_PROFILE = """(version 1)
(allow default)
(deny network*)
(deny process-fork)
(deny process-exec*)
(allow process-exec* (literal {program}))
(deny file-write*)
(allow file-write* {folders} (literal "/dev/null"))
(deny file-read* (subpath {home}))
(allow file-read* {readable})
"""


def worker_command(
    memory_bytes: int = 0,
    cpu_seconds: int = 0,
    folders: Sequence[Path] = (),
    file_bytes: int = 0,
    device: str = "cpu",
) -> list[str]:
    """The command line. Memory is on top of what the libraries map; 0: no bound; no folders: files not restricted.

    `device`: whose driver's files the worker may open.
    """
    bounds = ["--memory-bytes", str(memory_bytes), "--cpu-seconds", str(cpu_seconds), "--file-bytes", str(file_bytes)]
    for folder in folders:
        bounds += ["--folder", str(folder)]
    bounds += ["--device", device]
    command = [sys.executable, "-P", "-W", "ignore", "-m", "ml.worker", *bounds]
    if sys.platform == "darwin" and folders and Path(SANDBOX_EXEC).exists():
        return [SANDBOX_EXEC, "-p", macos_profile(folders), *command]
    return command


def worker_environment(threads: int = 1, folder: Path | None = None, kernels: Path | None = None) -> dict[str, str]:
    """The environment: no secrets, threads of the libraries bounded, freed memory kept for the next tensor (glibc).

    `folder`: what the libraries take for the home and for temporary files; `kernels`: where compiled kernels are read
    and written.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    places = {} if folder is None else dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(folder))
    if kernels is not None:
        places["NUMBA_CACHE_DIR"] = str(kernels)
    root = str(Path(__file__).resolve().parents[2])
    return {
        **kept,
        **places,
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        **_KEEP_MEMORY,
    }


def macos_profile(folders: Sequence[Path]) -> str:
    """The profile for macOS's sandbox-exec: it has no allow-list, so it denies what a worker never needs."""
    places = [str(Path(folder).resolve()) for folder in folders]
    readable = [*places, sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2])]
    return _PROFILE.format(
        program=_quoted(str(Path(sys.executable).resolve())),
        folders=" ".join(f"(subpath {_quoted(place)})" for place in places),
        home=_quoted(str(Path.home())),
        readable=" ".join(f"(subpath {_quoted(place)})" for place in readable),
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
