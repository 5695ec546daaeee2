"""The worker process's entry: what was asked on its command line, the sandbox, and only then everything else."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from ml.worker.messages import Measure
from ml.worker.sandbox import DEVICES, Bounds, confine, limit_memory

Serve = Callable[[BinaryIO, BinaryIO, Sequence[Measure]], NoReturn]
"""Answers requests from a stream on another, held in by these measures."""


def bounds_of(arguments: Sequence[str] | None = None) -> Bounds:
    """The command line (see `process.worker_command`)."""
    parser = argparse.ArgumentParser(prog="ml.worker")
    parser.add_argument("--memory-bytes", type=int, default=0)
    parser.add_argument("--cpu-seconds", type=int, default=0)
    parser.add_argument("--file-bytes", type=int, default=0)
    parser.add_argument("--folder", type=Path, action="append", default=[])
    parser.add_argument("--device", choices=sorted(DEVICES), default="cpu")
    given = parser.parse_args(arguments)
    return Bounds(tuple(given.folder), given.memory_bytes, given.file_bytes, given.cpu_seconds, given.device)


def enter(bounds: Bounds, load: Callable[[], Serve]) -> NoReturn:
    """Become a worker: confined, then the libraries by `load`, then bounded in memory, then serving."""
    # Replies own the real stdout; whatever a library prints goes to stderr.
    os.closerange(3, 4096)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    measures = confine(bounds)
    try:
        serve = load()
        serve(sys.stdin.buffer, out, (*measures, *limit_memory(bounds)))
    except (BrokenPipeError, SystemExit):
        # The reading thread holds stdin's lock, so the interpreter cannot shut down by itself.
        os._exit(0)


def _load() -> Serve:
    from ml.worker.serving import Inbox, serve

    def serve_all(requests: BinaryIO, out: BinaryIO, measures: Sequence[Measure]) -> NoReturn:
        inbox = Inbox(requests)
        threading.Thread(target=inbox.read, daemon=True).start()
        serve(inbox, out, measures)

    return serve_all


def main() -> NoReturn:
    """Entry point."""
    enter(bounds_of(), _load)
