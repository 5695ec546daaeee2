"""A chain store made from a snapshot: built in a folder of its own, put in place by one rename when it is proven."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.storage.chain_store import Change, Head, began_change, genesis_change, head_change, height_key
from gensyn_node.storage.files import sync_directory, sync_files
from gensyn_node.storage.leveldb import Database


@dataclass(frozen=True, slots=True)
class RestoredBlock:
    """What the store must hold of the snapshot's block; encodings that it does not look into."""

    head: Head
    block: bytes
    commit: bytes
    validators: tuple[tuple[int, bytes], ...]
    """Height → the set that signs it: those of the evidence that may still come, and two heights ahead."""
    evidence: tuple[tuple[bytes, bytes], ...]
    """Id and encoding of each offence that was punished and could be named again."""
    past: tuple[tuple[int, bytes], ...]
    """Height → what is kept of the blocks before."""
    set_changes: tuple[int, ...]


class StoreBuilder:
    """Fills a new store. Until `finish` nothing of it counts; `discard` or the next start removes what is there."""

    def __init__(self, folder: Path) -> None:
        """`folder` is where the store is built; something left there is removed."""
        self._folder = folder
        if folder.exists():
            shutil.rmtree(folder)
        self._database = Database.create(folder)

    def add_entries(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Ledger keys and values."""
        self._database.write([(b"s" + key, value) for key, value in entries], sync=False)

    def change_nodes(self, new: Mapping[bytes, bytes], stale: Iterable[bytes], height: int) -> None:
        """Tree nodes of the growing tree."""
        changes: list[Change] = [(b"n" + name, None) for name in sorted(stale)]
        changes += [(b"n" + name, height_key(height) + value) for name, value in sorted(new.items())]
        self._database.write(changes, sync=False)

    def node(self, digest: bytes) -> bytes:
        """A node that was stored; it must exist."""
        stored = self._database.get(b"n" + digest)
        if stored is None:
            raise InvariantViolation(f"tree node {digest.hex()} is missing")
        return stored[8:]

    def value(self, key: bytes) -> bytes | None:
        """A ledger value that was stored."""
        return self._database.get(b"s" + key)

    def finish(self, genesis_hash: bytes, restored: RestoredBlock, place: Path) -> None:
        """Write head and block, synced, and rename the folder to `place`, which must not exist."""
        key = height_key(restored.head.height)
        changes: list[Change] = [
            genesis_change(genesis_hash),
            began_change(restored.head.height),
            (b"b" + key, restored.block),
            (b"c" + key, restored.commit),
            (b"i" + restored.head.block_id, key),
            head_change(restored.head),
        ]
        changes += [(b"v" + height_key(height), encoded) for height, encoded in restored.validators]
        changes += [(b"e" + name, encoded) for name, encoded in restored.evidence]
        changes += [(b"h" + height_key(height), encoded) for height, encoded in restored.past]
        changes += [(b"w" + height_key(height), b"") for height in restored.set_changes]
        self._database.write(changes)
        self._database.close()
        sync_files(self._folder)
        if place.exists():
            raise InvariantViolation(f"{place} exists")
        os.replace(self._folder, place)
        sync_directory(place.parent)

    def discard(self) -> None:
        """Remove everything: the snapshot was not what it should be."""
        self._database.close()
        shutil.rmtree(self._folder)
