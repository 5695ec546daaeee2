"""Which chunk is asked of which peer, and who is to blame: pure bookkeeping of one download."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from consensus.statesync.manifest import Manifest
from consensus.statesync.reasons import BAD_CHUNK
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import sha256

PER_PEER = 4
"""Chunks under way from one peer."""
FAILURES_MAX = 3
"""Unanswered questions after which a peer is not asked again in this download."""


@dataclass(slots=True)
class _Source:
    under_way: int = 0
    failures: int = 0
    banned: bool = False

    @property
    def usable(self) -> bool:
        return not self.banned and self.failures < FAILURES_MAX


@dataclass(frozen=True, slots=True)
class Offer:
    """A snapshot that peers say they have; nothing of it is proven."""

    height: int
    manifest_id: bytes
    peers: tuple[str, ...]


def choose(offers: Iterable[tuple[str, int, bytes]], *, refused: Collection[bytes]) -> list[Offer]:
    """Offers (peer, height, manifest id) as snapshots, best first: the highest, of equals the one that more peers have.

    A height is only a claim: whoever fetches lets the light client verify the header above it first.
    """
    found: dict[tuple[int, bytes], set[str]] = {}
    for peer, height, manifest_id in offers:
        if manifest_id not in refused:
            found.setdefault((height, manifest_id), set()).add(peer)
    ranked = sorted(found.items(), key=lambda item: (-item[0][0], -len(item[1]), item[0][1]))
    return [Offer(height, manifest_id, tuple(sorted(peers))) for (height, manifest_id), peers in ranked]


class ChunkPlan:
    """The chunks of one manifest: missing, under way, here."""

    def __init__(self, manifest: Manifest, here: Iterable[int] = ()) -> None:
        self._manifest = manifest
        self._missing = sorted(set(range(len(manifest.chunks))) - set(here), reverse=True)
        self._under_way: dict[int, str] = {}
        self._sources: dict[str, _Source] = {}

    @property
    def done(self) -> bool:
        """Whether every chunk is here."""
        return not self._missing and not self._under_way

    @property
    def left(self) -> int:
        """Chunks that are not here."""
        return len(self._missing) + len(self._under_way)

    def add_peer(self, peer: str) -> None:
        """A peer offers this snapshot."""
        self._sources.setdefault(peer, _Source())

    @property
    def under_way(self) -> int:
        """Questions that are not answered yet."""
        return len(self._under_way)

    def usable(self) -> list[str]:
        """Peers that may be asked, sorted."""
        return sorted(peer for peer, source in self._sources.items() if source.usable)

    def next_for(self, peer: str) -> int | None:
        """The chunk to ask this peer for now; None when it has enough to do or nothing is missing."""
        source = self._sources[peer]
        if not self._missing or not source.usable or source.under_way >= PER_PEER:
            return None
        index = self._missing.pop()
        self._under_way[index] = peer
        source.under_way += 1
        return index

    def received(self, peer: str, index: int, data: bytes) -> None:
        """A chunk came. `Rejection` BAD_CHUNK when it is not the one: the peer is asked for nothing more."""
        self._settle(peer, index)
        if len(data) != self._manifest.chunk_size(index) or sha256(data) != self._manifest.chunks[index]:
            self._missing.append(index)
            self._sources[peer].banned = True
            raise Rejection(BAD_CHUNK, f"chunk {index} of the snapshot of height {self._manifest.height}")

    def failed(self, peer: str, index: int) -> None:
        """No answer: nobody is to blame yet, somebody else is asked."""
        self._settle(peer, index)
        self._missing.append(index)
        self._sources[peer].failures += 1

    def _settle(self, peer: str, index: int) -> None:
        if self._under_way.get(index) == peer:
            del self._under_way[index]
            self._sources[peer].under_way -= 1
