"""Programs made to occupy validators, to divide them, or to give an honest party no time or no room to answer."""

from __future__ import annotations

import random
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX, PIECE_INPUT_BYTES_MAX
from proofs import tensors
from proofs.arithmetic import gather
from proofs.arithmetic.self_check import check_machine
from proofs.arithmetic.tiles import compute_piece, piece_count, worst_piece_count
from proofs.pinpoint import types as t
from proofs.program import shapes
from proofs.program.operators import OPERATORS, infer
from proofs.program.types import (
    BOOL,
    F32,
    I64,
    ITEM_BYTES,
    BatchInput,
    Fill,
    Node,
    Program,
    StateEntry,
    TensorType,
)
from proofs.program.validate import PIECES_PER_TILE_MAX, validate_program

ODD = "\u00e9\U0001e030"
"""Python 3.12 prints the second character, Python 3.11 escapes it in a repr."""
SCALAR = TensorType(F32, ())
DTYPES = list(ITEM_BYTES)


def program(*nodes: Node, entry: StateEntry | None = None, batch: tuple[BatchInput, ...] = ()) -> Program:
    return Program(1, (entry or StateEntry("parameter.w", SCALAR, Fill(0)),), 1, batch, nodes, (0,), 0)


@pytest.mark.parametrize(
    "hostile",
    [
        program(Node(ODD, (0,), ())),
        program(entry=StateEntry(ODD, SCALAR, Fill(0))),
        program(entry=StateEntry("parameter.w", TensorType(ODD, ()), Fill(0))),
        program(batch=(BatchInput(ODD, SCALAR),)),
    ],
)
def test_a_refusal_says_the_same_under_every_python(hostile: Program) -> None:
    with pytest.raises(Rejection) as caught:
        validate_program(hostile)
    assert "'\\xe9\\U0001e030'" in caught.value.message


@pytest.mark.parametrize("length", [256 * PIECES_PER_TILE_MAX, 256 * PIECES_PER_TILE_MAX + 1])
def test_a_chain_that_no_honest_party_computes_in_time_is_refused(length: int) -> None:
    entry = StateEntry("parameter.w", TensorType(F32, (length,)), Fill(0))
    nodes = (Node("reshape", (0,), (1, length)), Node("reshape", (0,), (length, 1)), Node("matmul", (2, 3), ()))
    hostile = Program(1, (entry,), 1, (), (*nodes, Node("reshape", (4,), ())), (0,), 5)
    if length == 256 * PIECES_PER_TILE_MAX:
        assert validate_program(hostile).types[-1] == SCALAR
    else:
        with pytest.raises(Rejection, match="pieces a tile"):
            validate_program(hostile)
    assert PIECES_PER_TILE_MAX <= 1 << 16, "a piece takes about a millisecond"


def test_a_process_without_denormals_is_found_out() -> None:
    """What loading a library built with -ffast-math does to a thread."""
    check_machine()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot switch denormals off")
    try:
        with pytest.raises(InvariantViolation, match="rep-v1"):
            check_machine()
    finally:
        torch.set_flush_denormal(False)
    check_machine()


@pytest.mark.parametrize("seed", range(60))
def test_broadcast_is_numpys(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(30):
        given = [tuple(rng.choice([1, 1, 2, 3]) for _ in range(rng.randrange(5))) for _ in range(rng.randrange(1, 4))]
        try:
            expected = np.broadcast_shapes(*given)
        except ValueError:
            with pytest.raises(Rejection):
                shapes.broadcast(given)
        else:
            assert shapes.broadcast(given) == expected


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_concatenate_of_many_inputs_looks_at_few_of_them(axis: int) -> None:
    """Its plan is part of an arbitration: 64 inputs took 13 ms."""
    shape = [5, 4, 40]
    shape[axis] = 1 if axis < 2 else 3
    inputs = (TensorType(I64, tuple(shape)),) * 64
    node = Node("concatenate", tuple(range(64)), (axis,))
    output = infer("concatenate", inputs, (axis,))
    arrays = [
        np.arange(60 * 40 if axis == 2 else 200)[: inputs[0].elements].reshape(shape) + i * 10_000 for i in range(64)
    ]
    whole = tensors.matrix_view(np.concatenate(arrays, axis))
    for tile in range(tensors.tile_count(output)):
        reader, accumulator = Reader(inputs, random.Random(0), arrays), None
        for piece in range(piece_count(node, inputs, output, tile)):
            accumulator = compute_piece(node, inputs, output, tile, piece, accumulator, reader)
        assert accumulator is not None
        assert accumulator.tobytes() == tensors.tile_of(whole, tile).tobytes()
    gather._planned.cache_clear()
    with mock.patch.object(gather, "_tiles", wraps=gather._tiles) as looked_at:
        piece_count(node, inputs, output, 0)
    assert looked_at.call_count <= 32


class Reader:
    """Tiles of given arrays, or of tensors far too big to exist: made up when they are read."""

    def __init__(
        self, types: tuple[TensorType, ...], rng: random.Random, arrays: list[NDArray[np.int64]] | None = None
    ) -> None:
        self.types, self.rng, self.arrays = types, rng, arrays
        self.read: dict[tuple[int, int], NDArray[np.generic]] = {}

    def tile(self, number: int, row: int, column: int) -> NDArray[np.generic]:
        type_ = self.types[number]
        rows, columns = tensors.tile_grid(type_)
        assert 0 <= row < rows and 0 <= column < columns, "outside the grid"
        index = row * columns + column
        if self.arrays is not None:
            return tensors.tile_of(self.arrays[number], index)
        if (number, index) not in self.read:
            height, width = tensors.tile_shape(type_, index)
            self.read[number, index] = self._invent(type_, height, width)
        return self.read[number, index]

    def _invent(self, type_: TensorType, height: int, width: int) -> NDArray[np.generic]:
        if type_.dtype == I64:
            ends = [-(1 << 63), (1 << 63) - 1, -1, 0, 1, self.rng.randrange(1 << 20), self.rng.randrange(100)]
            return np.array(self.rng.choices(ends, k=height * width), np.int64).reshape(height, width)
        data = self.rng.randbytes(height * width * ITEM_BYTES[type_.dtype])
        if type_.dtype == BOOL:
            data = bytes(byte & 1 for byte in data)
        return np.frombuffer(data, tensors.NUMPY_DTYPES[type_.dtype]).reshape(height, width)


def _size(rng: random.Random) -> int:
    if rng.random() < 0.3:
        return rng.choice([1, 1, 2, 3, 31, 32, 33, 63, 64, 65, 96, 97, 224, 225, 256, 257])
    return rng.randrange(1, 400) if rng.random() < 0.6 else 1 << rng.randrange(30)


def _shape(rng: random.Random, fewest: int = 0, most: int = 8) -> tuple[int, ...]:
    while True:
        shape = tuple(_size(rng) for _ in range(rng.randint(fewest, most)))
        if TensorType(F32, shape).elements <= 1 << 34:
            return shape


def _thinned(rng: random.Random, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to `shape`."""
    return tuple(1 if rng.random() < 0.4 else size for size in shape)[rng.choice([0, 0, len(shape) // 2]) :]


def _split(rng: random.Random, count: int) -> tuple[int, ...]:
    factors = list[int]()
    while count > 1 and len(factors) < 7:
        factors.append(rng.choice([n for n in (2, 3, 5, 7, 31, 32, 33, 64, count) if count % n == 0]))
        count //= factors[-1]
    return (*rng.sample(factors, len(factors)), count)


def _elementwise(rng: random.Random, name: str) -> tuple[tuple[TensorType, ...], tuple[int, ...]]:
    shape, dtype = _shape(rng), rng.choice(DTYPES)
    if name == "cast":
        return (TensorType(dtype, shape),), (rng.randrange(4),)
    dtypes = [BOOL, dtype, dtype] if name == "where" else [dtype] * OPERATORS[name].inputs[0]
    return tuple(TensorType(each, _thinned(rng, shape)) for each in dtypes), ()


def _node_types(rng: random.Random, name: str) -> tuple[tuple[TensorType, ...], tuple[int, ...]]:
    """Input types and attributes for an operator, mostly legal ones."""
    if OPERATORS[name].family == "elementwise":
        return _elementwise(rng, name)
    shape, dtype = _shape(rng), rng.choice(DTYPES)
    one = TensorType(dtype, shape)
    match name:
        case "full":
            return (), (0, 5, *shape)
        case "iota":
            return (), (0, *shape, 5)
        case "uniform":
            return (TensorType(I64, (2,)), TensorType(I64, ())), (rng.randrange(1 << 32), *shape)
        case "reshape":
            return (one,), _split(rng, one.elements)
        case "permute":
            return (one,), tuple(rng.sample(range(len(shape)), len(shape)))
        case "broadcast_to":
            return (TensorType(dtype, _thinned(rng, shape)),), shape
        case "slice":
            cuts = [(rng.randrange(size), size, rng.choice([1, 2, 31, 32, 33, 1000])) for size in shape]
            return (one,), tuple(number for cut in cuts for number in cut)
        case "pad":
            return (one,), tuple(rng.choice([0, 0, 1, 2, 31, 33, 1000]) for _ in range(3 * len(shape)))
        case "windows":
            axes = rng.randint(1, max(1, min(3, len(shape))))
            numbers = [
                number
                for _ in range(axes)
                for number in (
                    *(rng.choice([1, 2, 3, 7, 33]), rng.choice([1, 2, 31, 64, 1000])),
                    *(rng.choice([-5, 0, 40]), rng.choice([1, 2, 33, 999])),
                    *(rng.choice([-33, -1, 1, 2, 1000]), rng.choice([1, 1, 2, 3])),
                )
            ]
            return (one,), (0, *numbers)
        case "concatenate":
            shape = shape or (3,)
            axis = rng.randrange(len(shape))
            many = [
                (*shape[:axis], rng.choice([1, 1, 2, 33]), *shape[axis + 1 :]) for _ in range(rng.choice([1, 5, 64]))
            ]
            return tuple(TensorType(dtype, each) for each in many), (axis,)
        case "matmul":
            lead, (m, k, n) = _shape(rng, 0, 3), (_size(rng) for _ in range(3))
            right = (k, n) if rng.random() < 0.4 else (*lead, k, n)
            left = lead[rng.randrange(len(lead) + 1) :] if rng.random() < 0.4 and len(right) > 2 else lead
            return (TensorType(F32, (*left, m, k)), TensorType(F32, right)), ()
        case "embedding":
            return (TensorType(dtype, _shape(rng, 2, 2)), TensorType(I64, shape)), ()
        case "embedding_grad":
            return (TensorType(F32, (*shape, _size(rng))), TensorType(I64, shape)), (_size(rng),)
        case "take_last":
            return (TensorType(dtype, (*shape, 77)), TensorType(I64, (*shape, 1))), ()
        case "scatter_last":
            return (TensorType(dtype, (*shape, 1)), TensorType(I64, (*shape, 1))), (_size(rng),)
    return (TensorType(rng.choice([F32, I64]), shape),), ()


def _evidence_bytes(reader: Reader, accumulator: NDArray[np.generic] | None) -> int:
    """Size of the evidence, with longest paths and with every input in another chunk of values."""
    tiles = []
    for (number, index), array in reader.read.items():
        path = bytes(32 * (tensors.tile_count(reader.types[number]) - 1).bit_length())
        tiles.append(t.InputTile(number, index, array.tobytes(), path))
    roots = tuple(t.InputRoot(number, bytes(32), bytes(32 * 11)) for number in {number for number, _ in reader.read})
    held = None
    if accumulator is not None:
        held = t.Accumulator(tensors.type_of(accumulator).dtype, accumulator.shape, accumulator.tobytes())
    return len(encode(t.Arbitrate(held, roots, tuple(tiles))))


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_evidence_of_tensors_of_any_size_fits(name: str) -> None:
    """Shapes up to 2**34 elements, without the tensors: reads stay in the grid, evidence and accumulators in bounds."""
    rng, done = random.Random(name), 0
    while done < 25:
        inputs, attributes = _node_types(rng, name)
        try:
            output = infer(name, tuple(shapes.checked(type_) for type_ in inputs), attributes)
        except Rejection:
            continue
        if worst_piece_count(name, inputs, output) > PIECES_PER_TILE_MAX:
            continue
        node, done = Node(name, tuple(range(len(inputs))), attributes), done + 1
        count = tensors.tile_count(output)
        tile = rng.choice([0, count - 1, rng.randrange(count)])
        pieces = piece_count(node, inputs, output, tile)
        assert 1 <= pieces <= worst_piece_count(name, inputs, output)
        piece, accumulator = rng.choice([0, pieces - 1, rng.randrange(pieces)]), None
        if piece:
            accumulator = compute_piece(node, inputs, output, tile, 0, None, Reader(inputs, rng))
            assert accumulator.ndim == 2 and max(accumulator.shape) <= 32
        reader = Reader(inputs, rng)
        result = compute_piece(node, inputs, output, tile, piece, accumulator, reader)
        if piece == pieces - 1:
            assert result.shape == tensors.tile_shape(output, tile)
            assert result.dtype == tensors.NUMPY_DTYPES[output.dtype]
        assert sum(array.nbytes for array in reader.read.values()) <= PIECE_INPUT_BYTES_MAX
        assert _evidence_bytes(reader, accumulator) <= ARBITRATION_BYTES_MAX
