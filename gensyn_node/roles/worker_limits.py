"""What a node puts up with from its training process: how long it may be silent, how much it may say, write and use."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.materials import DISK_RESERVE_BYTES
from gensyn_node.roles.reasons import WORKER_DIED
from ml.worker.messages import Compare, Disclose, Progress, Reply, Request, SegmentDone, Train, Verify

FRAMES_MAX = 1_000_000
"""Reports of a request that names no number of steps."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Bounds on one training process."""

    silence_s: float = 1800.0
    """No step takes so long that the chain would still wait for it."""
    look_s: float = 5.0
    """Between two looks at the process."""
    log_bytes: int = 64 << 20
    """Of its log."""
    idle_share: float = 0.5
    """Of one processor, averaged between two looks, that it may use while nobody asks anything of it."""
    free_bytes: int = DISK_RESERVE_BYTES // 2
    """Free room on the disk below which it is ended: what it writes must not stop the node."""


DEFAULT_LIMITS = WorkerLimits()


class Conversation:
    """Checks that the replies to one request are about what was asked, and not more of them than there can be."""

    def __init__(self, request: Request) -> None:
        self._left = FRAMES_MAX
        self._steps: range | None = None
        if isinstance(request, Train | Verify | Compare | Disclose):
            self._left = 2 * request.steps + 4
            self._steps = range(request.first_step, request.first_step + request.steps + 1)

    def check(self, reply: Reply) -> None:
        """Raises Rejection WORKER_DIED: what says such things is no worker any more."""
        if not isinstance(reply, Progress | SegmentDone):
            return
        self._left -= 1
        if self._left < 0:
            raise Rejection(WORKER_DIED, "the worker reports more than there is to report")
        if self._steps is not None and reply.step not in self._steps:
            raise Rejection(WORKER_DIED, f"the worker reports step {reply.step}, asked for {self._steps}")


class Idleness:
    """Processor time of a process that has nothing to do."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, float] | None = None

    def used(self, pid: int, requests: int, busy: bool) -> float:
        """Seconds used since the last look, when nothing was asked of it from then to now; else 0.

        `requests`: how many it has been asked so far.
        """
        before, self._seen = self._seen, None
        if busy:
            return 0.0
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            self._seen = (pid, requests, float(times.user + times.system))
            if before is not None and before[:2] == (pid, requests):
                return self._seen[2] - before[2]
        return 0.0


def misbehaviour(limits: WorkerLimits, log_path: Path, folder: Path, idle_s: float) -> str:
    """Why the process has to be ended; empty when all is well. `idle_s`: seconds it used without being asked."""
    if idle_s > limits.idle_share * limits.look_s:
        return "it works without being asked to"
    with suppress(OSError):
        size = log_path.stat().st_size
        if size > limits.log_bytes:
            return f"its log has {size >> 20} MiB"
    free = shutil.disk_usage(folder).free
    if free < limits.free_bytes:
        return f"the disk has {free >> 20} MiB left"
    return ""
