"""The arithmetic of opset 1 by operator name: for each, its definition on whole tensors and its rule for one tile.

One row for every row of `proofs.program.operators`. A new operator brings a file with a definition and a tile rule, one
row here, and one in the tables of types and gas (`proofs.program.operators`), bounds (`proofs.native.bounds`), torch
references (`ml.reference.operators`) and kernels (`ml.kernels.table`); a house test names the table that lacks a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from proofs.arithmetic import definitions, elementwise, gather, rules_index, rules_matmul, rules_reduce
from proofs.arithmetic.jobs import Job, TileReader
from proofs.program.types import Node, TensorType

Array = npt.NDArray[Any]
Types = tuple[TensorType, ...]


@dataclass(frozen=True, slots=True)
class TileRule:
    """How the tiles of an operator are computed, piece by piece."""

    pieces: Callable[[Job], int]
    """Pieces of one output tile, independent of the data."""
    compute: Callable[[Job, int, Array | None, TileReader], Array]
    """(job, piece, accumulator of the piece before, reader) -> accumulator; after the last piece, the tile."""
    most: Callable[[Types, TensorType], int]
    """(input types, output type) -> an upper bound on the pieces of any tile, cheap enough for validation."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What `rep-v1` means by one operator."""

    define: Callable[[Node, Sequence[Array], TensorType], Array]
    """The whole value, by `definitions`."""
    tiles: TileRule


_GATHERED = TileRule(gather.pieces, gather.compute, gather.most_pieces)
_GENERATED = TileRule(rules_index.one_piece, rules_index.compute_generator, rules_index.most_generator_pieces)
_LOOKUP = TileRule(rules_index.lookup_pieces, rules_index.compute_lookup, rules_index.most_lookup_pieces)
_SUM_LAST = TileRule(rules_reduce.pieces, rules_reduce.compute_sum, rules_reduce.most_pieces_last)
_SUM_FIRST = TileRule(rules_reduce.pieces, rules_reduce.compute_sum, rules_reduce.most_pieces_first)
_MAXIMUM = TileRule(rules_reduce.pieces, rules_reduce.compute_maximum, rules_reduce.most_pieces_last)
_MATMUL = TileRule(rules_matmul.pieces, rules_matmul.compute, rules_matmul.most_pieces)
_SCATTER = TileRule(rules_index.scatter_pieces, rules_index.compute_scatter, rules_index.most_scatter_pieces)

ARITHMETIC: dict[str, Arithmetic] = {
    **{name: Arithmetic(definitions.elementwise_value, _GATHERED) for name in elementwise.OPERATORS},
    "reshape": Arithmetic(definitions.reshape, _GATHERED),
    "permute": Arithmetic(definitions.permute, _GATHERED),
    "broadcast_to": Arithmetic(definitions.broadcast_to, _GATHERED),
    "slice": Arithmetic(definitions.slice_, _GATHERED),
    "concatenate": Arithmetic(definitions.concatenate, _GATHERED),
    "pad": Arithmetic(definitions.pad, _GATHERED),
    "windows": Arithmetic(definitions.windows, _GATHERED),
    "full": Arithmetic(definitions.full, _GENERATED),
    "iota": Arithmetic(definitions.iota, _GENERATED),
    "uniform": Arithmetic(definitions.uniform, _GENERATED),
    "matmul": Arithmetic(definitions.matmul_value, _MATMUL),
    "sum_last": Arithmetic(definitions.sum_last, _SUM_LAST),
    "sum_first": Arithmetic(definitions.sum_first, _SUM_FIRST),
    "max_last": Arithmetic(definitions.max_last, _MAXIMUM),
    "argmax_last": Arithmetic(definitions.argmax_last, _MAXIMUM),
    "embedding": Arithmetic(definitions.embedding, _LOOKUP),
    "embedding_grad": Arithmetic(definitions.embedding_grad, _SCATTER),
    "take_last": Arithmetic(definitions.take_last, _LOOKUP),
    "scatter_last": Arithmetic(definitions.scatter_last, _GENERATED),
}
"""Operator -> its arithmetic."""
