"""Disputes over one tile of one operator of any width, by parties that make only the tiles the game asks for.

The program has the operator's inputs in its first chunk of values and the operator in its second, as big models have:
the evidence then carries the inputs' roots too. The inputs are random tiles made from their numbers; all values but the
disputed one are agreed, whatever they are, and so is every other tile of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from gensyn_node.primitives.errors import InvariantViolation
from proofs import merkle, tensors
from proofs.arithmetic.tiles import compute_piece, piece_count
from proofs.pinpoint import types as t
from proofs.pinpoint.context import Context
from proofs.program.operators import infer
from proofs.program.shapes import DTYPES
from proofs.program.types import F32, I64, OPSET, Fill, Node, Program, StateEntry, TensorType

Array = NDArray[Any]
SEED = bytes(range(32))
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Input:
    """One input of the operator, filled with random elements."""

    dtype: str
    shape: Shape
    below: int = 0
    """i64: numbers from 0 up to this; f32: numbers of magnitude 1 to 2, or (when not 0) all bit patterns."""

    @property
    def type(self) -> TensorType:
        """Its type."""
        return TensorType(self.dtype, self.shape)

    def tile(self, number: int, index: int) -> Array:
        """One tile of it."""
        height, width = tensors.tile_shape(self.type, index)
        count = height * width
        stream = blake3(b"%d %d" % (number, index))
        if self.dtype == F32:
            words = np.frombuffer(stream.digest(4 * count), np.uint32)
            if not self.below:
                words = words & 0x807FFFFF | 0x3F800000
            tile: Array = words.view(np.float32)
        elif self.dtype == I64:
            tile = (np.frombuffer(stream.digest(8 * count), np.uint64) % np.uint64(self.below)).astype(np.int64)
        else:
            mask = 1 if self.dtype == "bool" else 255
            tile = (np.frombuffer(stream.digest(count), np.uint8) & mask).astype(tensors.NUMPY_DTYPES[self.dtype])
        return tile.reshape(height, width)


def program_of(operator: str, inputs: Sequence[Input], attributes: tuple[int, ...]) -> Program:
    """Inputs, a chunk of values in between, the operator, a loss."""
    output = infer(operator, tuple(item.type for item in inputs), attributes)
    state = (StateEntry("parameter.x", output, Fill(0)),)
    nodes = [Node("full", (), (DTYPES.index(item.dtype), 0, *item.shape)) for item in inputs]
    nodes += [Node("full", (), (0, 0))] * (t.VALUES_PER_MOVE_MAX - len(nodes))
    first = 2
    nodes.append(Node(operator, tuple(range(first, first + len(inputs))), attributes))
    return Program(OPSET, state, 1, (), tuple(nodes), (first + len(nodes) - 1,), first + len(inputs))


@dataclass(frozen=True)
class Dispute:
    """One operator on given inputs, and the tile of its output that the parties dispute."""

    operator: str
    inputs: tuple[Input, ...]
    attributes: tuple[int, ...]
    tile: int = 0

    @cached_property
    def context(self) -> Context:
        """What the chain knows."""
        return Context(program_of(self.operator, self.inputs, self.attributes), (), SEED)

    @property
    def value(self) -> int:
        """The number of the disputed value: the last one."""
        return self.context.program.value_count - 1

    @property
    def node(self) -> Node:
        """The disputed operator."""
        return self.context.program.nodes[-1]

    @cached_property
    def types(self) -> tuple[TensorType, ...]:
        """Of the inputs."""
        return tuple(item.type for item in self.inputs)

    @cached_property
    def output(self) -> TensorType:
        """Of the output."""
        return infer(self.operator, self.types, self.attributes)

    @property
    def pieces(self) -> int:
        """Pieces of the tile."""
        return piece_count(self.node, self.types, self.output, self.tile)

    def accumulators(self) -> list[Array]:
        """What every piece leaves."""
        made: list[Array] = []
        reader = _Reader(self)
        for piece in range(self.pieces):
            before = made[-1] if made else None
            made.append(compute_piece(self.node, self.types, self.output, self.tile, piece, before, reader))
        return made


class _Reader:
    def __init__(self, dispute: Dispute) -> None:
        self._dispute = dispute

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        item = self._dispute.inputs[input_number]
        return item.tile(input_number, tile_row * tensors.tile_grid(item.type)[1] + tile_column)


@cache
def _input_leaves(number: int, item: Input) -> list[bytes]:
    """The leaf hash of every tile of an input."""
    return [tensors.leaf_of(item.tile(number, index)) for index in range(tensors.tile_count(item.type))]


def _agreed_hash(*numbers: int) -> bytes:
    """A hash that both parties hold, of something that neither ever opens."""
    digest: bytes = blake3(repr(numbers).encode()).digest()
    return digest


@dataclass(frozen=True)
class LazyOracle:
    """What one party knows: an `Oracle` that makes tiles when they are asked for."""

    dispute: Dispute
    flipped: tuple[int, int] | None = None
    """Element of the disputed tile and its bit that this party has wrong."""

    @cached_property
    def result(self) -> Array:
        """The disputed tile as this party has it."""
        tile = self.dispute.accumulators()[-1].copy()
        if self.flipped is not None:
            element, bit = self.flipped
            raw = np.ascontiguousarray(tile).reshape(-1).view(np.uint8)
            size = tile.dtype.itemsize
            raw[element % tile.size * size + bit // 8 % size] ^= 1 if tile.dtype == np.bool_ else 1 << bit % 8
            tile = raw.view(tile.dtype).reshape(tile.shape)
        return tile

    def state_roots(self, first_step: int, steps: int) -> Sequence[bytes]:
        """See `Oracle`: of two steps, the second's values not asked for. The disputed value becomes the state."""
        return [
            self.dispute.context.state_root(step, self.entry_roots(step))
            for step in range(first_step, first_step + steps + 1)
        ]

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """See `Oracle`: nobody asks for it, these disputes are about segments."""
        raise InvariantViolation("a dispute over a segment has no evidence")

    def entry_roots(self, step: int) -> Sequence[bytes]:
        """See `Oracle`."""
        return [self.value_root] if step else [_agreed_hash(-1)]

    @cached_property
    def value_root(self) -> bytes:
        """The root of the disputed value."""
        return tensors.tensor_root(self.dispute.output, self.tile_leaves(0, self.dispute.value))

    def value_roots(self, step: int) -> Sequence[bytes]:
        """See `Oracle`."""
        return self._roots

    @cached_property
    def _roots(self) -> list[bytes]:
        dispute = self.dispute
        roots = [
            tensors.tensor_root(item.type, _input_leaves(number, item)) for number, item in enumerate(dispute.inputs)
        ]
        fillers = len(dispute.context.program.nodes) - len(roots) - 1
        return [*roots, *(_agreed_hash(number) for number in range(fillers)), self.value_root]

    def tile_leaves(self, step: int, value: int) -> Sequence[bytes]:
        """See `Oracle`."""
        dispute = self.dispute
        if value == dispute.value:
            leaves = [_agreed_hash(value, index) for index in range(tensors.tile_count(dispute.output))]
            leaves[dispute.tile] = tensors.leaf_of(self.result)
            return leaves
        number = value - dispute.context.program.first_node_value
        return _input_leaves(number, dispute.inputs[number])

    def tile(self, step: int, value: int, index: int) -> Array:
        """See `Oracle`."""
        number = value - self.dispute.context.program.first_node_value
        return self.dispute.inputs[number].tile(number, index)

    def dataset_paths(self, batch_input: int, indices: tuple[int, ...]) -> Sequence[tuple[bytes, ...]]:
        """The program has no batch."""
        raise IndexError(batch_input)

    def dataset_tile(self, batch_input: int, index: int) -> Array:
        """The program has no batch."""
        raise IndexError(batch_input)

    def claim_against(self, challenger: LazyOracle) -> t.Claim:
        """What is disputed when this party defends the step and another party says otherwise."""
        own, other = self.state_roots(0, 1), challenger.state_roots(0, 1)
        return t.Claim(t.SEGMENT, 0, 1, own[0], own[1], b"", other[1])


def arbitrations(dispute: Dispute, pieces: Sequence[int]) -> Iterator[tuple[int, t.Game]]:
    """For each of these pieces a game that has come down to it, the challenger with the right hash."""
    honest = LazyOracle(dispute)
    roots, chunk = honest.value_roots(0), t.VALUES_PER_MOVE_MAX
    chunks = b"".join(merkle.root(roots[first : first + chunk]) for first in range(0, len(roots), chunk))
    target = t.Target(0, dispute.value, (b"",) * len(dispute.inputs), chunks)
    accumulators = dispute.accumulators()
    for piece in pieces:
        last = piece == len(accumulators) - 1
        hash_ = tensors.leaf_of(accumulators[piece]) if last else tensors.accumulator_hash(accumulators[piece])
        agreed = tensors.accumulator_hash(accumulators[piece - 1]) if piece else b""
        span = t.Span(piece, 1, bytes(32), hash_)
        claim = t.Claim(t.SEGMENT, 0, 1, bytes(32), bytes(32), b"", bytes(32))
        yield piece, t.Game(claim, 0, t.AwaitEvidence(target, dispute.tile, agreed, span))
