"""Bytes alive while a step runs: pieces in order, views share what they look at, values go as the plan lets them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ml.fusion import Piece
from ml.kernels.elementwise import TORCH_DTYPES
from ml.kernels.table import full
from proofs.program.types import ITEM_BYTES, Node, Program, TensorType

VIEWS = ("reshape", "permute", "broadcast_to", "slice")
"""Operators whose output is a view of their input where strides allow it."""
NEEDS_ROWS = ("sum_last", "sum_first", "max_last", "argmax_last", "embedding_grad")
"""Operators whose kernels copy an input that does not lie in rows."""

Types = Sequence[TensorType]


def bytes_of(type_: TensorType) -> int:
    """Bytes of a tensor."""
    return type_.elements * ITEM_BYTES[type_.dtype]


def peak_bytes(program: Program, types: Types, pieces: Sequence[Piece]) -> int:
    """The most that is alive at one moment of the step: what comes in stays throughout, what goes out until the end."""
    return _Walk(program, types).run(pieces)


class _Walk:
    """One pass over the pieces on tensors without memory: shapes, strides and who shares whose storage."""

    def __init__(self, program: Program, types: Types) -> None:
        self._program = program
        self._types = types
        self._first = program.first_node_value
        self._values = {number: _meta(types[number]) for number in range(self._first)}
        self._sizes: dict[int, int] = {}
        self._users: dict[int, int] = {}
        self._live = sum(bytes_of(types[number]) for number in range(self._first))

    def run(self, pieces: Sequence[Piece]) -> int:
        frees = _frees(self._program, pieces)
        for number in list(self._values):
            self._hold(self._values[number], 0)
        peak = self._live
        for piece, freed in zip(pieces, frees, strict=True):
            own = self._make(piece)
            peak = max(peak, self._live + own)
            for number in freed:
                self._release(self._values.pop(number))
        # States leave in rows: those that do not lie so are copied.
        copies = [number for number in self._program.state_outputs if not self._values[number].is_contiguous()]
        return max(peak, self._live + sum(bytes_of(self._types[number]) for number in copies))

    def _make(self, piece: Piece) -> int:
        """Add the piece's values; bytes that its kernel needs for itself."""
        if piece.group is not None:
            for number in piece.outputs:
                self._put(number, _meta(self._types[number]))
            return 0
        (number,) = piece.values
        node, type_ = self._program.nodes[number - self._first], self._types[number]
        inputs = [self._values[item] for item in node.inputs]
        self._put(number, _result(node, inputs, type_))
        if node.operator not in NEEDS_ROWS or inputs[0].is_contiguous():
            return 0
        return bytes_of(self._types[node.inputs[0]])

    def _put(self, number: int, value: torch.Tensor) -> None:
        self._values[number] = value
        self._hold(value, value.untyped_storage().nbytes())

    def _hold(self, value: torch.Tensor, size: int) -> None:
        key = _key(value)
        self._users[key] = self._users.get(key, 0) + 1
        if self._users[key] == 1:
            self._sizes[key] = size
            self._live += size

    def _release(self, value: torch.Tensor) -> None:
        key = _key(value)
        self._users[key] -= 1
        if self._users[key] == 0:
            del self._users[key]
            self._live -= self._sizes.pop(key)


def _result(node: Node, inputs: list[torch.Tensor], type_: TensorType) -> torch.Tensor:
    match node.operator:
        case "reshape":
            return inputs[0].reshape(type_.shape)
        case "permute":
            return inputs[0].permute(node.attributes)
        case "broadcast_to":
            return inputs[0].expand(type_.shape)
        case "slice":
            starts = range(0, len(node.attributes), 3)
            return inputs[0][tuple(slice(*node.attributes[at : at + 3]) for at in starts)]
        case "full":
            return full(type_.dtype, 0, type_.shape).to("meta")
        case _:
            return _meta(type_)


def _meta(type_: TensorType) -> torch.Tensor:
    return torch.empty(type_.shape, dtype=TORCH_DTYPES[type_.dtype], device="meta")


def _key(value: torch.Tensor) -> int:
    return int(value.untyped_storage()._cdata)


def _frees(program: Program, pieces: Sequence[Piece]) -> list[list[int]]:
    """For each piece the values that nothing needs afterwards; what comes in is the caller's."""
    kept = {*program.state_outputs, program.loss}
    last: dict[int, int] = {}
    for position, piece in enumerate(pieces):
        if piece.group is None:
            node = program.nodes[piece.values[0] - program.first_node_value]
            touched = (*node.inputs, *piece.values)
        else:
            touched = (*piece.inputs, *piece.outputs)
        for number in touched:
            last[number] = position
    frees: list[list[int]] = [[] for _ in pieces]
    for number, position in last.items():
        if number not in kept and number >= program.first_node_value:
            frees[position].append(number)
    return frees
