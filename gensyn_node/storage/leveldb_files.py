"""What LevelDB's own reader overlooks in its log and its manifest, looked for before it opens them.

Both are rows of records in blocks of 32 KiB; a record's header is checksum (4, masked CRC-32C of kind and payload),
length (2), kind (1). A record that runs past the end of the file is taken for a write that was cut short, and left out
without a word with all that follows; so is the rest of a block after a header of zeros. One wrong byte in a length can
thus hide the last edits of a manifest, and with them whole tables. An unfinished write is told from damage by this: no
shorter piece of it has the checksum in its header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons

BLOCK_BYTES = 32_768
_HEADER = struct.Struct("<IHB")
_MASK_DELTA = 0xA282EAD8
_NAME_BYTES_MAX = 64


def check_files(path: Path) -> None:
    """Look through the manifest in use and all logs of a closed database. Raises `Rejection` (STORE_CORRUPT)."""
    for file in (_manifest(path), *sorted(path.glob("*.log"))):
        if file is not None:
            fault = log_fault(file.read_bytes())
            if fault is not None:
                raise Rejection(reasons.STORE_CORRUPT, f"{file}: {fault}")


def _manifest(path: Path) -> Path | None:
    """The manifest that CURRENT names; None when that cannot be told, which LevelDB reports itself."""
    try:
        with (path / "CURRENT").open("rb") as file:
            name = file.read(_NAME_BYTES_MAX).decode("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    manifest = path / name
    return manifest if name.startswith("MANIFEST-") and "/" not in name and manifest.is_file() else None


def log_fault(data: bytes) -> str | None:
    """What is wrong with a log that LevelDB would not say; None when its silence is right."""
    position = 0
    while position + _HEADER.size <= len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < _HEADER.size:
            position += left
            continue
        checksum, length, kind = _HEADER.unpack_from(data, position)
        if kind == 0 and length == 0:
            return f"a record of zeros at {position} with data after it" if any(data[position:]) else None
        if length > left - _HEADER.size:
            return f"the record at {position} is longer than its block"
        end = position + _HEADER.size + length
        if end > len(data) and _is_checksum_of_a_piece(checksum, data[position + _HEADER.size - 1 :]):
            return f"the length of the record at {position} is wrong"
        position = end
    return None


def _is_checksum_of_a_piece(masked: int, kind_and_payload: bytes) -> bool:
    """Whether the checksum is that of the kind and some beginning of the payload."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    wanted = ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF ^ 0xFFFFFFFF
    return wanted in _crc32c_states(kind_and_payload)


def _crc32c_states(data: bytes) -> Iterator[int]:
    """The register of CRC-32C (Castagnoli; RFC 3720, appendix B.4) after each byte; the checksum is its complement."""
    state = 0xFFFFFFFF
    for byte in data:
        state = _TABLE[(state ^ byte) & 0xFF] ^ (state >> 8)
        yield state


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = tuple(_table_entry(byte) for byte in range(256))
