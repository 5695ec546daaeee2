"""Evidence that a key draws: the game over a step's sample, and what the rule draws."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pinpoint_world import (
    BOUND,
    KEY,
    Builder,
    Fault,
    Run,
    World,
    evidence_claim,
    honest,
    play_out,
    random_world,
    world_of,
)

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX
from proofs import tensors
from proofs.pinpoint import strategy
from proofs.pinpoint import types as t
from proofs.pinpoint.game import open_game, play
from proofs.program.types import F32, BatchInput, Fill, StateEntry, TensorType, Uniform
from proofs.reasons import BAD_CLAIM, WRONG_MOVE
from proofs.samples import SAMPLED_TILES, evidence_key, points, sample_of, sampled_values
from proofs.state import keyed_evidence_root

STEPS = 3
SEEDS = st.integers(0, 1 << 32)
SLOW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(params=[4, 2048], ids=["chunks", "flat"])
def chunk(request: pytest.FixtureRequest) -> Iterator[int]:
    with mock.patch.object(t, "VALUES_PER_MOVE_MAX", request.param):
        yield request.param


def parties(world: World, step: int, hash_: bytes, defender_lies: bool) -> tuple[t.Claim, Run, Run]:
    """The claim, the defender and the challenger: they differ in nothing but the sample of one step."""
    truth, lie = world.run(), world.run()
    lie.made_up[step] = hash_
    defender, challenger = (lie, truth) if defender_lies else (truth, lie)
    return evidence_claim(STEPS, defender, challenger), defender, challenger


@SLOW
@given(seed=SEEDS, step=st.integers(0, STEPS - 1), defender_lies=st.booleans(), size=st.sampled_from([4, 2048]))
def test_a_made_up_sample_loses(seed: int, step: int, defender_lies: bool, size: int) -> None:
    world = random_world(seed)
    claim, *runs = parties(world, step, b"\x07" * 32, defender_lies)
    with mock.patch.object(t, "VALUES_PER_MOVE_MAX", size):
        game = play_out(claim, world.context, *(honest(world.oracle(run), world.context) for run in runs))
    assert game.outcome == (t.DEFENDER_WRONG if defender_lies else t.CHALLENGER_WRONG), game.why
    assert "drawn tiles" in game.why and game.moves == strategy.SAMPLE_MOVES


@SLOW
@given(seed=SEEDS, defender_lies=st.booleans())
def test_a_sample_of_other_tiles_loses(seed: int, defender_lies: bool) -> None:
    """Tiles of the right step, but not those that the key draws: they were at hand."""
    world = random_world(seed)
    truth, other = world.run(), bytes(32)
    tiles = [tensors.tile_of(truth.values(1)[value], tile) for value, tile in world.context.points(other, 1)]
    fake = sample_of(KEY, 1, [tensors.tile_bytes(tile) for tile in tiles])
    assume(fake != truth.evidence(1, 1, KEY)[1][0])
    claim, *runs = parties(world, 1, fake, defender_lies)
    game = play_out(claim, world.context, *(honest(world.oracle(run), world.context) for run in runs))
    assert game.outcome == (t.DEFENDER_WRONG if defender_lies else t.CHALLENGER_WRONG), game.why


def test_both_lie_about_a_sample(chunk: int) -> None:
    world = random_world(3)
    one, other, truth = world.run(), world.run(), world.run()
    one.made_up[2], other.made_up[2] = b"\x01" * 32, b"\x02" * 32
    claim, context = evidence_claim(STEPS, one, other), world.context
    game = open_game(claim, context)
    for run in (one, other, one, truth):
        move = strategy.respond(game, world.oracle(run), context)
        assert game.turn is not None and move is not None
        game = play(game, game.turn, move, context)
    assert (game.outcome, game.moves) == (t.BOTH_WRONG, strategy.SAMPLE_MOVES)


def rounded_away() -> tuple[World, Fault]:
    """A product that reaches the next state only as its sign: a flipped low bit is seen in no state."""
    state = [StateEntry("parameter.w", TensorType(F32, (70, 40)), Uniform(BOUND))]
    builder = Builder(state, 33, [BatchInput("x", TensorType(F32, (70,)))])
    product = builder.add("matmul", (1, 0))
    total = builder.scalar(builder.add("sign", (product,)))
    data = np.random.default_rng(1).standard_normal((50, 70)).astype(np.float32)
    world = world_of(builder.program([builder.add("add", (0, total))], total), [data])
    tile = world.context.points(KEY, 1)[0].tile
    row, column = divmod(tile, tensors.tile_grid(world.context.types[product])[1])
    return world, Fault(1, product, row * 32 * 40 + column * 32, 0)


@pytest.mark.parametrize("defender_lies", [True, False])
def test_a_flipped_bit_that_no_state_shows(defender_lies: bool, chunk: int) -> None:
    world, fault = rounded_away()
    truth, lie = world.run(), world.run(fault)
    assert truth.state_roots(0, STEPS) == lie.state_roots(0, STEPS)
    runs = (lie, truth) if defender_lies else (truth, lie)
    claim, context = evidence_claim(STEPS, *runs), world.context
    game = play_out(claim, context, *(honest(world.oracle(run), context) for run in runs))
    assert game.outcome == (t.DEFENDER_WRONG if defender_lies else t.CHALLENGER_WRONG)
    assert "recomputed" in game.why
    tile = world.context.points(KEY, 1)[0].tile
    assert game.moves == strategy.expected_moves(claim, context, 1, fault.value, tile)


def test_the_first_difference_is_named_be_it_a_state_or_a_sample() -> None:
    world = random_world(8)
    truth, lie = world.run(), world.run(Fault(1, world.context.program.first_node_value, 5, 29))
    assert truth.state_root(2) != lie.state_root(2)
    for step, named in ((0, t.NameSample), (1, t.Name), (2, t.Name)):
        lie.made_up = {step: bytes(32)}
        claim = evidence_claim(STEPS, lie, truth)
        game = open_game(claim, world.context)
        game = play(game, t.DEFENDER, strategy.respond(game, world.oracle(lie), world.context), world.context)
        move = strategy.respond(game, world.oracle(truth), world.context)
        assert isinstance(move, named) and move.index == (step if named is t.NameSample else 2)


def positions(world: World) -> list[tuple[t.Game, t.Move]]:
    """The positions of a game over a sample, with their good moves."""
    claim, *runs = parties(world, 1, bytes(32), defender_lies=True)
    game, found = open_game(claim, world.context), []
    while game.turn is not None:
        move = strategy.respond(game, world.oracle(runs[game.turn]), world.context)
        assert move is not None
        found.append((game, move))
        game = play(game, game.turn, move, world.context)
    assert game.outcome == t.DEFENDER_WRONG
    return found


def test_opened_tiles_are_held_against_the_agreed_values(chunk: int) -> None:
    """Each part of what the challenger opens is needed: changed or left out, the challenger loses."""
    world = random_world(8)
    game, move = positions(world)[-1]
    assert isinstance(move, t.OpenSample) and len(move.tiles) == SAMPLED_TILES
    assert len(encode(move)) <= ARBITRATION_BYTES_MAX
    forged = [t.OpenSample(()), t.OpenSample(move.tiles[1:]), t.OpenSample((*move.tiles, move.tiles[0]))]
    for at, opened in enumerate(move.tiles):
        for name in ("data", "path", "root", "root_path"):
            data = getattr(opened, name)
            for changed in (
                data[:-1],
                data + bytes(32),
                bytes(len(data)),
                bytes([data[0] ^ 1]) + data[1:] if data else b"x",
            ):
                if changed == data or (chunk == 2048 and name.startswith("root")):
                    continue
                other = msgspec.structs.replace(opened, **{name: changed})
                forged.append(t.OpenSample((*move.tiles[:at], other, *move.tiles[at + 1 :])))
    for one in forged:
        assert play(game, t.CHALLENGER, one, world.context).outcome == t.CHALLENGER_WRONG


def test_samples_have_no_place_in_other_disputes(chunk: int) -> None:
    """In a dispute over a segment no sample is named; where a state was named, none is opened."""
    world = random_world(8)
    truth, lie = world.run(), world.run(Fault(0, world.context.program.first_node_value, 5, 29))
    context, opened = world.context, positions(world)[-1][1]
    claim = evidence_claim(STEPS, lie, truth)
    segment = t.Claim(t.SEGMENT, 0, STEPS, claim.start_root, claim.end_root, b"", truth.state_root(STEPS))
    for disputed in (claim, segment):
        game = open_game(disputed, context)
        while game.turn is not None:
            move = strategy.respond(game, world.oracle((lie, truth)[game.turn]), context)
            assert move is not None
            for other in (opened, t.NameSample(0, b"\x09" * 32)):
                if game.turn == t.CHALLENGER and not (disputed is claim and isinstance(game.phase, t.NameState)):
                    with pytest.raises(Rejection) as caught:
                        play(game, t.CHALLENGER, other, context)
                    assert caught.value.reason is WRONG_MOVE
            game = play(game, game.turn, move, context)
    game = open_game(segment, context)
    posted = t.PostStates(b"".join(lie.state_roots(0, STEPS)), bytes(32 * STEPS))
    assert play(game, t.DEFENDER, posted, context).outcome == t.DEFENDER_WRONG


@pytest.mark.parametrize("change", [{"key": b""}, {"key": bytes(31)}, {"kind": t.SEGMENT, "evidence": b""}], ids=str)
def test_claims_over_evidence_have_a_key_and_no_others(change: dict[str, object]) -> None:
    world = random_world(1)
    claim, *_ = parties(world, 0, bytes(32), defender_lies=True)
    open_game(claim, world.context)
    with pytest.raises(Rejection) as caught:
        open_game(msgspec.structs.replace(claim, **change), world.context)
    assert caught.value.reason is BAD_CLAIM


def test_named_samples_exist_and_differ() -> None:
    world = random_world(8)
    game = positions(world)[1][0]
    assert isinstance(game.phase, t.NameState)
    own = game.phase.samples[:32]
    for move in (
        t.NameSample(0, own),
        t.NameSample(-1, b"\x05" * 32),
        t.NameSample(STEPS, b"\x05" * 32),
        t.NameSample(1 << 63, b"\x05" * 32),
        t.NameSample(0, b"\x05" * 31),
    ):
        assert play(game, t.CHALLENGER, move, world.context).outcome == t.CHALLENGER_WRONG


# --- what is drawn


def test_keys_differ_in_everything_that_they_are_made_of() -> None:
    made = [
        evidence_key(b"a" * 32, b"t" * 32, 0, 1, 2),
        evidence_key(b"b" * 32, b"t" * 32, 0, 1, 2),
        evidence_key(b"a" * 32, b"u" * 32, 0, 1, 2),
        evidence_key(b"a" * 32, b"t" * 32, 1, 1, 2),
        evidence_key(b"a" * 32, b"t" * 32, 0, 2, 2),
        evidence_key(b"a" * 32, b"t" * 32, 0, 1, 3),
    ]
    assert len(set(made)) == len(made)


def test_every_tile_of_every_product_is_drawn_sooner_or_later() -> None:
    world = random_world(8)
    context = world.context
    wanted = {
        (value, tile) for value in context.sampled_values for tile in range(tensors.tile_count(context.types[value]))
    }
    drawn = {point for step in range(40 * len(wanted)) for point in context.points(KEY, step)}
    assert drawn == wanted


def test_a_programs_products_are_drawn_and_else_what_leaves_the_step() -> None:
    world, fault = rounded_away()
    assert world.context.sampled_values == (fault.value,)
    state = [
        StateEntry("buffer.a", TensorType(F32, (4,)), Fill(0)),
        StateEntry("buffer.b", TensorType(F32, (2,)), Fill(0)),
    ]
    builder = Builder(state, 3, [BatchInput("x", TensorType(F32, (4,)))])
    total = builder.scalar(builder.add("sum_first", (2,)))
    program = builder.program([builder.add("add", (0, total)), 1], total)
    assert sampled_values(program) == (*program.state_outputs, program.loss)
    types = tuple(builder.types)
    assert {point.value for step in range(50) for point in points(KEY, step, sampled_values(program), types)} == {
        *program.state_outputs,
        program.loss,
    }


def test_a_product_that_nothing_comes_from_is_not_drawn() -> None:
    builder = Builder(
        [StateEntry("parameter.w", TensorType(F32, (4, 4)), Fill(0))], 3, [BatchInput("x", TensorType(F32, (4,)))]
    )
    used, _ = builder.add("matmul", (1, 0)), builder.add("matmul", (0, 0))
    program = builder.program([0], builder.scalar(used))
    assert sampled_values(program) == (used,)


def test_a_convolution_with_a_bias_is_not_drawn_and_one_without_is() -> None:
    def convolution(bias: bool) -> tuple[int, tuple[int, ...]]:
        state = [
            StateEntry("parameter.w", TensorType(F32, (6, 18)), Fill(0)),
            StateEntry("parameter.b", TensorType(F32, (6, 1, 1)), Fill(0)),
        ]
        builder = Builder(state, 3, [BatchInput("x", TensorType(F32, (2, 5, 5)))])
        seen = builder.add("windows", (2,), (0, *(3, 5, -1, 1, 1, 1) * 2))
        flat = builder.add("reshape", (seen,), (3, 18, 25))
        product = builder.add("matmul", (0, flat))
        image = builder.add("reshape", (product,), (3, 6, 5, 5))
        last = builder.add("add", (image, 1)) if bias else builder.add("neg", (image,))
        return product, sampled_values(builder.program([0, 1], builder.scalar(last)))

    product, drawn = convolution(bias=True)
    assert product not in drawn
    product, drawn = convolution(bias=False)
    assert drawn == (product,)


def test_the_evidence_binds_every_root_and_every_sample() -> None:
    roots, samples = [bytes([n]) * 32 for n in range(4)], [bytes([n]) * 32 for n in range(10, 13)]
    variants = [(roots, samples), (roots, samples[::-1]), (roots[::-1], samples), (roots[:3], samples[:2])]
    for at in range(4):
        variants.append(([*roots[:at], b"\xff" * 32, *roots[at + 1 :]], samples))
    for at in range(3):
        variants.append((roots, [*samples[:at], b"\xff" * 32, *samples[at + 1 :]]))
    assert len({keyed_evidence_root(*variant) for variant in variants}) == len(variants)
