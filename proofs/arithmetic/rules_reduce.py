"""Tiles of sums and maxima: a piece consumes up to 64 KiB of tiles along the reduced direction.

The accumulator of a sum is its 32 lanes, (rows, 32) or (32, columns); of a maximum it is i64 (rows, 2): the column of
the greatest element so far and its bits (f32 bits, or the i64 itself). The last piece turns it into the output tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.limits import PIECE_INPUT_BYTES_MAX, TILE
from proofs.arithmetic.definitions import halve
from proofs.arithmetic.elementary import canonical
from proofs.arithmetic.jobs import Job, TileReader, continued, read_block
from proofs.program.types import ITEM_BYTES, TensorType
from proofs.tensors import NUMPY_DTYPES, tile_grid

Array = npt.NDArray[Any]


def _tiles_per_piece(type_: TensorType) -> int:
    return PIECE_INPUT_BYTES_MAX // (TILE * TILE * ITEM_BYTES[type_.dtype])


def most_pieces_last(inputs: tuple[TensorType, ...], output: TensorType) -> int:
    """Pieces of every tile of a reduction along the last axis: tiles of a row by tiles per piece, rounded up."""
    return -(-tile_grid(inputs[0])[1] // _tiles_per_piece(inputs[0]))


def most_pieces_first(inputs: tuple[TensorType, ...], output: TensorType) -> int:
    """The same along the rows of the 2-D view."""
    return -(-tile_grid(inputs[0])[0] // _tiles_per_piece(inputs[0]))


def pieces(job: Job) -> int:
    """Number of pieces."""
    return (most_pieces_first if job.node.operator == "sum_first" else most_pieces_last)(job.inputs, job.output)


def _range(job: Job, piece: int, length: int) -> tuple[int, int]:
    """The elements along the reduced direction that a piece consumes."""
    step = _tiles_per_piece(job.inputs[0]) * TILE
    return piece * step, min(length, (piece + 1) * step)


def compute_sum(job: Job, piece: int, accumulator: Array | None, reader: TileReader) -> Array:
    """Add tiles to the lanes; the last piece adds the lanes up."""
    type_ = job.inputs[0]
    first = job.node.operator == "sum_first"
    length = type_.matrix[0 if first else 1]
    row, column = job.origin
    height, width = job.shape
    along = _range(job, piece, length)
    if first:
        block = read_block(reader, 0, along, (column, column + width))
    else:
        block = read_block(reader, 0, (row, row + height), along).T
    start: Array = np.zeros((TILE, width if first else height), NUMPY_DTYPES[type_.dtype])
    lanes = continued(accumulator, start if first else np.ascontiguousarray(start.T))
    lanes = lanes if first else lanes.T
    for t in range(0, len(block), TILE):
        lanes[: len(block[t : t + TILE])] += block[t : t + TILE]
    if piece == pieces(job) - 1:
        lanes = halve(lanes)
    lanes = lanes if first else np.ascontiguousarray(lanes.T)
    return canonical(lanes) if lanes.dtype == np.float32 else lanes


def compute_maximum(job: Job, piece: int, accumulator: Array | None, reader: TileReader) -> Array:
    """Go on with the first greatest element; NaN is greater than everything, the first NaN stays."""
    type_ = job.inputs[0]
    row, height = job.origin[0], job.shape[0]
    start, stop = _range(job, piece, type_.matrix[1])
    block = read_block(reader, 0, (row, row + height), (start, stop))
    columns = np.broadcast_to(np.arange(start, stop, dtype=np.int64), block.shape)
    held = continued(accumulator, np.zeros((height, 2), np.int64))
    if piece > 0:
        block = np.concatenate([_from_bits(held[:, 1:], type_), block], axis=1)
        columns = np.concatenate([held[:, :1], columns], axis=1)
    best = np.argmax(block, axis=1)[:, None]
    index = np.take_along_axis(columns, best, axis=1)
    value = np.ascontiguousarray(np.take_along_axis(block, best, axis=1))
    value = canonical(value) if value.dtype == np.float32 else value
    if piece == pieces(job) - 1:
        return index if job.node.operator == "argmax_last" else value
    bits = value.view(np.int32).astype(np.int64) if value.dtype == np.float32 else value
    return np.concatenate([index, bits], axis=1)


def _from_bits(bits: Array, type_: TensorType) -> Array:
    if type_.dtype == "i64":
        return bits
    return np.ascontiguousarray(bits).astype(np.int32).view(np.float32)
