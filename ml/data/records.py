"""Records as they are read: in chunks, so that a data set may be larger than memory; some of them held out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import TENSOR_RANK_MAX
from ml import reasons
from ml.data.manifest import NAME, SHARD_BYTES, DatasetWriter, Manifest
from ml.data.split import split_records
from proofs import tensors
from proofs.program.types import ITEM_BYTES, TensorType
from proofs.sampling import RECORDS_MAX

Array = NDArray[Any]
Chunk = dict[str, Array]
"""Some consecutive records: (n, *record.shape) by tensor name, the same n for all."""
Progress = Callable[[int, int], None]
"""progress(done, total) in records."""
CHUNK_BYTES = 8 << 20
"""Bytes of one chunk, about."""
RECORD_BYTES_MAX = SHARD_BYTES
"""Bytes of one record of one tensor: a few records are held in memory, however small the file that they come from."""
CLASS_NAME_MAX = 256
"""Characters of a class's name."""


@dataclass(frozen=True)
class Records:
    """Named tensors of `count` records that can be read again and again."""

    count: int
    types: Mapping[str, TensorType]
    """The type of one record of each tensor."""
    chunks: Callable[[], Iterator[Chunk]]

    def arrays(self) -> Chunk:
        """Everything in memory."""
        parts = list(self.chunks())
        return {name: np.concatenate([part[name] for part in parts]) for name in self.types}

    @property
    def record_bytes(self) -> int:
        """Bytes of one record of all tensors."""
        return sum(type_.elements * ITEM_BYTES[type_.dtype] for type_ in self.types.values())


@dataclass(frozen=True)
class Source:
    """A person's data, divided for training and for checking."""

    train: Records
    validation: Records | None = None
    """None when no part was held out."""
    vocabulary: tuple[str, ...] = ()

    def write(
        self,
        train_directory: str | Path,
        validation_directory: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Manifest:
        """Write both parts as data sets; the training part's manifest.

        Raises Rejection BAD_DATASET, also when the file swells beyond the memory there is.
        """
        try:
            return self._write(train_directory, validation_directory, progress)
        except MemoryError:
            raise bad("the data needs more memory than there is, even read in pieces") from None

    def _write(
        self, train_directory: str | Path, validation_directory: str | Path | None, progress: Progress | None
    ) -> Manifest:
        parts = [(self.train, train_directory)]
        if validation_directory is not None and self.validation is not None:
            parts.append((self.validation, validation_directory))
        total, done = sum(records.count for records, _ in parts), 0
        manifests = []
        for records, directory in parts:
            writer = DatasetWriter(directory, records.types)
            for chunk in records.chunks():
                writer.add(chunk)
                done += len(next(iter(chunk.values())))
                if progress is not None:
                    progress(done, total)
            manifests.append(writer.finish(self.vocabulary))
        return manifests[0]


def bad(message: str) -> Rejection:
    """Data that cannot be used."""
    return Rejection(reasons.BAD_DATASET, message)


def as_tensor(name: str, array: Array) -> Array:
    """An array in a dtype of the opset: floats become float32, integers int64 (uint8 stays), bools stay."""
    if array.dtype == np.bool_ or array.dtype == np.uint8:
        return array
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):  # Beyond float32 is infinite, as anywhere.
            return array.astype("<f4", copy=False)
    if np.issubdtype(array.dtype, np.integer):
        if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise bad(f"{name} has integers beyond 63 bits")
        return array.astype("<i8", copy=False)
    raise bad(f"{name} is {array.dtype}; numbers and bools only")


def chunk_records(record_bytes: int) -> int:
    """Records of one chunk."""
    return max(1, CHUNK_BYTES // max(1, record_bytes))


def of_arrays(arrays: Mapping[str, Array]) -> Records:
    """Records that are in memory (or mapped); all tensors have the same first dimension, at least 1."""
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if not arrays or len(counts) != 1 or 0 in counts:
        raise bad(f"arrays with {sorted(counts)} records; all need the same first dimension, at least 1")
    types = {name: record_type(name, array.dtype, array.shape[1:]) for name, array in arrays.items()}
    count = counts.pop()
    stride = chunk_records(sum(array[:1].nbytes for array in arrays.values()))

    def chunks() -> Iterator[Chunk]:
        for start in range(0, count, stride):
            yield {name: as_tensor(name, array[start : start + stride]) for name, array in arrays.items()}

    return Records(count, types, chunks)


def record_type(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> TensorType:
    """The type of a record of this dtype as `as_tensor` makes it. Raises Rejection BAD_DATASET."""
    if NAME.fullmatch(name) is None:
        raise bad(f"a tensor with the name {name[:40]!r}; names have 1 to 128 of a-z, A-Z, 0-9, '.', '_' and '-'")
    if any(size < 1 for size in shape) or len(shape) >= TENSOR_RANK_MAX:
        raise bad(f"{name} has records of shape {list(shape)[:9]}; every size is at least 1, at most 7 axes")
    made = as_tensor(name, np.empty(0, dtype))
    record = TensorType(tensors.DTYPE_NAMES[made.dtype.str[1:]], tuple(int(size) for size in shape))
    size = record.elements * ITEM_BYTES[record.dtype]
    if size > RECORD_BYTES_MAX:
        raise bad(f"{name} has records of {size} bytes, at most {RECORD_BYTES_MAX}")
    return record


def divide(records: Records, validation: float, vocabulary: tuple[str, ...] = ()) -> Source:
    """A keyed choice of the share `validation` (0 … below 1) of the records is held out."""
    if records.count > RECORDS_MAX:
        raise bad(f"{records.count} records, at most {RECORDS_MAX}")
    train, held_out = split_records(records.count, validation)
    if not len(held_out):
        return Source(records, None, vocabulary)
    if not len(train):
        raise bad(f"{records.count} records, and none is left to train on")
    chosen = np.zeros(records.count, np.bool_)
    chosen[held_out] = True
    return Source(_only(records, ~chosen), _only(records, chosen), vocabulary)


def _only(records: Records, chosen: NDArray[np.bool_]) -> Records:
    def chunks() -> Iterator[Chunk]:
        start = 0
        for chunk in records.chunks():
            length = len(next(iter(chunk.values())))
            mask = chosen[start : start + length]
            start += length
            if mask.any():
                yield {name: array[mask] for name, array in chunk.items()}

    return Records(int(chosen.sum()), records.types, chunks)
