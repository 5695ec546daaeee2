"""What the rest of the node sees of the network: protocols and plain values, no libp2p type.

`p2p.network.open_network(config)` is the one implementation over real sockets; a test or a simulator may bring another.

Three kinds of failure, never mixed:
`RequestFailed` the peer did not answer (gone, silent, no such method): try another one, nobody is to blame yet;
`RequestRefused` the peer answered with a reason why it will not serve us;
`Rejection` what came from a peer, or what we were asked to send, breaks a rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeAlias

import trio

from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection

PeerId: TypeAlias = str
"""A peer's name: the base58 form of the hash of its public key (`12D3Koo…`). It proves nothing until connected."""

PROTOCOL_VERSION = 1
"""Version of everything peers say to each other; both must have the same."""


class RequestFailed(OSError):  # noqa: N818  (as RequestRefused)
    """No answer: not connected, no handshake, reset, timed out, or the peer does not know the method."""


class RequestRefused(Exception):  # noqa: N818  (it names the event, as Rejection does)
    """The peer answered with a reason instead of a reply. `code` is an `E…` code of its registry, not checked."""

    def __init__(self, peer: PeerId, code: str, message: str) -> None:
        super().__init__(f"{peer} refused: {code} {message}")
        self.peer = peer
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """All that `open_network` needs. Times are in seconds and are never part of anything agreed on."""

    chain_id: str
    """Letters, digits, `-`, `_` and `.`, at most 64; part of every topic and method name on the wire."""
    genesis_hash: bytes
    identity_seed: bytes
    """32 bytes; the same seed gives the same PeerId. Not the validator's key and not the account's."""
    directory: Path
    """Holds the address book (`peers.bin`) and the blobs (`blobs/`)."""
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/0",)
    seeds: tuple[str, ...] = ()
    """Addresses `/ip4/…/tcp/…/p2p/PEER` that are kept connected; each is retried for ever and shown while down."""
    software_version: str = "gensyn/0.1.0"
    peers_wanted: int = 12
    """Outbound connections that the node tries to keep, seeds included."""
    peers_max: int = 64
    retry_first_s: float = 0.5
    retry_max_s: float = 60.0
    handshake_timeout_s: float = 10.0
    ping_interval_s: float = 5.0
    """Every connection is asked for its head this often; a peer silent for `ping_timeout_s` is disconnected."""
    ping_timeout_s: float = 5.0
    blob_bytes_per_second: int | None = None
    """Pace of downloads, all blobs together; None is as fast as it goes. A validator should set it."""
    ban_seconds: float = 3600.0


# Gossip ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GossipMessage:
    """One accepted message. `sender` is the neighbour it came from (the one to score), not its author."""

    topic: str
    data: bytes
    sender: PeerId


GossipValidator: TypeAlias = Callable[[PeerId, bytes], None]
"""(sender, data) -> None, or raises `Rejection`: then the message is not forwarded and its sender is scored.

Cheap, without side effects, and a verdict about the data alone (the sender is for logs). A message that is only too
early must pass and be kept by the receiver: a refused message cannot come again for minutes. Any other exception
counts as our bug and drops the message; an `InvariantViolation` ends the network's context.
"""


GossipTaker: TypeAlias = Callable[[PeerId, bytes], Awaitable[None]]
"""(sender, data) -> None: takes a bulk message, or raises as a `GossipValidator` does. May wait, and should let other
tasks work when it takes longer than a millisecond."""


class Gossip(Protocol):
    """Best-effort broadcast. Nothing may depend on it for liveness: whatever is missing is asked for by request."""

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to everybody on our chain's topic; `Rejection` GOSSIP_TOO_LARGE over `GOSSIP_BYTES_MAX`."""

    async def subscribe(
        self, topic: str, validate: GossipValidator, *, capacity: int = 4096, per_second: float = 200.0
    ) -> trio.MemoryReceiveChannel[GossipMessage]:
        """Join a topic (once). Each distinct message arrives once; a full channel loses the newest and counts it.

        `per_second` bounds what one neighbour may send on this topic (burst: four seconds' worth).
        Own messages do not come back.
        """

    async def subscribe_bulk(self, topic: str, take: GossipTaker, *, per_second: float = 200.0) -> None:
        """Join a topic (once) of which there is much and nothing is urgent: everything else goes before it.

        `take` gets one message at a time and checks it as well; what it took is passed on. Messages wait for it in a
        queue with a bound for each neighbour, and for the neighbours behind the frames of all other topics; what does
        not fit is lost and counted.
        """


# Requests -------------------------------------------------------------------------------------------------------------

RequestHandler: TypeAlias = Callable[[PeerId, bytes], Awaitable[bytes]]
"""(peer, request) -> reply. `Rejection` goes back as code and message and lowers the peer's score if its reason has a
weight; any other exception is logged and answered with "internal error"."""


class Requests(Protocol):
    """One question, one answer, on a stream of its own."""

    def serve(
        self,
        method: str,
        handler: RequestHandler,
        *,
        max_request_bytes: int = 64 * limits.KIB,
        max_reply_bytes: int = limits.MESSAGE_BYTES_MAX,
        per_second: float = 50.0,
        timeout_s: float = 10.0,
    ) -> None:
        """Answer `method` (lower-case letters, digits, `-`, `/`); `per_second` per peer, burst of four seconds'."""

    async def request(
        self,
        peer: PeerId,
        method: str,
        data: bytes,
        *,
        timeout_s: float = 10.0,
        max_reply_bytes: int = limits.MESSAGE_BYTES_MAX,
    ) -> bytes:
        """Ask a connected peer. Raises `RequestFailed`, `RequestRefused`, or `Rejection` for an oversized reply."""


# Peers ----------------------------------------------------------------------------------------------------------------


class Direction(Enum):
    """Who dialled."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer after a successful handshake."""

    peer: PeerId
    address: str
    """The remote end of the connection as `/ip4/…/tcp/…` (an inbound peer's port is not where it listens)."""
    direction: Direction
    software_version: str
    protocol_version: int
    head_height: int
    """What the peer last claimed, at most a ping interval ago; unproven."""
    latency_ms: int | None
    score: int
    """0 is clean; refused input lowers it, time raises it again; at the bound the peer is banned."""
    connected_s: int


class SeedState(Enum):
    """Where the node stands with a seed."""

    CONNECTED = "connected"
    DIALLING = "dialling"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class SeedInfo:
    """A configured seed, up or down."""

    address: str
    peer: PeerId
    state: SeedState
    attempts: int
    """Failed attempts since it was last connected."""
    last_error: str
    """Empty if there was none since the last connection."""
    next_retry_s: float | None
    """Seconds until the next attempt while WAITING."""


@dataclass(frozen=True, slots=True)
class BanInfo:
    """A peer that is not let in."""

    peer: PeerId
    code: str
    message: str
    expires_in_s: float


class PeerEventKind(Enum):
    """CONNECTED comes after the handshake, never before."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """A change of the set `Peers.connected()`."""

    kind: PeerEventKind
    peer: PeerId
    why: str


class Peers(Protocol):
    """Who is there, who should be, and who must not."""

    def connected(self) -> Sequence[PeerInfo]:
        """Peers after the handshake, sorted by id."""

    def seeds(self) -> Sequence[SeedInfo]:
        """Every configured seed in the order of the configuration."""

    def bans(self) -> Sequence[BanInfo]:
        """Bans in force, sorted by peer."""

    def refused_handshakes(self) -> Sequence[str]:
        """The last few handshakes that failed, newest last, each one sentence that says what differs and what to do."""

    def events(self, *, capacity: int = 256) -> trio.MemoryReceiveChannel[PeerEvent]:
        """A new subscription; a reader that falls `capacity` behind loses its subscription (end of channel)."""

    async def report(self, peer: PeerId, rejection: Rejection) -> None:
        """Score a peer for what it sent; may disconnect and ban it."""

    async def ban(self, peer: PeerId, message: str, *, seconds: float | None = None) -> None:
        """Ban at the operator's wish."""

    def unban(self, peer: PeerId) -> None:
        """Lift a ban and forget the score."""

    async def connect(self, address: str) -> PeerId:
        """Dial `/ip4/…/tcp/…/p2p/PEER` once, with handshake; `RequestFailed` says why not."""

    async def disconnect(self, peer: PeerId, why: str) -> None:
        """Close the connection; the node does not dial this peer again by itself for a while unless it is a seed."""


# Blobs ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """State of one download; chunks found verified on disk count as done."""

    blob_id: bytes
    bytes_done: int
    bytes_total: int
    providers: int


BlobProgressCallback: TypeAlias = Callable[[BlobProgress], None]


class BlobUnavailable(OSError):  # noqa: N818  (a state, as RequestFailed)
    """No peer that has been asked could deliver the blob; what came is kept, the next `fetch` goes on from there."""


class Blobs(Protocol):
    """Content-addressed files: shards, programs, checkpoints. A blob id is `proofs.blobs`' root, 32 bytes.

    An alias is a 32-byte name (a checkpoint's state root) that stands for a blob. Blobs prove themselves, aliases do
    not: who fetches by alias must check that the content has the named root.
    """

    def has(self, blob_id: bytes) -> bool:
        """Whole and verified on this disk."""

    def path(self, blob_id: bytes) -> Path:
        """The file of a blob that `has`; `BlobUnavailable` otherwise. Read only."""

    def ids(self) -> Sequence[bytes]:
        """All whole blobs here, sorted."""

    async def add_bytes(self, data: bytes) -> bytes:
        """Store; returns the blob id."""

    async def add_file(self, source: Path, *, move: bool = False) -> bytes:
        """Store a copy of a file (or the file itself); returns the blob id."""

    async def add_chunk(self, upload: str, number: int, data: bytes) -> None:
        """Append chunk `number` of an upload in parts (all but the last 1 MiB), in order; repeating one is harmless."""

    async def finish_upload(self, upload: str, *, expected_blob_id: bytes | None = None) -> bytes:
        """Turn an upload into a blob; `Rejection` BLOB_MISMATCH if it is not the expected one."""

    async def read_chunk(self, blob_id: bytes, number: int) -> bytes:
        """One chunk of a local blob, for an HTTP download; `BlobUnavailable`, or `Rejection` past the end."""

    async def remove(self, blob_id: bytes) -> None:
        """Delete the file and the aliases that lead to it."""

    def add_alias(self, name: bytes, blob_id: bytes) -> None:
        """Remember and serve `name` → `blob_id`."""

    def resolve(self, name: bytes) -> bytes | None:
        """The local alias, or the name itself if it is a blob that `has`."""

    async def lookup(self, name: bytes, providers: Sequence[PeerId] | None = None) -> Mapping[bytes, Sequence[PeerId]]:
        """Ask peers (all connected ones if None) what blobs they hold for `name`, a blob id or an alias.

        Returns blob id → peers that claim to hold it, most often named first.
        """

    async def fetch(
        self,
        blob_id: bytes,
        providers: Sequence[PeerId] | None = None,
        *,
        progress: BlobProgressCallback | None = None,
    ) -> Path:
        """Download (at once if it is here) from several peers, each chunk verified as it arrives.

        Providers that fail or lie are dropped and scored; `BlobUnavailable` when none is left.
        """

    async def fetch_alias(
        self,
        name: bytes,
        providers: Sequence[PeerId] | None = None,
        *,
        accept: Callable[[Path], bool],
        progress: BlobProgressCallback | None = None,
    ) -> bytes:
        """Look up an alias, fetch the candidates until `accept(path)` (run in a thread) agrees; remember the alias.

        Returns the blob id.
        """


# All together ---------------------------------------------------------------------------------------------------------


class Network(Protocol):
    """A running host."""

    @property
    def peer_id(self) -> PeerId:
        """Our own name."""

    @property
    def addresses(self) -> Sequence[str]:
        """Where we listen, each with `/p2p/…`, ready to be another node's seed."""

    @property
    def gossip(self) -> Gossip: ...

    @property
    def requests(self) -> Requests: ...

    @property
    def peers(self) -> Peers: ...

    @property
    def blobs(self) -> Blobs: ...

    def set_head(self, height: int) -> None:
        """Tell peers our height with the next handshakes and pings."""

    def counters(self) -> Mapping[str, int]:
        """Totals since the start, names like `gossip_received`, for the metrics."""


OpenNetwork: TypeAlias = Callable[[NetworkConfig], AbstractAsyncContextManager[Network]]
"""The type of `p2p.network.open_network`; the context ends within a few seconds, whatever peers do."""
