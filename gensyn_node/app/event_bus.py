"""Tells subscribers what happened, without ever waiting for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio

Item = TypeVar("Item")

SUBSCRIBER_EVENTS_MAX = 64
"""Events kept for a subscriber that does not keep up; then the oldest are lost. One is a whole block of megabytes."""


@dataclass(slots=True)
class Feed(Generic[Item]):
    """One subscriber's channel, and how much it lost."""

    send: trio.MemorySendChannel[Item]
    channel: trio.MemoryReceiveChannel[Item]
    _drain: trio.MemoryReceiveChannel[Item]
    _lost: int = 0

    def put(self, item: Item) -> None:
        """Hand `item` over; the oldest goes when there is no room."""
        try:
            self.send.send_nowait(item)
        except trio.WouldBlock:
            self._drain.receive_nowait()
            self._lost += 1
            self.send.send_nowait(item)

    def take_lost(self) -> int:
        """How many were lost since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    def close(self) -> None:
        """Nothing comes any more."""
        for end in (self.send, self.channel, self._drain):
            end.close()


class EventBus(Generic[Item]):
    """Publishes to any number of bounded channels."""

    def __init__(self) -> None:
        self._subscribers: list[Feed[Item]] = []

    def __len__(self) -> int:
        return len(self._subscribers)

    def publish(self, item: Item) -> None:
        """Hand `item` to every subscriber; one that is full loses its oldest."""
        for feed in self._subscribers:
            feed.put(item)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[trio.MemoryReceiveChannel[Item]]:
        """A channel of everything published from now on, until the block is left."""
        with self.feed() as feed:
            yield feed.channel

    @contextmanager
    def feed(self, kept: int = SUBSCRIBER_EVENTS_MAX) -> Iterator[Feed[Item]]:
        """`subscribe` for those who want to know what they lost; `kept` events wait for them."""
        send, receive = trio.open_memory_channel[Item](kept)
        feed = Feed(send, receive, receive.clone())
        self._subscribers.append(feed)
        try:
            yield feed
        finally:
            self._subscribers = [other for other in self._subscribers if other is not feed]
            feed.close()
