"""Pieces of elementwise and movement operators and of batch values.

Every output element takes at most one element of each input. The tile's elements, in row-major order, are put into
pieces greedily: an element starts a new piece when the distinct input tiles of the piece would exceed the bound. The
accumulator is the output tile, zero (of windows: their bits) where it is not filled yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.limits import PIECE_INPUT_BYTES_MAX, TILE, TILE_PROOF_BYTES
from proofs.arithmetic import elementwise, generators, movement
from proofs.arithmetic.elementary import I64Array, canonical
from proofs.arithmetic.jobs import Job, TileReader, continued, element_numbers, read_elements
from proofs.program.operators import OPERATORS
from proofs.program.types import F32, ITEM_BYTES, TensorType
from proofs.tensors import NUMPY_DTYPES, tile_grid, tile_shape

Array = npt.NDArray[Any]
Sources = list[tuple[TensorType, I64Array]]
"""For every input its type and, per element of the output tile, the input element it takes (-1: none)."""


def sources_of(job: Job) -> Sources:
    """Which input elements the elements of the output tile take."""
    linear = element_numbers(job.output, job.tile)
    if OPERATORS[job.node.operator].family == "elementwise":
        return [(type_, movement.broadcast_source(linear, job.output.shape, type_.shape)) for type_ in job.inputs]
    return [
        (type_, movement.source(job.node, job.inputs, job.output, number, linear))
        for number, type_ in enumerate(job.inputs)
    ]


def cuts_of(sources: Sources) -> list[int]:
    """Where pieces start, and at the end the number of elements: piece p is elements cuts[p] … cuts[p + 1] - 1."""
    count = len(sources[0][1])
    # Of the many inputs of a concatenate, few have elements in one tile.
    sources = [(type_, elements) for type_, elements in sources if (elements >= 0).any()]
    if not sources:
        return [0, count]
    tiles = np.stack([_tiles(type_, elements) for type_, elements in sources])
    costs = [_costs(type_, set(np.unique(row).tolist()) - {-1}) for (type_, _), row in zip(sources, tiles, strict=True)]
    if sum(sum(cost.values()) for cost in costs) <= PIECE_INPUT_BYTES_MAX:
        return [0, count]
    changes = np.flatnonzero((tiles[:, 1:] != tiles[:, :-1]).any(axis=0)) + 1
    cuts, held, total = [0], set[tuple[int, int]](), 0
    for start in [0, *changes.tolist()]:
        needed = {(number, tile) for number, tile in enumerate(tiles[:, start].tolist()) if tile >= 0}
        more = sum(costs[number][tile] for number, tile in needed - held)
        if total + more > PIECE_INPUT_BYTES_MAX:
            cuts.append(start)
            held, total = set(), 0
            more = sum(costs[number][tile] for number, tile in needed)
        held |= needed
        total += more
    return [*cuts, count]


def _tiles(type_: TensorType, elements: I64Array) -> I64Array:
    """The tile of each element; -1 for none."""
    rows, columns = np.divmod(elements, type_.matrix[1])
    return np.where(elements < 0, np.int64(-1), rows // TILE * tile_grid(type_)[1] + columns // TILE)


def _costs(type_: TensorType, tiles: set[int]) -> dict[int, int]:
    """Bytes of each tile as evidence, with what proves it: tiles of narrow tensors are many and small."""
    item = ITEM_BYTES[type_.dtype]
    shapes = {tile: tile_shape(type_, tile) for tile in tiles}
    return {tile: height * width * item + TILE_PROOF_BYTES for tile, (height, width) in shapes.items()}


@lru_cache(maxsize=8)
def _planned(job: Job) -> tuple[Sources, list[int]]:
    """Sources and cuts of a job; remembered, since the pieces of one tile are asked for one after another."""
    sources = sources_of(job)
    return sources, cuts_of(sources) if sources else [0, 1]


def pieces(job: Job) -> int:
    """Number of pieces."""
    return len(_planned(job)[1]) - 1


def most_pieces(inputs: tuple[TensorType, ...], output: TensorType) -> int:
    """No more pieces than elements of a tile."""
    return TILE * TILE


def compute(job: Job, piece: int, accumulator: Array | None, reader: TileReader) -> Array:
    """Fill in the elements of one piece."""
    sources, cuts = _planned(job)
    part = slice(cuts[piece], cuts[piece + 1])
    result = continued(accumulator, _unfilled(job))
    flat = result.reshape(-1)
    if OPERATORS[job.node.operator].family == "elementwise":
        operands = [read_elements(reader, n, type_, elements[part]) for n, (type_, elements) in enumerate(sources)]
        flat[part] = elementwise.apply(job.node.operator, operands, job.node.attributes)
    else:
        _copy(flat[part], [(type_, elements[part]) for type_, elements in sources], reader)
    return result


def _unfilled(job: Job) -> Array:
    """The output tile before any element is taken: zeros, or the bits that windows show outside."""
    if job.node.operator != "windows":
        return job.empty()
    height, width = job.shape
    return generators.filled(job.output.dtype, job.node.attributes[0], height * width).reshape(height, width)


def _copy(target: Array, sources: Sources, reader: TileReader) -> None:
    for number, (type_, elements) in enumerate(sources):
        taken = elements >= 0
        if taken.any():
            target[taken] = read_elements(reader, number, type_, elements[taken])


def _batch_sources(indices: I64Array, dataset: TensorType, batch: TensorType, tile: int) -> Sources:
    linear = element_numbers(batch, tile)
    record_elements = batch.elements // batch.shape[0]
    position, offset = np.divmod(linear, record_elements)
    return [(dataset, indices[position] * record_elements + offset)]


def piece_count_batch(indices: I64Array, dataset: TensorType, batch: TensorType, tile_index: int) -> int:
    """Number of pieces of one tile of a batch value: row b of the batch is record `indices[b]` of the dataset tensor.

    `dataset` has shape (records, *record), `batch` (batch_size, *record), `indices` is i64 of shape (batch_size,).
    """
    return len(cuts_of(_batch_sources(indices, dataset, batch, tile_index))) - 1


def compute_piece_batch(
    indices: I64Array,
    dataset: TensorType,
    batch: TensorType,
    tile_index: int,
    piece: int,
    accumulator: Array | None,
    reader: TileReader,
) -> Array:
    """The accumulator after `piece` of one tile of a batch value; input 0 of the reader is the dataset tensor.

    Whatever NaNs the data has, in a program they are canonical.
    """
    sources = _batch_sources(indices, dataset, batch, tile_index)
    cuts = cuts_of(sources)
    if not 0 <= piece < len(cuts) - 1:
        raise ValueError(f"piece {piece} of {len(cuts) - 1}")
    if (accumulator is None) != (piece == 0):
        raise ValueError("the first piece has no accumulator, every other piece has one")
    empty: Array = np.zeros(tile_shape(batch, tile_index), NUMPY_DTYPES[batch.dtype])
    result = continued(accumulator, empty)
    part = slice(cuts[piece], cuts[piece + 1])
    _copy(result.reshape(-1)[part], [(type_, elements[part]) for type_, elements in sources], reader)
    return canonical(result) if batch.dtype == F32 else result


def take_records(dataset: Array, indices: Sequence[int] | I64Array) -> Array:
    """The whole batch value: records `indices` of a dataset tensor (records, *record), NaNs canonical."""
    taken = np.ascontiguousarray(dataset[np.asarray(indices, np.int64)])
    return canonical(taken) if taken.dtype == np.float32 else taken
