"""All parts as one context: `async with open_network(config) as network`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from p2p import handshake, host, reasons
from p2p.api import BanInfo, Blobs, Gossip, NetworkConfig, PeerEvent, PeerId, PeerInfo, Peers, Requests, SeedInfo
from p2p.blobs import BlobService
from p2p.blobstore import BlobStore
from p2p.book import AddressBook, parse_address
from p2p.gossip import GossipService
from p2p.peers import PeerTable
from p2p.pubsub import BoundedQueue
from p2p.reconnect import Keeper
from p2p.requests import RequestService
from p2p.scoring import ScoreBoard

BOOK_FILE = "peers.bin"
"""Addresses and bans, in the network's directory."""
STOP_S = 5.0
"""How long peers may take to let us go."""


class PeerAdministration:
    """`api.Peers`: the table, the keeper and the score board behind one face."""

    def __init__(self, table: PeerTable, keeper: Keeper, board: ScoreBoard) -> None:
        self._table = table
        self._keeper = keeper
        self._board = board

    def connected(self) -> Sequence[PeerInfo]:
        return self._table.infos()

    def seeds(self) -> Sequence[SeedInfo]:
        return self._keeper.seeds()

    def bans(self) -> Sequence[BanInfo]:
        now = time.time()
        return [BanInfo(ban.peer, ban.code, ban.message, ban.until - now) for ban in self._board.bans(now)]

    def refused_handshakes(self) -> Sequence[str]:
        return tuple(self._table.refused)

    def events(self, *, capacity: int = 256) -> trio.MemoryReceiveChannel[PeerEvent]:
        return self._table.events(capacity)

    async def report(self, peer: PeerId, rejection: Rejection) -> None:
        await self._table.report(peer, rejection)

    async def ban(self, peer: PeerId, message: str, *, seconds: float | None = None) -> None:
        self._board.ban(peer, reasons.BY_OPERATOR, message, time.time(), seconds)
        await self._table.disconnect(peer, f"banned: {message}")

    def unban(self, peer: PeerId) -> None:
        self._board.lift(peer)

    async def connect(self, address: str) -> PeerId:
        parse_address(address)
        return await self._table.dial(address)

    async def disconnect(self, peer: PeerId, why: str) -> None:
        self._keeper.hold_off(peer)
        await self._table.disconnect(peer, why)


class LibP2PNetwork:
    """`api.Network` over real sockets; made by `open_network` only."""

    def __init__(self, config: NetworkConfig, fatal: trio.MemorySendChannel[InvariantViolation]) -> None:
        def stop_for(error: InvariantViolation) -> None:
            fatal.send_nowait(error)

        config.directory.mkdir(parents=True, exist_ok=True)
        self._counters: Counter[str] = Counter()
        self._host = host.make(config, self._counters)
        board = ScoreBoard(config.ban_seconds)
        book = AddressBook(config.directory / BOOK_FILE)
        for ban in book.load():
            board.restore(ban)
        self._table = PeerTable(config, self._host, board, self._counters)
        self._requests = RequestService(config.chain_id, self._host, self._table, self._counters, stop_for)
        self._keeper = Keeper(config, self._table, self._requests, board, book, self._counters)
        self._gossip = GossipService(config.chain_id, self._host, self._table, self._counters, stop_for)
        store = BlobStore(config.directory / "blobs")
        self._blobs = BlobService(config, self._host, self._table, self._requests, store, self._counters)
        self._peers = PeerAdministration(self._table, self._keeper, board)

    @property
    def peer_id(self) -> PeerId:
        return self._host.peer_id

    @property
    def addresses(self) -> Sequence[str]:
        return self._host.addresses()

    @property
    def gossip(self) -> Gossip:
        return self._gossip

    @property
    def requests(self) -> Requests:
        return self._requests

    @property
    def peers(self) -> Peers:
        return self._peers

    @property
    def blobs(self) -> Blobs:
        return self._blobs

    def set_head(self, height: int) -> None:
        """See `api.Network`."""
        self._table.head_height = height

    def counters(self) -> Mapping[str, int]:
        """See `api.Network`."""
        return dict(self._counters + BoundedQueue.lost)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pubsub outermost, the host inside it so that streams end first, our tasks inside both."""
        with trio.CancelScope() as stopping:
            async with self._gossip.running(), self._host.running(), trio.open_nursery() as nursery:
                self._table.start(nursery)
                self._keeper.start(nursery)
                try:
                    yield
                finally:
                    stopping.deadline = trio.current_time() + STOP_S
                    self._keeper.save()
                    self._table.stop()
                    nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_network(config: NetworkConfig) -> AsyncIterator[LibP2PNetwork]:
    """A running host. `Rejection` for a bad configuration, `OSError` for a port that is taken.

    An `InvariantViolation` raised in a handler or validator ends the context with that error.
    """
    handshake.check_chain_id(config.chain_id)
    if len(config.identity_seed) != 32 or len(config.genesis_hash) != 32:
        raise InvariantViolation("identity seed and genesis hash have 32 bytes")
    send, receive = trio.open_memory_channel[InvariantViolation](16)
    network = LibP2PNetwork(config, send)

    async def watch() -> None:
        raise await receive.receive()

    failed: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            async with network.running():
                yield network
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The nursery above (and the library's) wrap one error in groups; the caller gets the error.
        failed = _only_error(group)
    if failed is not None:
        raise failed


def _only_error(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
