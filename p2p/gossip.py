"""Broadcast over GossipSub 1.1: `/gensyn/<chain>/<topic>/1`.

What the library loses in silence is bounded and counted here instead: queues, sizes, rates, slow readers. Messages
are identified by topic and content, so that the same transaction from two authors is one message.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
import trio

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from p2p import bounds, reasons
from p2p.api import GossipMessage, GossipTaker, GossipValidator, PeerId
from p2p.host import Host
from p2p.peers import PeerTable
from p2p.pubsub import GuardedPubsub, Hooks, Incoming, make_pubsub, running_pubsub
from p2p.rates import RateLimiter

log = structlog.get_logger("p2p.gossip")

_TOPIC = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(slots=True)
class _Topic:
    topic: str
    rate: RateLimiter


@dataclass(slots=True)
class _Joined(_Topic):
    validate: GossipValidator
    deliver: trio.MemorySendChannel[GossipMessage]
    seen: OrderedDict[bytes, None] = field(default_factory=OrderedDict)


@dataclass(slots=True)
class _Bulk(_Topic):
    take: GossipTaker


class GossipService:
    """Joins topics, publishes, validates, delivers."""

    def __init__(
        self,
        chain_id: str,
        host: Host,
        table: PeerTable,
        counters: Counter[str],
        fatal: Callable[[InvariantViolation], None],
    ) -> None:
        self._prefix = f"/gensyn/{chain_id}/"
        self._me = host.peer_id
        self._table = table
        self._counters = counters
        self._fatal = fatal
        self._joined: dict[str, _Topic] = {}
        self._pubsub: GuardedPubsub = make_pubsub(
            host.raw,
            Hooks(table.admitted, self._allows, self._accept, self._take, self._deliver, table.report_soon, counters),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Must be entered before the host runs and left after it: streams end first."""
        async with running_pubsub(self._pubsub):
            yield

    def wire_topic(self, topic: str) -> str:
        """The topic's name on the wire."""
        return f"{self._prefix}{topic}/1"

    async def publish(self, topic: str, data: bytes) -> None:
        """See `api.Gossip`."""
        if len(data) > bounds.GOSSIP_BYTES_MAX:
            raise Rejection(
                reasons.GOSSIP_TOO_LARGE,
                f"{len(data)} bytes for topic {topic!r}, at most {bounds.GOSSIP_BYTES_MAX} are carried",
            )
        self._counters["gossip_published"] += 1
        self._counters[f"gossip_sent_bytes:{topic}"] += len(data)
        # The library publishes without ever yielding: a loop of publications would starve the sending of them.
        await trio.lowlevel.checkpoint()
        await self._pubsub.publish(self.wire_topic(topic), data)

    async def subscribe(
        self, topic: str, validate: GossipValidator, *, capacity: int = 4096, per_second: float = 200.0
    ) -> trio.MemoryReceiveChannel[GossipMessage]:
        """See `api.Gossip`."""
        send, receive = trio.open_memory_channel[GossipMessage](capacity)
        name = self._enter(_Joined(topic, RateLimiter(per_second), validate, send))
        await self._pubsub.join(name)
        return receive

    async def subscribe_bulk(self, topic: str, take: GossipTaker, *, per_second: float = 200.0) -> None:
        """See `api.Gossip`."""
        name = self._enter(_Bulk(topic, RateLimiter(per_second), take))
        await self._pubsub.join(name, bulk=True)

    def _enter(self, joined: _Topic) -> str:
        name = self.wire_topic(joined.topic)
        if not _TOPIC.fullmatch(joined.topic) or name in self._joined:
            raise InvariantViolation(f"topic {joined.topic!r} is no name or is joined twice")
        self._joined[name] = joined
        return name

    # Called for each message ----------------------------------------------------------------------------------------

    def _accept(self, incoming: Incoming) -> bool:
        """Whether to deliver the message and send it on. Raises only what must not happen: then it is dropped."""
        joined = self._joined.get(incoming.topic)
        if joined is None:
            return False
        if incoming.sender == self._me:
            return True
        if not isinstance(joined, _Joined):
            raise InvariantViolation(f"a message of {joined.topic!r} went past the queue for bulk")
        try:
            _check_size(joined, incoming)
            joined.validate(incoming.sender, incoming.data)
        except Rejection as rejection:
            self._refuse(incoming, rejection)
            return False
        except InvariantViolation as error:
            self._fatal(error)
            raise
        except Exception as error:
            self._failed(joined, error)
            raise
        return True

    async def _take(self, incoming: Incoming) -> bool:
        """Let a bulk message be taken; whether to send it on. Nothing is raised: the next one waits."""
        joined = self._joined.get(incoming.topic)
        if not isinstance(joined, _Bulk):
            return False
        try:
            _check_size(joined, incoming)
            self._counters[f"gossip_received_bytes:{joined.topic}"] += len(incoming.data)
            await joined.take(incoming.sender, incoming.data)
        except Rejection as rejection:
            self._refuse(incoming, rejection)
            return False
        except InvariantViolation as error:
            self._fatal(error)
            return False
        except Exception as error:  # noqa: BLE001  (ours, and no reason to take no more)
            self._failed(joined, error)
            return False
        self._counters["gossip_received"] += 1
        return True

    def _refuse(self, incoming: Incoming, rejection: Rejection) -> None:
        self._counters["gossip_refused"] += 1
        self._table.report_soon(incoming.sender, rejection)

    def _failed(self, joined: _Topic, error: Exception) -> None:
        self._counters["validator_failures"] += 1
        log.error("validator_failed", topic=joined.topic, error=repr(error), exc_info=True)

    def _deliver(self, incoming: Incoming) -> None:
        joined = self._joined.get(incoming.topic)
        if not isinstance(joined, _Joined) or incoming.sender == self._me:
            return
        # The library forgets after two minutes; a replay after that must not arrive a second time.
        digest = hashlib.sha256(incoming.data).digest()
        if digest in joined.seen:
            self._counters["gossip_duplicates"] += 1
            return
        joined.seen[digest] = None
        if len(joined.seen) > bounds.GOSSIP_REMEMBERED:
            joined.seen.popitem(last=False)
        try:
            self._counters[f"gossip_received_bytes:{joined.topic}"] += len(incoming.data)
            joined.deliver.send_nowait(GossipMessage(joined.topic, incoming.data, incoming.sender))
            self._counters["gossip_received"] += 1
        except trio.WouldBlock:
            self._counters["gossip_lost_slow_reader"] += 1
        except trio.BrokenResourceError:
            self._counters["gossip_unread"] += 1

    def _allows(self, sender: PeerId, author: PeerId, wire_topic: str) -> bool:
        """The neighbour's share on a topic. Only an author is scored for too much; a forwarder may be honest."""
        joined = self._joined.get(wire_topic)
        if joined is None or sender == self._me or joined.rate.allow(sender, trio.current_time()):
            return True
        self._counters["gossip_over_rate"] += 1
        if sender == author:
            self._table.report_soon(sender, Rejection(reasons.GOSSIP_RATE, f"more than its share of {joined.topic}"))
        return False


def _check_size(joined: _Topic, incoming: Incoming) -> None:
    if len(incoming.data) > bounds.GOSSIP_BYTES_MAX:
        raise Rejection(reasons.GOSSIP_TOO_LARGE, f"{len(incoming.data)} bytes on {joined.topic}")
