"""Connections and handshakes: who is connected, who has been let in, who must go.

The dialler speaks first; whoever has not shaken hands in time is disconnected. Other parts ask `admitted`.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
import trio

from gensyn_node.primitives.errors import Rejection
from p2p import handshake, reasons
from p2p.api import Direction, NetworkConfig, PeerEvent, PeerEventKind, PeerId, PeerInfo, RequestFailed
from p2p.book import is_public, parse_address
from p2p.bounds import CONNECTIONS_PER_SUBNET, HELLO_BYTES_MAX
from p2p.frames import read_frame, write_frame
from p2p.host import Connected, Host, Stream
from p2p.scoring import ScoreBoard

log = structlog.get_logger("p2p.peers")

REFUSED_REMEMBERED = 16


@dataclass(slots=True)
class Peer:
    """A connected peer, before and after its handshake."""

    peer: PeerId
    direction: Direction
    address: str
    connected_at: float
    ready: trio.Event = field(default_factory=trio.Event)
    gone: trio.Event = field(default_factory=trio.Event)
    hello: handshake.Hello | None = None
    head_height: int = 0
    latency_ms: int | None = None
    why_gone: str = "connection lost"


class PeerTable:
    """Every connection, from the host's first word of it to its end."""

    def __init__(self, config: NetworkConfig, host: Host, board: ScoreBoard, counters: Counter[str]) -> None:
        self._config = config
        self._host = host
        self._board = board
        self._counters = counters
        self._peers: dict[PeerId, Peer] = {}
        self._nursery: trio.Nursery | None = None
        self._subscribers: list[trio.MemorySendChannel[PeerEvent]] = []
        self._dialling: dict[PeerId, str] = {}
        """Peers being dialled, with why the handshake failed once it has."""
        self.refused: deque[str] = deque(maxlen=REFUSED_REMEMBERED)
        self.head_height = 0
        self.on_ready: list[Callable[[Peer], None]] = []
        """Called, in order, right after a handshake; must not block."""
        host.on_connected = self._connected
        host.on_disconnected = self._disconnected
        host.handle(handshake.PROTOCOL, self._answer_hello)

    def start(self, nursery: trio.Nursery) -> None:
        """From now on connections get a handshake; `nursery` must live as long as the host runs."""
        self._nursery = nursery

    def stop(self) -> None:
        """No new handshakes; what disconnects from now on is our own doing."""
        self._nursery = None
        for channel in self._subscribers:
            channel.close()
        self._subscribers.clear()

    @property
    def me(self) -> PeerId:
        """Our own id."""
        return self._host.peer_id

    # What others ask ----------------------------------------------------------------------------------------------

    def get(self, peer: PeerId) -> Peer | None:
        """A peer after its handshake."""
        found = self._peers.get(peer)
        return found if found is not None and found.ready.is_set() else None

    def ready(self) -> list[Peer]:
        """Peers after their handshake, sorted."""
        return [self._peers[peer] for peer in sorted(self._peers) if self._peers[peer].ready.is_set()]

    async def admitted(self, peer: PeerId) -> bool:
        """Whether the peer has shaken hands; waits for a handshake under way."""
        found = self._peers.get(peer)
        if found is None:
            return False
        if not found.ready.is_set():
            with trio.move_on_after(self._config.handshake_timeout_s):
                await _first_of(found.ready, found.gone)
        return found.ready.is_set()

    def infos(self) -> list[PeerInfo]:
        """For people and roles."""
        now, wall = trio.current_time(), time.time()
        return [
            PeerInfo(
                peer.peer,
                peer.address,
                peer.direction,
                peer.hello.software_version,
                peer.hello.protocol_version,
                peer.head_height,
                peer.latency_ms,
                self._board.score(peer.peer, wall),
                int(now - peer.connected_at),
            )
            for peer in self.ready()
            if peer.hello is not None
        ]

    def events(self, capacity: int) -> trio.MemoryReceiveChannel[PeerEvent]:
        """A new subscription."""
        send, receive = trio.open_memory_channel[PeerEvent](capacity)
        self._subscribers.append(send)
        return receive

    # What others do -----------------------------------------------------------------------------------------------

    async def dial(self, address: str) -> PeerId:
        """Connect and shake hands, or `RequestFailed` with what a person needs to know."""
        peer = parse_address(address)[3]
        self._dialling[peer] = ""
        try:
            await self._host.dial(address)
            if not await self.admitted(peer):
                raise RequestFailed(self._dialling.get(peer) or "the peer hung up before the handshake")
        finally:
            self._dialling.pop(peer, None)
        return peer

    async def disconnect(self, peer: PeerId, why: str) -> None:
        """Close all connections with a peer."""
        found = self._peers.get(peer)
        if found is not None and not found.gone.is_set():
            found.why_gone = why
        await self._host.hang_up(peer)
        if not self._host.is_connected(peer):
            self._disconnected(peer)

    async def report(self, peer: PeerId, rejection: Rejection) -> None:
        """Count and score what a peer did; a ban disconnects."""
        if peer == self._host.peer_id:
            return
        self._count(rejection)
        ban = self._board.charge(peer, rejection, time.time())
        if ban is not None:
            self._counters["bans"] += 1
            log.warning("peer_banned", peer=peer, code=ban.code, why=ban.message)
            await self.disconnect(peer, f"banned: {ban.code} {ban.message}")

    def _count(self, rejection: Rejection) -> None:
        self._counters[f"rejected_{rejection.reason.name}"] += 1

    def report_soon(self, peer: PeerId, rejection: Rejection) -> None:
        """`report` from code that cannot wait."""
        if self._nursery is not None:
            self._nursery.start_soon(self.report, peer, rejection)

    # Connections --------------------------------------------------------------------------------------------------

    def _connected(self, connected: Connected) -> None:
        self._counters["connections"] += 1
        if self._nursery is None:
            return
        peer = self._record(connected)
        ban = self._board.ban_of(connected.peer, time.time())
        if connected.direction is Direction.OUTBOUND:
            self._nursery.start_soon(self._greet, peer)
        elif ban is None and self._subnet_is_full(connected.address):
            self._counters["connections_refused"] += 1
            self._nursery.start_soon(self.disconnect, connected.peer, "too many connections from one network")
        else:
            self._nursery.start_soon(self._expect_hello, peer)

    def _record(self, connected: Connected) -> Peer:
        """The record of a peer: a hello may overtake the news of its connection, and both sides may dial at once."""
        peer = self._peers.get(connected.peer)
        if peer is None:
            peer = Peer(connected.peer, connected.direction, connected.address, trio.current_time())
            self._peers[connected.peer] = peer
        elif not peer.address or connected.direction is Direction.OUTBOUND:
            peer.direction, peer.address = connected.direction, connected.address
        return peer

    def _subnet_is_full(self, address: str) -> bool:
        mine = _subnet(address)
        if mine is None:
            return False
        others = [peer for peer in self._peers.values() if peer.direction is Direction.INBOUND]
        return sum(1 for peer in others if _subnet(peer.address) == mine) > CONNECTIONS_PER_SUBNET

    def _disconnected(self, peer_id: PeerId) -> None:
        peer = self._peers.pop(peer_id, None)
        if peer is None:
            return
        peer.gone.set()
        if peer.ready.is_set():
            self._counters["disconnects"] += 1
            self._emit(PeerEvent(PeerEventKind.DISCONNECTED, peer_id, peer.why_gone))

    def _emit(self, event: PeerEvent) -> None:
        for channel in list(self._subscribers):
            try:
                channel.send_nowait(event)
            except trio.BrokenResourceError:
                self._subscribers.remove(channel)
            except trio.WouldBlock:
                # A reader that missed an event must not go on as if it had not.
                channel.close()
                self._subscribers.remove(channel)

    # Handshakes ---------------------------------------------------------------------------------------------------

    def _hello(self) -> handshake.Hello:
        return handshake.hello_of(self._config, self.head_height, self._host.listen_ports())

    async def _greet(self, peer: Peer) -> None:
        """The dialler's side."""
        ours = self._hello()
        try:
            with trio.fail_after(self._config.handshake_timeout_s):
                async with self._host.stream(peer.peer, handshake.PROTOCOL) as stream:
                    await write_frame(stream, handshake.encode_hello(ours))
                    data = await read_frame(stream, HELLO_BYTES_MAX, reasons.WRONG_FRAME)
            reply = handshake.decode_reply(data)
        except (OSError, trio.TooSlowError, Rejection) as error:
            if not peer.ready.is_set():
                await self._refuse(peer, f"handshake with {peer.peer} failed: {error or 'no answer in time'}")
            return
        rejection = handshake.mismatch(ours, reply.hello)
        if rejection is not None:
            self._count(rejection)
            await self._refuse(peer, str(rejection))
        elif reply.refusal_code:
            await self._refuse(peer, f"the peer refuses us: {reply.refusal_code} {reply.refusal}")
        elif self._board.ban_of(peer.peer, time.time()) is not None:
            await self._refuse(peer, "the peer is banned here")
        else:
            self._admit(peer, reply.hello)

    async def _answer_hello(self, stream: Stream) -> None:
        """The listener's side."""
        peer = self._record(Connected(stream.peer, Direction.INBOUND, ""))
        ours = self._hello()
        try:
            with trio.fail_after(self._config.handshake_timeout_s):
                theirs = handshake.decode_hello(await read_frame(stream, HELLO_BYTES_MAX, reasons.WRONG_FRAME))
                rejection = handshake.mismatch(ours, theirs) or self._ban_as_rejection(stream.peer)
                refusal = ("", "") if rejection is None else (rejection.reason.code, rejection.message)
                if rejection is not None:
                    self._count(rejection)
                else:
                    # Before the answer: what the dialler sends right after it must find it admitted.
                    self._admit(peer, theirs)
                await write_frame(stream, handshake.encode_reply(handshake.HelloReply(ours, *refusal)))
        except Rejection as error:
            await self.report(stream.peer, error)
            rejection = error
        except (OSError, trio.TooSlowError):
            return
        if rejection is not None:
            # Leave the dialler a moment to read why.
            with trio.move_on_after(1.0):
                await peer.gone.wait()
            await self._refuse(peer, str(rejection))

    def _ban_as_rejection(self, peer: PeerId) -> Rejection | None:
        ban = self._board.ban_of(peer, time.time())
        if ban is None:
            return None
        left = int(ban.until - time.time()) + 1
        return Rejection(reasons.BANNED, f"for another {left} s, because of {ban.code} {ban.message}")

    async def _expect_hello(self, peer: Peer) -> None:
        with trio.move_on_after(self._config.handshake_timeout_s):
            await _first_of(peer.ready, peer.gone)
        if not peer.ready.is_set() and not peer.gone.is_set():
            await self._refuse(peer, f"no handshake from {peer.peer} in {self._config.handshake_timeout_s:g} s")

    def _admit(self, peer: Peer, hello: handshake.Hello) -> None:
        peer.hello = hello
        peer.head_height = hello.head_height
        if peer.ready.is_set() or peer.gone.is_set():
            return
        peer.ready.set()
        self._counters["handshakes"] += 1
        for callback in self.on_ready:
            callback(peer)
        self._emit(PeerEvent(PeerEventKind.CONNECTED, peer.peer, ""))

    async def _refuse(self, peer: Peer, why: str) -> None:
        self._counters["handshakes_refused"] += 1
        if peer.peer in self._dialling:
            self._dialling[peer.peer] = why
        if why not in self.refused:
            self.refused.append(why)
        log.info("handshake_refused", peer=peer.peer, why=why)
        await self.disconnect(peer.peer, why)


async def _first_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


def _subnet(address: str) -> str | None:
    """The public network an address belongs to; None for a private one, where neighbours are trusted to be many."""
    if not is_public(address):
        return None
    parts = address.split("/")
    if len(parts) < 3:
        return None
    prefix = 24 if parts[1] == "ip4" else 48
    return str(ipaddress.ip_network(f"{parts[2]}/{prefix}", strict=False))
