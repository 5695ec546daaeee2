"""The referee: from agreed inputs, proved tile by tile, recompute the disputed piece; compare it with both claims."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.primitives.limits import TILE
from proofs import merkle, tensors
from proofs.arithmetic.gather import compute_piece_batch, piece_count_batch
from proofs.arithmetic.jobs import element_numbers
from proofs.arithmetic.tiles import MissingTile, TileReader, compute_piece, piece_count
from proofs.merkle import split_hashes
from proofs.pinpoint import types as t
from proofs.pinpoint.context import Context, step_index_array
from proofs.program.initial import initial_tile
from proofs.program.types import ITEM_BYTES, Given, TensorType
from proofs.reasons import BAD_TILE
from proofs.samples import Point, sample_of
from proofs.sampling import indices_at
from proofs.state import verify_checkpoint_entry
from proofs.tensors import Array


def pieces_of(claim: t.Claim, target: t.Target, tile: int, context: Context) -> int:
    """How many pieces a tile of the disputed value is computed in."""
    if claim.kind == t.INITIAL:
        return 1
    node, output = context.node_of(target.value), context.types[target.value]
    inputs = input_types(target.value, context)
    if node is None:
        return piece_count_batch(_records(target, tile, context), inputs[0], output, tile)
    return piece_count(node, inputs, output, tile)


def compute(
    target: t.Target, tile: int, piece: int, accumulator: Array | None, reader: TileReader, context: Context
) -> Array:
    """One piece of a tile of a batch value or node, by the rules of `proofs.arithmetic`."""
    node, output = context.node_of(target.value), context.types[target.value]
    inputs = input_types(target.value, context)
    if node is None:
        indices = _records(target, tile, context)
        return compute_piece_batch(indices, inputs[0], output, tile, piece, accumulator, reader)
    return compute_piece(node, inputs, output, tile, piece, accumulator, reader)


def _records(target: t.Target, tile: int, context: Context) -> NDArray[np.int64]:
    """The record numbers of the step's batch, filled in only for the rows that the tile shows: a batch may be large."""
    dataset, batch_size = context.dataset_of(target.value - len(context.program.state)), context.program.batch_size
    rows = np.unique(element_numbers(context.types[target.value], tile) // dataset.record.elements)
    indices = np.zeros(batch_size, np.int64)
    indices[rows] = indices_at(context.seed, target.step, batch_size, dataset.records, rows)
    return indices


def chunk_holds(chunks: bytes, list_index: int, root: bytes, path: bytes, listed: int) -> bool:
    """Whether the chunks of a list of `listed` value roots commit to `root` at `list_index`."""
    chunk, position = divmod(list_index, t.VALUES_PER_MOVE_MAX)
    size = min(t.VALUES_PER_MOVE_MAX, listed - chunk * t.VALUES_PER_MOVE_MAX)
    if len(root) != HASH_BYTES or len(path) % HASH_BYTES:
        return False
    leaf = merkle.SHA256.leaf(root)
    return merkle.verify_inclusion(merkle.SHA256, split_hashes(chunks)[chunk], leaf, position, size, split_hashes(path))


def rule(claim: t.Claim, phase: t.AwaitEvidence, move: t.Arbitrate, context: Context) -> t.Finished:
    """The outcome. Evidence that does not prove or does not suffice loses for the challenger, who supplied it."""
    try:
        found = _recompute(claim, phase, move, context)
    except (Rejection, MissingTile) as error:
        return t.Finished(t.CHALLENGER_WRONG, f"the evidence does not suffice: {error}"[:200])
    except ValueError:
        # Both agreed on an accumulator that no piece leaves behind. The outcome is on the chain: no words of numpy's.
        return t.Finished(t.CHALLENGER_WRONG, "the agreed accumulator is none of this chain of pieces")
    if found == phase.span.defender:
        return t.Finished(t.CHALLENGER_WRONG, "the recomputed piece is the defender's")
    if found == phase.span.challenger:
        return t.Finished(t.DEFENDER_WRONG, "the recomputed piece is the challenger's")
    return t.Finished(t.BOTH_WRONG, "the recomputed piece is neither party's")


def rule_on_sample(
    key: bytes, phase: t.NameValue | t.NameChunk, sample: t.DisputedSample, move: t.OpenSample, context: Context
) -> t.Finished:
    """The outcome over a step's sample when the values of the step are agreed."""
    points = context.points(key, phase.step)
    if len(move.tiles) != len(points):
        return t.Finished(t.CHALLENGER_WRONG, f"{len(move.tiles)} tiles, the key draws {len(points)}")
    try:
        for point, opened in zip(points, move.tiles, strict=True):
            root = _sampled_root(phase, point, opened, context)
            tensors.verify_tile(root, context.types[point.value], point.tile, opened.data, _path(opened.path))
    except Rejection as error:
        return t.Finished(t.CHALLENGER_WRONG, f"the drawn tiles are not these: {error}"[:200])
    found = sample_of(key, phase.step, [opened.data for opened in move.tiles])
    if found == sample.defender:
        return t.Finished(t.CHALLENGER_WRONG, "the drawn tiles give the defender's sample")
    if found == sample.challenger:
        return t.Finished(t.DEFENDER_WRONG, "the drawn tiles give the challenger's sample")
    return t.Finished(t.BOTH_WRONG, "the drawn tiles give neither party's sample")


def _sampled_root(phase: t.NameValue | t.NameChunk, point: Point, opened: t.SampledTile, context: Context) -> bytes:
    """The agreed root of a drawn tile's value; where values come in chunks it is opened along with the tile."""
    index = context.list_index_of(point.value)
    if index is None:
        return context.unlisted_root(phase.step, point.value, split_hashes(phase.entry_roots))
    if isinstance(phase, t.NameValue):
        return split_hashes(phase.value_roots)[index]
    if not chunk_holds(phase.chunks, index, opened.root, opened.root_path, context.listed_values):
        raise Rejection(BAD_TILE, f"the root of value {point.value} is not in its chunk")
    return opened.root


def _recompute(claim: t.Claim, phase: t.AwaitEvidence, move: t.Arbitrate, context: Context) -> bytes:
    """The hash that the disputed piece (or given entry) has. `Rejection` or `MissingTile` when the evidence lacks."""
    target, tile = phase.target, phase.tile
    if claim.kind == t.INITIAL:
        entry = context.program.state[target.value]
        if isinstance(entry.initial, Given):
            return _given_root(target.value, move, context)
        return tensors.leaf_of(initial_tile(entry, target.value, context.seed, tile))
    piece, accumulator = phase.span.first, _accumulator(phase.agreed, move.accumulator)
    result = compute(target, tile, piece, accumulator, EvidenceReader(target, move, context), context)
    last = piece == pieces_of(claim, target, tile, context) - 1
    return tensors.leaf_of(result) if last else tensors.accumulator_hash(result)


def _given_root(entry: int, move: t.Arbitrate, context: Context) -> bytes:
    """The root of an entry that the task's checkpoint gives, by its path under the checkpoint's root."""
    if len(move.inputs) != 1:
        raise Rejection(BAD_TILE, "the entry's root in the checkpoint is needed")
    given, (index, count) = move.inputs[0], context.given_position(entry)
    name = context.program.state[entry].name
    path = _path(given.path)
    if not verify_checkpoint_entry(context.checkpoint, name, given.root, index, count, path):
        raise Rejection(BAD_TILE, "the path does not lead to the checkpoint's root")
    return given.root


def _path(data: bytes) -> list[bytes]:
    if len(data) % HASH_BYTES:
        raise Rejection(BAD_TILE, "a path is no whole number of hashes")
    return split_hashes(data)


def _accumulator(agreed: bytes, supplied: t.Accumulator | None) -> Array | None:
    """The array left by the piece before, checked against its agreed hash; None before the first piece."""
    if not agreed:
        return None
    if supplied is None or supplied.dtype not in ITEM_BYTES:
        raise Rejection(BAD_TILE, "the accumulator is missing")
    # Checked here: which shapes numpy refuses, with which error, depends on its version.
    if len(supplied.shape) != 2 or not all(1 <= size <= TILE for size in supplied.shape):
        raise Rejection(BAD_TILE, "the accumulator is no part of a tile")
    type_ = TensorType(supplied.dtype, supplied.shape)
    if len(supplied.data) != type_.elements * ITEM_BYTES[type_.dtype]:
        raise Rejection(BAD_TILE, "the accumulator's bytes do not fit its shape")
    array = np.frombuffer(supplied.data, tensors.NUMPY_DTYPES[type_.dtype]).reshape(type_.shape)
    if tensors.accumulator_hash(array) != agreed:
        raise Rejection(BAD_TILE, "the accumulator has not the agreed hash")
    return array


class EvidenceReader:
    """A `TileReader` over the supplied tiles, each proved under the input's agreed root before it is read."""

    def __init__(self, target: t.Target, move: t.Arbitrate, context: Context) -> None:
        self._roots = _input_roots(target, move, context)
        self._types = input_types(target.value, context)
        self._tiles: dict[tuple[int, int], Array] = {}
        node = context.node_of(target.value)
        for number, value in enumerate(node.inputs if node else ()):
            if value == context.program.step_index_value:
                self._tiles[number, 0] = step_index_array(target.step).reshape(1, 1)
        for tile in move.tiles:
            if not 0 <= tile.input < len(self._types) or not self._roots[tile.input]:
                raise Rejection(BAD_TILE, f"a tile of input {tile.input}, whose root is not known")
            if (tile.input, tile.tile) in self._tiles:
                # Thousands of copies of a tiny tile would fit into the evidence.
                raise Rejection(BAD_TILE, f"tile {tile.tile} of input {tile.input} is known already")
            array = tensors.verify_tile(
                self._roots[tile.input], self._types[tile.input], tile.tile, tile.data, _path(tile.path)
            )
            self._tiles[tile.input, tile.tile] = array

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        """See `TileReader`; `MissingTile` when it was not supplied."""
        index = tile_row * tensors.tile_grid(self._types[input_number])[1] + tile_column
        if (input_number, index) not in self._tiles:
            raise MissingTile(input_number, tile_row, tile_column)
        return self._tiles[input_number, index]


def input_types(value: int, context: Context) -> tuple[TensorType, ...]:
    """The types of what a value is computed from; of a batch value: the dataset tensor."""
    node = context.node_of(value)
    if node is None:
        return (context.dataset_of(value - len(context.program.state)).type,)
    return tuple(context.types[number] for number in node.inputs)


def _input_roots(target: t.Target, move: t.Arbitrate, context: Context) -> list[bytes]:
    """The agreed root of each input: from the game, or, for values of other chunks, from the evidence with its path."""
    node = context.node_of(target.value)
    if node is None:
        return [context.dataset_of(target.value - len(context.program.state)).root]
    roots = list(target.inputs)
    for supplied in move.inputs:
        if not 0 <= supplied.input < len(roots) or roots[supplied.input]:
            raise Rejection(BAD_TILE, f"a root of input {supplied.input}, which needs none")
        index = context.list_index_of(node.inputs[supplied.input])
        listed = context.listed_values
        if index is None or not chunk_holds(target.chunks, index, supplied.root, supplied.path, listed):
            raise Rejection(BAD_TILE, f"the root of input {supplied.input} is not in its chunk")
        roots[supplied.input] = supplied.root
    return roots
