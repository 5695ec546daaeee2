"""Collects what is ready and sends it as one message: a gossip message costs milliseconds, whatever is in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Items put in come out as groups, at most `delay_s` later. When full, the oldest are dropped: gossip may lose."""

    def __init__(
        self,
        send: Callable[[tuple[Item, ...]], Awaitable[None]],
        *,
        delay_s: float,
        group_items_max: int,
        group_bytes_max: int,
        size_of: Callable[[Item], int],
        capacity: int,
    ) -> None:
        self._send = send
        self._delay_s = delay_s
        self._group_items_max = group_items_max
        self._group_bytes_max = group_bytes_max
        self._size_of = size_of
        self._waiting: deque[Item] = deque(maxlen=capacity)
        self._ready = trio.Event()

    def put(self, item: Item) -> None:
        """Queue an item; never blocks."""
        self._waiting.append(item)
        self._ready.set()

    async def run(self) -> None:
        """Send groups until cancelled."""
        while True:
            await self._ready.wait()
            if self._delay_s:
                await trio.sleep(self._delay_s)
            self._ready = trio.Event()
            while self._waiting:
                await self._send(self._next_group())

    def _next_group(self) -> tuple[Item, ...]:
        group: list[Item] = []
        size = 0
        while self._waiting and len(group) < self._group_items_max:
            size += self._size_of(self._waiting[0])
            if group and size > self._group_bytes_max:
                break
            group.append(self._waiting.popleft())
        return tuple(group)
