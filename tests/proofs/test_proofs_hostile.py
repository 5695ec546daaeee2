"""What a referee must survive: evidence made to crash it, to occupy it, or to make two nodes say different things."""

from __future__ import annotations

import warnings
from unittest import mock

import msgspec
import numpy as np
import pytest
from pinpoint_world import BOUND, Builder, Fault, World, segment_claim, world_of

from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from proofs import blobs, sampling, tensors
from proofs.dataset import ELEMENTS_MAX, DatasetTensor
from proofs.pinpoint import arbitration, strategy
from proofs.pinpoint import types as t
from proofs.pinpoint.context import Context
from proofs.pinpoint.game import open_game, play
from proofs.program.initial import initial_tile
from proofs.program.types import F32, I64, U8, BatchInput, Fill, Program, StateEntry, TensorType, Uniform
from proofs.program.validate import validate_program

BIG = (1 << 64) - 1
SHAPES = [(0, BIG), (0, 1 << 63), (0, 1 << 62, 4), (1,) * 40, (1,) * 70, (0,) * 70, (), (1,), (BIG, 0), (1, 1, 1)]


def position(world: World, fault: Fault) -> tuple[t.Game, t.Arbitrate]:
    """The game before its arbitration, a lying defender against the truth, with the honest evidence."""
    lie, truth = world.run(fault), world.run()
    oracles, game = [world.oracle(lie), world.oracle(truth)], open_game(segment_claim(1, lie, truth), world.context)
    while True:
        assert game.turn is not None, game.why
        move = strategy.respond(game, oracles[game.turn], world.context)
        assert move is not None
        if isinstance(move, t.Arbitrate):
            return game, move
        game = play(game, game.turn, move, world.context)


def long_product() -> tuple[t.Game, t.Arbitrate, Context]:
    """The last of three pieces of a matrix product: the evidence has an accumulator."""
    builder = Builder(
        [
            StateEntry("parameter.a", TensorType(F32, (3, 600)), Uniform(BOUND)),
            StateEntry("parameter.b", TensorType(F32, (600, 3)), Uniform(BOUND)),
        ],
        1,
        [],
    )
    product = builder.add("matmul", (0, 1))
    total = builder.scalar(product)
    world = world_of(builder.program([builder.add("mul", (0, total)), 1], total), [])
    game, move = position(world, Fault(0, product, 4, 12))
    assert move.accumulator is not None
    return game, move, world.context


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["f32", "bool"])
def test_a_shape_that_numpy_may_refuse_is_judged_without_numpy(shape: tuple[int, ...], dtype: str) -> None:
    """The reason goes into the state: numpy 2.0 and 2.4 have other limits and other words."""
    game, move, context = long_product()
    data = b"" if 0 in shape else bytes(4 if dtype == "f32" else 1)
    odd = msgspec.structs.replace(move, accumulator=t.Accumulator(dtype, shape, data))
    after = play(game, t.CHALLENGER, odd, context)
    assert after.outcome == t.CHALLENGER_WRONG
    assert after.why == "the evidence does not suffice: E1406 bad_tile: the accumulator is no part of a tile"


def test_an_agreed_accumulator_of_another_shape_gives_a_reason_of_our_own() -> None:
    game, move, context = long_product()
    assert isinstance(game.phase, t.AwaitEvidence)
    wrong = np.zeros((2, 2), np.float32)
    phase = msgspec.structs.replace(game.phase, agreed=tensors.accumulator_hash(wrong))
    odd = msgspec.structs.replace(move, accumulator=t.Accumulator("f32", (2, 2), wrong.tobytes()))
    after = play(msgspec.structs.replace(game, phase=phase), t.CHALLENGER, odd, context)
    assert after.outcome == t.CHALLENGER_WRONG
    assert after.why == "the agreed accumulator is none of this chain of pieces"


def test_copies_of_one_tile_are_refused_at_the_first() -> None:
    """A tile of one element takes 11 bytes of evidence: 8,000 copies took a quarter of a second to verify."""
    builder = Builder([StateEntry("parameter.w", TensorType(F32, ()), Fill(0))], 1, [])
    last = builder.add("add", (0, 0))
    world = world_of(builder.program([last], last), [])
    game, move = position(world, Fault(0, last, 0, 3))
    crowd = msgspec.structs.replace(move, tiles=(move.tiles[0],) * 8_000 + move.tiles[1:])
    with mock.patch.object(tensors, "verify_tile", wraps=tensors.verify_tile) as verify:
        after = play(game, t.CHALLENGER, crowd, world.context)
    assert after.outcome == t.CHALLENGER_WRONG
    assert verify.call_count == 1
    assert play(game, t.CHALLENGER, move, world.context).outcome == t.DEFENDER_WRONG


def batch_program(record: TensorType) -> Program:
    builder = Builder([StateEntry("parameter.w", TensorType(F32, ()), Fill(0))], 1, [BatchInput("x", record)])
    return builder.program([0], 0)


@pytest.mark.parametrize(("records", "playable"), [(1, True), (ELEMENTS_MAX >> 34, True), (1 << 40, False)])
def test_a_dataset_whose_element_numbers_leave_int64_cannot_be_disputed_about(records: int, playable: bool) -> None:
    record = TensorType(U8, (1 << 17, 1 << 17))
    program = batch_program(record)
    validate_program(program)
    context = Context(program, (DatasetTensor("x", record, records, bytes(32)),), bytes(32))
    claim = t.Claim(t.SEGMENT, 0, 1, bytes(32), bytes(32), b"", b"\x01" * 32)
    if playable:
        assert open_game(claim, context).turn == t.DEFENDER
        target = t.Target(0, 1, (), b"")
        assert arbitration.pieces_of(claim, target, (1 << 24) - 1, context) >= 1
    else:
        with pytest.raises(Rejection, match="too few or too many records"):
            open_game(claim, context)


def test_settings_of_the_process_do_not_matter() -> None:
    """A library may have turned numpy's warnings into errors."""
    tiny, key = StateEntry("a", TensorType(F32, (40, 40)), Uniform(1)), bytes(range(32))
    expected = initial_tile(tiny, 0, key, 0).tobytes(), sampling.batch_indices(key, 1 << 39, 64, 1 << 40).tobytes()
    game, move, context = long_product()
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        assert initial_tile(tiny, 0, key, 0).tobytes() == expected[0]
        assert sampling.batch_indices(key, 1 << 39, 64, 1 << 40).tobytes() == expected[1]
        assert play(game, t.CHALLENGER, move, context).outcome == t.DEFENDER_WRONG


def test_a_chunk_of_a_blob_of_any_length_is_only_refused() -> None:
    chunk = bytes(limits.BLOB_CHUNK_BYTES)
    for length in (-1, 0, 1, limits.BLOB_BYTES_MAX + 1, 1 << 64, 1 << 70):
        with pytest.raises(Rejection):
            depth = max(0, (blobs.chunk_count(length) - 1).bit_length())
            blobs.verify_chunk(bytes(32), length, 0, chunk, [bytes(32)] * depth)


def test_ids_at_the_ends_of_int64_select_nothing() -> None:
    builder = Builder(
        [StateEntry("parameter.w", TensorType(F32, (70, 3)), Uniform(BOUND))], 4, [BatchInput("i", TensorType(I64, ()))]
    )
    rows = builder.add("embedding", (0, 1))
    gradient = builder.add("embedding_grad", (rows, 1), (70,))
    total = builder.add("add", (builder.scalar(rows), builder.scalar(gradient)))
    ids = np.array([-(1 << 63), (1 << 63) - 1, -1, 70], np.int64)
    world = world_of(builder.program([builder.add("add", (gradient, total))], total), [ids])
    for value in (rows, gradient):
        game, move = position(world, Fault(0, value, 5, 20))
        assert play(game, t.CHALLENGER, move, world.context).outcome == t.DEFENDER_WRONG
