"""A worker of one's own for programs without an event loop: start it, ask, and it is ended afterwards."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.worker.frames import decode_reply, frame, read_frame
from ml.worker.kernels import compile_kernels, own_kernels
from ml.worker.messages import Failed, Final, Progress, Ready, Request, SegmentDone
from ml.worker.process import worker_command, worker_environment

SILENCE_S = 1800.0
"""Longer than any step takes; then the process is ended."""
OnProgress = Callable[[Progress], None]


class WorkerSession:
    """One worker process, one request at a time."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, request: Request, on_progress: OnProgress | None = None) -> Final:
        """The final reply, `Failed` included. Raises Rejection WORKER_DIED when the process ends or falls silent."""
        try:
            stream = cast(BinaryIO, self._process.stdin)
            stream.write(frame(request))
            stream.flush()
        except BrokenPipeError:
            raise Rejection(reasons.WORKER_DIED, "it ended before it was asked") from None
        while True:
            reply = decode_reply(self.read())
            if isinstance(reply, Progress) and on_progress is not None:
                on_progress(reply)
            if not isinstance(reply, Progress | SegmentDone | Ready):
                return reply

    def read(self) -> bytes:
        """The next frame."""
        timer = threading.Timer(SILENCE_S, self._process.kill)
        timer.start()
        try:
            data = read_frame(cast(BinaryIO, self._process.stdout))
        finally:
            timer.cancel()
        if data is None:
            raise Rejection(reasons.WORKER_DIED, "it ended without an answer")
        return data


@contextmanager
def worker_session(
    folder: Path, store: Path, memory_bytes: int, threads: int = 1, device: str = "cpu"
) -> Iterator[WorkerSession]:
    """A confined worker that may write `folder` alone; its last words go to `folder`/worker.log.

    `store`: compiled kernels, of which it gets a copy (see `ml.worker.kernels`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    compile_kernels(store)
    with (folder / "worker.log").open("wb") as errors:
        process = subprocess.Popen(
            worker_command(memory_bytes, folders=(folder,), file_bytes=memory_bytes, device=device),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=worker_environment(threads, folder, own_kernels(store, folder)),
            cwd=folder,
            start_new_session=True,
        )
    try:
        session = WorkerSession(process)
        session.read()  # It is up.
        yield session
    finally:
        process.kill()
        process.communicate()


def succeeded(reply: Final) -> Final:
    """The reply, unless it is a refusal: then a Rejection WORKER_DIED in the worker's words."""
    if isinstance(reply, Failed):
        raise Rejection(reasons.WORKER_DIED, f"{reply.code} {reply.message}")
    return reply
