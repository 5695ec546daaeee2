"""What this node saw go by and the ledger does not keep: losses reported by heartbeats, times between blocks."""

from __future__ import annotations

import struct
from collections import OrderedDict, deque

from gensyn_node.app.chain import CommittedBlock

TASKS_MAX = 256
"""Tasks whose losses are kept."""
LOSSES_PER_TASK_MAX = 4_096
"""Points of one loss curve."""
BLOCK_TIMES_MAX = 32
"""Blocks over which the interval is averaged."""


class History:
    """Fed with each committed block."""

    def __init__(self) -> None:
        self._losses: OrderedDict[bytes, deque[tuple[int, float]]] = OrderedDict()
        self._block_times: deque[int] = deque(maxlen=BLOCK_TIMES_MAX)

    def add(self, committed: CommittedBlock) -> None:
        """Look at a new block."""
        self._block_times.append(committed.state.time_ms)
        for event in committed.delta.events:
            step, bits = event.get("step"), event.get("loss_bits")
            if event.kind == "heartbeat" and isinstance(step, int) and isinstance(bits, int):
                self._add_loss(event.subject, step, loss_of(bits))

    def losses(self, task_id: bytes) -> tuple[tuple[int, float], ...]:
        """(step, loss), oldest first."""
        return tuple(self._losses.get(task_id, ()))

    def block_interval_ms(self) -> int:
        """Mean time between the last blocks; 0 while fewer than two were seen."""
        times = self._block_times
        return (times[-1] - times[0]) // (len(times) - 1) if len(times) > 1 else 0

    def _add_loss(self, task_id: bytes, step: int, loss: float) -> None:
        if task_id not in self._losses:
            self._losses[task_id] = deque(maxlen=LOSSES_PER_TASK_MAX)
            while len(self._losses) > TASKS_MAX:
                self._losses.popitem(last=False)
        self._losses[task_id].append((step, loss))


def loss_of(bits: int) -> float:
    """The number whose IEEE-754 single precision bits these are."""
    value: float = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    return value
