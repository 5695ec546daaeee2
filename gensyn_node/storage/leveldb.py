"""LevelDB opened so that it cannot hide damage: paranoid checks, checksums on every read, synced batches.

Its defaults would silently drop a damaged middle of its log and recreate a database whose `CURRENT` file is gone.
It is never repaired: what fails its checks is refused, and the node synchronises again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import plyvel

from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.files import sync_directory
from gensyn_node.storage.leveldb_files import check_files

WRITE_BUFFER_BYTES = 16 << 20
"""Memory table: some blocks' worth of writes, so that compaction does not run with every block."""
CACHE_BYTES = 32 << 20
"""Blocks of tables kept in memory: the upper levels of the state tree."""


_NOT_DAMAGE = (
    "Permission denied",
    "Resource temporarily unavailable",
    "No space left",
    "Too many open files",
    "Read-only file system",
    "already held",
)
"""In LevelDB's words: why a sound database cannot be opened."""


@dataclass(slots=True)
class Damage:
    """What the first read said that met damage; empty as long as none did.

    The error of such a read can end in a handler that takes every `Rejection` for a peer's fault. The node looks here.
    """

    found: str = ""

    def met(self, what: str, error: plyvel.Error) -> Rejection:
        """Remember it; the error to raise."""
        self.found = self.found or f"{what}: {error}"
        return Rejection(reasons.STORE_CORRUPT, f"{what}: {error}")


class Gate:
    """Any number of calls are in LevelDB at once, and none while it is closed: that frees what they work on.

    Entered for one call, never for two inside each other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False

    def __enter__(self) -> None:
        with self._changed:
            while self._closed:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._closed:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody is inside; whoever comes waits until the end."""
        with self._changed:
            self._closed = True
            while self._inside:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class Reader:
    """Ordered bytes to bytes, to be read. Raises `Rejection`: STORE_CORRUPT when a read meets damage.

    STORE_UNREADABLE when the files were closed: for a snapshot or a row begun before that, for ever.
    """

    def __init__(self, handle: plyvel.DB, damage: Damage, gate: Gate) -> None:
        self._handle = handle
        self._gate = gate
        self.damage = damage

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        try:
            with self._gate:
                value: bytes | None = self._handle.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise self.damage.met(f"reading {key[:16].hex()}", error) from error
        except RuntimeError as error:
            raise _closed(error) from error
        return value

    def items(self, prefix: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys without their prefix, and values, in order."""
        try:
            with self._gate:
                iterator = self._handle.iterator(
                    prefix=prefix, reverse=reverse, verify_checksums=True, fill_cache=False
                )
        except RuntimeError as error:
            raise _closed(error) from error
        try:
            while (item := self._next(prefix, iterator)) is not None:
                yield item[0][len(prefix) :], item[1]
        finally:
            # Not through the gate: the garbage collector can do this inside of any other call, and would wait for it.
            iterator.close()

    def _next(self, prefix: bytes, iterator: Iterator[tuple[bytes, bytes]]) -> tuple[bytes, bytes] | None:
        try:
            with self._gate:
                return next(iterator, None)
        except plyvel.Error as error:
            raise self.damage.met(f"reading {prefix!r}", error) from error
        except RuntimeError as error:
            raise _closed(error) from error


class Database(Reader):
    """One open LevelDB."""

    def __init__(self, handle: plyvel.DB, path: Path) -> None:
        super().__init__(handle, Damage(), Gate())
        self._path = path

    @classmethod
    def create(cls, path: Path) -> Database:
        """A new database; only `init` calls this. Raises `Rejection` (STORE_EXISTS)."""
        if path.exists():
            raise Rejection(reasons.STORE_EXISTS, f"{path} exists already")
        path.parent.mkdir(parents=True, exist_ok=True)
        database = cls(_open(path, create=True), path)
        sync_directory(path.parent)
        return database

    @classmethod
    def open(cls, path: Path) -> Database:
        """An existing database. Raises `Rejection` (STORE_MISSING, STORE_CORRUPT)."""
        if not path.is_dir():
            raise Rejection(reasons.STORE_MISSING, f"{path} does not exist")
        check_files(path)
        database = cls(_open(path, create=False), path)
        # LevelDB renames CURRENT to its new manifest and removes the old one without making the rename durable.
        sync_directory(path)
        return database

    def snapshot(self) -> Reader:
        """Everything as it is now, unchanged by later writes."""
        try:
            with self._gate:
                return Reader(self._handle.snapshot(), self.damage, self._gate)
        except RuntimeError as error:
            raise _closed(error) from error

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool = True) -> None:
        """Put (or, for None, delete) all keys in one batch: all of it survives a crash, or nothing.

        Without `sync` a power cut may take it although later synced batches stay (a log that was replaced is not
        synced): `sync_files` of the closed folder makes all of it durable.
        `OSError` when the disk refuses; whether the batch is there is known after `reopen` only.
        LevelDB syncs its log file but not the name of a log that it has just begun; without that a power cut could
        take every batch in the new file.
        """
        listed = tuple(changes)  # they may be read from here while they are made
        try:
            with self._gate, self._handle.write_batch(transaction=True, sync=sync) as batch:
                for key, value in listed:
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.put(key, value)
        except RuntimeError as error:
            raise _closed(error) from error
        if sync:
            sync_directory(self._path)

    def reopen(self) -> None:
        """Open the files again: after a failed write LevelDB refuses all others. Raises `Rejection`, or `OSError`.

        Calls of other threads wait meanwhile. What was begun before is refused: snapshots, rows of items.
        """
        with self._gate.alone():
            self._handle.close()
            self._handle = _open(self._path, create=False, failing=plyvel.CorruptionError)
        sync_directory(self._path)

    def compact(self, start: bytes, stop: bytes) -> None:
        """Rewrite a range of keys without what was deleted in it."""
        try:
            with self._gate:
                self._handle.compact_range(start=start, stop=stop)
        except RuntimeError as error:
            raise _closed(error) from error

    def close(self) -> None:
        """Close the files; the database must not be used afterwards."""
        with self._gate.alone():
            self._handle.close()


def _closed(error: RuntimeError) -> Rejection:
    """Of a call to files that were closed."""
    return Rejection(reasons.STORE_UNREADABLE, str(error))


def _open(path: Path, *, create: bool, failing: type[Exception] = plyvel.Error) -> plyvel.DB:
    try:
        return plyvel.DB(
            str(path),
            create_if_missing=create,
            error_if_exists=create,
            paranoid_checks=True,
            write_buffer_size=WRITE_BUFFER_BYTES,
            lru_cache_size=CACHE_BYTES,
            bloom_filter_bits=10,
        )
    except plyvel.CorruptionError as error:
        raise Rejection(reasons.STORE_CORRUPT, f"{path}: {error}") from error
    except failing as error:
        if any(words in str(error) for words in _NOT_DAMAGE):
            raise Rejection(reasons.STORE_UNREADABLE, f"{path} cannot be opened: {error}") from error
        # With create_if_missing off, LevelDB reports a lost CURRENT file as an invalid argument or an I/O error.
        raise Rejection(reasons.STORE_CORRUPT, f"{path} cannot be opened: {error}") from error
