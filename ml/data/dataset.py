"""An opened data set: records by number, batches by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.data.manifest import Manifest, ShardedTensor, manifest_path, read_manifest, shard_path
from proofs import tensors
from proofs.arithmetic.elementary import canonical
from proofs.blobs import blob_id_of
from proofs.growing import GrowingTensor
from proofs.program.types import Program
from proofs.sampling import batch_indices

Array = NDArray[Any]


class Dataset:
    """Tensors of a data set, mapped from its shards."""

    def __init__(self, manifest: Manifest, parts: dict[str, list[Array]]) -> None:
        """`open_dataset` makes one."""
        self.manifest = manifest
        self._parts = parts
        self._starts = {name: np.cumsum([0, *(len(part) for part in shards)]) for name, shards in parts.items()}

    @property
    def records(self) -> int:
        """Number of records."""
        return self.manifest.records

    def array(self, name: str) -> Array:
        """A whole tensor (records, …); a memory map when it has one shard."""
        parts = self._parts[name]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def extent(self, name: str) -> tuple[int, int]:
        """The smallest and the greatest number of an integer tensor."""
        parts = self._parts[name]
        return min(int(part.min()) for part in parts), max(int(part.max()) for part in parts)

    def rows(self, name: str, numbers: NDArray[np.int64]) -> Array:
        """Copies of these records."""
        parts = self._parts[name]
        if len(parts) == 1:
            return parts[0][numbers]
        shards = np.searchsorted(self._starts[name], numbers, side="right") - 1
        starts = self._starts[name]
        return np.stack([parts[shard][number - starts[shard]] for shard, number in zip(shards, numbers, strict=True)])

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

    With `check`, every shard is hashed against its id and every tensor against its root; with `expected_root` the
    manifest must be that data set's. Raises Rejection BAD_DATASET.
    """
    path = manifest_path(directory)
    try:
        manifest = read_manifest(path.read_bytes())
    except FileNotFoundError:
        raise Rejection(reasons.BAD_DATASET, f"{directory} has no manifest") from None
    if expected_root is not None and manifest.root != expected_root:
        raise Rejection(reasons.BAD_DATASET, f"{directory} is data set {manifest.root.hex()[:12]}, not the one named")
    parts = {item.tensor.name: _map_shards(Path(directory), item, check) for item in manifest.tensors}
    dataset = Dataset(manifest, parts)
    if check:
        for item in manifest.tensors:
            whole = GrowingTensor(item.tensor.record)
            for part in parts[item.tensor.name]:
                whole.add(part)
            if whole.root() != item.tensor.root:
                raise Rejection(reasons.BAD_DATASET, f"{item.tensor.name} does not have the root that it should have")
    return dataset


def _map_shards(directory: Path, item: ShardedTensor, check: bool) -> list[Array]:
    record = item.tensor.record
    dtype = tensors.NUMPY_DTYPES[record.dtype]
    parts: list[Array] = []
    for shard in item.shards:
        path = shard_path(directory, shard.blob_id)
        if not path.is_file() or path.stat().st_size != shard.size:
            raise Rejection(reasons.BAD_DATASET, f"{path.name} is missing or has another size")
        raw: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
        if check and blob_id_of(raw.data) != shard.blob_id:
            raise Rejection(reasons.BAD_DATASET, f"{path.name} has other bytes than its name says")
        if check and record.dtype == "bool" and bool((raw > 1).any()):
            raise Rejection(reasons.BAD_DATASET, f"{path.name} has a bool that is neither 0 nor 1")
        parts.append(raw.view(dtype).reshape(shard.records, *record.shape))
    return parts
