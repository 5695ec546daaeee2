"""One tile of an operator's exact definition on the defender's own inputs, piece by piece, and its sums of magnitudes.

The definition is that of `rep-v1`, so every validator gets the same bits; the sums of magnitudes are the same rule on
the magnitudes of the inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.hashing import tagged_hash
from proofs import tensors
from proofs.arithmetic.gather import compute_piece_batch, piece_count_batch
from proofs.arithmetic.jobs import element_numbers
from proofs.arithmetic.tiles import TileReader, compute_piece, piece_count
from proofs.native.bounds import Bound, bound_of, within
from proofs.pinpoint.context import Context
from proofs.program.types import TensorType
from proofs.sampling import indices_at

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Reference:
    """What a chain of pieces carries: the definition's accumulator and that of the magnitudes."""

    values: Array
    magnitudes: Array | None
    """None where the bound does not need them."""

    @property
    def hash(self) -> bytes:
        """Binds both."""
        magnitudes = b"" if self.magnitudes is None else tensors.accumulator_hash(self.magnitudes)
        return tagged_hash("gensyn/native-reference/1", tensors.accumulator_hash(self.values), magnitudes)


class _Magnitudes:
    """A `TileReader` of the magnitudes of f32 tiles; ids stay what they are."""

    def __init__(self, reader: TileReader) -> None:
        self._reader = reader

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        """See `TileReader`."""
        found = self._reader.tile(input_number, tile_row, tile_column)
        return np.abs(found) if found.dtype == np.float32 else found


@dataclass(frozen=True)
class Tile:
    """One tile of one value of one step."""

    step: int
    value: int
    tile: int
    context: Context

    @property
    def output(self) -> TensorType:
        """The value's type."""
        return self.context.types[self.value]

    @property
    def inputs(self) -> tuple[TensorType, ...]:
        """The types of what the value is computed from; of a batch value: the dataset tensor."""
        node = self.context.node_of(self.value)
        if node is None:
            return (self.context.dataset_of(self.value - len(self.context.program.state)).type,)
        return tuple(self.context.types[number] for number in node.inputs)

    @property
    def bound(self) -> Bound:
        """How far off the value may be."""
        return bound_of(self.context.node_of(self.value), self.inputs, self.output)

    @property
    def pieces(self) -> int:
        """Number of pieces, at least 1."""
        node = self.context.node_of(self.value)
        if node is None:
            return piece_count_batch(self._records(), self.inputs[0], self.output, self.tile)
        return piece_count(node, self.inputs, self.output, self.tile)

    def piece(self, number: int, before: Reference | None, reader: TileReader) -> Reference:
        """The reference after piece `number`; after the last one it is the tile. Raises what the tile rules raise."""
        values = self._compute(number, None if before is None else before.values, reader)
        if not self.bound.needs_magnitudes:
            return Reference(values, None)
        magnitudes = self._compute(number, None if before is None else before.magnitudes, _Magnitudes(reader))
        return Reference(values, magnitudes)

    def holds(self, reference: Reference, claimed: Array) -> bool:
        """Whether every element of the claimed tile keeps the bound."""
        return bool(within(self.bound, reference.values, reference.magnitudes, claimed).all())

    def _compute(self, piece: int, accumulator: Array | None, reader: TileReader) -> Array:
        node = self.context.node_of(self.value)
        if node is None:
            return compute_piece_batch(
                self._records(), self.inputs[0], self.output, self.tile, piece, accumulator, reader
            )
        return compute_piece(node, self.inputs, self.output, self.tile, piece, accumulator, reader)

    def _records(self) -> npt.NDArray[np.int64]:
        """The record numbers of the step's batch, filled in only for the rows that the tile shows."""
        context = self.context
        dataset, size = context.dataset_of(self.value - len(context.program.state)), context.program.batch_size
        rows = np.unique(element_numbers(self.output, self.tile) // dataset.record.elements)
        indices = np.zeros(size, np.int64)
        indices[rows] = indices_at(context.seed, self.step, size, dataset.records, rows)
        return indices
