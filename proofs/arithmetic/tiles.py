"""The tile rule of every operator: one output tile as a chain of pieces, each reading at most 64 KiB of input tiles.

Piece p takes the accumulator that piece p-1 left (None for the first) and returns its own; the last one is the output
tile (2-D, dtype of the output). Which tiles a piece reads, and their order, follows from node, types, tile index, piece
and, for lookups, the tiles read before. Everything here is a pure function of its arguments: whoever runs it gets the
same bits. Tile row and column count from 0 in the input's tile grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.errors import InvariantViolation
from proofs.arithmetic.jobs import Job, MissingTile, TileReader
from proofs.arithmetic.opset import ARITHMETIC
from proofs.program.types import Node, TensorType

__all__ = ["MissingTile", "TileReader", "compute_piece", "compute_tile", "piece_count", "worst_piece_count"]

Array = npt.NDArray[Any]


def piece_count(node: Node, input_types: Sequence[TensorType], output_type: TensorType, tile_index: int) -> int:
    """Number of pieces of an output tile, at least 1. Independent of the data."""
    return ARITHMETIC[node.operator].tiles.pieces(Job(node, tuple(input_types), output_type, tile_index))


def compute_piece(
    node: Node,
    input_types: Sequence[TensorType],
    output_type: TensorType,
    tile_index: int,
    piece: int,
    accumulator: Array | None,
    reader: TileReader,
) -> Array:
    """The accumulator after `piece`; after the last piece, the output tile.

    Raises whatever the reader raises: `MissingTile` when a tile is not available. `ValueError` when `piece` is out of
    range or the accumulator has not the shape and dtype that this piece continues.
    """
    job = Job(node, tuple(input_types), output_type, tile_index)
    rule = ARITHMETIC[node.operator].tiles
    if not 0 <= piece < rule.pieces(job):
        raise ValueError(f"piece {piece} of {rule.pieces(job)}")
    if (accumulator is None) != (piece == 0):
        raise ValueError("the first piece has no accumulator, every other piece has one")
    with np.errstate(all="ignore"):
        return rule.compute(job, piece, accumulator, reader)


def compute_tile(
    node: Node,
    input_types: Sequence[TensorType],
    output_type: TensorType,
    tile_index: int,
    reader: TileReader,
) -> Array:
    """All pieces of one output tile."""
    accumulator: Array | None = None
    for piece in range(piece_count(node, input_types, output_type, tile_index)):
        accumulator = compute_piece(node, input_types, output_type, tile_index, piece, accumulator, reader)
    if accumulator is None:
        raise InvariantViolation("a tile without pieces")
    return accumulator


def worst_piece_count(operator: str, input_types: Sequence[TensorType], output_type: TensorType) -> int:
    """An upper bound on the pieces of any output tile, cheap enough for validation."""
    return ARITHMETIC[operator].tiles.most(tuple(input_types), output_type)
