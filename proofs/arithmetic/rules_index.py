"""Tiles of operators whose elements depend on their position or on ids: generators, lookups, the embedding gradient.

A lookup reads the tiles that its ids name, so it goes a few rows a piece (`rows_per_piece`). The embedding gradient
walks all ids in order, 64 a piece, and reads a gradient tile only when an id falls into the output tile's rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.limits import TILE
from proofs.arithmetic import generators
from proofs.arithmetic.elementary import canonical
from proofs.arithmetic.jobs import Job, TileReader, continued, element_numbers, read_block, read_elements
from proofs.program.types import ITEM_BYTES, TensorType

Array = npt.NDArray[Any]

SCATTER_IDS = 64
"""Ids of a piece of the embedding gradient: at most 4 tiles of ids (8 KiB each) and 2 of the gradient (4 KiB each)."""


def one_piece(job: Job) -> int:
    """Generators compute a tile in one piece."""
    return 1


def most_generator_pieces(inputs: tuple[TensorType, ...], output: TensorType) -> int:
    """The same for every tile."""
    return 1


def compute_generator(job: Job, piece: int, accumulator: Array | None, reader: TileReader) -> Array:
    """full, iota, uniform and scatter_last."""
    linear = element_numbers(job.output, job.tile)
    match job.node.operator:
        case "uniform":
            key, counter = reader.tile(0, 0, 0), reader.tile(1, 0, 0)
            return generators.uniform(key[0], int(counter[0, 0]), job.node.attributes[0], linear).reshape(job.shape)
        case "scatter_last":
            row, column = job.origin
            rows = (row, row + job.shape[0])
            values, ids = read_block(reader, 0, rows, (0, 1)), read_block(reader, 1, rows, (0, 1))
            columns = np.arange(column, column + job.shape[1])
            return np.where(ids == columns, values, values.dtype.type(0))
        case "iota":
            return generators.index_along(job.node.attributes[0], job.output, linear).reshape(job.shape)
    return generators.filled(job.output.dtype, job.node.attributes[1], len(linear)).reshape(job.shape)


def rows_per_piece(type_: TensorType) -> int:
    """Rows of a lookup piece: as many tiles of the table, plus at most 3 tiles of ids, stay within 64 KiB."""
    return 4 if ITEM_BYTES[type_.dtype] == 8 else 8


def lookup_pieces(job: Job) -> int:
    """Number of pieces of embedding and take_last."""
    return -(-job.shape[0] // rows_per_piece(job.inputs[0]))


def most_lookup_pieces(inputs: tuple[TensorType, ...], output: TensorType) -> int:
    """An upper bound for every tile."""
    return TILE // rows_per_piece(inputs[0])


def compute_lookup(job: Job, piece: int, accumulator: Array | None, reader: TileReader) -> Array:
    """Copy a few rows of the table (embedding) or one element of a few rows (take_last)."""
    table, ids_type = job.inputs
    result = continued(accumulator, job.empty())
    row, column = job.origin
    width = job.shape[1]
    start = piece * rows_per_piece(table)
    stop = min(job.shape[0], start + rows_per_piece(table))
    ids = read_elements(reader, 1, ids_type, np.arange(row + start, row + stop, dtype=np.int64))
    rows, columns = table.matrix
    for position, chosen in enumerate(ids.tolist(), start=start):
        if job.node.operator == "embedding" and 0 <= chosen < rows:
            tile = reader.tile(0, chosen // TILE, column // TILE)
            result[position] = tile[chosen % TILE, :width]
        elif job.node.operator == "take_last" and 0 <= chosen < columns:
            tile = reader.tile(0, row // TILE, chosen // TILE)
            result[position, 0] = tile[position, chosen % TILE]
    return result


def most_scatter_pieces(inputs: tuple[TensorType, ...], output: TensorType) -> int:
    """Pieces of every tile of an embedding gradient."""
    return -(-inputs[1].elements // SCATTER_IDS)


def scatter_pieces(job: Job) -> int:
    """Number of pieces of embedding_grad."""
    return most_scatter_pieces(job.inputs, job.output)


def compute_scatter(job: Job, piece: int, accumulator: Array | None, reader: TileReader) -> Array:
    """Add the gradient rows of 64 ids, in order, to the rows they name."""
    ids_type = job.inputs[1]
    start = piece * SCATTER_IDS
    numbers = np.arange(start, min(ids_type.elements, start + SCATTER_IDS), dtype=np.int64)
    ids = read_elements(reader, 1, ids_type, numbers)
    result = continued(accumulator, job.empty())
    row, column = job.origin
    height, width = job.shape
    for number, chosen in zip(numbers.tolist(), (ids - row).tolist(), strict=True):
        if 0 <= chosen < height:
            tile = read_block(reader, 0, (number, number + 1), (column, column + width))
            result[chosen] += tile[0]
    return canonical(result)
