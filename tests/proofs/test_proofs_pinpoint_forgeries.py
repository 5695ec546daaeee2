"""Forgeries made with care: each would win if the one check that it aims at were missing."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import msgspec
import numpy as np
import pytest
from pinpoint_world import (
    BOUND,
    Builder,
    Fault,
    Run,
    World,
    honest,
    play_out,
    random_world,
    segment_claim,
    world_of,
)

from proofs import merkle, tensors
from proofs.arithmetic import definitions
from proofs.pinpoint import arbitration, strategy
from proofs.pinpoint import types as t
from proofs.pinpoint.game import open_game, play
from proofs.program.types import F32, BatchInput, Fill, StateEntry, TensorType, Uniform

CHUNK = 4


@pytest.fixture(params=[CHUNK, 2048], ids=["chunks", "flat"])
def chunk(request: pytest.FixtureRequest) -> Iterator[int]:
    with mock.patch.object(t, "VALUES_PER_MOVE_MAX", request.param):
        yield request.param


def advance(game: t.Game, world: World, defender: Run, challenger: Run, phase: type) -> t.Game:
    """The game at the first position of a phase, both playing by the book."""
    oracles = [world.oracle(defender), world.oracle(challenger)]
    while not isinstance(game.phase, phase):
        assert game.turn is not None, game.why
        move = strategy.respond(game, oracles[game.turn], world.context)
        assert move is not None
        game = play(game, game.turn, move, world.context)
    return game


def chain_world(terms: int = 600) -> World:
    """neg, neg, …, then a matmul of two early values: inputs in another chunk, three pieces a tile."""
    state = [
        StateEntry("parameter.w", TensorType(F32, (terms, 40)), Uniform(BOUND)),
        StateEntry("optimizer.m", TensorType(F32, (terms, 40)), Fill(0)),
    ]
    builder = Builder(state, 33, [BatchInput("x", TensorType(F32, (terms,)))])
    weights = last = builder.add("neg", (0,))
    for _ in range(6):
        last = builder.add("neg", (last,))
    product = builder.add("matmul", (2, weights))
    loss = builder.scalar(product)
    data = np.random.default_rng(1).standard_normal((50, terms)).astype(np.float32)
    return world_of(builder.program([builder.add("sub", (last, loss)), 1], loss), [data])


WEIGHTS, PRODUCT = 4, 11


def false_end(world: World, entry: int) -> tuple[Run, t.Claim, list[bytes]]:
    """A defender whose only lie is one entry of the end state, and the false entry roots."""
    truth, context = world.run(), world.context
    outputs = [tensors.root_of(truth.values(0)[value]) for value in context.program.state_outputs]
    outputs[entry] = b"\x07" * 32
    end = context.state_root(1, outputs)
    return truth, t.Claim(t.SEGMENT, 0, 1, truth.state_root(0), end, b"", truth.state_root(1)), outputs


def test_values_must_produce_the_end_state() -> None:
    world = chain_world()
    truth, claim, _ = false_end(world, 0)
    game = open_game(claim, world.context)
    game = play(game, t.DEFENDER, t.PostStates(claim.start_root + claim.end_root), world.context)
    game = play(game, t.CHALLENGER, t.Name(1, claim.challenger_root), world.context)
    game = play(game, t.DEFENDER, strategy.respond(game, world.oracle(truth), world.context), world.context)
    assert (game.outcome, game.moves) == (t.DEFENDER_WRONG, 3)


def test_an_opened_chunk_must_agree_with_the_end_state() -> None:
    world, size = chain_world(), 5
    context = world.context
    with mock.patch.object(t, "VALUES_PER_MOVE_MAX", size):
        truth, claim, outputs = false_end(world, 0)
        oracle = world.oracle(truth)
        index = context.list_index_of(context.program.state_outputs[0]) or 0
        # The true values, except for one that nobody looks at, so that the chunk's digest differs.
        values = [*oracle.value_roots(0)]
        first = index // size * size
        values[first if first != index else first + 1] = b"\x09" * 32
        chunks = [merkle.root(values[start : start + size]) for start in range(0, len(values), size)]
        game = open_game(claim, context)
        game = play(game, t.DEFENDER, t.PostStates(claim.start_root + claim.end_root), context)
        game = play(game, t.CHALLENGER, t.Name(1, claim.challenger_root), context)
        entries = b"".join(oracle.entry_roots(0))
        game = play(game, t.DEFENDER, t.PostChunks(entries, b"".join(outputs), b"".join(chunks)), context)
        move = strategy.respond(game, oracle, context)
        assert move == t.Name(first // size, merkle.root(oracle.value_roots(0)[first : first + size]))
        game = play(game, t.CHALLENGER, move, context)
        game = play(game, t.DEFENDER, t.OpenChunk(b"".join(values[first : first + size])), context)
        assert (game.outcome, game.moves) == (t.DEFENDER_WRONG, 5)


NAMING = [t.NameState, t.NameValue, t.NameTile, t.NamePiece]


@pytest.mark.parametrize("phase", NAMING, ids=lambda phase: phase.__name__)
def test_naming_what_was_posted_loses_at_once(phase: type) -> None:
    world = chain_world()
    truth, lie = world.run(), world.run(Fault(0, PRODUCT, 0, 29))
    game = advance(open_game(segment_claim(2, truth, lie), world.context), world, truth, lie, phase)
    posted = {t.NameState: "roots", t.NameValue: "value_roots"}.get(phase, "hashes")
    hashes = merkle.split_hashes(getattr(game.phase, posted))
    after = play(game, t.CHALLENGER, t.Name(1, hashes[1]), world.context)
    assert after.outcome == t.CHALLENGER_WRONG
    assert "named" in after.why


def test_the_challenger_cannot_change_its_claim_about_the_end() -> None:
    world = chain_world()
    truth, lie = world.run(), world.run(Fault(1, PRODUCT, 0, 29))
    game = advance(open_game(segment_claim(2, lie, truth), world.context), world, lie, truth, t.NameState)
    after = play(game, t.CHALLENGER, t.Name(2, b"\x03" * 32), world.context)
    assert (after.outcome, "claimed" in after.why) == (t.CHALLENGER_WRONG, True)
    game = advance(game, world, lie, truth, t.NamePiece)
    after = play(game, t.CHALLENGER, t.Name(2, b"\x03" * 32), world.context)
    assert (after.outcome, "claimed" in after.why) == (t.CHALLENGER_WRONG, True)


def test_a_made_up_input_is_refused(chunk: int) -> None:
    """The challenger's product is right for a right operand of its own, whose tiles it proves under its own root."""
    world = chain_world(200)
    context, truth, lie, forger = world.context, world.run(), world.run(Fault(0, PRODUCT, 0, 29)), world.run()
    game = advance(open_game(segment_claim(1, truth, lie), context), world, truth, lie, t.AwaitEvidence)
    own = truth.values(0)[WEIGHTS] * np.float32(2)
    forger.steps.append([own if value == WEIGHTS else array for value, array in enumerate(truth.values(0))])
    forged = strategy.respond(game, world.oracle(forger), context)
    assert isinstance(forged, t.Arbitrate)
    assert isinstance(game.phase, t.AwaitEvidence)
    leaf = tensors.leaf_of(tensors.tile_of(definitions.matmul(truth.values(0)[2], own), game.phase.tile))
    span = msgspec.structs.replace(game.phase.span, challenger=leaf)
    game = t.Game(game.claim, game.moves, msgspec.structs.replace(game.phase, span=span))
    index = context.list_index_of(WEIGHTS) or 0
    root, path = tensors.root_of(own), strategy._path_in_chunk(world.oracle(truth).value_roots(0), index)
    for inputs in (
        forged.inputs,
        (t.InputRoot(1, root, path),),
        (t.InputRoot(1, root, b""),),
        (t.InputRoot(0, root, path),),
        (),
    ):
        after = play(game, t.CHALLENGER, t.Arbitrate(None, inputs, forged.tiles), context)
        assert after.outcome == t.CHALLENGER_WRONG, after.why
        assert "does not suffice" in after.why
    good = strategy.respond(game, world.oracle(truth), context)
    assert isinstance(good, t.Arbitrate)
    assert play(game, t.CHALLENGER, good, context).why == "the recomputed piece is the defender's"


def test_an_entry_that_stays_cannot_change(chunk: int) -> None:
    """The program leaves `optimizer.m` as it is; a defender that says otherwise loses when it posts its lists."""
    world = chain_world()
    truth, claim, outputs = false_end(world, 1)
    game = open_game(claim, world.context)
    game = play(game, t.DEFENDER, t.PostStates(claim.start_root + claim.end_root), world.context)
    game = play(game, t.CHALLENGER, t.Name(1, claim.challenger_root), world.context)
    move = strategy.respond(game, world.oracle(truth), world.context)
    if isinstance(move, t.PostChunks):
        move = msgspec.structs.replace(move, output_roots=b"".join(outputs))
    game = play(game, t.DEFENDER, move, world.context)
    assert (game.outcome, game.moves) == (t.DEFENDER_WRONG, 3)


def test_a_made_up_accumulator_is_refused() -> None:
    """The last piece on an accumulator of the challenger's own gives its claim; but another one is agreed."""
    world = chain_world()
    context, truth, lie = world.context, world.run(), world.run(Fault(0, PRODUCT, 0, 29))
    game = advance(open_game(segment_claim(1, truth, lie), context), world, truth, lie, t.AwaitEvidence)
    phase = game.phase
    assert isinstance(phase, t.AwaitEvidence)
    assert phase.span.first == 2
    good = strategy.respond(game, world.oracle(truth), context)
    assert isinstance(good, t.Arbitrate)
    assert good.accumulator is not None
    own = np.frombuffer(good.accumulator.data, np.float32).reshape(good.accumulator.shape) + np.float32(1)
    reader = arbitration.EvidenceReader(phase.target, good, context)
    leaf = tensors.leaf_of(arbitration.compute(phase.target, phase.tile, 2, own, reader, context))
    span = msgspec.structs.replace(phase.span, challenger=leaf)
    game = t.Game(game.claim, game.moves, msgspec.structs.replace(phase, span=span))
    forged = t.Arbitrate(t.Accumulator("f32", own.shape, own.tobytes()), good.inputs, good.tiles)
    after = play(game, t.CHALLENGER, forged, context)
    assert (after.outcome, "does not suffice" in after.why) == (t.CHALLENGER_WRONG, True)


def test_a_refused_list_is_the_defenders_loss() -> None:
    """A defender without data (no lists at all) loses wherever it stops; so does a challenger that names nothing."""
    world = random_world(8)
    truth, lie = world.run(), world.run(Fault(0, world.context.program.first_node_value, 5, 29))
    claim = segment_claim(2, lie, truth)
    players = [honest(world.oracle(run), world.context) for run in (lie, truth)]
    for silent in (t.DEFENDER, t.CHALLENGER):
        for after in range(7):
            mute = list(players)
            mute[silent] = lambda game, after=after: None if game.moves >= after else players[game.turn or 0](game)
            game = play_out(claim, world.context, *mute)
            assert game.outcome == (t.DEFENDER_WRONG if silent == t.DEFENDER else t.CHALLENGER_WRONG)
