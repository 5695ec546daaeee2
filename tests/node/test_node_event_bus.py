"""A subscriber that reads too slowly loses the oldest and is told how many, and what waits for it is bounded."""

from __future__ import annotations

import trio

from gensyn_node.app.backend import translate
from gensyn_node.app.event_bus import SUBSCRIBER_EVENTS_MAX, EventBus
from gensyn_node.rpc.backend import Event


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


def test_who_does_not_keep_up_loses_the_oldest_and_knows_how_many() -> None:
    bus: EventBus[int] = EventBus()
    with bus.feed(3) as slow, bus.feed(10) as quick:
        for number in range(8):
            bus.publish(number)
        assert [slow.channel.receive_nowait() for _ in range(3)] == [5, 6, 7]
        assert (slow.take_lost(), slow.take_lost()) == (5, 0)
        assert [quick.channel.receive_nowait() for _ in range(8)] == list(range(8))
        assert quick.take_lost() == 0
    assert len(bus) == 0
    bus.publish(9)


def test_a_gap_stands_before_what_follows_it() -> None:
    async def main() -> list[Event]:
        bus: EventBus[int] = EventBus()
        send, receive = trio.open_memory_channel[Event](0)
        with bus.feed(2) as feed:
            for number in range(5):
                bus.publish(number)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(translate, feed, lambda n: [Event("block", n, {})], "blocks", send)
                seen = [await receive.receive() for _ in range(3)]
                for number in range(5, 7):
                    bus.publish(number)
                seen += [await receive.receive() for _ in range(2)]
                nursery.cancel_scope.cancel()
        return seen

    assert trio.run(main) == [
        Event("gap", 3, {"of": "blocks", "lost": 3}),
        *(Event("block", number, {}) for number in range(3, 7)),
    ]
