"""The library's Pubsub with its holes closed; `gossip` is built on it. The only file that knows pubsub's insides.

Each method overridden or name replaced here is one trap of py-libp2p 0.8.1; `check_library` refuses any other shape.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
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

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from p2p import bounds, reasons
from p2p.api import PeerId
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
    """Frames waiting for one neighbour, bounded in number and in bytes (the library: 32 frames)."""

    lost: ClassVar[Counter[str]] = Counter()
    """Frames not queued, all neighbours of the process."""

    def __init__(self) -> None:
        super().__init__(bounds.GOSSIP_QUEUE_MESSAGES, bounds.GOSSIP_RPC_BYTES_MAX)
        self.waiting_bytes = 0

    def push(self, rpc: Any, priority: bool = False) -> bool:
        """False if the frame does not fit any more."""
        size = rpc.ByteSize()
        if self.waiting_bytes + size > bounds.GOSSIP_QUEUE_BYTES or not super().push(rpc, priority):
            self.lost["gossip_queue_full"] += 1
            return False
        self.waiting_bytes += size
        return True

    async def pop(self) -> Any:
        """The next frame, None at the end."""
        rpc = await super().pop()
        if rpc is not None:
            self.waiting_bytes -= rpc.ByteSize()
        return rpc


def _no_sender_record(host: Any) -> tuple[bytes, bool]:
    """Instead of a signed address record in every frame (made, sent, verified each time, and of no use to us)."""
    return b"", False


def message_id(message: Any) -> bytes:
    """20 bytes of topic and content: whoever wrote it, it is the same message."""
    hasher = hashlib.sha256()
    for topic in message.topicIDs:
        hasher.update(topic.encode() + b"\x00")
    hasher.update(b"\x00" + message.data)
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
        self._writing: WeakKeyDictionary[Any, trio.Lock] = WeakKeyDictionary()

    async def join(self, topic: str) -> None:
        """Subscribe and validate. The library's own channel stays empty: see `notify_subscriptions`."""
        self.set_topic_validator(topic, self._validate, False)
        await self.subscribe(topic)

    async def stream_handler(self, stream: Any) -> None:
        """A neighbour's gossip stream: refused without handshake, ended at the first bytes that are no gossip."""
        peer = str(stream.muxed_conn.peer_id)
        if not await self._hooks.admitted(peer):
            await stream.reset()
            return
        try:
            await super().stream_handler(stream)
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
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:
            if msg_forwarder == self.my_id:
                raise
            self._hooks.counters["gossip_failures"] += 1
            log.info("gossip_failed", peer=sender, error=repr(error))

    def _validate(self, msg_forwarder: ID, msg: Any) -> bool:
        incoming = Incoming(msg.topicIDs[0], msg.data, str(msg_forwarder))
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
        yield
