"""The tile rule of every operator: one output tile as a chain of pieces, each reading at most 64 KiB of input tiles.

Piece p takes the accumulator that piece p-1 left (None for the first) and returns its own; the last one is the output
tile (2-D, dtype of the output). Which tiles a piece reads, and their order, follows from node, types, tile index, piece
and, for lookups, the tiles read before. Everything here is a pure function of its arguments: whoever runs it gets the
same bits. Tile row and column count from 0 in the input's tile grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.errors import InvariantViolation
from proofs.arithmetic import gather, rules_index, rules_matmul, rules_reduce
from proofs.arithmetic.jobs import Job, MissingTile, TileReader
from proofs.program.operators import OPERATORS
from proofs.program.types import Node, TensorType

__all__ = ["MissingTile", "TileReader", "compute_piece", "compute_tile", "piece_count", "worst_piece_count"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TileRule:
    """How one family of operators computes a tile."""

    pieces: Callable[[Job], int]
    compute: Callable[[Job, int, Array | None, TileReader], Array]


_FAMILIES = {
    "elementwise": TileRule(gather.pieces, gather.compute),
    "movement": TileRule(gather.pieces, gather.compute),
    "generator": TileRule(rules_index.one_piece, rules_index.compute_generator),
    "matmul": TileRule(rules_matmul.pieces, rules_matmul.compute),
    "sum": TileRule(rules_reduce.pieces, rules_reduce.compute_sum),
    "maximum": TileRule(rules_reduce.pieces, rules_reduce.compute_maximum),
    "lookup": TileRule(rules_index.lookup_pieces, rules_index.compute_lookup),
    "scatter": TileRule(rules_index.scatter_pieces, rules_index.compute_scatter),
}


def _rule(node: Node) -> TileRule:
    return _FAMILIES[OPERATORS[node.operator].family]


def piece_count(node: Node, input_types: Sequence[TensorType], output_type: TensorType, tile_index: int) -> int:
    """Number of pieces of an output tile, at least 1. Independent of the data."""
    return _rule(node).pieces(Job(node, tuple(input_types), output_type, tile_index))


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
    rule = _rule(node)
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
    match OPERATORS[operator].family:
        case "matmul":
            return rules_matmul.most_pieces(tuple(input_types))
        case "sum" | "maximum":
            return rules_reduce.most_pieces(operator, input_types[0])
        case "scatter":
            return rules_index.scatter_blocks(input_types[1])
        case "lookup":
            return rules_index.LOOKUPS_PER_TILE
    return gather.MOST_PIECES
