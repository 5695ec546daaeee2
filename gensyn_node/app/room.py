"""Room on the disk: a node stops signing and committing before the disk is full, and goes on when there is room again.

Two marks. Below twice the low-water mark no new task is taken; below the mark itself the consensus driver waits, so
that what it has begun can still be written. A write that fails all the same (another program was faster) is repeated
when there is room: nothing that was to be on disk before a signature leaves is skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import structlog
import trio

TIGHT_FACTOR = 2
"""Below so many times the low-water mark no task is taken."""
ENOUGH_NUMERATOR, ENOUGH_DENOMINATOR = 5, 4
"""Once short of room, the node waits for a quarter more than the mark: it must not stop and go with every block."""
LOOK_INTERVAL_S = 0.5
FAILURES_WITH_ROOM_MAX = 3
"""A write that fails so often with room on the disk fails for another reason; the node stops."""

T = TypeVar("T")

log = structlog.get_logger()


def free_bytes(folder: Path) -> int:
    """What an ordinary user can still write to the file system of a folder."""
    return shutil.disk_usage(folder).free


def used_bytes(folder: Path) -> int:
    """What the files under a folder take, as far as they are still there."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # LevelDB removes files at any time
            total += path.stat().st_size if path.is_file() else 0
    return total


class Room:
    """The free room of one folder's file system, looked at before each write that matters."""

    def __init__(self, folder: Path, low_water_bytes: int, free: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._low_water_bytes = low_water_bytes
        self._free = free
        self._short = False
        self.pauses = 0
        """How often the node has stopped for room."""

    @property
    def free(self) -> int:
        """Free bytes."""
        return self._free(self._folder)

    @property
    def paused(self) -> bool:
        """Whether the node signs and commits nothing now."""
        return self._short

    @property
    def tight(self) -> bool:
        """Whether no new task should be taken."""
        return self._short or self.free < TIGHT_FACTOR * self._low_water_bytes

    @property
    def ample(self) -> bool:
        """Whether tasks can be taken again; more than what makes the room tight, so that the role does not flap."""
        return not self._short and self.free >= 2 * TIGHT_FACTOR * self._low_water_bytes

    async def wait(self) -> None:
        """Return as soon as there is room: at once, as a rule."""
        if not self._short and self.free >= self._low_water_bytes:
            return
        enough = self._low_water_bytes * ENOUGH_NUMERATOR // ENOUGH_DENOMINATOR
        if not self._short:
            self._short = True
            self.pauses += 1
            log.error("disk_full_paused", free_bytes=self.free, goes_on_at_bytes=enough, folder=str(self._folder))
        while (free := self.free) < enough:  # noqa: ASYNC110  (no file system tells)
            await trio.sleep(LOOK_INTERVAL_S)
        self._short = False
        log.warning("disk_room_again", free_bytes=free)

    async def persist(self, write: Callable[[], T]) -> T:
        """Do a write; one that fails is done again when there is room. Its `OSError` when room is no help."""
        failures = 0
        while True:
            await self.wait()
            try:
                return write()
            except OSError as error:
                failures = await self.after_failure(error, failures)

    async def after_failure(self, error: OSError, failures: int) -> int:
        """Count a failed write; raises the error when there is room and it has failed too often."""
        short = self.free < self._low_water_bytes
        log.error("write_failed", why=str(error), free_bytes=self.free, failures=failures + 1)
        if not short and failures + 1 >= FAILURES_WITH_ROOM_MAX:
            raise error
        await trio.sleep(LOOK_INTERVAL_S)
        return failures if short else failures + 1
