"""Snapshots on disk: a folder each, named by height, made beside, renamed when whole; chunks are checked when read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from consensus.statesync.manifest import FORMAT, Manifest
from consensus.statesync.reasons import NO_SNAPSHOT
from consensus.statesync.stream import Entry, chunked
from consensus.tendermint.types import ValidatorSet
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import sha256
from gensyn_node.storage import reasons
from gensyn_node.storage.files import replace_file, sync_directory

MANIFEST_FILE = "manifest"
_MANIFEST_BYTES_MAX = limits.MESSAGE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class SnapshotSource:
    """What a snapshot is made of: the ledger's entries in key order, and the sets around its block."""

    chain_id: str
    height: int
    entries: Iterable[Entry]
    last_validators: ValidatorSet
    validators: ValidatorSet
    next_validators: ValidatorSet


class SnapshotFolder:
    """The snapshots of one home. `create` may run on a thread while others read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, source: SnapshotSource, *, keep: int) -> Manifest:
        """Write a snapshot, synced, then remove all but the newest `keep`. One that is there already is returned.

        Unless its manifest is damaged: then it is made again.
        """
        place = self._folder / str(source.height)
        if place.exists():
            try:
                return self.manifest(source.height)
            except Rejection:
                self.remove(source.height)
        for unfinished in self._folder.glob("*.new"):  # a kill left it
            shutil.rmtree(unfinished)
        building = self._folder / f"{source.height}.new"
        building.mkdir(parents=True, mode=0o700)
        try:
            manifest = _write(building, source)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)  # a full disk must not be kept full by this
            raise
        os.replace(building, place)
        sync_directory(self._folder)
        for height in self.heights()[:-keep]:
            self.remove(height)
        return manifest

    def heights(self) -> list[int]:
        """Heights of the whole snapshots, rising."""
        if not self._folder.is_dir():
            return []
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def manifest(self, height: int) -> Manifest:
        """The manifest of a snapshot. `Rejection` NO_SNAPSHOT, SNAPSHOT_CORRUPT."""
        try:
            data = (self._folder / str(height) / MANIFEST_FILE).read_bytes()
        except FileNotFoundError:
            raise Rejection(NO_SNAPSHOT, f"of height {height}") from None
        try:
            found: Manifest = codec.decode(Manifest, data, max_bytes=_MANIFEST_BYTES_MAX)
        except Rejection as error:
            raise Rejection(reasons.SNAPSHOT_CORRUPT, f"the manifest of {height}: {error.message}") from None
        return found

    def chunk(self, manifest: Manifest, index: int) -> bytes:
        """A chunk as its manifest names it: damage is found here, not by a peer who would blame us."""
        try:
            data = (self._folder / str(manifest.height) / _chunk_name(index)).read_bytes()
        except FileNotFoundError:
            raise Rejection(NO_SNAPSHOT, f"chunk {index} of height {manifest.height}") from None
        if index >= len(manifest.chunks) or sha256(data) != manifest.chunks[index]:
            raise Rejection(reasons.SNAPSHOT_CORRUPT, f"chunk {index} of height {manifest.height}")
        return data

    def remove(self, height: int) -> None:
        """Delete a snapshot."""
        shutil.rmtree(self._folder / str(height))
        sync_directory(self._folder)


def _write(building: Path, source: SnapshotSource) -> Manifest:
    """Chunks, then the manifest, each synced."""
    count = 0

    def counted() -> Iterable[Entry]:
        nonlocal count
        for entry in source.entries:
            count += 1
            yield entry

    hashes, size = [], 0
    for index, chunk in enumerate(chunked(counted())):
        replace_file(building / _chunk_name(index), chunk)
        hashes.append(sha256(chunk))
        size += len(chunk)
    manifest = Manifest(
        FORMAT,
        source.chain_id,
        source.height,
        count,
        size,
        tuple(hashes),
        source.last_validators,
        source.validators,
        source.next_validators.validators,
    )
    replace_file(building / MANIFEST_FILE, codec.encode(manifest))
    return manifest


class ChunkFolder:
    """The chunks of a download, kept over a restart; each is checked again when the download goes on."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder / manifest.id.hex()
        self._manifest = manifest
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def here(self) -> list[int]:
        """Chunks that are whole; damaged ones are removed."""
        found = []
        for index, digest in enumerate(self._manifest.chunks):
            path = self._folder / _chunk_name(index)
            if not path.exists():
                continue
            if sha256(path.read_bytes()) == digest:
                found.append(index)
            else:
                path.unlink()
        return found

    def put(self, index: int, data: bytes) -> None:
        """Keep a chunk that was verified. Not synced: after a power cut it is checked and perhaps asked for again."""
        temporary = self._folder / f"{index}.new"
        temporary.write_bytes(data)
        os.replace(temporary, self._folder / _chunk_name(index))

    def get(self, index: int) -> bytes:
        """A chunk that is here."""
        return (self._folder / _chunk_name(index)).read_bytes()

    def remove(self) -> None:
        """Delete them all."""
        shutil.rmtree(self._folder)


def _chunk_name(index: int) -> str:
    return f"{index:05d}.chunk"
