"""Entries as bytes: lengths of key and value (4 bytes each, little endian), key, value; keys strictly rise."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from consensus.statesync.manifest import CHUNK_BYTES
from consensus.statesync.reasons import BAD_ENTRIES
from gensyn_node.primitives.errors import Rejection

KEY_BYTES_MAX = 256
VALUE_BYTES_MAX = 1 << 24
"""What the ledger itself accepts when it reads a record."""
_LENGTHS = struct.Struct("<II")

Entry = tuple[bytes, bytes]


def chunked(entries: Iterable[Entry], chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The chunks of sorted entries; an entry may lie across the border of two."""
    buffer = bytearray()
    for key, value in entries:
        buffer += _LENGTHS.pack(len(key), len(value)) + key + value
        while len(buffer) >= chunk_bytes:
            yield bytes(buffer[:chunk_bytes])
            del buffer[:chunk_bytes]
    if buffer:
        yield bytes(buffer)


class EntryReader:
    """Reads chunks back, one after the other; holds at most one entry and one chunk."""

    def __init__(self) -> None:
        self._buffer = b""
        self._last: bytes | None = None
        self.entries = 0

    def feed(self, chunk: bytes) -> list[Entry]:
        """The entries that are complete now. `Rejection` BAD_ENTRIES."""
        data = self._buffer + chunk
        found: list[Entry] = []
        position = 0
        while position + _LENGTHS.size <= len(data):
            key_bytes, value_bytes = _LENGTHS.unpack_from(data, position)
            if not 1 <= key_bytes <= KEY_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
                raise Rejection(BAD_ENTRIES, f"an entry of {key_bytes} and {value_bytes} bytes")
            start = position + _LENGTHS.size
            end = start + key_bytes + value_bytes
            if end > len(data):
                break
            key = data[start : start + key_bytes]
            if self._last is not None and key <= self._last:
                raise Rejection(BAD_ENTRIES, f"key {key.hex()} does not come after {self._last.hex()}")
            found.append((key, data[start + key_bytes : end]))
            self._last = key
            position = end
        self._buffer = data[position:]
        self.entries += len(found)
        return found

    def finish(self, entries: int) -> None:
        """`Rejection` BAD_ENTRIES unless exactly so many entries came and nothing is left over."""
        if self._buffer:
            raise Rejection(BAD_ENTRIES, f"{len(self._buffer)} bytes of an entry that does not end")
        if self.entries != entries:
            raise Rejection(BAD_ENTRIES, f"{self.entries} entries, the manifest names {entries}")
