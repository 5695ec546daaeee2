"""What a defender supplies, checked before it is used: roots and tiles by their paths, carried arrays by shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.primitives.limits import TILE
from proofs import merkle, tensors
from proofs.arithmetic.tiles import MissingTile
from proofs.merkle import split_hashes
from proofs.native import types as t
from proofs.native.reference import Reference, Tile
from proofs.pinpoint.context import Context, step_index_array
from proofs.pinpoint.types import Accumulator, InputTile
from proofs.program.types import ITEM_BYTES, TensorType
from proofs.tensors import Array


def proved_root(proved: t.ProvedRoot, value: int, trace: t.Trace, context: Context) -> bytes | None:
    """The tensor root of a listed value; None when its path does not lead to the trace's root."""
    index = context.list_index_of(value)
    if index is None or len(proved.root) != HASH_BYTES or len(proved.path) % HASH_BYTES:
        return None
    leaf, path = merkle.SHA256.leaf(proved.root), split_hashes(proved.path)
    held = merkle.verify_inclusion(merkle.SHA256, trace.values_root, leaf, index, context.listed_values, path)
    return proved.root if held else None


def shown_tile(shown: t.Shown | None, tile: Tile, trace: t.Trace) -> Array | None:
    """The accused tile; None when it is not shown to be the defender's."""
    root = proved_root(shown.value, tile.value, trace, tile.context) if shown else None
    if shown is None or root is None:
        return None
    return _proved_tile(root, tile.output, tile.tile, shown.data, shown.path)


def _proved_tile(root: bytes, type_: TensorType, index: int, data: bytes, path: bytes) -> Array | None:
    if len(path) % HASH_BYTES:
        return None
    try:
        return tensors.verify_tile(root, type_, index, data, split_hashes(path))
    except Rejection:
        return None


def carried(given: t.Carried | None) -> Reference | None:
    """The arrays of a reference; None when they are not ones that a piece could carry."""
    if given is None:
        return None
    values = _array(given.values)
    magnitudes = None if given.magnitudes is None else _array(given.magnitudes)
    if values is None or (magnitudes is None) != (given.magnitudes is None):
        return None
    return Reference(values, magnitudes)


def _array(given: Accumulator) -> Array | None:
    if given.dtype not in ITEM_BYTES or len(given.shape) != 2 or not all(1 <= size <= TILE for size in given.shape):
        return None
    if len(given.data) != given.shape[0] * given.shape[1] * ITEM_BYTES[given.dtype]:
        return None
    return np.frombuffer(given.data, tensors.NUMPY_DTYPES[given.dtype]).reshape(given.shape)


class TileEvidence:
    """A `TileReader` over the supplied tiles, each proved under the defender's own root of that input."""

    def __init__(self, tile: Tile, inputs: Sequence[t.InputRoot], tiles: Sequence[InputTile], trace: t.Trace) -> None:
        self._types = tile.inputs
        self._tiles: dict[tuple[int, int], Array] = {}
        self.sound = True
        """Whether everything supplied was needed in its place and proved."""
        roots = self._roots(tile, inputs, trace)
        for given in tiles:
            key = (given.input, given.tile)
            root = roots.get(given.input, b"")
            found = None
            # Thousands of copies of a tiny tile would fit into the evidence.
            if root and key not in self._tiles and given.tile >= 0:
                found = _proved_tile(root, self._types[given.input], given.tile, given.data, given.path)
            if found is None:
                self.sound = False
                return
            self._tiles[key] = found

    def _roots(self, tile: Tile, inputs: Sequence[t.InputRoot], trace: t.Trace) -> dict[int, bytes]:
        """Input number → tensor root: of the dataset, of a state entry, or of a listed value with its path."""
        context, node = tile.context, tile.context.node_of(tile.value)
        if node is None:
            return {0: context.dataset_of(tile.value - len(context.program.state)).root}
        roots: dict[int, bytes] = {}
        entries = split_hashes(trace.entry_roots)
        for number, value in enumerate(node.inputs):
            if value == context.program.step_index_value:
                self._tiles[number, 0] = step_index_array(trace.step).reshape(1, 1)
            elif context.list_index_of(value) is None:
                roots[number] = context.unlisted_root(trace.step, value, entries)
        for given in inputs:
            root = None
            if 0 <= given.input < len(node.inputs) and given.input not in roots:
                root = proved_root(given.proved, node.inputs[given.input], trace, context)
            if root is None:
                self.sound = False
                return {}
            roots[given.input] = root
        return roots

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        """See `TileReader`; `MissingTile` when it was not supplied."""
        index = tile_row * tensors.tile_grid(self._types[input_number])[1] + tile_column
        if (input_number, index) not in self._tiles:
            raise MissingTile(input_number, tile_row, tile_column)
        return self._tiles[input_number, index]
