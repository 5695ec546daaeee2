"""Compiled kernels between starts: made by a process that sees nothing of strangers, copied for those that do.

numba keeps machine code in files that it unpickles: whoever can write them runs code in whoever reads them. So no
worker that serves requests can reach the store. It gets a copy of its own, which no later process looks at.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from ml.kernels.sources import PREFIX, STORE_VARIABLE, fingerprint, folder_in
from ml.worker.process import worker_command, worker_environment

COMPILE_TIMEOUT_S = 900.0
OLD_S = 30 * 24 * 3600.0
_COPY = "kernels-"


def kernel_store(default: Path) -> Path:
    """The folder of compiled kernels: what the owner chose by numba's own variable, else this one."""
    return Path(os.environ.get(STORE_VARIABLE) or default).absolute()


def compile_kernels(store: Path) -> bool:
    """Bring the store up to date; whether it is now. Where it is not, each worker compiles for itself.

    Done by a worker that can write nothing but the store, and whose requests end before the first.
    """
    done = folder_in(store) / f"compiled-{_fingerprint()}"
    if done.is_file():
        return True
    done.parent.mkdir(parents=True, exist_ok=True)
    _forget_old(store)
    with tempfile.TemporaryDirectory(prefix="kernels-") as name:
        try:
            code = subprocess.run(
                worker_command(folders=(store, Path(name))),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=worker_environment(1, Path(name), store),
                cwd=name,
                timeout=COMPILE_TIMEOUT_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return False
    if code == 0:
        done.touch()
    return code == 0


def own_kernels(store: Path, folder: Path) -> Path:
    """A new folder inside `folder` with a copy of the store, for one process; copies of earlier ones are deleted.

    What an earlier process left there may be anything: it is neither read nor written to.
    """
    for old in folder.glob(f"{_COPY}*"):
        shutil.rmtree(old, ignore_errors=True)
    own = Path(tempfile.mkdtemp(prefix=_COPY, dir=folder))
    if folder_in(store).is_dir():
        shutil.copytree(folder_in(store), folder_in(own))
    return own


def _forget_old(store: Path) -> None:
    """Delete what was compiled a month ago from other sources; whoever still runs these compiles once more."""
    for place in store.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # another process may delete the same
            if place != folder_in(store) and place.stat().st_mtime < time.time() - OLD_S:
                shutil.rmtree(place, ignore_errors=True)


def _fingerprint() -> str:
    """Changes with the kernels' source, where it lies, the compiler, and the processor."""
    told = hashlib.sha256(repr((fingerprint(), sys.version, _processor())).encode())
    for library in ("numba", "llvmlite", "numpy"):
        told.update(f"{library} {metadata.version(library)}".encode())
    return told.hexdigest()[:16]


def _processor() -> tuple[str, ...]:
    chosen = tuple(os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"))
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return chosen
    return (*chosen, *sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
