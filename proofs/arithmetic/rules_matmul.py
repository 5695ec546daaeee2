"""Tiles of matmul: chains of 256 terms a piece; for a batched right operand, one chain for each matrix in the tile.

A tile of the output's 2-D view (batch × M rows) may cover several matrices of the batch. Pieces go through them in
order and, for each, through k ascending; only the rows of that matrix change. When K is not a multiple of 32, the rows
of a batched right operand do not start at a tile's edge: then a piece has 224 terms, so that its tiles stay within
64 KiB. The rows of a left operand that repeats may lie across two rows of tiles: then a piece has 160 terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.limits import TILE
from proofs.arithmetic.elementary import canonical
from proofs.arithmetic.jobs import Job, TileReader, continued, read_block
from proofs.program.types import TensorType

Array = npt.NDArray[Any]

TERMS = 256
"""Terms of a piece: 8 tiles of each operand."""
TERMS_UNALIGNED = 224
"""7 tiles of the left operand and at most 8 of the right."""
TERMS_REPEATED = 160
"""10 tiles of the left operand and at most 6 of the right."""


def _terms(inputs: tuple[TensorType, ...]) -> int:
    left, right = inputs
    if len(left.shape) < len(right.shape) and left.shape[-2] % TILE:
        return TERMS_REPEATED
    return TERMS if len(right.shape) == 2 or left.shape[-1] % TILE == 0 else TERMS_UNALIGNED


def _chunks(inputs: tuple[TensorType, ...]) -> int:
    return -(-inputs[0].shape[-1] // _terms(inputs))


def _matrices(job: Job) -> range:
    """The matrices of the batch that the output tile covers; one when the right operand is 2-D."""
    if len(job.inputs[1].shape) == 2:
        return range(1)
    first = job.origin[0]
    size = job.output.shape[-2]
    return range(first // size, (first + job.shape[0] - 1) // size + 1)


def pieces(job: Job) -> int:
    """Number of pieces."""
    return len(_matrices(job)) * _chunks(job.inputs)


def most_pieces(inputs: tuple[TensorType, ...], output: TensorType) -> int:
    """An upper bound for every tile."""
    if len(inputs[1].shape) == 2:
        return _chunks(inputs)
    return min(TILE, TILE // output.shape[-2] + 2) * _chunks(inputs)


def compute(job: Job, piece: int, accumulator: Array | None, reader: TileReader) -> Array:
    """Add one chunk of terms to the rows of one matrix."""
    left, right = job.inputs
    total = left.shape[-1]
    chunk = piece % _chunks(job.inputs)
    matrix = _matrices(job)[piece // _chunks(job.inputs)]
    terms = _terms(job.inputs)
    k_start, k_stop = chunk * terms, min(total, (chunk + 1) * terms)
    row, column = job.origin
    height, width = job.shape
    first, last, shift = row, row + height, 0
    if len(right.shape) > 2:
        size = job.output.shape[-2]
        first, last = max(row, matrix * size), min(row + height, (matrix + 1) * size)
        # A left operand that repeats has its matrix `matrix` again and again.
        shift = (matrix - matrix % (left.matrix[0] // size)) * size
    result = continued(accumulator, job.empty())
    a = read_block(reader, 0, (first - shift, last - shift), (k_start, k_stop))
    b = read_block(reader, 1, (matrix * total + k_start, matrix * total + k_stop), (column, column + width))
    rows = result[first - row : last - row]
    product = np.empty_like(rows)
    for k in range(k_stop - k_start):
        np.multiply(a[:, k : k + 1], b[k : k + 1], out=product)
        np.add(rows, product, out=rows)
    return canonical(result)
