"""One training process, driven from the node's event loop: requests in, replies as they come.

The process has no keys, a bare environment and no network. It is started when first needed, used for one request at a
time, ended when a request is abandoned, and started anew after it died. What it says is not believed beyond what a
request asks for: a process that falls silent, babbles, fills the disk or works without being asked is ended.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.reasons import WORKER_DIED, WORKER_REFUSED
from gensyn_node.roles.scheduler import CLAIM, Turnstile
from gensyn_node.roles.worker_limits import DEFAULT_LIMITS, Conversation, Idleness, WorkerLimits, misbehaviour
from ml.worker.frames import LENGTH_BYTES, decode_reply, frame, frame_length
from ml.worker.kernels import compile_kernels, own_kernels
from ml.worker.messages import Failed, Measure, Progress, Ready, Reply, Request, SegmentDone
from ml.worker.process import worker_command, worker_environment
from ml.worker.sandbox import in_words

START_TIMEOUT_S = 180.0
"""Importing torch on a slow disk takes a while."""
LOG_KEPT_BYTES = 4 << 20
"""A longer log is begun anew with the next process."""
LAST_WORDS_BYTES = 4096
"""Of the log's end that are looked at: the process may have written anything into it."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What training may use of this machine."""

    threads: int
    memory_bytes: int
    """Address space beyond what the libraries map."""
    log_path: Path
    """Gets the process's stderr."""
    home: Path
    """What the process takes for its home, inside the work folder."""
    folder: Path
    """The work folder: the only place where the process may write."""
    kernels: Path
    """Compiled kernels between starts: the process gets a copy (`ml.worker.kernels`)."""
    limits: WorkerLimits = DEFAULT_LIMITS
    device: str = "cpu"


def _kernels(settings: WorkerSettings) -> Path:
    """The process's own copy of the compiled kernels, made anew."""
    if not compile_kernels(settings.kernels):
        log.warning("kernels_not_compiled", store=str(settings.kernels), then="each worker compiles for itself")
    return own_kernels(settings.kernels, settings.home)


class Worker:
    """The process. One request at a time; who waits comes in by urgency (see `scheduler`)."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: trio.Process | None = None
        self.turnstile = Turnstile()
        self.on_step: Callable[[int, float], None] = _ignore
        """Told the gas and the seconds of steps done, to learn the machine's speed."""
        self._requests = 0
        self._ended_for = ""
        """Why this side ended the process; empty when it did not."""
        self.sandbox: tuple[Measure, ...] = ()
        """What holds the process in, by its own account; empty before the first start."""

    @property
    def busy(self) -> bool:
        """Whether a request is being done."""
        return self.turnstile.busy

    async def run(self, request: Request, fresh: bool = False) -> AsyncIterator[Progress | SegmentDone | Reply]:
        """Every reply to `request`, the final one last. `fresh`: asked of a process that did nothing before.

        Raises `Rejection` with the worker's own reason when it refuses, WORKER_DIED when the process ended. Use it with
        `aclosing`: leaving early ends the process, so that nothing of the old request comes as an answer to the next.
        """
        claim = CLAIM.get()
        async with self.turnstile.turn(claim):
            finished = False
            try:
                if fresh:
                    await self.stop()
                process = self._process or await self._start()
                self._requests += 1
                await self._write(process, frame(request))
                conversation = Conversation(request)
                while not finished:
                    reply = await self._answer(process)
                    conversation.check(reply)
                    finished = not isinstance(reply, Progress | SegmentDone)
                    if isinstance(reply, Progress):
                        self.on_step(claim.gas_per_step, reply.step_seconds)
                    if isinstance(reply, Failed):
                        raise Rejection(WORKER_REFUSED, f"{reply.code} {reply.message}")
                    yield reply
            finally:
                if not finished:
                    await self.stop()

    async def final(self, request: Request, fresh: bool = False) -> Reply:
        """The final reply alone."""
        last: Reply | None = None
        async with aclosing(self.run(request, fresh)) as replies:  # type: ignore[type-var]
            async for reply in replies:
                last = reply
        if last is None:
            raise Rejection(WORKER_DIED, "the worker gave no reply")
        return last

    async def warm_up(self) -> None:
        """Start the process now, so that the first duty does not wait for libraries to load and kernels to compile."""
        async with self.turnstile.turn(CLAIM.get()):
            if self._process is None:
                await self._start()

    async def supervise(self) -> None:
        """Look after the process until cancelled: also one that nobody waits for."""
        idleness, settings = Idleness(), self._settings
        while True:
            await trio.sleep(settings.limits.look_s)
            process = self._process
            if process is None:
                continue
            used_s = idleness.used(process.pid, self._requests, self.busy)
            why = misbehaviour(settings.limits, settings.log_path, settings.folder, used_s)
            if why:
                self._ended_for = why
                log.error("worker_ended", pid=process.pid, why=why)
                process.kill()
                if not self.busy:
                    await self.stop()

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
        own = await trio.to_thread.run_sync(_kernels, settings)
        folders = (settings.folder, settings.home)
        with settings.log_path.open("ab") as errors:
            if errors.tell() > LOG_KEPT_BYTES:
                errors.truncate(0)
            process: trio.Process = await trio.lowlevel.open_process(
                # No state is larger than the memory that it was trained in.
                worker_command(
                    settings.memory_bytes, 0, folders, file_bytes=settings.memory_bytes, device=settings.device
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=worker_environment(settings.threads, settings.home, own),
                cwd=settings.home,
                start_new_session=True,
            )
        self._process, self._ended_for = process, ""
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
        log.info("worker_started", pid=process.pid, torch=ready.torch_version, sandbox=in_words(ready.sandbox))
        return process

    async def _write(self, process: trio.Process, data: bytes) -> None:
        if process.stdin is None:
            raise Rejection(WORKER_DIED, "the worker has no input")
        try:
            await process.stdin.send_all(data)
        except trio.BrokenResourceError:
            raise Rejection(WORKER_DIED, self._last_words()) from None

    async def _answer(self, process: trio.Process) -> Reply:
        """The next frame of a request under way; a process that is silent for too long is ended."""
        silence = self._settings.limits.silence_s
        try:
            with trio.fail_after(silence):
                return await self._read(process)
        except trio.TooSlowError:
            self._ended_for = f"it said nothing for {silence:.0f} s"
            log.error("worker_ended", pid=process.pid, why=self._ended_for)
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
        if self._ended_for:
            return f"the worker was ended: {self._ended_for}"
        try:
            with self._settings.log_path.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - LAST_WORDS_BYTES))
                lines = file.read(LAST_WORDS_BYTES).decode("utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"the worker ended; its last line: {lines[-1][:200]!r}" if lines else "the worker ended without a word"


def _ignore(gas: int, seconds: float) -> None:
    """Nobody wants to know."""
