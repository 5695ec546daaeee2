"""Blobs on disk. Plain blocking code, to be run in threads; the set of whole blobs and the aliases are in memory.

whole/<id>     complete, verified, never changed
hashes/<id>    length and chunk hashes, checked against the id before they were written
partial/<id>   a download under way; every chunk is hashed again when it is taken up
uploads/<name> an upload in parts
aliases/<name> 32 bytes: the id of the blob it stands for
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.limits import BLOB_BYTES_MAX, BLOB_CHUNK_BYTES
from p2p import reasons
from p2p.api import BlobUnavailable
from p2p.bounds import BLOB_SUMMARY_BYTES_MAX
from proofs import blobs
from proofs.reasons import BAD_CHUNK

ID_BYTES = 32
_HEX = re.compile(r"[0-9a-f]{64}")
_UPLOAD = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Summary(Struct, frozen=True):
    """What a blob id commits to."""

    length: int
    hashes: bytes
    """Chunk hashes, 32 bytes each."""

    def chunk_hashes(self) -> list[bytes]:
        """One for each chunk."""
        return [self.hashes[start : start + 32] for start in range(0, len(self.hashes), 32)]


def decode_summary(blob_id: bytes, data: bytes) -> Summary:
    """A summary from anywhere; `Rejection` unless it belongs to the id."""
    summary: Summary = decode(Summary, data, max_bytes=BLOB_SUMMARY_BYTES_MAX)
    hashes = summary.chunk_hashes()
    if len(summary.hashes) % 32 or blobs.blob_id(hashes, summary.length) != blob_id:
        raise Rejection(BAD_CHUNK, f"the chunk hashes are not those of blob {blob_id.hex()}")
    return summary


@dataclass(frozen=True, slots=True)
class Partial:
    """A download under way; `descriptor` must be closed."""

    blob_id: bytes
    summary: Summary
    hashes: list[bytes]
    descriptor: int
    missing: list[int]


class BlobStore:
    """One directory of blobs; one process at a time."""

    def __init__(self, directory: Path) -> None:
        self._whole, self._hashes, self._partial, self._uploads, self._aliases = (
            directory / name for name in ("whole", "hashes", "partial", "uploads", "aliases")
        )
        for folder in (self._whole, self._hashes, self._partial, self._uploads, self._aliases):
            folder.mkdir(parents=True, exist_ok=True)
        for leftover in self._uploads.glob(".*"):
            leftover.unlink()
        self.ids = {bytes.fromhex(path.name) for path in self._whole.iterdir() if _HEX.fullmatch(path.name)}
        self.aliases = {bytes.fromhex(name): target for name, target in self._read_aliases()}

    def _read_aliases(self) -> Iterator[tuple[str, bytes]]:
        for path in self._aliases.iterdir():
            if _HEX.fullmatch(path.name) and len(target := path.read_bytes()) == ID_BYTES and target in self.ids:
                yield path.name, target

    # Reading ------------------------------------------------------------------------------------------------------

    def path(self, blob_id: bytes) -> Path:
        """File of a whole blob, `BlobUnavailable` otherwise."""
        if blob_id not in self.ids:
            raise BlobUnavailable(f"blob {blob_id.hex()} is not here")
        return self._whole / blob_id.hex()

    def summary(self, blob_id: bytes) -> Summary | None:
        """Known of a whole or a partial blob; None if nothing is, or if the file is damaged."""
        try:
            return decode_summary(blob_id, (self._hashes / blob_id.hex()).read_bytes())
        except (FileNotFoundError, Rejection):
            return None

    def read_chunk(self, blob_id: bytes, number: int) -> bytes:
        """One chunk, verified. `BlobUnavailable` if the disk has damaged it: then the blob is no longer whole."""
        path, summary = self.path(blob_id), self.summary(blob_id)
        if summary is None:
            self._demote(blob_id)
            raise BlobUnavailable(f"the hashes of blob {blob_id.hex()} are damaged on disk")
        hashes = summary.chunk_hashes()
        if not 0 <= number < len(hashes):
            raise Rejection(reasons.NO_SUCH_BLOB, f"blob {blob_id.hex()} has {len(hashes)} chunks, not chunk {number}")
        with path.open("rb") as file:
            file.seek(number * BLOB_CHUNK_BYTES)
            chunk = file.read(BLOB_CHUNK_BYTES)
        try:
            blobs.check_chunk(hashes, summary.length, number, chunk)
        except Rejection as rejection:
            self._demote(blob_id)
            raise BlobUnavailable(f"blob {blob_id.hex()} is damaged on disk: {rejection.message}") from rejection
        return chunk

    def _demote(self, blob_id: bytes) -> None:
        """Make a damaged blob a partial one: the next download repairs only what is wrong."""
        self.ids.discard(blob_id)
        (self._whole / blob_id.hex()).replace(self._partial / blob_id.hex())

    # Adding -------------------------------------------------------------------------------------------------------

    def add_bytes(self, data: bytes) -> bytes:
        """Store; returns the id."""
        temporary = self._uploads / f".bytes-{os.urandom(8).hex()}"
        temporary.write_bytes(data)
        return self._adopt(temporary)

    def add_file(self, source: Path, *, move: bool) -> bytes:
        """Store a copy, or the file itself; returns the id."""
        temporary = self._uploads / f".file-{os.urandom(8).hex()}"
        if move:
            shutil.move(source, temporary)
        else:
            shutil.copyfile(source, temporary)
        return self._adopt(temporary)

    def add_chunk(self, upload: str, number: int, data: bytes) -> None:
        """Append a part of an upload, or write it again."""
        path = self._upload_path(upload)
        size = path.stat().st_size if path.exists() else 0
        start = number * BLOB_CHUNK_BYTES
        if not 0 < len(data) <= BLOB_CHUNK_BYTES or not 0 <= start <= size or start + len(data) > BLOB_BYTES_MAX:
            raise Rejection(reasons.BAD_UPLOAD, f"part {number} of {len(data)} bytes after {size} bytes")
        if start < size and min(BLOB_CHUNK_BYTES, size - start) != len(data):
            raise Rejection(reasons.BAD_UPLOAD, f"part {number} is repeated with another length")
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(start)
            file.write(data)

    def finish_upload(self, upload: str, expected: bytes | None) -> bytes:
        """Turn the parts into a blob."""
        path = self._upload_path(upload)
        if not path.exists():
            path.touch()
        return self._adopt(path, expected)

    def _upload_path(self, upload: str) -> Path:
        if not _UPLOAD.fullmatch(upload):
            raise Rejection(reasons.BAD_UPLOAD, "an upload's name is 1 to 64 of A-Z a-z 0-9 _ -")
        return self._uploads / upload

    def _adopt(self, path: Path, expected: bytes | None = None) -> bytes:
        """Hash a file of ours and move it in; it is deleted if it is not what was expected."""
        hashes, length = [], 0
        with path.open("rb") as file:
            while chunk := file.read(BLOB_CHUNK_BYTES):
                hashes.append(blobs.chunk_hash(chunk))
                length += len(chunk)
        try:
            blob_id = blobs.blob_id(hashes, length)
            if expected is not None and blob_id != expected:
                raise Rejection(
                    reasons.BLOB_MISMATCH, f"the parts make blob {blob_id.hex()}, {expected.hex()} was announced"
                )
        except Rejection:
            path.unlink()
            raise
        self._write(self._hashes / blob_id.hex(), encode(Summary(length, b"".join(hashes))))
        self._move_in(path, blob_id)
        return blob_id

    def _move_in(self, path: Path, blob_id: bytes) -> None:
        """Durable before it counts: file, then name."""
        with path.open("rb") as file:
            os.fsync(file.fileno())
        path.replace(self._whole / blob_id.hex())
        directory = os.open(self._whole, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.ids.add(blob_id)

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{path.name}.new")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    # Downloading --------------------------------------------------------------------------------------------------

    def begin(self, blob_id: bytes, summary: Summary) -> Partial:
        """Start or take up a download: chunks already on disk are verified and not fetched again."""
        self._write(self._hashes / blob_id.hex(), encode(summary))
        hashes = summary.chunk_hashes()
        descriptor = os.open(self._partial / blob_id.hex(), os.O_RDWR | os.O_CREAT, 0o644)
        os.truncate(descriptor, min(os.fstat(descriptor).st_size, summary.length))
        missing = []
        for number, expected in enumerate(hashes):
            size = blobs.chunk_length(summary.length, number)
            chunk = os.pread(descriptor, size, number * BLOB_CHUNK_BYTES)
            if len(chunk) != size or blobs.chunk_hash(chunk) != expected:
                missing.append(number)
        return Partial(blob_id, summary, hashes, descriptor, missing)

    @staticmethod
    def write(partial: Partial, number: int, chunk: bytes) -> None:
        """Verify one chunk and put it in its place; `Rejection` BAD_CHUNK."""
        blobs.check_chunk(partial.hashes, partial.summary.length, number, chunk)
        written = os.pwrite(partial.descriptor, chunk, number * BLOB_CHUNK_BYTES)
        if written != len(chunk):
            raise OSError(f"only {written} of {len(chunk)} bytes were written: is the disk full?")

    def complete(self, partial: Partial) -> None:
        """All chunks are there: the blob is whole."""
        path = self._partial / partial.blob_id.hex()
        if path.stat().st_size != partial.summary.length:
            raise InvariantViolation(f"blob {partial.blob_id.hex()} completed with a wrong length")
        self._move_in(path, partial.blob_id)

    # Names and removal --------------------------------------------------------------------------------------------

    def add_alias(self, name: bytes, blob_id: bytes) -> None:
        """`name` stands for `blob_id` from now on."""
        if len(name) != ID_BYTES:
            raise InvariantViolation("an alias has 32 bytes")
        self.path(blob_id)
        self._write(self._aliases / name.hex(), blob_id)
        self.aliases[name] = blob_id

    def resolve(self, name: bytes) -> bytes | None:
        """The whole blob that `name` is or stands for."""
        if name in self.ids:
            return name
        target = self.aliases.get(name)
        return target if target in self.ids else None

    def remove(self, blob_id: bytes) -> None:
        """Forget a blob, whole or partial, and its aliases."""
        for name in [name for name, target in self.aliases.items() if target == blob_id]:
            del self.aliases[name]
            (self._aliases / name.hex()).unlink(missing_ok=True)
        self.ids.discard(blob_id)
        for folder in (self._whole, self._partial, self._hashes):
            (folder / blob_id.hex()).unlink(missing_ok=True)
