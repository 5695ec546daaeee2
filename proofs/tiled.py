"""A committed tensor that lies elsewhere: tiles, leaf hashes and paths of it, with no more than a band in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from gensyn_node.primitives.limits import TILE
from proofs import merkle, tensors
from proofs.growing import SLICE_BYTES
from proofs.program.types import ITEM_BYTES, TensorType
from proofs.tensors import TILES, Array


@dataclass(frozen=True)
class TiledTensor:
    """A tensor of shape (records, *record.shape)."""

    record: TensorType
    records: int
    read: Callable[[int, int], Array]
    """Records first … end - 1, of shape (end - first, *record.shape)."""

    @property
    def type(self) -> TensorType:
        """Of the whole."""
        return TensorType(self.record.dtype, (self.records, *self.record.shape))

    def tile(self, index: int) -> Array:
        """One tile, 2-D."""
        down, across = divmod(index, tensors.tile_grid(self.type)[1])
        if not self.record.shape:  # Records are the elements of one row.
            return self.read(across * TILE, min(self.records, (across + 1) * TILE)).reshape(1, -1)
        return self._rows(down * TILE, (down + 1) * TILE)[:, across * TILE : (across + 1) * TILE]

    def leaves(self) -> Iterator[bytes]:
        """The leaf hash of every tile, in tile order."""
        rows, columns = self.type.matrix
        if not self.record.shape:
            step = SLICE_BYTES // TILE * TILE
            for first in range(0, self.records, step):
                yield from tensors.tile_leaves(self.read(first, min(self.records, first + step)))
            return
        step = max(1, SLICE_BYTES // (columns * ITEM_BYTES[self.record.dtype]) // TILE) * TILE
        for first in range(0, rows, step):
            yield from tensors.tile_leaves(self._rows(first, first + step))

    def paths(self, indices: Sequence[int]) -> list[tuple[bytes, ...]]:
        """The Merkle path of each of these tiles; every tile is hashed for it."""
        return merkle.streamed_paths(TILES, self.leaves(), tensors.tile_count(self.type), indices)

    def _rows(self, first: int, end: int) -> Array:
        """Rows of the 2-D view, as many as there are."""
        of_record = prod(self.record.shape[:-1])
        end = min(end, self.records * of_record)
        first_record = first // of_record
        rows = self.read(first_record, -(-end // of_record)).reshape(-1, self.record.shape[-1])
        return rows[first - first_record * of_record : end - first_record * of_record]


def tiled(array: Array) -> TiledTensor:
    """Of an array in memory."""
    type_ = tensors.type_of(array)
    return TiledTensor(TensorType(type_.dtype, type_.shape[1:]), len(array), lambda first, end: array[first:end])
