"""Spreads again what waits too long: gossip may lose, and a transaction that only we still have would never be mined.

A neighbour that has it already passes nothing on, so a repetition costs one frame a neighbour. Every node repeats, not
only the first one: the loss may have been anywhere on the way to a proposer.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from gensyn_node.app.pool import Pool

INTERVAL_S = 5.0
OVERDUE_BLOCKS = 6
"""Whatever still waits after so many blocks may have been lost on the way to those who propose."""
AT_ONCE_MAX = 256
"""One batch: under an overload thousands wait with good reason."""


class Reannouncer:
    """Goes round what is overdue, a batch at a time."""

    def __init__(self, pool: Pool, height: Callable[[], int], announce: Callable[[bytes], None]) -> None:
        """`height` is the chain's; `announce` spreads a transaction."""
        self._pool = pool
        self._height = height
        self._announce = announce
        self._last: bytes | None = None
        """The last transaction announced: the next round goes on after it."""

    async def run(self) -> None:
        """Announce until cancelled."""
        while True:
            await trio.sleep(INTERVAL_S)
            self.announce_overdue()

    def announce_overdue(self) -> None:
        """One round."""
        latest = self._height() - OVERDUE_BLOCKS
        overdue = [pending for pending in self._pool.pending() if pending.height <= latest]
        place = next((place for place, pending in enumerate(overdue, start=1) if pending.id == self._last), 0)
        chosen = (overdue[place:] + overdue[:place])[:AT_ONCE_MAX]
        for pending in chosen:
            self._announce(pending.data)
        self._last = chosen[-1].id if chosen else None
