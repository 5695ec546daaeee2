"""A machine's clock: wrong by an offset, running at another rate, sometimes jumping."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Clock:
    """Reads and waits in the machine's own time."""

    offset_ms: int = 0
    rate: float = 1.0
    """Of the machine's time against true time; time-outs run at it too."""
    _since_ms: int = 0

    def read(self, true_ms: int) -> int:
        """What the clock shows."""
        return true_ms + self.offset_ms + int((self.rate - 1.0) * (true_ms - self._since_ms))

    def wait(self, duration_ms: int) -> int:
        """True time that passes while this machine waits so long."""
        return max(1, int(duration_ms / self.rate))

    def start_drift(self, true_ms: int, rate: float) -> None:
        """Run at another rate from now on."""
        self.offset_ms = self.read(true_ms) - true_ms
        self.rate, self._since_ms = rate, true_ms

    def jump(self, by_ms: int) -> None:
        """Somebody, or a daemon, sets the clock."""
        self.offset_ms += by_ms

    def repair(self, offset_ms: int) -> None:
        """Right again, up to so much."""
        self.offset_ms, self.rate = offset_ms, 1.0
