"""The records of one tensor of a data set, in files: mapped where they are few, read where they are many.

A mapping takes address space, which a worker has little of, and holds a file open. A data set beyond MAPPED_BYTES_MAX
is read record by record instead, with few files open at a time: how large it is does not matter then.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from proofs import tensors
from proofs.program.types import ITEM_BYTES, TensorType

Array = NDArray[Any]

MAPPED_BYTES_MAX = 64 << 20
"""Bytes of one tensor that are mapped."""
MAPPED_FILES_MAX = 16
OPEN_MAX = 16
"""Files of one tensor that are open at a time."""


class Shards:
    """Consecutive files of raw records."""

    def __init__(self, record: TensorType, files: Sequence[tuple[Path, int]]) -> None:
        """`files`: (path, records) in order."""
        self._record = record
        self._dtype = tensors.NUMPY_DTYPES[record.dtype]
        self._record_bytes = record.elements * ITEM_BYTES[record.dtype]
        self._paths = [path for path, _ in files]
        self._starts = np.cumsum([0, *(records for _, records in files)])
        self._open: dict[int, int] = {}
        """Shard → descriptor, in the order of their last use."""
        self._mapped: list[Array] = []
        if len(self) * self._record_bytes <= MAPPED_BYTES_MAX and len(files) <= MAPPED_FILES_MAX:
            self._mapped = [np.memmap(path, self._dtype, "r", shape=(n, *record.shape)) for path, n in files]

    def __len__(self) -> int:
        """Number of records."""
        return int(self._starts[-1])

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def rows(self, numbers: NDArray[np.int64]) -> Array:
        """Copies of these records. Raises Rejection BAD_DATASET when a file lost some."""
        if len(self._mapped) == 1:
            return self._mapped[0][numbers]
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        places = numbers - self._starts[shards]
        if self._mapped:
            return np.stack([self._mapped[shard][place] for shard, place in zip(shards, places, strict=True)])
        out = np.empty((len(numbers), *self._record.shape), self._dtype)
        # One shard after the other, so that each is opened once however many there are.
        for place in np.argsort(shards, kind="stable"):
            out[place] = self._read(int(shards[place]), int(places[place]), 1)[0]
        return out

    def between(self, first: int, end: int) -> Array:
        """Records first … end - 1. Raises Rejection BAD_DATASET when a file lost some."""
        parts = []
        for shard in range(int(np.searchsorted(self._starts, first, side="right")) - 1, len(self._paths)):
            start, beyond = int(self._starts[shard]), int(self._starts[shard + 1])
            if start >= end:
                break
            low, high = max(first, start) - start, min(end, beyond) - start
            parts.append(self._mapped[shard][low:high] if self._mapped else self._read(shard, low, high - low))
        if not parts:
            return np.empty((0, *self._record.shape), self._dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, shard: int, first: int, count: int) -> Array:
        raw = np.empty(count * self._record_bytes, np.uint8)
        done, at, descriptor = 0, first * self._record_bytes, self._descriptor(shard)
        while done < len(raw):
            part = os.pread(descriptor, len(raw) - done, at + done)
            if not part:
                raise Rejection(reasons.BAD_DATASET, f"{self._paths[shard].name} became shorter")
            raw[done : done + len(part)] = np.frombuffer(part, np.uint8)
            done += len(part)
        return raw.view(self._dtype).reshape(count, *self._record.shape)

    def _descriptor(self, shard: int) -> int:
        found = self._open.pop(shard, None)
        if found is None:
            if len(self._open) >= OPEN_MAX:
                os.close(self._open.pop(next(iter(self._open))))
            found = os.open(self._paths[shard], os.O_RDONLY | os.O_CLOEXEC)
        self._open[shard] = found
        return found
