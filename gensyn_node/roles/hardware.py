"""What a node measures of the machine it runs on: power, and the speed of its own work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import Rejection

SMOOTHING = 0.2
"""Weight of the newest step in the measured speed."""
BLOCK_SMOOTHING = 0.1
SPEED_BYTES_MAX = 64


class _Kept(Struct):
    gas_per_second: int


def battery() -> tuple[bool, bool]:
    """(the machine has a battery, it runs on it)."""
    read: Callable[[], Any] = getattr(psutil, "sensors_battery", lambda: None)
    found = read()
    return found is not None, found is not None and found.power_plugged is False


class Speed:
    """Gas a second, smoothed over the steps done; kept on disk, so that a restart need not learn it again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.gas_per_second = 0
        """0: nothing was done yet."""
        with suppress(OSError, Rejection):
            kept: _Kept = decode(_Kept, path.read_bytes(), max_bytes=SPEED_BYTES_MAX)
            self.gas_per_second = max(0, kept.gas_per_second)
        self._written = self.gas_per_second

    def note(self, gas: int, seconds: float) -> None:
        """A step of so much gas took so long."""
        if gas <= 0 or seconds <= 0:
            return
        new = int(gas / seconds)
        known = self.gas_per_second
        self.gas_per_second = int(known + SMOOTHING * (new - known)) if known else new

    def save(self) -> None:
        """Keep what was learnt, where it changed by a tenth. A disk that refuses costs the next start its knowledge."""
        if abs(self.gas_per_second - self._written) * 10 > self._written:
            self._written = self.gas_per_second
            with suppress(OSError):
                self._path.write_bytes(encode(_Kept(self.gas_per_second)))


class BlockTime:
    """Seconds a block, smoothed."""

    def __init__(self) -> None:
        self.seconds = 1.0
        self._last: tuple[int, float] | None = None

    def note(self, height: int, now_s: float) -> None:
        """The head is at `height` now."""
        if self._last is not None and height > self._last[0]:
            each = (now_s - self._last[1]) / (height - self._last[0])
            self.seconds += BLOCK_SMOOTHING * (each - self.seconds)
        self._last = (height, now_s)

    def gas_per_block(self, speed: Speed) -> int:
        """What the machine does a block."""
        return int(speed.gas_per_second * self.seconds)
