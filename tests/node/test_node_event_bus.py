"""A subscriber that reads too slowly loses the oldest, and what waits for it is bounded: each item is a whole block."""

from __future__ import annotations

import trio

from gensyn_node.app.event_bus import SUBSCRIBER_EVENTS_MAX, EventBus


def test_a_slow_subscriber_has_the_newest_and_no_more_than_its_bound() -> None:
    async def scenario() -> None:
        bus: EventBus[int] = EventBus()
        async with bus.subscribe() as channel:
            for height in range(1_000):
                bus.publish(height)
            waiting = channel.statistics().current_buffer_used
            assert waiting == SUBSCRIBER_EVENTS_MAX <= 128
            assert [await channel.receive() for _ in range(waiting)] == list(range(1_000 - waiting, 1_000))

    trio.run(scenario)
