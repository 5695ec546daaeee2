"""Keeps the node connected: every seed for ever, then known peers up to the number wanted, with back-off and jitter.

A seed that is down is a state that is shown, never an error. Addresses come from the book and from the peer exchange:
a peer is asked for addresses after its handshake; only addresses that worked for us are given to others.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

import structlog
import trio

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from p2p import bounds
from p2p.api import Direction, NetworkConfig, PeerId, RequestFailed, RequestRefused, SeedInfo, SeedState
from p2p.book import AddressBook, is_public, parse_address
from p2p.peers import Peer, PeerTable
from p2p.requests import RequestService
from p2p.scoring import ScoreBoard

log = structlog.get_logger("p2p.reconnect")

EXCHANGE_METHOD = "peers"
PING_METHOD = "ping"
FILL_INTERVAL_S = 2.0
SAVE_INTERVAL_S = 30.0
HEIGHT_BYTES = 8
PINGS_MISSED_MAX = 2
"""A machine that trains may be late once."""


@dataclass(slots=True)
class _Target:
    """Back-off of one peer."""

    address: str
    peer: PeerId
    state: SeedState = SeedState.WAITING
    attempts: int = 0
    last_error: str = ""
    next_try: float = 0.0


class Keeper:
    """Dials, pings, exchanges addresses, keeps the book. One for each network."""

    def __init__(
        self,
        config: NetworkConfig,
        table: PeerTable,
        requests: RequestService,
        board: ScoreBoard,
        book: AddressBook,
        counters: Counter[str],
    ) -> None:
        self._config = config
        self._table = table
        self._requests = requests
        self._board = board
        self._book = book
        self._counters = counters
        self._seeds = [_Target(address, parse_address(address)[3]) for address in config.seeds]
        self._others: dict[PeerId, _Target] = {}
        self._random = random.Random(config.identity_seed)
        self._nursery: trio.Nursery | None = None
        table.on_ready.append(self._on_ready)
        requests.serve(PING_METHOD, self._answer_ping, max_request_bytes=HEIGHT_BYTES, per_second=5.0)
        requests.serve(EXCHANGE_METHOD, self._answer_exchange, max_request_bytes=0, per_second=0.5)

    def start(self, nursery: trio.Nursery) -> None:
        """Start dialling."""
        self._nursery = nursery
        for seed in self._seeds:
            nursery.start_soon(self._keep_seed, seed)
        nursery.start_soon(self._fill)
        nursery.start_soon(self._save_often)

    def seeds(self) -> list[SeedInfo]:
        """In the order of the configuration."""
        now = trio.current_time()
        return [
            SeedInfo(
                seed.address,
                seed.peer,
                seed.state,
                seed.attempts,
                seed.last_error,
                max(0.0, seed.next_try - now) if seed.state is SeedState.WAITING else None,
            )
            for seed in self._seeds
        ]

    def save(self) -> None:
        """Write the book; outbound peers of this moment are the anchors of the next start."""
        outbound = [peer.peer for peer in self._table.ready() if peer.direction is Direction.OUTBOUND]
        try:
            self._book.save(self._board.bans(time.time()), outbound)
        except OSError as error:  # a full disk: the book in memory goes on
            log.error("address_book_not_saved", why=str(error))

    # Dialling -----------------------------------------------------------------------------------------------------

    async def _keep_seed(self, seed: _Target) -> None:
        while True:
            peer = self._table.get(seed.peer)
            if peer is None and await self._attempt(seed):
                peer = self._table.get(seed.peer)
            if peer is not None:
                seed.state, seed.attempts, seed.last_error = SeedState.CONNECTED, 0, ""
                await peer.gone.wait()
                seed.state, seed.last_error = SeedState.WAITING, peer.why_gone
                seed.next_try = trio.current_time() + self._back_off(0)
            await trio.sleep_until(seed.next_try)

    async def _attempt(self, target: _Target) -> bool:
        """Dial once; on failure note why and when next."""
        target.state = SeedState.DIALLING
        self._counters["dials"] += 1
        try:
            if self._board.ban_of(target.peer, time.time()) is not None:
                raise RequestFailed("the peer is banned here")
            await self._table.dial(target.address)
            if self._table.get(target.peer) is None:
                raise RequestFailed("the peer hung up right after the handshake")
        except RequestFailed as error:
            self._counters["dials_failed"] += 1
            target.last_error = str(error)
            target.next_try = trio.current_time() + self._back_off(target.attempts)
            target.attempts += 1
            target.state = SeedState.WAITING
            return False
        return True

    def _back_off(self, attempts: int) -> float:
        """Doubling, with half of it random: peers that lost the same seed do not come back in step."""
        full = min(self._config.retry_max_s, self._config.retry_first_s * float(1 << min(attempts, 16)))
        return full * (0.5 + 0.5 * self._random.random())

    async def _fill(self) -> None:
        """Dial known peers while there are fewer outbound connections than wanted."""
        while True:
            outbound = sum(1 for peer in self._table.ready() if peer.direction is Direction.OUTBOUND)
            for target in self._candidates()[: max(0, self._config.peers_wanted - outbound)]:
                if not await self._attempt(target) and target.attempts >= 8:
                    self._book.forget(target.peer)
                    self._others.pop(target.peer, None)
            await trio.sleep(FILL_INTERVAL_S * (0.5 + self._random.random()))

    def _candidates(self) -> list[_Target]:
        now, wall = trio.current_time(), time.time()
        seeds = {seed.peer for seed in self._seeds}
        targets = []
        for entry in self._book.entries():
            if entry.peer in seeds or self._table.get(entry.peer) or self._board.ban_of(entry.peer, wall):
                continue
            target = self._others.get(entry.peer)
            if target is None or target.address != entry.address:
                target = self._others[entry.peer] = _Target(entry.address, entry.peer)
            if target.next_try <= now:
                targets.append(target)
        return targets

    def hold_off(self, peer: PeerId) -> None:
        """Do not dial a peer for a while that has just been disconnected on purpose."""
        target = self._others.get(peer)
        if target is not None:
            target.next_try = trio.current_time() + self._config.retry_max_s

    async def _save_often(self) -> None:
        while True:
            await trio.sleep(SAVE_INTERVAL_S)
            await trio.to_thread.run_sync(self.save)

    # After a handshake --------------------------------------------------------------------------------------------

    def _on_ready(self, peer: Peer) -> None:
        if self._nursery is None:
            return
        self._nursery.start_soon(self._ping_until_gone, peer)
        if peer.direction is Direction.OUTBOUND:
            target = self._others.get(peer.peer)
            if target is not None:
                target.attempts, target.last_error = 0, ""
            self._learn(f"{peer.address}/p2p/{peer.peer}", proven=True)
            self._nursery.start_soon(self._exchange, peer)
        else:
            self._nursery.start_soon(self._dial_back, peer)

    def _learn(self, address: str, *, proven: bool) -> None:
        try:
            self._book.learn(address, proven=proven, now=time.time())
        except Rejection as rejection:
            log.info("address_refused", address=address, error=str(rejection))

    async def _ping_until_gone(self, peer: Peer) -> None:
        """Notices a peer that hangs, and tells the heads."""
        missed = 0
        while not peer.gone.is_set():
            asked = trio.current_time()
            try:
                answer = await self._requests.request(
                    peer.peer,
                    PING_METHOD,
                    self._table.head_height.to_bytes(HEIGHT_BYTES, "big"),
                    timeout_s=self._config.ping_timeout_s,
                    max_reply_bytes=HEIGHT_BYTES,
                )
                peer.latency_ms = round(1000 * (trio.current_time() - asked))
                peer.head_height = int.from_bytes(answer, "big")
                missed = 0
            except (RequestFailed, RequestRefused, Rejection) as error:
                missed += 1
                if missed >= PINGS_MISSED_MAX and not peer.gone.is_set():
                    self._counters["peers_silent"] += 1
                    await self._table.disconnect(peer.peer, f"does not answer pings: {error}")
                    return
            with trio.move_on_after(self._config.ping_interval_s * (0.75 + 0.5 * self._random.random())):
                await peer.gone.wait()

    async def _answer_ping(self, peer_id: PeerId, data: bytes) -> bytes:
        peer = self._table.get(peer_id)
        if peer is not None and len(data) == HEIGHT_BYTES:
            peer.head_height = int.from_bytes(data, "big")
        return self._table.head_height.to_bytes(HEIGHT_BYTES, "big")

    async def _exchange(self, peer: Peer) -> None:
        """Ask for addresses. Private ones are believed only of a peer that is itself at a private address."""
        try:
            data = await self._requests.request(peer.peer, EXCHANGE_METHOD, b"", max_reply_bytes=8 * 1024)
            addresses: tuple[str, ...] = decode(tuple[str, ...], data)
            for address in addresses[: bounds.EXCHANGED_ADDRESSES_MAX]:
                known = parse_address(address)[3]
                if known not in (peer.peer, self._table.me) and (is_public(address) or not is_public(peer.address)):
                    self._learn(address, proven=False)
        except Rejection as rejection:
            await self._table.report(peer.peer, rejection)
        except (RequestFailed, RequestRefused) as error:
            log.info("exchange_failed", peer=peer.peer, error=str(error))

    async def _answer_exchange(self, peer_id: PeerId, data: bytes) -> bytes:
        asker = self._table.get(peer_id)
        private_too = asker is not None and not is_public(asker.address)
        addresses = [
            entry.address
            for entry in self._book.entries()
            if entry.proven and entry.peer != peer_id and (private_too or is_public(entry.address))
        ]
        return encode(tuple(self._random.sample(addresses, min(len(addresses), bounds.EXCHANGED_ADDRESSES_MAX))))

    async def _dial_back(self, peer: Peer) -> None:
        """Whether an inbound peer can be reached where it says it listens; if so others may learn of it."""
        if peer.hello is None or not peer.address:
            return
        kind, host = peer.address.split("/")[1:3]
        for port in peer.hello.listen_ports:
            try:
                with trio.fail_after(bounds.DIAL_S):
                    await (await trio.open_tcp_stream(host, port)).aclose()
            except (OSError, trio.TooSlowError):
                continue
            self._learn(f"/{kind}/{host}/tcp/{port}/p2p/{peer.peer}", proven=True)
            return
