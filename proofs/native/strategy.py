"""Play by the rules: the defender's answer to any phase from its own values, the challenger's from what it found.

The challenger works on the *defender's* values, which the defender serves; which tile to accuse, it finds by holding
them against their bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proofs import merkle, tensors
from proofs.merkle import split_hashes
from proofs.native import types as t
from proofs.native.game import values_root
from proofs.native.reference import Reference, Tile
from proofs.pinpoint.context import Context, step_index_array
from proofs.pinpoint.oracle import Oracle
from proofs.pinpoint.types import Accumulator, InputTile
from proofs.pinpoint.walk import levels, part_size
from proofs.tensors import Array

AN_OUTPUT = -1
"""Of an accused output: the first state entry whose posted root is not that of its value."""


@dataclass(frozen=True, slots=True)
class Accusation:
    """What a challenger found wrong in the defender's values."""

    step: int
    value: int
    """Value number; of an output: the state entry's, or AN_OUTPUT."""
    tile: int
    is_output: bool = False


def defend(game: t.NativeGame, oracle: Oracle, context: Context) -> t.NativeMove | None:
    """The defender's move from its own values; None when it has none to make."""
    match game.phase:
        case t.AwaitStates():
            return t.PostStates(b"".join(oracle.state_roots(game.claim.first_step, game.claim.steps)))
        case t.AwaitTrace(step=step):
            return _trace(step, oracle, context)
        case t.AwaitOutput(trace=trace, entry=entry):
            value = context.program.state_outputs[entry]
            return t.ShowOutput(_proved(value, trace.step, oracle, context).path)
        case t.AwaitReference(trace=trace, value=value, tile=tile):
            return _reference(Tile(trace.step, value, tile, context), oracle)
        case t.AwaitPieces(trace=trace, run=run):
            own = _pieces(Tile(trace.step, run.value, run.tile, context), oracle)
            return t.PostPieces(b"".join(piece.hash for piece in _part_ends(run.first, run.count, own)[:-1]))
        case t.AwaitJustification(trace=trace, run=run):
            return _justification(Tile(trace.step, run.value, run.tile, context), run.first, not run.after, oracle)
        case _:
            return None


def accuse(game: t.NativeGame, accusation: Accusation, oracle: Oracle, context: Context) -> t.NativeMove | None:
    """The challenger's move; `oracle` knows the defender's values. None when there is none to make."""
    match game.phase:
        case t.NamingStep():
            return t.NameStep(accusation.step - game.claim.first_step + 1)
        case t.Accusing():
            if accusation.is_output:
                return _accuse_output(game.phase.trace, accusation, oracle, context)
            return t.AccuseTile(accusation.value, accusation.tile)
        case t.NamingPiece(trace=trace, run=run, hashes=hashes):
            own = _pieces(Tile(trace.step, run.value, run.tile, context), oracle)
            ends = _part_ends(run.first, run.count, own)
            wrong = (index for index, posted in enumerate(split_hashes(hashes)) if ends[index].hash != posted)
            return next(map(t.NamePiece, wrong), None)
        case _:
            return None


def expected_moves(pieces: int, piece: int = 0, disclosed: bool = False) -> int:
    """Moves of a game that ends at this piece of a tile of so many."""
    return (5 + 2 * levels(pieces, piece) if pieces > 1 else 5) - disclosed


def _accuse_output(trace: t.Trace, accusation: Accusation, oracle: Oracle, context: Context) -> t.AccuseOutput | None:
    """Of an output that is not known by number, the first whose posted root is another than that of its value."""
    if accusation.value != AN_OUTPUT:
        return t.AccuseOutput(accusation.value)
    roots = oracle.value_roots(trace.step)
    for entry, posted in enumerate(split_hashes(trace.output_roots)):
        index = context.list_index_of(context.program.state_outputs[entry])
        if index is not None and roots[index] != posted:
            return t.AccuseOutput(entry)
    return None


def _trace(step: int, oracle: Oracle, context: Context) -> t.PostTrace:
    entries, values = oracle.entry_roots(step), oracle.value_roots(step)
    outputs = []
    for value in context.program.state_outputs:
        index = context.list_index_of(value)
        outputs.append(context.unlisted_root(step, value, entries) if index is None else values[index])
    return t.PostTrace(b"".join(entries), b"".join(outputs), values_root(list(values)))


class _Inputs:
    """A `TileReader` over an oracle that remembers which tiles were read."""

    def __init__(self, tile: Tile, oracle: Oracle) -> None:
        self._tile, self._oracle = tile, oracle
        self._node = tile.context.node_of(tile.value)
        self.read: dict[tuple[int, int], Array] = {}

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        """See `TileReader`."""
        index = tile_row * tensors.tile_grid(self._tile.inputs[input_number])[1] + tile_column
        if self._node is None:
            array = self._oracle.dataset_tile(self._batch_input, index)
        elif self._node.inputs[input_number] == self._tile.context.program.step_index_value:
            return step_index_array(self._tile.step).reshape(1, 1)
        else:
            array = self._oracle.tile(self._tile.step, self._node.inputs[input_number], index)
        self.read[input_number, index] = array
        return array

    def path(self, input_number: int, index: int) -> tuple[bytes, ...]:
        """The Merkle path of a tile of one input."""
        if self._node is None:
            indices = tuple(sorted(place for _, place in self.read))
            return self._oracle.dataset_paths(self._batch_input, indices)[indices.index(index)]
        leaves = self._oracle.tile_leaves(self._tile.step, self._node.inputs[input_number])
        return tensors.prove_tile(leaves, index)

    @property
    def _batch_input(self) -> int:
        return self._tile.value - len(self._tile.context.program.state)


def _pieces(tile: Tile, oracle: Oracle) -> list[Reference]:
    """The reference after every piece."""
    reader, found = _Inputs(tile, oracle), list[Reference]()
    for piece in range(tile.pieces):
        found.append(tile.piece(piece, found[-1] if found else None, reader))
    return found


def _part_ends(first: int, count: int, pieces: Sequence[Reference]) -> list[Reference]:
    """The reference at the end of every part of a run."""
    size = part_size(count)
    return [pieces[first + min(end, count) - 1] for end in range(size, count + size, size)]


def _reference(tile: Tile, oracle: Oracle) -> t.PostReference:
    pieces = _pieces(tile, oracle)
    hashes = b"".join(piece.hash for piece in _part_ends(0, len(pieces), pieces)[:-1])
    return t.PostReference(_shown(tile, oracle), _carried(pieces[-1]), hashes)


def _justification(tile: Tile, piece: int, show: bool, oracle: Oracle) -> t.Justify:
    before = None
    for number in range(piece):
        before = tile.piece(number, before, _Inputs(tile, oracle))
    reader = _Inputs(tile, oracle)
    tile.piece(piece, before, reader)
    tiles = tuple(
        InputTile(
            number,
            index,
            tensors.tile_bytes(array),
            b"".join(reader.path(number, index)),
        )
        for (number, index), array in sorted(reader.read.items(), key=lambda item: item[0])
    )
    node, inputs = tile.context.node_of(tile.value), []
    for number in sorted({number for number, _ in reader.read} if node else ()):
        if node and tile.context.list_index_of(node.inputs[number]) is not None:
            inputs.append(t.InputRoot(number, _proved(node.inputs[number], tile.step, oracle, tile.context)))
    shown = _shown(tile, oracle) if show else None
    return t.Justify(shown, None if before is None else _carried(before), tuple(inputs), tiles)


def _shown(tile: Tile, oracle: Oracle) -> t.Shown:
    data = tensors.tile_bytes(oracle.tile(tile.step, tile.value, tile.tile))
    path = b"".join(tensors.prove_tile(oracle.tile_leaves(tile.step, tile.value), tile.tile))
    return t.Shown(_proved(tile.value, tile.step, oracle, tile.context), data, path)


def _proved(value: int, step: int, oracle: Oracle, context: Context) -> t.ProvedRoot:
    roots, index = oracle.value_roots(step), context.list_index_of(value) or 0
    path = merkle.inclusion_path(merkle.SHA256, [merkle.SHA256.leaf(root) for root in roots], index)
    return t.ProvedRoot(roots[index], b"".join(path))


def _carried(reference: Reference) -> t.Carried:
    magnitudes = None if reference.magnitudes is None else _accumulator(reference.magnitudes)
    return t.Carried(_accumulator(reference.values), magnitudes)


def _accumulator(array: Array) -> Accumulator:
    type_ = tensors.type_of(array)
    return Accumulator(type_.dtype, type_.shape, tensors.tile_bytes(array))
