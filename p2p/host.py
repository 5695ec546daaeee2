"""The libp2p host behind plain values: TCP, Noise only, Yamux only, settings as measured.

Peers are strings, streams raise `OSError` only, and nothing is retried, pruned or dialled by itself: see `reconnect`.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import libp2p.stream_muxer.yamux.yamux as yamux
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.peer.peerstore import PeerStoreError
from libp2p.rcmgr import Direction as LibraryDirection
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as Noise
from multiaddr import Multiaddr

from gensyn_node.primitives.errors import InvariantViolation
from p2p import bounds, guard
from p2p.api import Direction, NetworkConfig, PeerId, RequestFailed

StreamHandler = Callable[["Stream"], Awaitable[None]]


class StreamBroken(ConnectionError):  # noqa: N818  (as RequestFailed)
    """The stream or its connection is gone."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A new connection, before any handshake of ours."""

    peer: PeerId
    direction: Direction
    address: str


class Stream:
    """One stream with one peer. Every operation must stand under a deadline of the caller."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.peer: PeerId = str(raw.muxed_conn.peer_id)

    async def read_exactly(self, count: int) -> bytes:
        """`count` bytes, or `StreamBroken`."""
        parts = bytearray()
        while len(parts) < count:
            try:
                part = await self._raw.read(count - len(parts))
            except Exception as error:
                raise StreamBroken(f"stream with {self.peer} broke: {error!r}") from error
            if not part:
                raise StreamBroken(f"stream with {self.peer} ended early")
            parts += part
        return bytes(parts)

    async def write(self, data: bytes) -> None:
        """All of `data`, or `StreamBroken`."""
        try:
            await self._raw.write(data)
        except Exception as error:
            raise StreamBroken(f"stream with {self.peer} broke: {error!r}") from error

    async def wait_closed(self) -> None:
        """Returns when the peer ends or cuts the stream, or says more than was agreed."""
        try:
            await self._raw.read(1)
        except Exception as error:  # noqa: BLE001  (any way of ending is an end)
            guard.log.debug("stream_ended", peer=self.peer, error=repr(error))

    async def close(self) -> None:
        """End it properly; frees the slot of the connection."""
        await self._finish(self._raw.close)

    async def reset(self) -> None:
        """Cut it off."""
        await self._finish(self._raw.reset)

    async def _finish(self, end: Callable[[], Awaitable[None]]) -> None:
        # Shielded, because it also runs while a deadline of ours unwinds and would leak the slot otherwise.
        with trio.CancelScope(deadline=trio.current_time() + bounds.CLOSE_S, shield=True):
            try:
                await end()
            except Exception as error:  # noqa: BLE001  (a broken stream is as closed as it gets)
                guard.log.debug("stream_end_failed", peer=self.peer, error=repr(error))


class Host:
    """A libp2p host; made by `make`, alive inside `running`."""

    def __init__(self, raw: Any, config: NetworkConfig, counters: Counter[str]) -> None:
        self.raw = raw
        self._network = raw.get_network()
        self._listen = [Multiaddr(text) for text in config.listen]
        self.peer_id: PeerId = str(raw.get_id())
        self.on_connected: Callable[[Connected], None] = lambda connected: None
        self.on_disconnected: Callable[[PeerId], None] = lambda peer: None
        self._network.set_stream_handler(guard.StreamGuard(raw._swarm_stream_handler, counters))
        self._network.retry_config = RetryConfig(max_retries=0)
        if not hasattr(self._network.auto_connector, "maybe_connect"):
            raise InvariantViolation("this libp2p has no AutoConnector.maybe_connect")
        # It dials known peers up to half of high_watermark, whatever low_watermark says, banned ones too.
        self._network.auto_connector.maybe_connect = trio.lowlevel.checkpoint
        # It also dials for whoever opens a stream (gossip does right after a connection, which may be gone again) and
        # for peers that others name in a PRUNE of gossip.
        self._own_dials: Counter[PeerId] = Counter()
        self._dial_of_library = self._network.dial_peer
        self._network.dial_peer = self._dial_if_ours
        self._network.register_notifee(_Notifee(self))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen until the context ends; `OSError` if an address cannot be bound."""
        for address in self._listen:
            _check_free(str(address))
        async with self.raw.run(listen_addrs=self._listen):
            if self._listen and not self.raw.get_transport_addrs():
                raise OSError(f"cannot listen on {', '.join(map(str, self._listen))}")
            try:
                yield
            finally:
                await self._close()

    async def _close(self) -> None:
        """The library's own end is cancelled half way and leaves listening sockets open until the process ends."""
        with trio.CancelScope(deadline=trio.current_time() + 2 * bounds.CLOSE_S, shield=True):
            async with trio.open_nursery() as nursery:
                for peer in list(self._network.connections):
                    nursery.start_soon(self.hang_up, str(peer))
            await self._network.close()

    def addresses(self) -> list[str]:
        """Where we listen, with our id."""
        suffix = f"/p2p/{self.peer_id}"
        return sorted({str(address).removesuffix(suffix) + suffix for address in self.raw.get_transport_addrs()})

    def listen_ports(self) -> tuple[int, ...]:
        """TCP ports that we listen on."""
        return tuple(sorted({int(text.split("/tcp/")[1].split("/")[0]) for text in self.addresses()}))

    def handle(self, protocol: str, handler: StreamHandler) -> None:
        """Serve inbound streams of `protocol`; the stream is closed when the handler returns, reset when it raises."""

        async def run(raw: Any) -> None:
            stream = Stream(raw)
            try:
                await handler(stream)
            except BaseException:
                await stream.reset()
                raise
            await stream.close()

        self.raw.set_stream_handler(TProtocol(protocol), run)

    @asynccontextmanager
    async def stream(self, peer: PeerId, protocol: str) -> AsyncIterator[Stream]:
        """Open a stream to a connected peer, `RequestFailed` if that does not work; closed or reset at the end."""
        if not self.is_connected(peer):
            raise RequestFailed(f"not connected to {peer}")
        try:
            with trio.fail_after(bounds.OPEN_STREAM_S):
                raw = await self.raw.new_stream(ID.from_base58(peer), [TProtocol(protocol)])
        except Exception as error:
            raise RequestFailed(f"cannot open {protocol} to {peer}: {error!r}") from error
        stream = Stream(raw)
        try:
            yield stream
        except BaseException:
            await stream.reset()
            raise
        await stream.close()

    async def dial(self, address: str) -> PeerId:
        """Connect to `…/p2p/PEER` (at once if connected). `RequestFailed` says why not."""
        info = info_from_p2p_addr(Multiaddr(address))
        peer = str(info.peer_id)
        if peer == self.peer_id:
            raise RequestFailed("this is the node itself")
        # The library refuses to dial a peer for 60 s after a failure, whatever the address: we have our own back-off.
        self._network.unblock_peer(info.peer_id)
        if not self.is_connected(peer):
            with suppress(PeerStoreError):  # It clears addresses that have expired, and then complains that they had.
                self.raw.get_peerstore().clear_addrs(info.peer_id)
        try:
            with trio.fail_after(bounds.DIAL_S), self._allowing(peer):
                await self.raw.connect(info)
        except trio.TooSlowError:
            raise RequestFailed(f"no answer within {bounds.DIAL_S:.0f} s") from None
        except Exception as error:
            raise RequestFailed(await _why_unreachable(address) or f"handshake of libp2p failed: {error}") from error
        return peer

    @contextmanager
    def _allowing(self, peer: PeerId) -> Iterator[None]:
        self._own_dials[peer] += 1
        try:
            yield
        finally:
            self._own_dials[peer] -= 1
            if not self._own_dials[peer]:
                del self._own_dials[peer]

    async def _dial_if_ours(self, peer_id: Any) -> Any:
        """The library's `dial_peer`, for peers that `dial` was asked for."""
        if str(peer_id) not in self._own_dials:
            raise SwarmException(f"not connected to {peer_id}, and only the node dials")
        return await self._dial_of_library(peer_id)

    async def hang_up(self, peer: PeerId) -> None:
        """Close every connection with a peer, within `CLOSE_S`."""
        with trio.CancelScope(deadline=trio.current_time() + bounds.CLOSE_S, shield=True):
            await self._network.close_peer(ID.from_base58(peer))

    def is_connected(self, peer: PeerId) -> bool:
        """Whether there is a connection that is not closed."""
        return any(not connection.is_closed for connection in self._network.get_connections(ID.from_base58(peer)))


class _Notifee:
    """The library's listener interface; it calls these by name."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def connected(self, network: Any, connection: Any) -> None:
        await trio.lowlevel.checkpoint()
        inbound = connection.direction == LibraryDirection.INBOUND
        addresses = connection.get_transport_addresses()
        self._host.on_connected(
            Connected(
                str(connection.muxed_conn.peer_id),
                Direction.INBOUND if inbound else Direction.OUTBOUND,
                str(addresses[0]).split("/p2p/")[0] if addresses else "",
            )
        )

    async def disconnected(self, network: Any, connection: Any) -> None:
        await trio.lowlevel.checkpoint()
        peer = str(connection.muxed_conn.peer_id)
        if not self._host.is_connected(peer):
            self._host.on_disconnected(peer)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def closed_stream(self, network: Any, stream: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def listen(self, network: Any, address: Any) -> None:
        await trio.lowlevel.checkpoint()

    async def listen_close(self, network: Any, address: Any) -> None:
        await trio.lowlevel.checkpoint()


async def _why_unreachable(address: str) -> str:
    """What the system says ("Connection refused"), which the library does not tell; empty if TCP works."""
    parts = address.split("/")
    try:
        with trio.fail_after(bounds.CLOSE_S):
            await (await trio.open_tcp_stream(parts[2], int(parts[4]))).aclose()
    except trio.TooSlowError:
        return "no answer to TCP"
    except OSError as error:
        # trio tries every address of a name and wraps what each attempt said.
        cause = error.__cause__
        attempts = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause or error,)
        return "; ".join(sorted({getattr(attempt, "strerror", None) or str(attempt) for attempt in attempts}))
    return ""


def _check_free(address: str) -> None:
    """The library listens with SO_REUSEPORT: a second node would take half of the first one's connections."""
    _, kind, ip, _, port, *_ = address.split("/")
    family = socket.AF_INET6 if kind == "ip6" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, int(port)))
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {error.strerror} (is another node running?)") from error


def make(config: NetworkConfig, counters: Counter[str]) -> Host:
    """A host with our identity and settings; nothing listens yet."""
    guard.install()
    # Fewer window updates: measured 10 % of CPU under gossip. The library reads it at call time.
    os.environ.setdefault("PY_YAMUX_RELEASE_ON_READ", "0")
    if not isinstance(yamux.MAX_WINDOW_SIZE, int):
        raise InvariantViolation("this libp2p has no MAX_WINDOW_SIZE")
    yamux.MAX_WINDOW_SIZE = bounds.STREAM_WINDOW_BYTES
    keys = create_new_key_pair(config.identity_seed)
    raw = new_host(
        key_pair=keys,
        # Named alone, or TLS, SECIO and plaintext are offered too.
        sec_opt={NOISE_ID: Noise(keys, noise_privkey=create_noise_key_pair().private_key)},
        muxer_opt={TProtocol(yamux.PROTOCOL_ID): yamux.Yamux},
        listen_addrs=[Multiaddr(text) for text in config.listen],
        negotiate_timeout=int(bounds.OPEN_STREAM_S),
        connection_config=ConnectionConfig(
            min_connections=0,
            low_watermark=0,
            high_watermark=config.peers_max,
            max_connections=config.peers_max,
            # Two, because both sides may dial at once; pruning one of the pair from either side could lose both.
            max_connections_per_peer=2,
        ),
    )
    return Host(raw, config, counters)
