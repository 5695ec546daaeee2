"""Bulk messages between arrival and check: they wait, so that nothing else has to wait behind them."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from p2p.api import PeerId

Item = TypeVar("Item")

QUIET_S = 0.0003
"""Two passes of the event loop that took no longer had no work of others in them."""
ROUNDS_MAX = 4
"""Rounds after which a bulk task goes on although others still have work: it is behind them, never shut out."""


async def let_others_work() -> None:
    """Return when the event loop found nothing else to do, or after `ROUNDS_MAX` rounds of it."""
    for _ in range(ROUNDS_MAX):
        begun = trio.current_time()
        # The order within a pass is random, so one pass alone may miss who comes after us in it.
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        if trio.current_time() - begun < QUIET_S:
            return


@dataclass(slots=True)
class _Waiting(Generic[Item]):
    items: deque[tuple[Item, int]] = field(default_factory=deque)
    total_bytes: int = 0


class BulkQueue(Generic[Item]):
    """What neighbours sent, one of each in turn. Bounded for each of them: the newest of whoever sends most is lost.

    The oldest stay because what comes later builds on them (an account's transactions go by their nonces).
    """

    def __init__(self, *, items_per_peer: int, bytes_per_peer: int) -> None:
        self._items_per_peer = items_per_peer
        self._bytes_per_peer = bytes_per_peer
        self._peers: OrderedDict[PeerId, _Waiting[Item]] = OrderedDict()
        self._ready = trio.Event()

    def __len__(self) -> int:
        return sum(len(waiting.items) for waiting in self._peers.values())

    def put(self, peer: PeerId, item: Item, size: int) -> bool:
        """False if the peer has no place left; one item always has, however large."""
        waiting = self._peers.get(peer)
        if waiting is None:
            waiting = self._peers[peer] = _Waiting()
        elif len(waiting.items) >= self._items_per_peer or waiting.total_bytes + size > self._bytes_per_peer:
            return False
        waiting.items.append((item, size))
        waiting.total_bytes += size
        self._ready.set()
        return True

    async def take(self) -> Item:
        """The next one, when there is one."""
        while not self._peers:
            self._ready = trio.Event()
            await self._ready.wait()
        peer, waiting = self._peers.popitem(last=False)
        item, size = waiting.items.popleft()
        waiting.total_bytes -= size
        if waiting.items:
            self._peers[peer] = waiting
        return item
