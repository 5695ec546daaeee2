"""One training process, driven from the node's event loop: requests in, replies as they come.

The process has no keys, a bare environment and no network. It is started when first needed, used for one request at a
time, ended when a request is abandoned, and started anew after it died.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.reasons import WORKER_DIED, WORKER_REFUSED
from ml.worker.frames import LENGTH_BYTES, decode_reply, frame, frame_length
from ml.worker.messages import Failed, Progress, Ready, Reply, Request, SegmentDone
from ml.worker.process import worker_command, worker_environment

START_TIMEOUT_S = 180.0
"""Importing torch on a slow disk takes a while."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What training may use of this machine."""

    threads: int
    memory_bytes: int
    """Address space beyond what the libraries map."""
    log_path: Path
    """Gets the process's stderr."""
    cache_directory: Path
    """Compiled kernels are kept here between starts."""


class Worker:
    """The process. One request at a time; callers queue in the order of their coming."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: trio.Process | None = None
        self._turn = trio.Lock()
        self.sandbox = ""
        """What holds the process in, in its own words; empty before the first start."""

    @property
    def busy(self) -> bool:
        """Whether a request is being done."""
        return self._turn.locked()

    async def run(self, request: Request) -> AsyncIterator[Progress | SegmentDone | Reply]:
        """Every reply to `request`, the final one last.

        Raises `Rejection` with the worker's own reason when it refuses, WORKER_DIED when the process ended. Use it with
        `aclosing`: leaving early ends the process, so that nothing of the old request comes as an answer to the next.
        """
        async with self._turn:
            finished = False
            try:
                process = self._process or await self._start()
                await self._write(process, frame(request))
                while not finished:
                    reply = await self._read(process)
                    finished = not isinstance(reply, Progress | SegmentDone)
                    if isinstance(reply, Failed):
                        raise Rejection(WORKER_REFUSED, f"{reply.code} {reply.message}")
                    yield reply
            finally:
                if not finished:
                    await self.stop()

    async def final(self, request: Request) -> Reply:
        """The final reply alone."""
        last: Reply | None = None
        async with aclosing(self.run(request)) as replies:  # type: ignore[type-var]
            async for reply in replies:
                last = reply
        if last is None:
            raise Rejection(WORKER_DIED, "the worker gave no reply")
        return last

    async def warm_up(self) -> None:
        """Start the process now, so that the first duty does not wait for libraries to load and kernels to compile."""
        async with self._turn:
            if self._process is None:
                await self._start()

    async def stop(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        await stream.aclose()

    async def _start(self) -> trio.Process:
        settings = self._settings
        environment = worker_environment(settings.threads)
        environment.setdefault("NUMBA_CACHE_DIR", str(settings.cache_directory))
        with settings.log_path.open("ab") as errors:
            process: trio.Process = await trio.lowlevel.open_process(
                worker_command(settings.memory_bytes),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd=settings.cache_directory,
                start_new_session=True,
            )
        self._process = process
        try:
            with trio.fail_after(START_TIMEOUT_S):
                ready = await self._read(process)
            if not isinstance(ready, Ready):
                raise Rejection(WORKER_DIED, f"the worker began with {type(ready).__name__}")
        except trio.TooSlowError:
            await self.stop()
            raise Rejection(WORKER_DIED, f"the worker was not up after {START_TIMEOUT_S:.0f} s") from None
        except BaseException:
            await self.stop()  # Half started, its first word would be taken for the answer to the next request.
            raise
        self.sandbox = ready.sandbox
        log.info("worker_started", pid=process.pid, torch=ready.torch_version, sandbox=ready.sandbox)
        return process

    async def _write(self, process: trio.Process, data: bytes) -> None:
        if process.stdin is None:
            raise Rejection(WORKER_DIED, "the worker has no input")
        try:
            await process.stdin.send_all(data)
        except trio.BrokenResourceError:
            raise Rejection(WORKER_DIED, self._last_words()) from None

    async def _read(self, process: trio.Process) -> Reply:
        header = await self._read_exactly(process, LENGTH_BYTES)
        return decode_reply(await self._read_exactly(process, frame_length(header)))

    async def _read_exactly(self, process: trio.Process, count: int) -> bytes:
        if process.stdout is None:
            raise Rejection(WORKER_DIED, "the worker has no output")
        data = bytearray()
        while len(data) < count:
            part = await process.stdout.receive_some(count - len(data))
            if not part:
                raise Rejection(WORKER_DIED, self._last_words())
            data += part
        return bytes(data)

    def _last_words(self) -> str:
        """The last line the process wrote to its log, for the person who has to find out."""
        try:
            lines = self._settings.log_path.read_text("utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"the worker ended; its last line: {lines[-1][:200]!r}" if lines else "the worker ended without a word"
