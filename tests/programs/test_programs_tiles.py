"""Tile rules against the whole-tensor definitions, bit for bit, within the bound on what a piece reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs_helpers import Array, ArrayReader, node, same_bits

from gensyn_node.primitives.limits import PIECE_INPUT_BYTES_MAX
from proofs.arithmetic import gather, tiles, whole
from proofs.program.operators import OPERATORS, infer
from proofs.program.types import Node
from proofs.tensors import tile_count, tile_of, type_of

SPECIAL = np.array(
    [
        *(0x0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x7F800001, 1, 0x807FFFFF, 0x3F800000),
        *(0xBF800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x00800000, 0x4B000001, 0xDF000000, 0x5F000000, 0x40490FDB, 0xC2B00000),
    ],
    np.uint32,
).view(np.float32)

size = st.sampled_from([1, 2, 3, 5, 7, 31, 32, 33, 40, 63, 64, 65, 70])
small = st.sampled_from([1, 2, 3, 5, 33])


@st.composite
def shapes(draw: st.DrawFn, least: int = 0, most: int = 3) -> tuple[int, ...]:
    rank = draw(st.integers(least, most))
    return tuple(draw(small if axis < rank - 2 else size) for axis in range(rank))


def floats(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal numbers over many magnitudes, with special values sprinkled in."""
    x = (generator.standard_normal(shape) * 10.0 ** generator.integers(-8, 8, shape)).astype(np.float32)
    return np.where(generator.random(shape) < 0.05, generator.choice(SPECIAL, shape), x).astype(np.float32)


def values(generator: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "f32":
        return floats(generator, shape)
    if dtype == "bool":
        return np.asarray(generator.integers(0, 2, shape), np.bool_)
    if dtype == "u8":
        return np.asarray(generator.integers(0, 256, shape), np.uint8)
    narrow, wide = generator.integers(-5, 5, shape), generator.integers(-(1 << 63), 1 << 63, shape, dtype=np.int64)
    return np.asarray(np.where(generator.random(shape) < 0.5, narrow, wide), np.int64)


def check(operation: Node, inputs: list[Array], most_tiles: int = 12) -> None:
    """The first and last tiles, piece by piece, equal the definition; every piece stays within its bound."""
    expected = whole.compute_value(operation, inputs)
    input_types = tuple(type_of(array) for array in inputs)
    output = infer(operation.operator, input_types, operation.attributes)
    assert type_of(expected) == output
    count = tile_count(output)
    worst = tiles.worst_piece_count(operation.operator, input_types, output)
    for tile in sorted({*range(min(count, most_tiles)), *range(max(0, count - 3), count)}):
        accumulator = None
        pieces = tiles.piece_count(operation, input_types, output, tile)
        assert 1 <= pieces <= worst
        for piece in range(pieces):
            reader = ArrayReader(inputs)
            before = None if accumulator is None else accumulator.copy()
            after = tiles.compute_piece(operation, input_types, output, tile, piece, accumulator, reader)
            if before is not None:
                assert same_bits(before, accumulator)
            assert sum(reader.bytes_read.values()) <= PIECE_INPUT_BYTES_MAX
            accumulator = after
        assert same_bits(accumulator, np.ascontiguousarray(tile_of(expected, tile)))
        assert same_bits(accumulator, tiles.compute_tile(operation, input_types, output, tile, ArrayReader(inputs)))


ELEMENTWISE = sorted(name for name, row in OPERATORS.items() if row.family == "elementwise" and name != "cast")


@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=6, deadline=None)
@given(shape=shapes(), seed=st.integers(0, 1 << 32), data=st.data())
def test_elementwise(name: str, shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    generator = np.random.default_rng(seed)
    count = OPERATORS[name].inputs[0]
    dtype = data.draw(st.sampled_from(dtypes_of(name)))
    inputs = []
    for number in range(count):
        kept = data.draw(st.integers(0, len(shape)), label="leading axes dropped") if count > 1 else 0
        own = tuple(1 if count > 1 and data.draw(st.integers(0, 4)) == 0 else length for length in shape[kept:])
        inputs.append(values(generator, "bool" if name == "where" and number == 0 else dtype, own))
    check(node(name), inputs)


def dtypes_of(name: str) -> list[str]:
    if name == "where":
        return ["f32", "i64", "bool", "u8"]
    found = []
    for dtype in ("f32", "i64", "bool", "u8"):
        array = np.zeros(1, {"f32": np.float32, "i64": np.int64, "bool": np.bool_, "u8": np.uint8}[dtype])
        try:
            infer(name, (type_of(array),) * OPERATORS[name].inputs[0], ())
        except Exception as error:  # noqa: BLE001
            assert "E1504" in str(error)
            continue
        found.append(dtype)
    return found


@pytest.mark.parametrize("source", ["f32", "i64", "bool", "u8"])
@pytest.mark.parametrize("target", [0, 1, 2, 3])
def test_cast(source: str, target: int) -> None:
    check(node("cast", target), [values(np.random.default_rng(target), source, (40, 33))])


@settings(max_examples=25, deadline=None)
@given(
    batch=shapes(0, 2),
    m=st.sampled_from([1, 2, 5, 31, 33, 64]),
    n=small,
    k=size,
    flat=st.booleans(),
    seed=st.integers(),
)
def test_matmul(batch: tuple[int, ...], m: int, n: int, k: int, flat: bool, seed: int) -> None:
    batch = tuple(min(length, 9) for length in batch)
    generator = np.random.default_rng(abs(seed))
    inputs = [floats(generator, (*batch, m, k)), floats(generator, (k, n) if flat else (*batch, k, n))]
    check(node("matmul"), inputs, 3)


@settings(max_examples=40, deadline=None)
@given(shape=shapes(1, 3), seed=st.integers(0, 1 << 32), dtype=st.sampled_from(["f32", "i64", "bool", "u8"]))
def test_windows(shape: tuple[int, ...], seed: int, dtype: str) -> None:
    generator = np.random.default_rng(seed)
    axes = int(generator.integers(1, len(shape) + 1))
    attributes = [int(generator.integers(0, 2))]
    for _ in range(axes):
        low, high = [1, 1, -5, 1, -4, 1], [5, 9, 6, 4, 5, 4]
        attributes += [int(generator.integers(a, b)) for a, b in zip(low, high, strict=True)]
    check(node("windows", *attributes), [values(generator, dtype, shape)], 4)


def test_windows_by_their_words() -> None:
    x = np.arange(1, 8, dtype=np.int64)
    attributes = (99, 3, 4, -2, 2, -1, 3)
    got = whole.compute_value(node("windows", *attributes), [x])
    for k in range(3):
        for o in range(4):
            place = -2 + 2 * o - k
            assert got[k, o] == (x[place // 3] if place % 3 == 0 and 0 <= place // 3 < 7 else 99)


@settings(max_examples=25, deadline=None)
@given(
    lead=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    own=st.integers(0, 2),
    m=st.sampled_from([1, 2, 5, 20, 31, 32, 33, 40, 64]),
    n=small,
    k=st.sampled_from([1, 31, 159, 160, 161, 320, 400]),
    seed=st.integers(0, 1 << 32),
)
def test_matmul_with_a_left_operand_that_repeats(
    lead: tuple[int, int], own: int, m: int, n: int, k: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    check(node("matmul"), [floats(generator, (*lead[2 - own :], m, k)), floats(generator, (*lead, k, n))], 4)


@pytest.mark.parametrize(
    ("left", "right"),
    [((33, 700), (700, 40)), ((3, 20, 600), (3, 600, 5)), ((3, 20, 449), (3, 449, 33)), ((70, 1, 512), (70, 512, 2))],
)
def test_matmul_in_many_pieces(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    generator = np.random.default_rng(5)
    check(node("matmul"), [floats(generator, left), floats(generator, right)], 3)


@pytest.mark.parametrize("name", ["sum_last", "sum_first", "max_last", "argmax_last"])
@pytest.mark.parametrize("dtype", ["f32", "i64"])
@settings(max_examples=8, deadline=None)
@given(shape=shapes(2, 3), long=st.sampled_from([0, 300, 513, 1100]), seed=st.integers(0, 1 << 32))
def test_reductions(name: str, dtype: str, shape: tuple[int, ...], long: int, seed: int) -> None:
    if long:
        shape = (long, 5) if name == "sum_first" else (5, long)
    generator = np.random.default_rng(seed)
    x = values(generator, dtype, shape)
    if dtype == "f32" and seed % 2:
        x = np.asarray(np.nan_to_num(x, nan=0.0, posinf=1.0, neginf=-1.0), np.float32)
    check(node(name), [x], 3)


@settings(max_examples=20, deadline=None)
@given(shape=shapes(1, 4), dtype=st.sampled_from(["f32", "i64", "bool", "u8"]), data=st.data())
def test_movement(shape: tuple[int, ...], dtype: str, data: st.DataObject) -> None:
    shape = tuple(min(length, 33) if len(shape) > 2 else length for length in shape)
    x = values(np.random.default_rng(len(shape)), dtype, shape)
    axes = range(len(shape))
    check(node("permute", *data.draw(st.permutations(axes))), [x], 4)
    check(node("reshape", *data.draw(st.permutations(shape)), 1), [x], 4)
    check(node("reshape", x.size), [x], 4)
    check(node("reshape", 1, x.size, 1), [x], 4)
    check(node("broadcast_to", 2, *shape), [x], 4)
    starts = [data.draw(st.integers(0, length - 1)) for length in shape]
    stops = [data.draw(st.integers(start + 1, length)) for start, length in zip(starts, shape, strict=True)]
    steps = [data.draw(st.integers(1, 5)) for _ in axes]
    check(node("slice", *(part for triple in zip(starts, stops, steps, strict=True) for part in triple)), [x], 4)
    if len(shape) < 4:
        check(node("pad", *(data.draw(st.integers(0, 3)) for _ in range(3 * len(shape)))), [x], 4)
    axis = data.draw(st.sampled_from(axes))
    other = x[tuple(slice(0, 1) if number == axis else slice(None) for number in axes)]
    check(node("concatenate", axis), [x, other, x], 4)


def test_concatenate_many_along_an_inner_axis() -> None:
    generator = np.random.default_rng(0)
    check(node("concatenate", 1), [floats(generator, (3, 1 + number % 4, 7)) for number in range(64)])


def test_a_gather_of_distant_tiles_takes_several_pieces() -> None:
    x = values(np.random.default_rng(0), "i64", (64, 1024))
    operation, types = node("reshape", 2048, 32), (type_of(x),)
    output = infer("reshape", types, (2048, 32))
    # The tile takes one row of the input, 32 tiles of 8 KiB; with its proof each costs 9,592 bytes, so 6 make a piece.
    assert tiles.piece_count(operation, types, output, 0) == 6
    check(operation, [x], 5)


IDS = np.array([[0, 99, 7], [100, -1, 7], [1 << 62, 31, 32]], np.int64)


@pytest.mark.parametrize("dtype", ["f32", "i64", "u8"])
@pytest.mark.parametrize(
    "ids", [IDS, IDS.reshape(-1), IDS[0, 1], np.arange(80, dtype=np.int64).reshape(2, 40)[:, ::-1]]
)
def test_lookups(dtype: str, ids: Array) -> None:
    generator = np.random.default_rng(1)
    check(node("embedding"), [values(generator, dtype, (100, 70)), np.asarray(ids)])


@pytest.mark.parametrize("ids_shape", [(), (1,), (70,), (5, 40), (3, 2, 33), (300, 1), (64, 63)])
def test_embedding_grad(ids_shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(2)
    ids = np.asarray(generator.integers(-2, 42, ids_shape), np.int64)
    check(node("embedding_grad", 40), [floats(generator, (*ids_shape, 33)), ids])


@pytest.mark.parametrize("shape", [(1,), (40,), (33, 70), (2, 40, 10)])
def test_take_and_scatter(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(3)
    ids = np.asarray(generator.integers(-2, shape[-1] + 2, (*shape[:-1], 1)), np.int64)
    check(node("take_last"), [floats(generator, shape), ids])
    check(node("scatter_last", shape[-1]), [floats(generator, (*shape[:-1], 1)), ids])


@pytest.mark.parametrize("shape", [(), (1,), (70, 33), (3, 5, 40)])
def test_generators(shape: tuple[int, ...]) -> None:
    for dtype, bits in ((0, 0xFF800000), (1, (1 << 64) - 1), (2, 1), (3, 255)):
        check(node("full", dtype, bits, *shape), [])
    for axis in range(len(shape)):
        check(node("iota", axis, *shape), [])
    key, step = np.array([1, -1], np.int64), np.array((5 << 32) + 3, np.int64)
    check(node("uniform", 9, *shape), [key, step])


@settings(max_examples=30, deadline=None)
@given(record=shapes(0, 2), records=st.sampled_from([1, 7, 33, 200]), size=st.integers(1, 40), seed=st.integers(0, 99))
def test_batch_values(record: tuple[int, ...], records: int, size: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    dataset = values(generator, "u8" if seed % 2 else "f32", (records, *record))
    indices = np.asarray(generator.integers(0, records, size), np.int64)
    expected = gather.take_records(dataset, indices)
    dataset_type, batch_type = type_of(dataset), type_of(expected)
    for tile in range(min(4, tile_count(batch_type))):
        accumulator = None
        for piece in range(gather.piece_count_batch(indices, dataset_type, batch_type, tile)):
            reader = ArrayReader([dataset])
            accumulator = gather.compute_piece_batch(
                indices, dataset_type, batch_type, tile, piece, accumulator, reader
            )
            assert sum(reader.bytes_read.values()) <= PIECE_INPUT_BYTES_MAX
        assert accumulator is not None
        assert same_bits(accumulator, np.ascontiguousarray(tile_of(expected, tile)))


def test_pieces_refuse_what_does_not_fit() -> None:
    x = np.zeros((4, 700), np.float32)
    types = (type_of(x),)
    output = infer("sum_last", types, ())
    arguments = (node("sum_last"), types, output, 0)
    lanes = tiles.compute_piece(*arguments, 0, None, ArrayReader([x]))
    assert lanes.shape == (4, 32)
    for piece, accumulator in [
        (2, lanes),
        (-1, None),
        (0, lanes),
        (1, None),
        (1, lanes[:, :31]),
        (1, lanes.astype(int)),
    ]:
        with pytest.raises(ValueError, match=r"piece|accumulator"):
            tiles.compute_piece(*arguments, piece, accumulator, ArrayReader([x]))


class NothingReader:
    """Has no tile at all."""

    def tile(self, input_number: int, tile_row: int, tile_column: int) -> Array:
        raise tiles.MissingTile(input_number, tile_row, tile_column)


def test_a_missing_tile_is_named() -> None:
    x = np.zeros((70, 70), np.float32)
    with pytest.raises(tiles.MissingTile) as caught:
        tiles.compute_tile(node("neg"), (type_of(x),), type_of(x), 5, NothingReader())
    assert (caught.value.input_number, caught.value.tile_row, caught.value.tile_column) == (0, 1, 2)
