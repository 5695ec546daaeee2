"""Honest play for both parties: from one's own re-execution, the move that answers the game's phase."""

from __future__ import annotations

from collections.abc import Sequence

from gensyn_node.primitives.errors import InvariantViolation
from proofs import merkle, tensors
from proofs.merkle import split_hashes
from proofs.pinpoint import arbitration, walk
from proofs.pinpoint import types as t
from proofs.pinpoint.context import Context, step_index_array
from proofs.pinpoint.oracle import Oracle
from proofs.program.types import Given
from proofs.state import checkpoint_path
from proofs.tensors import Array


def respond(game: t.Game, oracle: Oracle, context: Context) -> t.Move | None:
    """The move of the party whose turn it is; None when the game is over or this party has nothing to disagree with."""
    claim, phase = game.claim, game.phase
    match phase:
        case t.AwaitStates():
            roots, samples = _shown(claim, oracle)
            return t.PostStates(b"".join(roots), b"".join(samples))
        case t.NameState():
            return _name_state(claim, phase, oracle)
        case t.AwaitValues():
            return _post_values(phase.step, oracle, context)
        case t.NameChunk():
            return _name_chunk(claim, phase, oracle, context)
        case t.AwaitChunk():
            return t.OpenChunk(b"".join(_chunks(oracle.value_roots(phase.step))[phase.chunk]))
        case t.NameValue():
            named = _first_difference(phase.value_roots, oracle.value_roots(phase.step)[phase.first :])
            return named or (_open_sample(claim, phase, oracle, context) if phase.sample is not None else None)
        case t.AwaitEntries():
            return t.PostEntries(b"".join(oracle.entry_roots(0)))
        case t.NameEntry():
            return _first_difference(phase.entry_roots, oracle.entry_roots(0))
        case t.AwaitTiles():
            return t.PostTiles(b"".join(_tile_parts(phase.target, phase.span, oracle)))
        case t.NameTile():
            return _first_difference(phase.hashes, _tile_parts(phase.target, phase.span, oracle))
        case t.AwaitPieces():
            return t.PostPieces(b"".join(_piece_ends(phase, oracle, context)))
        case t.NamePiece():
            ends = [*_piece_ends(phase, oracle, context), phase.span.challenger]
            return _first_difference(phase.hashes + phase.span.defender, ends)
        case t.AwaitEvidence():
            return _evidence(claim, phase, oracle, context)
        case _:
            return None


def _first_difference(posted: bytes, own: Sequence[bytes]) -> t.Name | None:
    for index, hash_ in enumerate(split_hashes(posted)):
        if hash_ != own[index]:
            return t.Name(index, own[index])
    return None


def _shown(claim: t.Claim, oracle: Oracle) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """State roots and, of an evidence, samples of the segment."""
    if claim.kind == t.EVIDENCE:
        return oracle.evidence(claim.first_step, claim.steps, claim.key)
    return oracle.state_roots(claim.first_step, claim.steps), ()


def _name_state(claim: t.Claim, phase: t.NameState, oracle: Oracle) -> t.Move | None:
    roots, samples = _shown(claim, oracle)
    named = _first_difference(phase.roots, roots)
    sampled = _first_difference(phase.samples, samples)
    # A sample is made on the way to the state after it: where both differ, that state is what they play about.
    if sampled is None or (named is not None and named.index <= sampled.index + 1):
        return named
    return t.NameSample(sampled.index, sampled.hash)


def _open_sample(claim: t.Claim, phase: t.NameValue | t.NameChunk, oracle: Oracle, context: Context) -> t.OpenSample:
    """The drawn tiles of a step with the paths that tie them to its agreed values."""
    opened, values = [], oracle.value_roots(phase.step)
    for value, tile in context.points(claim.key, phase.step):
        data = tensors.tile_bytes(oracle.tile(phase.step, value, tile))
        path = b"".join(tensors.prove_tile(oracle.tile_leaves(phase.step, value), tile))
        index = context.list_index_of(value)
        if index is None or isinstance(phase, t.NameValue):
            opened.append(t.SampledTile(data, path))
        else:
            opened.append(t.SampledTile(data, path, values[index], _path_in_chunk(values, index)))
    return t.OpenSample(tuple(opened))


def _chunks(roots: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [roots[first : first + t.VALUES_PER_MOVE_MAX] for first in range(0, len(roots), t.VALUES_PER_MOVE_MAX)]


def _post_values(step: int, oracle: Oracle, context: Context) -> t.Move:
    entries, values = oracle.entry_roots(step), oracle.value_roots(step)
    if len(values) <= t.VALUES_PER_MOVE_MAX:
        return t.PostValues(b"".join(entries), b"".join(values))
    outputs = []
    for value in context.program.state_outputs:
        index = context.list_index_of(value)
        outputs.append(context.unlisted_root(step, value, entries) if index is None else values[index])
    chunks = b"".join(merkle.root(chunk) for chunk in _chunks(values))
    return t.PostChunks(b"".join(entries), b"".join(outputs), chunks)


def _name_chunk(claim: t.Claim, phase: t.NameChunk, oracle: Oracle, context: Context) -> t.Move | None:
    values = oracle.value_roots(phase.step)
    named = _first_difference(phase.chunks, [merkle.root(chunk) for chunk in _chunks(values)])
    if named is not None:
        return named
    for entry, posted in enumerate(split_hashes(phase.output_roots)):
        index = context.list_index_of(context.program.state_outputs[entry])
        if index is not None and values[index] != posted:
            return t.ShowContradiction(entry, values[index], _path_in_chunk(values, index))
    return _open_sample(claim, phase, oracle, context) if phase.sample is not None else None


def _path_in_chunk(values: Sequence[bytes], index: int) -> bytes:
    chunk, position = divmod(index, t.VALUES_PER_MOVE_MAX)
    leaves = [merkle.SHA256.leaf(root) for root in _chunks(values)[chunk]]
    return b"".join(merkle.inclusion_path(merkle.SHA256, leaves, position))


def _tile_parts(target: t.Target, span: t.Span, oracle: Oracle) -> list[bytes]:
    leaves = oracle.tile_leaves(target.step, target.value)[span.first : span.first + span.count]
    size = walk.part_size(span.count)
    return [merkle.fold(tensors.TILES, leaves[first : first + size]) for first in range(0, span.count, size)]


class _Inputs:
    """A `TileReader` over an oracle that remembers which tiles were read."""

    def __init__(self, target: t.Target, oracle: Oracle, context: Context) -> None:
        self._target, self._oracle, self._context = target, oracle, context
        self._types = arbitration.input_types(target.value, context)
        self._node = context.node_of(target.value)
        self.read: dict[tuple[int, int], Array] = {}

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        """See `TileReader`."""
        index = tile_row * tensors.tile_grid(self._types[input_number])[1] + tile_column
        if self._node is None:
            array = self._oracle.dataset_tile(self._target.value - len(self._context.program.state), index)
        elif self._node.inputs[input_number] == self._context.program.step_index_value:
            return step_index_array(self._target.step).reshape(1, 1)
        else:
            array = self._oracle.tile(self._target.step, self._node.inputs[input_number], index)
        self.read[input_number, index] = array
        return array

    def paths(self, input_number: int, indices: Sequence[int]) -> Sequence[tuple[bytes, ...]]:
        """The Merkle paths of tiles of one input."""
        if self._node is None:
            return self._oracle.dataset_paths(self._target.value - len(self._context.program.state), tuple(indices))
        leaves = self._oracle.tile_leaves(self._target.step, self._node.inputs[input_number])
        return tensors.prove_tiles(leaves, indices)


def _accumulator_after(target: t.Target, tile: int, pieces: int, oracle: Oracle, context: Context) -> Array | None:
    """The accumulator after the first `pieces` pieces of a tile."""
    reader, accumulator = _Inputs(target, oracle, context), None
    for piece in range(pieces):
        accumulator = arbitration.compute(target, tile, piece, accumulator, reader, context)
    return accumulator


def _piece_ends(phase: t.AwaitPieces | t.NamePiece, oracle: Oracle, context: Context) -> list[bytes]:
    """Accumulator hashes at the end of every part of the run but the last."""
    span, reader, ends = phase.span, _Inputs(phase.target, oracle, context), []
    accumulator = _accumulator_after(phase.target, phase.tile, span.first, oracle, context)
    size, parts = walk.part_size(span.count), walk.part_count(span.count)
    for piece in range(span.first, span.first + size * (parts - 1)):
        accumulator = arbitration.compute(phase.target, phase.tile, piece, accumulator, reader, context)
        if (piece + 1 - span.first) % size == 0:
            ends.append(tensors.accumulator_hash(accumulator))
    return ends


def _evidence(claim: t.Claim, phase: t.AwaitEvidence, oracle: Oracle, context: Context) -> t.Arbitrate:
    """Everything that the disputed piece reads, with the paths that tie it to what is agreed."""
    target, piece = phase.target, phase.span.first
    if claim.kind == t.INITIAL:
        return _initial_evidence(target.value, oracle, context)
    accumulator = _accumulator_after(target, phase.tile, piece, oracle, context)
    reader = _Inputs(target, oracle, context)
    arbitration.compute(target, phase.tile, piece, accumulator, reader, context)
    supplied = None
    if accumulator is not None:
        type_ = tensors.type_of(accumulator)
        supplied = t.Accumulator(type_.dtype, type_.shape, tensors.tile_bytes(accumulator))
    tiles = []
    for number in sorted({number for number, _ in reader.read}):
        indices = sorted(index for input_number, index in reader.read if input_number == number)
        for index, path in zip(indices, reader.paths(number, indices), strict=True):
            tiles.append(t.InputTile(number, index, tensors.tile_bytes(reader.read[number, index]), b"".join(path)))
    missing = sorted({number for number, _ in reader.read if _is_missing(target, number)})
    inputs = tuple(_prove_input(target, number, oracle, context) for number in missing)
    return t.Arbitrate(supplied, inputs, tuple(tiles))


def _is_missing(target: t.Target, number: int) -> bool:
    """Whether the chain does not hold the root of this input."""
    return bool(target.inputs) and not target.inputs[number]


def _prove_input(target: t.Target, number: int, oracle: Oracle, context: Context) -> t.InputRoot:
    node, values = context.node_of(target.value), oracle.value_roots(target.step)
    index = context.list_index_of(node.inputs[number]) if node else None
    if index is None:
        raise InvariantViolation(f"input {number} of value {target.value} is in no chunk")
    return t.InputRoot(number, values[index], _path_in_chunk(values, index))


def _initial_evidence(entry: int, oracle: Oracle, context: Context) -> t.Arbitrate:
    """Nothing for what the seed gives; for a given entry, its root with the path under the checkpoint's root."""
    if not isinstance(context.program.state[entry].initial, Given):
        return t.Arbitrate(None, (), ())
    given = [number for number, other in enumerate(context.program.state) if isinstance(other.initial, Given)]
    roots = oracle.entry_roots(0)
    names = [context.entry_names[number] for number in given]
    path = checkpoint_path(names, [roots[number] for number in given], given.index(entry))
    return t.Arbitrate(None, (t.InputRoot(0, roots[entry], b"".join(path)),), ())


SAMPLE_MOVES = 4
"""Moves of a game that ends with an opened sample: states, the sample named, values or chunks, the drawn tiles."""


def expected_moves(claim: t.Claim, context: Context, step: int, value: int, tile: int = 0, piece: int = 0) -> int:
    """The number of moves of a game that ends in arbitration of `piece` of `tile` of a value (INITIAL: state entry).

    Two for the states, two for the values (four when they come in chunks), two for each level of tiles, two for each
    level of pieces when a tile has several, one for the evidence. INITIAL: two for the entries instead of those four.
    """
    if claim.kind == t.INITIAL and isinstance(context.program.state[value].initial, Given):
        return 3
    narrowing = 2 * walk.levels(tensors.tile_count(context.types[value]), tile)
    if claim.kind == t.INITIAL:
        return 2 + narrowing + 1
    pieces = arbitration.pieces_of(claim, t.Target(step, value, (), b""), tile, context)
    if pieces > 1:
        narrowing += 2 * walk.levels(pieces, piece)
    return 2 + (4 if context.listed_values > t.VALUES_PER_MOVE_MAX else 2) + narrowing + 1
