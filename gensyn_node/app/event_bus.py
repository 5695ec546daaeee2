"""Tells subscribers what happened, without ever waiting for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

import trio

Item = TypeVar("Item")

SUBSCRIBER_EVENTS_MAX = 64
"""Events kept for a subscriber that does not keep up; then the oldest are lost. One is a whole block of megabytes."""


class EventBus(Generic[Item]):
    """Publishes to any number of bounded channels."""

    def __init__(self) -> None:
        self._subscribers: list[tuple[trio.MemorySendChannel[Item], trio.MemoryReceiveChannel[Item]]] = []

    def publish(self, item: Item) -> None:
        """Hand `item` to every subscriber; one that is full loses its oldest."""
        for send, receive in self._subscribers:
            try:
                send.send_nowait(item)
            except trio.WouldBlock:
                receive.receive_nowait()
                send.send_nowait(item)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[trio.MemoryReceiveChannel[Item]]:
        """A channel of everything published from now on, until the block is left."""
        with self.subscription() as channel:
            yield channel

    @contextmanager
    def subscription(self) -> Iterator[trio.MemoryReceiveChannel[Item]]:
        """`subscribe` for callers that are not in an `async with`."""
        send, receive = trio.open_memory_channel[Item](SUBSCRIBER_EVENTS_MAX)
        entry = (send, receive.clone())
        self._subscribers.append(entry)
        try:
            yield receive
        finally:
            self._subscribers.remove(entry)
            send.close()
            receive.close()
            entry[1].close()
