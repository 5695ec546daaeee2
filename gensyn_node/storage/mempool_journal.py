"""Pending transactions on disk: framed records; the file grows with what comes in and is rewritten when it is long.

Nothing of it is needed for safety, so nothing waits for it and nothing is synced but the rewriting: after a power cut
the last seconds may be missing, and a damaged end is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import structlog
from msgspec import Meta

from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.files import replace_file, write_all
from gensyn_node.storage.wal import frame, parse_log

FILE_BYTES_MAX = 2 * limits.MEMPOOL_BYTES_MAX
"""A longer file is not ours: what waits is half of it at most."""
REWRITE_BYTES = 8 * limits.MIB
"""From this size on the file is rewritten when less than half of it still waits."""

log = structlog.get_logger()


class JournalEntry(Struct):
    """A transaction that waited."""

    height: Annotated[int, Meta(ge=0)]
    """The chain's height when it came in: it does not expire later for a restart."""
    transaction: Annotated[bytes, Meta(max_length=limits.TRANSACTION_BYTES_MAX)]


class MempoolJournal:
    """One file; one process writes it. `OSError` when the disk refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = path.stat().st_size if path.exists() else 0

    def read(self) -> tuple[JournalEntry, ...]:
        """What waited when the process ended; a damaged part is dropped and logged."""
        try:
            if self._path.stat().st_size > FILE_BYTES_MAX:
                log.warning("mempool_journal_dropped", path=str(self._path), why="it is too long")
                return ()
            content = parse_log(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        if content.corrupt:
            log.warning("mempool_journal_damaged", path=str(self._path), sound_bytes=content.good_bytes)
        entries: list[JournalEntry] = []
        for record in content.records:
            try:
                entries.append(codec.decode(JournalEntry, record))
            except Rejection as rejection:
                log.warning("mempool_journal_damaged", path=str(self._path), why=str(rejection))
        return tuple(entries)

    def append(self, entries: Iterable[JournalEntry]) -> None:
        """Add what came in."""
        data = b"".join(frame(codec.encode(entry)) for entry in entries)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)
        self._bytes += len(data)

    def is_long(self, waiting_bytes: int) -> bool:
        """Whether rewriting would save at least half, for a pool of so many bytes."""
        return self._bytes > max(REWRITE_BYTES, 2 * waiting_bytes)

    def rewrite(self, entries: Iterable[JournalEntry]) -> None:
        """Put exactly these in the place of everything, atomically."""
        data = b"".join(frame(codec.encode(entry)) for entry in entries)
        replace_file(self._path, data)
        self._bytes = len(data)
