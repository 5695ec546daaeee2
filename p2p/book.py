"""Addresses and bans that survive a restart: one small file, replaced atomically."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path

import structlog

from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import MIB
from p2p import reasons
from p2p.api import PeerId
from p2p.bounds import ADDRESS_CHARACTERS_MAX, BOOK_ENTRIES_MAX
from p2p.scoring import Ban

log = structlog.get_logger("p2p.book")

_ADDRESS = re.compile(
    r"/(?P<kind>ip4|ip6|dns|dns4|dns6)/(?P<host>[A-Za-z0-9.:_-]{1,100})/tcp/(?P<port>[0-9]{1,5})"
    r"/p2p/(?P<peer>[1-9A-HJ-NP-Za-km-z]{40,60})"
)


class BookEntry(Struct, frozen=True):
    """One address of one peer."""

    peer: str
    address: str
    proven: bool
    """A handshake over this address succeeded, or the port answered: only such are passed on to others."""
    anchor: bool
    """Connected outbound when the node stopped: dialled first at the next start."""
    seen_unix_s: int


class _StoredBan(Struct, frozen=True):
    peer: str
    code: str
    message: str
    until_unix_s: int


class _Stored(Struct, frozen=True):
    version: int
    entries: tuple[BookEntry, ...]
    bans: tuple[_StoredBan, ...]


def parse_address(text: str) -> tuple[str, str, int, PeerId]:
    """(kind, host, port, peer) of `/ip4/…/tcp/…/p2p/PEER`; `Rejection` BAD_ADDRESS_TEXT."""
    match = _ADDRESS.fullmatch(text) if len(text) <= ADDRESS_CHARACTERS_MAX else None
    if match is None or not 0 < int(match["port"]) < 65536:
        raise Rejection(reasons.BAD_ADDRESS_TEXT, f"{text[:ADDRESS_CHARACTERS_MAX]!r} is no peer address")
    try:
        if match["kind"] == "ip4":
            ipaddress.IPv4Address(match["host"])
        elif match["kind"] == "ip6":
            ipaddress.IPv6Address(match["host"])
    except ValueError as error:
        raise Rejection(reasons.BAD_ADDRESS_TEXT, str(error)) from None
    return match["kind"], match["host"], int(match["port"]), match["peer"]


def is_public(address: str) -> bool:
    """Whether `/ip4/…` or `/ip6/…` is on the open internet; a name counts as public."""
    parts = address.split("/")
    if len(parts) > 2 and parts[1] in ("ip4", "ip6"):
        try:
            return ipaddress.ip_address(parts[2]).is_global
        except ValueError:
            return False
    return True


class AddressBook:
    """Known addresses by peer, in memory, with `save`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[PeerId, BookEntry] = {}

    def load(self) -> list[Ban]:
        """Read the file if there is one; a damaged one is put aside and the node starts without. Returns the bans."""
        try:
            stored: _Stored = decode(_Stored, self._path.read_bytes(), max_bytes=MIB)
        except FileNotFoundError:
            return []
        except Rejection as rejection:
            log.warning("address_book_damaged", path=str(self._path), error=str(rejection))
            self._path.replace(self._path.with_suffix(".damaged"))
            return []
        self._entries = {entry.peer: entry for entry in stored.entries[:BOOK_ENTRIES_MAX]}
        return [Ban(ban.peer, ban.code, ban.message, float(ban.until_unix_s)) for ban in stored.bans]

    def save(self, bans: Iterable[Ban], anchors: Iterable[PeerId]) -> None:
        """Write atomically: a reader and a power cut see the old file or the new one."""
        marked = set(anchors)
        entries = tuple(
            BookEntry(entry.peer, entry.address, entry.proven, peer in marked, entry.seen_unix_s)
            for peer, entry in sorted(self._entries.items())
        )
        stored_bans = tuple(_StoredBan(ban.peer, ban.code, ban.message, int(ban.until)) for ban in bans)
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(encode(_Stored(1, entries, stored_bans)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)

    def learn(self, address: str, *, proven: bool, now: float) -> None:
        """Add or refresh; hearsay never replaces an address that has worked. `Rejection` if it is no address."""
        peer = parse_address(address)[3]
        known = self._entries.get(peer)
        if known is not None and known.proven and not proven:
            return
        if known is None and len(self._entries) >= BOOK_ENTRIES_MAX and not self._drop_one(proven):
            return
        self._entries[peer] = BookEntry(peer, address, proven, known is not None and known.anchor, int(now))

    def _drop_one(self, for_proven: bool) -> bool:
        """Make room: hearsay goes first, then the longest unseen; hearsay pushes out hearsay only."""
        oldest = min(self._entries.values(), key=lambda entry: (entry.proven, entry.seen_unix_s))
        if oldest.proven and not for_proven:
            return False
        del self._entries[oldest.peer]
        return True

    def forget(self, peer: PeerId) -> None:
        """Drop an address that turned out wrong."""
        self._entries.pop(peer, None)

    def entries(self) -> list[BookEntry]:
        """Anchors first, then proven ones, the freshest first."""
        return sorted(
            self._entries.values(),
            key=lambda entry: (not entry.anchor, not entry.proven, -entry.seen_unix_s, entry.peer),
        )
