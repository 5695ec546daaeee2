"""The root of a tensor that comes record by record and never is in memory as a whole."""

from __future__ import annotations

import numpy as np

from gensyn_node.primitives.limits import TILE
from proofs import merkle, tensors
from proofs.program.types import TensorType
from proofs.tensors import NUMPY_DTYPES, TILES, Array

SLICE_BYTES = 4 << 20
"""Bytes whose leaf hashes are made at once."""


class GrowingTensor:
    """A tensor of shape (records, *record.shape) whose records are added in order."""

    def __init__(self, record: TensorType) -> None:
        self._record = record
        self._records = 0
        # Records of a scalar are the elements of one row; others are whole rows of the 2-D view.
        self._rest = np.empty((0, *record.shape[-1:]), NUMPY_DTYPES[record.dtype])
        """Fewer rows (or elements) than a tile is high (or wide)."""
        self._tree = merkle.Growing(TILES)

    def add(self, records: Array) -> None:
        """Append records: shape (n, *record.shape) in the record's dtype; `ValueError` for others."""
        if records.shape[1:] != self._record.shape or records.dtype != self._rest.dtype:
            raise ValueError(f"records {records.dtype}{records.shape[1:]}, not {self._record}")
        self._records += len(records)
        rows = records.reshape(-1, *self._record.shape[-1:])
        stride = max(1, SLICE_BYTES // max(1, rows[:1].nbytes)) // TILE * TILE + TILE
        for start in range(0, len(rows), stride):
            part = rows[start : start + stride]
            joined = np.concatenate([self._rest, part]) if len(self._rest) else part
            whole = len(joined) // TILE * TILE
            if whole:
                self._tree.add(tensors.tile_leaves(joined[:whole]))
            self._rest = joined[whole:].copy()

    def root(self) -> bytes:
        """The 32-byte root of everything added, as `tensors.root_of` gives it for the whole; nothing follows it."""
        if len(self._rest):
            self._tree.add(tensors.tile_leaves(self._rest))
            self._rest = self._rest[:0]
        return tensors.bind(TensorType(self._record.dtype, (self._records, *self._record.shape)), self._tree.root())
