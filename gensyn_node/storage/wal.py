"""The log of what the consensus core was fed in the running height, so that a restart feeds it the same again.

One file a height, `wal/<height>.log`. A record is

    length (4, little endian) ‖ CRC-32 of the length (4) ‖ CRC-32 of the payload (4) ‖ payload

The length has a checksum of its own so that damage to it is told from a write that was cut short. What a crash can
leave (an unfinished last record, zeros after it) is cut. Of any other damage the file is set
aside and reported, and the sound records before it go on: whether they are enough to sign on is for the signer's record
to say.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.storage.files import replace_file, sync_directory, write_all

_HEADER = struct.Struct("<III")
_LENGTH = struct.Struct("<I")
RECORD_BYTES_MAX = limits.MESSAGE_BYTES_MAX + limits.MIB
"""Largest payload: a whole proposed block with its envelope."""


@dataclass(frozen=True, slots=True)
class LogContent:
    """What a log file holds: its records, where they end, and whether the rest is damage beyond a torn tail."""

    records: tuple[bytes, ...]
    good_bytes: int
    corrupt: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """A log ready for appending, what it held, and where a damaged file was put (None: it was sound)."""

    log: WriteAheadLog
    records: tuple[bytes, ...]
    """The sound ones from the beginning."""
    quarantined: Path | None


class WriteAheadLog:
    """Appends records; `sync` makes everything appended so far durable."""

    def __init__(self, directory: Path, height: int, descriptor: int, records: int) -> None:
        self._directory = directory
        self.height = height
        self._descriptor = descriptor
        self._records = self.synced_records = records
        self._bytes = os.fstat(descriptor).st_size
        self._damaged = self._half_done = False

    @classmethod
    def open(cls, directory: Path, height: int) -> Opened:
        """The log of `height`; logs of lower heights are finished and removed."""
        if not directory.is_dir():
            directory.mkdir(parents=True)
            sync_directory(directory.parent)
        path = log_path(directory, height)
        records: tuple[bytes, ...] = ()
        quarantined = None
        if path.exists():
            content = read_log(path)
            records = content.records
            if content.corrupt:
                quarantined = quarantine(path)
                replace_file(path, b"".join(frame(record) for record in records))
            elif content.good_bytes != path.stat().st_size:
                os.truncate(path, content.good_bytes)
        log = cls(directory, height, _open_append(path), len(records))
        os.fsync(log._descriptor)
        log._remove_finished()
        sync_directory(directory)
        return Opened(log, records, quarantined)

    def append(self, payload: bytes) -> None:
        """Add one record; durable only after the next `sync`. After an `OSError` nothing of it is in the log."""
        if len(payload) > RECORD_BYTES_MAX:
            raise InvariantViolation(f"a log record of {len(payload)} bytes")
        framed = frame(payload)
        try:
            write_all(self._descriptor, framed)
        except OSError:
            os.ftruncate(self._descriptor, self._bytes)
            raise
        self._bytes += len(framed)
        self._records += 1

    def sync(self) -> None:
        """Make all appended records durable. After an `OSError` nothing may be believed durable until it succeeds."""
        if self.synced_records == self._records:
            return
        if self._damaged:
            self._rewrite()
        try:
            os.fsync(self._descriptor)
        except OSError:
            self._damaged = True
            raise
        self.synced_records = self._records

    def _rewrite(self) -> None:
        """A file whose sync has failed may lose pages although the next sync succeeds: write all of it anew."""
        path = log_path(self._directory, self.height)
        replace_file(path, path.read_bytes())
        os.close(self._descriptor)
        self._descriptor = _open_append(path)
        self._damaged = False

    def next_height(self, height: int) -> None:
        """Go on with the log of `height`, after the block before it has been committed; drop the finished log.

        After an `OSError` it can be called again.
        """
        if height < self.height or (height == self.height and not self._half_done):
            raise InvariantViolation(f"log of height {self.height} cannot go back to {height}")
        if height > self.height:
            descriptor = _open_append(log_path(self._directory, height))
            self.close()
            self.height, self._descriptor = height, descriptor
            self._records = self.synced_records = self._bytes = 0
            self._damaged = False
            self._half_done = True
        self._remove_finished()
        sync_directory(self._directory)
        self._half_done = False

    def close(self) -> None:
        """Close the file. Calling it twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _remove_finished(self) -> None:
        for height in log_heights(self._directory):
            if height < self.height:
                log_path(self._directory, height).unlink()


def log_path(directory: Path, height: int) -> Path:
    """Where the log of `height` is kept."""
    return directory / f"{height:012d}.log"


def log_heights(directory: Path) -> list[int]:
    """Heights of the logs that are there, rising; none when there is no directory."""
    return sorted(int(path.stem) for path in directory.glob("*.log") if path.stem.isdigit())


def frame(payload: bytes) -> bytes:
    """One record as it is on disk."""
    length = _LENGTH.pack(len(payload))
    return length + _LENGTH.pack(zlib.crc32(length)) + _LENGTH.pack(zlib.crc32(payload)) + payload


def read_log(path: Path) -> LogContent:
    """All sound records of a log file from its beginning, and what follows them."""
    return parse_log(path.read_bytes())


def parse_log(data: bytes) -> LogContent:
    """Split the bytes of a log into records, a torn tail that may be cut, and damage that may not."""
    records: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + _HEADER.size
        if start > len(data):
            return LogContent(tuple(records), position, corrupt=False)
        length, length_crc, payload_crc = _HEADER.unpack_from(data, position)
        end = start + length
        if zlib.crc32(data[position : position + _LENGTH.size]) != length_crc or length > RECORD_BYTES_MAX:
            return LogContent(tuple(records), position, corrupt=any(data[start:]))
        if end > len(data):
            return LogContent(tuple(records), position, corrupt=False)
        if zlib.crc32(data[start:end]) != payload_crc:
            return LogContent(tuple(records), position, corrupt=any(data[end:]))
        records.append(data[start:end])
        position = end
    return LogContent(tuple(records), position, corrupt=False)


def quarantine(path: Path) -> Path:
    """Set a damaged file aside under a free name next to it."""
    number = 0
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    os.replace(path, aside)
    sync_directory(path.parent)
    return aside


def _open_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
