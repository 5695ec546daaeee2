"""Back-pressure: while a block is overdue and plenty waits, the node works on the block and takes nothing new."""

from __future__ import annotations

from collections.abc import Callable

import trio

from consensus.mempool import NODE_BEHIND
from gensyn_node.primitives.errors import Rejection

OVERDUE_S = 1.0
"""A block with transactions is due well within this time after the one before, if the machine is not overloaded."""
PLENTY_TRANSACTIONS = 2_048
"""Pending transactions that make the next blocks worth while; below this the node takes more whatever the time is."""


class Admission:
    """Whether transactions that come from outside are taken now. What was taken stays, whatever happens."""

    def __init__(
        self,
        pending: Callable[[], int],
        *,
        now_s: Callable[[], float] = trio.current_time,
        overdue_s: float = OVERDUE_S,
        plenty: int = PLENTY_TRANSACTIONS,
    ) -> None:
        self._pending = pending
        self._now_s = now_s
        self._overdue_s = overdue_s
        self._plenty = plenty
        self._block_at_s: float | None = None
        """When the last block came, by this process's clock; None before the first since the start."""
        self._block_came = trio.Event()
        self.refused = 0
        """Transactions refused since the start."""
        self.waits = 0
        """Times that gossip had to wait since the start."""

    @property
    def is_open(self) -> bool:
        """False while the node is behind."""
        if self._block_at_s is None or self._pending() < self._plenty:
            return True
        return self._now_s() - self._block_at_s <= self._overdue_s

    def check(self) -> None:
        """`Rejection` NODE_BEHIND while closed: for whoever waits for an answer."""
        if not self.is_open:
            self.refused += 1
            raise Rejection(NODE_BEHIND, f"{self._pending()} transactions wait for a block that is overdue")

    async def wait_open(self) -> None:
        """Return at once while open, else with the block that opens it: for what can wait."""
        if not self.is_open:
            self.waits += 1
        while not self.is_open:
            await self._block_came.wait()

    def after_block(self) -> None:
        """A block came, and what it used up is dropped."""
        self._block_at_s = self._now_s()
        came, self._block_came = self._block_came, trio.Event()
        came.set()
