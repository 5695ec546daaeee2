"""The layout of a data set on disk: a manifest, and shards of raw records named by their blob ids."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import MESSAGE_BYTES_MAX, TENSOR_RANK_MAX
from ml import reasons
from ml.files import write_atomically
from proofs import tensors
from proofs.blobs import blob_id_of
from proofs.dataset import DatasetTensor, dataset_root
from proofs.growing import GrowingTensor
from proofs.program.types import ITEM_BYTES, TensorType

SHARD_BYTES = 64 << 20
"""Bytes of one shard, at most (one record at least)."""
MANIFEST_NAME = "manifest"
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
"""Names that a program can give its batch inputs."""
Array = NDArray[Any]


class Shard(Struct):
    """Consecutive records of one tensor: raw elements, row-major, little-endian."""

    blob_id: bytes
    records: int
    size: int
    """Bytes."""


class ShardedTensor(Struct):
    """One tensor and its shards in order."""

    tensor: DatasetTensor
    shards: tuple[Shard, ...]


class Manifest(Struct):
    """Everything about a data set but the records themselves."""

    version: int
    tensors: tuple[ShardedTensor, ...]
    vocabulary: tuple[str, ...]
    """For tokens of characters: the character of each token. For labels: the class of each number. Else empty."""

    @property
    def dataset(self) -> tuple[DatasetTensor, ...]:
        """The tensors, as a task names them."""
        return tuple(item.tensor for item in self.tensors)

    @property
    def records(self) -> int:
        """Records of the data set."""
        return self.tensors[0].tensor.records

    @property
    def root(self) -> bytes:
        """The root that tasks are bound to."""
        return dataset_root(self.dataset)

    @property
    def blobs(self) -> tuple[Shard, ...]:
        """All shards, each once."""
        return tuple({shard.blob_id: shard for item in self.tensors for shard in item.shards}.values())


def manifest_path(directory: str | Path) -> Path:
    """The file of a directory's manifest."""
    return Path(directory) / MANIFEST_NAME


def shard_path(directory: str | Path, blob_id: bytes) -> Path:
    """The file of a shard."""
    return Path(directory) / f"{blob_id.hex()}.shard"


class DatasetWriter:
    """Writes records as they come: no more than one shard of each tensor is held; f32 NaNs become canonical."""

    def __init__(self, directory: str | Path, types: Mapping[str, TensorType], shard_bytes: int = SHARD_BYTES) -> None:
        """`types`: the type of one record by tensor name."""
        os.makedirs(directory, exist_ok=True)
        self._directory = Path(directory)
        self._tensors = {name: _TensorWriter(self._directory, types[name], shard_bytes) for name in sorted(types)}

    def add(self, chunk: Mapping[str, Array]) -> None:
        """Append consecutive records, as many of each tensor."""
        for name, writer in self._tensors.items():
            writer.add(chunk[name])

    def finish(self, vocabulary: Sequence[str] = ()) -> Manifest:
        """Write what is left, and the manifest. Raises Rejection BAD_DATASET."""
        sharded = tuple(writer.finish(name) for name, writer in self._tensors.items())
        counts = {item.tensor.records for item in sharded}
        if len(counts) != 1 or 0 in counts:
            raise _unequal(counts)
        manifest = Manifest(1, sharded, tuple(vocabulary))
        encoded = encode(manifest)
        if len(encoded) > MESSAGE_BYTES_MAX:
            raise Rejection(reasons.BAD_DATASET, f"a manifest of {len(encoded)} bytes, at most {MESSAGE_BYTES_MAX}")
        write_atomically(manifest_path(self._directory), encoded)
        return manifest


class _TensorWriter:
    def __init__(self, directory: Path, record: TensorType, shard_bytes: int) -> None:
        self._directory = directory
        self._record = record
        self._stride = max(1, shard_bytes // max(1, record.elements * ITEM_BYTES[record.dtype]))
        self._waiting: list[Array] = []
        self._shards: list[Shard] = []
        self._tensor = GrowingTensor(record)

    def add(self, records: Array) -> None:
        if records.dtype == np.float32:
            records = np.where(np.isnan(records), np.uint32(0x7FC00000).view(np.float32), records)
        self._tensor.add(records)
        while len(records):
            room = self._stride - sum(map(len, self._waiting))
            self._waiting.append(records[:room])
            if len(records) >= room:
                self._write()
            records = records[room:]

    def _write(self) -> None:
        part = np.concatenate(self._waiting)
        data = part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes()
        identity = blob_id_of(data)
        write_atomically(shard_path(self._directory, identity), data)
        self._shards.append(Shard(identity, len(part), len(data)))
        self._waiting = []

    def finish(self, name: str) -> ShardedTensor:
        if self._waiting:
            self._write()
        count = sum(shard.records for shard in self._shards)
        return ShardedTensor(DatasetTensor(name, self._record, count, self._tensor.root()), tuple(self._shards))


def write_dataset(
    directory: str | Path,
    arrays: Mapping[str, Array],
    vocabulary: Sequence[str] = (),
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write arrays of equally many records (f32, i64, bool or u8) as a data set. Raises Rejection BAD_DATASET."""
    counts = {len(array) if array.ndim else 0 for array in arrays.values()}
    if len(counts) != 1 or 0 in counts:
        raise _unequal(counts)
    types = {}
    for name, array in arrays.items():
        try:
            whole = tensors.type_of(array)
        except KeyError:
            known = "float32, int64, bool and uint8 exist"
            raise Rejection(reasons.BAD_DATASET, f"{name} is {array.dtype}; {known}") from None
        types[name] = TensorType(whole.dtype, whole.shape[1:])
    writer = DatasetWriter(directory, types, shard_bytes)
    writer.add(arrays)
    return writer.finish(vocabulary)


def _unequal(counts: set[int]) -> Rejection:
    message = f"tensors with {sorted(counts)} records; all need the same, at least one"
    return Rejection(reasons.BAD_DATASET, message)


def read_manifest(data: bytes) -> Manifest:
    """Decode and check a manifest. Raises Rejection (E10, BAD_DATASET)."""
    manifest: Manifest = decode(Manifest, data, max_bytes=MESSAGE_BYTES_MAX)
    if manifest.version != 1 or not manifest.tensors:
        raise Rejection(reasons.BAD_DATASET, f"manifest of version {manifest.version}, {len(manifest.tensors)} tensors")
    names = [item.tensor.name for item in manifest.tensors]
    if len(set(names)) != len(names) or not all(map(NAME.fullmatch, names)):
        raise Rejection(reasons.BAD_DATASET, "two tensors have one name, or a name that no program can use")
    for item in manifest.tensors:
        tensor = item.tensor
        shape = tensor.record.shape
        if tensor.record.dtype not in ITEM_BYTES or len(shape) >= TENSOR_RANK_MAX or any(size < 1 for size in shape):
            kind = f"{tensor.record.dtype[:16]}{list(shape[:TENSOR_RANK_MAX])}"
            raise Rejection(reasons.BAD_DATASET, f"{tensor.name[:40]!r}: impossible record {kind}")
        if len(tensor.root) != 32 or any(len(shard.blob_id) != 32 for shard in item.shards):
            raise Rejection(reasons.BAD_DATASET, f"{tensor.name[:40]!r}: a root or a blob id has 32 bytes")
        size = tensor.record.elements * ITEM_BYTES[tensor.record.dtype]
        if any(shard.records < 1 or shard.size != shard.records * size for shard in item.shards):
            raise Rejection(reasons.BAD_DATASET, f"{tensor.name[:40]!r}: a shard's size does not fit its records")
        if sum(shard.records for shard in item.shards) != tensor.records or tensor.records != manifest.records:
            raise Rejection(reasons.BAD_DATASET, f"{tensor.name[:40]!r}: the shards' records do not add up")
    return manifest
