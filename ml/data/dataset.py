"""An opened data set: records by number, batches by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES
from ml import reasons
from ml.data.manifest import Manifest, ShardedTensor, manifest_path, read_manifest, shard_path
from ml.data.shards import Shards
from proofs import tensors
from proofs.arithmetic.elementary import canonical
from proofs.blobs import blob_id, chunk_hash
from proofs.growing import SLICE_BYTES, GrowingTensor
from proofs.program.types import ITEM_BYTES, Program, TensorType
from proofs.sampling import batch_indices
from proofs.tiled import TiledTensor

Array = NDArray[Any]


CHECKED_MAX = 64
_checked: dict[tuple[object, ...], None] = {}
"""Tensors whose files this process has read once and found right, as they were then: requests about one task follow
each other, and a large data set takes minutes to hash."""


class Dataset:
    """Tensors of a data set in their shards; it may be larger than memory."""

    def __init__(self, manifest: Manifest, shards: dict[str, Shards]) -> None:
        """`open_dataset` makes one."""
        self.manifest = manifest
        self._shards = shards

    @property
    def records(self) -> int:
        """Number of records."""
        return self.manifest.records

    def between(self, name: str, first: int, end: int) -> Array:
        """Records first … end - 1 of a tensor."""
        return self._shards[name].between(first, end)

    def array(self, name: str) -> Array:
        """A whole tensor (records, …), in memory."""
        return self._shards[name].between(0, self.records)

    def tensor(self, name: str) -> TiledTensor:
        """A whole tensor as it is committed to, in its files."""
        record = next(item.record for item in self.manifest.dataset if item.name == name)
        return TiledTensor(record, self.records, self._shards[name].between)

    def extent(self, name: str) -> tuple[int, int]:
        """The smallest and the greatest number of an integer tensor."""
        low, high, step = [], [], _stride(self.tensor(name).record)
        for first in range(0, self.records, step):
            part = self.between(name, first, min(self.records, first + step))
            low.append(int(part.min()))
            high.append(int(part.max()))
        return min(low), max(high)

    def rows(self, name: str, numbers: NDArray[np.int64]) -> Array:
        """Copies of these records."""
        return self._shards[name].rows(numbers)

    def batch(self, program: Program, seed: bytes, step: int) -> list[torch.Tensor]:
        """The batch values of a step, in the program's order, NaNs canonical."""
        numbers = batch_indices(seed, step, program.batch_size, self.records)
        batch = [self.rows(item.name, numbers) for item in program.batch]
        return [torch.from_numpy(canonical(item) if item.dtype == np.float32 else item) for item in batch]

    def check_fits(self, program: Program) -> None:
        """Raise Rejection DATASET_MISMATCH unless every batch input has its tensor."""
        known = {tensor.name: tensor.record for tensor in self.manifest.dataset}
        for item in program.batch:
            if known.get(item.name) != item.record:
                found = known.get(item.name, "nothing")
                raise Rejection(
                    reasons.DATASET_MISMATCH, f"batch input {item.name} is {item.record}, the data: {found}"
                )


def open_dataset(directory: str | Path, expected_root: bytes | None = None, check: bool = True) -> Dataset:
    """Open a data set's directory.

    With `check`, every shard is hashed against its id and every tensor against its root, once in a process; with
    `expected_root` the manifest must be that data set's. Raises Rejection BAD_DATASET.
    """
    path = manifest_path(directory)
    try:
        manifest = read_manifest(path.read_bytes())
    except FileNotFoundError:
        raise Rejection(reasons.BAD_DATASET, f"{directory} has no manifest") from None
    if expected_root is not None and manifest.root != expected_root:
        raise Rejection(reasons.BAD_DATASET, f"{directory} is data set {manifest.root.hex()[:12]}, not the one named")
    for item in manifest.tensors:
        found = _check_files(Path(directory), item)
        if check and found not in _checked:
            _check_records(Path(directory), item)
            _checked[found] = None
            if len(_checked) > CHECKED_MAX:
                del _checked[next(iter(_checked))]
    return Dataset(
        manifest,
        {
            item.tensor.name: Shards(
                item.tensor.record, [(shard_path(directory, shard.blob_id), shard.records) for shard in item.shards]
            )
            for item in manifest.tensors
        },
    )


def _check_files(directory: Path, item: ShardedTensor) -> tuple[object, ...]:
    """That they are there; what tells these files from others and from what they may become."""
    found: list[object] = [item.tensor.root]
    for shard in item.shards:
        path = shard_path(directory, shard.blob_id)
        if not path.is_file() or path.stat().st_size != shard.size:
            raise Rejection(reasons.BAD_DATASET, f"{path.name} is missing or has another size")
        status = path.stat()
        found.append((shard.blob_id, shard.records, status.st_dev, status.st_ino, status.st_mtime_ns))
    return tuple(found)


def _check_records(directory: Path, item: ShardedTensor) -> None:
    """Every shard against its id, and the whole against its root; read in whole chunks, of which one is in memory."""
    record, whole = item.tensor.record, GrowingTensor(item.tensor.record)
    size = record.elements * ITEM_BYTES[record.dtype]
    for shard in item.shards:
        path, hashes, rest = shard_path(directory, shard.blob_id), [], b""
        with path.open("rb") as file:
            while chunk := file.read(BLOB_CHUNK_BYTES):
                hashes.append(chunk_hash(chunk))
                if record.dtype == "bool" and chunk.translate(None, b"\0\1"):
                    raise Rejection(reasons.BAD_DATASET, f"{path.name} has a bool that is neither 0 nor 1")
                rest += chunk
                count = len(rest) // size
                records = np.frombuffer(rest, tensors.NUMPY_DTYPES[record.dtype], count * record.elements)
                if count:
                    whole.add(records.reshape(count, *record.shape))
                rest = rest[count * size :]
        if blob_id(hashes, shard.size) != shard.blob_id:
            raise Rejection(reasons.BAD_DATASET, f"{path.name} has other bytes than its name says")
    if whole.root() != item.tensor.root:
        raise Rejection(reasons.BAD_DATASET, f"{item.tensor.name} does not have the root that it should have")


def _stride(record: TensorType) -> int:
    """Records of about 4 MiB."""
    return max(1, SLICE_BYTES // max(1, record.elements * ITEM_BYTES[record.dtype]))
