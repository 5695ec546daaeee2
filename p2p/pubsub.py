"""The library's Pubsub with its holes closed; `gossip` is built on it. The only file that knows pubsub's insides.

Each method overridden or name replaced here is one trap of py-libp2p 0.8.1; `check_library` refuses any other shape.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import libp2p.pubsub.gossipsub as gossipsub_module
import libp2p.pubsub.pubsub as pubsub_module
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.tools.anyio_service import background_trio_service
from libp2p.tools.timed_cache.last_seen_cache import LastSeenCache

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from p2p import bounds, reasons
from p2p.api import PeerId
from p2p.bulk import BulkQueue
from p2p.guard import log

PROTOCOL = "/meshsub/1.1.0"
"""Not 1.2: its IDONTWANT doubles the number of frames for small messages."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message whose signature is valid."""

    topic: str
    data: bytes
    sender: PeerId


@dataclass(frozen=True, slots=True)
class Hooks:
    """What gossip wants to be asked and told."""

    admitted: Callable[[PeerId], Awaitable[bool]]
    allows: Callable[[PeerId, PeerId, str], bool]
    accept: Callable[[Incoming], bool]
    take: Callable[[Incoming], Awaitable[bool]]
    deliver: Callable[[Incoming], None]
    misbehaves: Callable[[PeerId, Rejection], None]
    counters: Counter[str]


def check_library() -> None:
    """The private names that we replace or override must be there."""
    wanted = [
        (pubsub_module, "RpcQueue"),
        (pubsub_module, "env_to_send_in_RPC"),
        (gossipsub_module, "env_to_send_in_RPC"),
        (Pubsub, "push_msg"),
        (Pubsub, "publish"),
        (LastSeenCache, "has"),
        (Pubsub, "get_message_id"),
        (Pubsub, "stream_handler"),
        (Pubsub, "notify_subscriptions"),
        (Pubsub, "get_hello_packet"),
        (Pubsub, "write_msg"),
        (Pubsub, "_handle_new_peer_with_retry"),
        (Pubsub, "_handle_new_peer"),
        (RpcQueue, "push"),
        (RpcQueue, "pop"),
    ]
    missing = [f"{getattr(owner, '__name__', owner)}.{name}" for owner, name in wanted if not hasattr(owner, name)]
    if missing:
        raise InvariantViolation(f"this libp2p has no {', '.join(missing)}; 0.8.1 is the version that works")


class BoundedQueue(RpcQueue):  # type: ignore[misc]
    """Frames waiting for one neighbour, bounded in number and in bytes (the library: 32 frames).

    Frames of bulk topics go after all others and have half of the room: the library's order is that of arrival, in
    which a vote waits for every transaction before it and is lost when they fill the queue.
    """

    lost: ClassVar[Counter[str]] = Counter()
    """Frames not queued, all neighbours of the process."""
    bulk_topics: ClassVar[set[str]] = set()
    """Wire names; of all networks of the process, since the library makes the queues."""

    def __init__(self) -> None:
        super().__init__(bounds.GOSSIP_QUEUE_MESSAGES, bounds.GOSSIP_RPC_BYTES_MAX)
        self.waiting_bytes = 0
        self._bulk_frames = self._bulk_bytes = 0

    def push(self, rpc: Any, priority: bool = False) -> bool:
        """False if the frame does not fit any more."""
        size, bulk = rpc.ByteSize(), self._is_bulk(rpc)
        fits = self.waiting_bytes + size <= bounds.GOSSIP_QUEUE_BYTES
        if bulk and fits:
            fits = (
                self._bulk_frames < bounds.GOSSIP_QUEUE_MESSAGES // 2
                and self._bulk_bytes + size <= bounds.GOSSIP_QUEUE_BYTES // 2
            )
        if not fits or not super().push(rpc, priority=not bulk):
            self.lost["gossip_queue_full"] += 1
            return False
        self._count(size, 1, bulk=bulk)
        return True

    async def pop(self) -> Any:
        """The next frame, None at the end."""
        rpc = await super().pop()
        if rpc is not None:
            self._count(-rpc.ByteSize(), -1, bulk=self._is_bulk(rpc))
        return rpc

    def _count(self, size: int, frames: int, *, bulk: bool) -> None:
        self.waiting_bytes += size
        if bulk:
            self._bulk_frames += frames
            self._bulk_bytes += size

    def _is_bulk(self, rpc: Any) -> bool:
        """Whether the frame carries bulk messages and nothing else (subscriptions and control never wait)."""
        return (
            bool(rpc.publish)
            and not rpc.subscriptions
            and not rpc.HasField("control")
            and all(topic in self.bulk_topics for message in rpc.publish for topic in message.topicIDs)
        )


class ReadAhead:
    """A neighbour's stream, read in large parts and given out in small ones.

    The library asks for a frame's length byte by byte, and Yamux answers each read, however short, with a window
    update: a frame to encrypt, send, decrypt and read.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._ahead = memoryview(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    async def read(self, count: int) -> bytes:
        """Up to `count` bytes, as the stream gives them."""
        if not self._ahead:
            self._ahead = memoryview(await self._raw.read(bounds.GOSSIP_READ_BYTES))
        elif count > 1:
            # Once a frame: a row of frames that are already here must not keep all other tasks waiting.
            await trio.lowlevel.checkpoint()
        part, self._ahead = self._ahead[:count], self._ahead[count:]
        return bytes(part)


def _no_sender_record(host: Any) -> tuple[bytes, bool]:
    """Instead of a signed address record in every frame (made, sent, verified each time, and of no use to us)."""
    return b"", False


def message_id(message: Any) -> bytes:
    """Whoever wrote it, it is the same message."""
    return content_id(message.topicIDs, message.data)


def content_id(topics: Iterable[str], data: bytes) -> bytes:
    """20 bytes of topic and content."""
    hasher = hashlib.sha256()
    for topic in topics:
        hasher.update(topic.encode() + b"\x00")
    hasher.update(b"\x00" + data)
    return hasher.digest()[:20]


class GuardedPubsub(Pubsub):  # type: ignore[misc]
    """Lets in only peers that shook hands, contains what messages raise, delivers with the sender's name."""

    def __init__(self, host: Any, router: GossipSub, hooks: Hooks) -> None:
        super().__init__(
            host,
            router,
            strict_signing=True,
            seen_ttl=120,
            max_inbound_rpc_size=bounds.GOSSIP_RPC_BYTES_MAX,
            msg_id_constructor=message_id,
        )
        self._hooks = hooks
        self._accepted: Incoming | None = None
        self._bulk_topics: set[str] = set()
        self._bulk: BulkQueue[tuple[ID, Any]] = BulkQueue(
            items_per_peer=bounds.GOSSIP_BULK_MESSAGES, bytes_per_peer=bounds.GOSSIP_BULK_BYTES
        )
        self._taken: tuple[Any, bool] = (None, False)
        self._writing: WeakKeyDictionary[Any, trio.Lock] = WeakKeyDictionary()

    async def join(self, topic: str, *, bulk: bool = False) -> None:
        """Subscribe and validate. The library's own channel stays empty: see `notify_subscriptions`.

        What comes on a `bulk` topic is taken by `run_bulk`.
        """
        if bulk:
            self._bulk_topics.add(topic)
            BoundedQueue.bulk_topics.add(topic)
        self.set_topic_validator(topic, self._validate, False)
        await self.subscribe(topic)

    async def stream_handler(self, stream: Any) -> None:
        """A neighbour's gossip stream: refused without handshake, ended at the first bytes that are no gossip."""
        peer = str(stream.muxed_conn.peer_id)
        if not await self._hooks.admitted(peer):
            await stream.reset()
            return
        try:
            await super().stream_handler(ReadAhead(stream))
        except Exception as error:
            self._hooks.misbehaves(peer, Rejection(reasons.MALFORMED_GOSSIP, f"{error!r}"[:200]))
            raise

    async def _handle_new_peer_with_retry(self, peer_id: ID, timeout: float | None = None) -> None:
        if await self._hooks.admitted(str(peer_id)):
            await super()._handle_new_peer_with_retry(peer_id, timeout)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """The hello lists the topics of its moment; one joined while it was on its way would never be announced."""
        await super()._handle_new_peer(peer_id)
        queue = self.peer_queues.get(peer_id)
        if queue is not None:
            queue.push(self.get_hello_packet(), priority=True)

    async def push_msg(self, msg_forwarder: ID, msg: Any) -> None:
        """One message, a neighbour's or our own; an exception of ours goes to the publisher, never to the host."""
        sender = str(msg_forwarder)
        if msg_forwarder != self.my_id:
            if len(msg.topicIDs) != 1:
                return
            author = str(ID(msg.from_id)) if msg.from_id else ""
            if not self._hooks.allows(sender, author, msg.topicIDs[0]):
                return
            if msg.topicIDs[0] in self._bulk_topics:
                if not self._is_settled(msg) and not self._bulk.put(sender, (msg_forwarder, msg), msg.ByteSize()):
                    self._hooks.counters["gossip_bulk_lost"] += 1
                return
        await self._push(msg_forwarder, msg)

    async def publish(self, topic_id: str | list[str], data: bytes) -> None:
        """Publish, also what was published before: neighbours who had it drop it, those who came since have not.

        The library drops it here, and asking whether it knows a message makes it remember that one for longer.
        """
        topics = [topic_id] if isinstance(topic_id, str) else topic_id
        with self.seen_messages.lock:
            self.seen_messages.cache.pop(content_id(topics, data), None)
        await super().publish(topic_id, data)

    async def run_bulk(self) -> None:
        """Take bulk messages one after the other, until cancelled."""
        while True:
            forwarder, message = await self._bulk.take()
            if not self._is_settled(message):
                incoming = Incoming(message.topicIDs[0], message.data, str(forwarder))
                self._taken = (message, await self._hooks.take(incoming))
                await self._push(forwarder, message)

    def _is_settled(self, msg: Any) -> bool:
        """Whether the message was accepted or refused before."""
        name = self.get_message_id(msg)
        return self.seen_messages.has(name) or self.validation_cache.get(name) is not None

    async def _push(self, msg_forwarder: ID, msg: Any) -> None:
        sender = str(msg_forwarder)
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:
            if msg_forwarder == self.my_id:
                raise
            self._hooks.counters["gossip_failures"] += 1
            log.info("gossip_failed", peer=sender, error=repr(error))

    def _validate(self, msg_forwarder: ID, msg: Any) -> bool:
        incoming = Incoming(msg.topicIDs[0], msg.data, str(msg_forwarder))
        if incoming.topic in self._bulk_topics and msg_forwarder != self.my_id:
            message, accepted = self._taken
            return message is msg and accepted
        self._accepted = incoming if self._hooks.accept(incoming) else None
        return self._accepted is not None

    def notify_subscriptions(self, publish_message: Any) -> None:
        """Right after `_validate`, with nothing in between: no other message can have come."""
        incoming, self._accepted = self._accepted, None
        if incoming is not None and (incoming.topic, incoming.data) == (
            publish_message.topicIDs[0],
            publish_message.data,
        ):
            self._hooks.deliver(incoming)

    def get_hello_packet(self) -> Any:
        packet = super().get_hello_packet()
        packet.ClearField("senderRecord")
        return packet

    async def write_msg(self, stream: Any, rpc_msg: Any) -> bool:
        """One frame at a time: the router writes beside the queue, and two large frames would mix in the window."""
        rpc_msg.ClearField("senderRecord")
        async with self._writing.setdefault(stream, trio.Lock()):
            return bool(await super().write_msg(stream, rpc_msg))


def make_pubsub(host: Any, hooks: Hooks) -> GuardedPubsub:
    """GossipSub for a small mesh, on a host that does not run yet."""
    check_library()
    pubsub_module.RpcQueue = BoundedQueue
    pubsub_module.env_to_send_in_RPC = _no_sender_record
    gossipsub_module.env_to_send_in_RPC = _no_sender_record
    router = GossipSub(
        protocols=[TProtocol(PROTOCOL)],
        degree=6,
        degree_low=4,
        degree_high=12,
        # The library repairs its mesh every two minutes.
        heartbeat_interval=1,
        heartbeat_initial_delay=0.1,
        gossip_window=3,
        gossip_history=6,
        time_to_live=60,
        do_px=False,
        # Ten messages a second from one neighbour, our own included, the rest lost in silence: we have our own rate.
        spam_protection_enabled=False,
        adaptive_gossip_enabled=False,
        eclipse_protection_enabled=False,
    )
    return GuardedPubsub(host, router, hooks)


@asynccontextmanager
async def running_pubsub(pubsub: GuardedPubsub) -> AsyncIterator[None]:
    """Pubsub outside, router inside; the host comes inside both."""
    async with background_trio_service(pubsub), background_trio_service(pubsub.router):
        await pubsub.wait_until_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pubsub.run_bulk)
            yield
            nursery.cancel_scope.cancel()
