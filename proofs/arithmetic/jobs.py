"""What every tile rule works with: the job, the reader of input tiles, blocks and elements read through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.limits import TILE
from proofs.arithmetic.elementary import I64Array
from proofs.program.types import Node, TensorType
from proofs.tensors import NUMPY_DTYPES, tile_grid, tile_shape

Array = npt.NDArray[Any]


class MissingTile(Exception):  # noqa: N818  (it names what is missing, as KeyError does)
    """A reader does not have the tile that a piece needs."""

    def __init__(self, input_number: int, tile_row: int, tile_column: int) -> None:
        super().__init__(f"input {input_number}, tile ({tile_row}, {tile_column})")
        self.input_number = input_number
        self.tile_row = tile_row
        self.tile_column = tile_column


class TileReader(Protocol):
    """Gives input tiles; a recording reader learns what a piece needs."""

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        """The 2-D tile of the node's input; raises `MissingTile` if it is not available."""


@dataclass(frozen=True, slots=True)
class Job:
    """One output tile of one node."""

    node: Node
    inputs: tuple[TensorType, ...]
    output: TensorType
    tile: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the output tile."""
        return tile_shape(self.output, self.tile)

    @property
    def origin(self) -> tuple[int, int]:
        """First row and column of the output tile in the output's 2-D view."""
        row, column = divmod(self.tile, tile_grid(self.output)[1])
        return row * TILE, column * TILE

    def empty(self) -> Array:
        """An output tile of zeros."""
        return np.zeros(self.shape, NUMPY_DTYPES[self.output.dtype])


def element_numbers(type_: TensorType, tile: int) -> I64Array:
    """The row-major numbers, in the whole tensor, of a tile's elements in the tile's row-major order."""
    columns = type_.matrix[1]
    height, width = tile_shape(type_, tile)
    tile_row, tile_column = divmod(tile, tile_grid(type_)[1])
    rows = np.arange(tile_row * TILE, tile_row * TILE + height, dtype=np.int64)
    within = np.arange(tile_column * TILE, tile_column * TILE + width, dtype=np.int64)
    return (rows[:, None] * columns + within).reshape(-1)


def continued(accumulator: Array | None, start: Array) -> Array:
    """A writable copy of the accumulator, with the shape and dtype of `start` or ValueError; `start` without one."""
    if accumulator is None:
        return start
    if accumulator.shape != start.shape or accumulator.dtype != start.dtype:
        raise ValueError(f"accumulator {accumulator.dtype}{accumulator.shape}, not {start.dtype}{start.shape}")
    return accumulator.copy()


def read_block(reader: TileReader, number: int, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    """Rows and columns [start, stop) of input `number`'s 2-D view, reading each tile once, row by row."""
    bands = []
    for tile_row in range(rows[0] // TILE, -(-rows[1] // TILE)):
        tiles = [reader.tile(number, tile_row, c) for c in range(columns[0] // TILE, -(-columns[1] // TILE))]
        bands.append(np.concatenate(tiles, axis=1))
    top, left = rows[0] // TILE * TILE, columns[0] // TILE * TILE
    return np.concatenate(bands, axis=0)[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left]


def read_elements(reader: TileReader, number: int, type_: TensorType, elements: I64Array) -> Array:
    """Elements of input `number` by their row-major numbers, reading each tile once, in tile order."""
    rows, columns = np.divmod(elements, type_.matrix[1])
    tile_columns = tile_grid(type_)[1]
    tiles = rows // TILE * tile_columns + columns // TILE
    values = np.zeros(len(elements), NUMPY_DTYPES[type_.dtype])
    for tile in np.unique(tiles).tolist():
        here = tiles == tile
        block = reader.tile(number, tile // tile_columns, tile % tile_columns)
        values[here] = block[rows[here] % TILE, columns[here] % TILE]
    return values
