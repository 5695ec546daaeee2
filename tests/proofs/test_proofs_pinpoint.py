"""The pinpoint game: the honest party wins against every fault, in exactly the computed number of moves."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pinpoint_world import (
    BOUND,
    KEY,
    SEED,
    Array,
    Builder,
    Fault,
    Run,
    World,
    evidence_claim,
    honest,
    initial_claim,
    play_out,
    random_fault,
    random_world,
    segment_claim,
    tile_at,
    world_of,
)

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX
from proofs import merkle, tensors
from proofs.pinpoint import arbitration, strategy, walk
from proofs.pinpoint import types as t
from proofs.pinpoint.context import Context
from proofs.pinpoint.game import forfeit, open_game, play
from proofs.pinpoint.oracle import ArrayOracle
from proofs.program.types import F32, BatchInput, Given, StateEntry, TensorType, Uniform
from proofs.reasons import BAD_CLAIM, GAME_OVER, MOVE_TOO_LARGE, NOT_YOUR_TURN, WRONG_MOVE

STEPS = 3
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 1 << 32)


def last_piece(claim: t.Claim, world: World, fault: Fault) -> int:
    """The piece that leaves the faulty tile: with honest accumulators it is the last."""
    target = t.Target(fault.step, fault.value, (), b"")
    tile = tile_at(world.context.types[fault.value], fault.element)
    return arbitration.pieces_of(claim, target, tile, world.context) - 1


def expected(claim: t.Claim, world: World, fault: Fault) -> int:
    tile = tile_at(world.context.types[fault.value], fault.element)
    piece = last_piece(claim, world, fault)
    return strategy.expected_moves(claim, world.context, fault.step, fault.value, tile, piece)


@SLOW
@given(seed=SEEDS, defender_lies=st.booleans(), fan_out=st.sampled_from([2, 4, 1024]), chunk=st.sampled_from([4, 2048]))
def test_one_flipped_bit_is_found(seed: int, defender_lies: bool, fan_out: int, chunk: int) -> None:
    world, rng = random_world(seed), np.random.default_rng(seed)
    fault = random_fault(world, rng, STEPS)
    truth, lie = world.run(), world.run(fault)
    assume(truth.state_root(STEPS) != lie.state_root(STEPS))
    defender, challenger = (lie, truth) if defender_lies else (truth, lie)
    claim, context = segment_claim(STEPS, defender, challenger), world.context
    with mock.patch.object(walk, "FAN_OUT", fan_out), mock.patch.object(t, "VALUES_PER_MOVE_MAX", chunk):
        players = [honest(world.oracle(run), context) for run in (defender, challenger)]
        game = play_out(claim, context, *players)
        assert game.outcome == (t.DEFENDER_WRONG if defender_lies else t.CHALLENGER_WRONG), game.why
        assert "recomputed" in game.why
        assert game.moves == expected(claim, world, fault)


@SLOW
@given(seed=SEEDS)
def test_both_wrong_is_told_apart(seed: int) -> None:
    world, rng = random_world(seed), np.random.default_rng(seed)
    one = random_fault(world, rng, STEPS)
    other = Fault(one.step, one.value, one.element, one.bit ^ 1)
    truth, defender, challenger = world.run(), world.run(one), world.run(other)
    roots = {run.state_root(one.step + 1) for run in (truth, defender, challenger)}
    ends = {run.state_root(STEPS) for run in (defender, challenger)}
    assume(len(roots) == 3 and len(ends) == 2 and world.context.types[one.value].dtype != "bool")
    claim = segment_claim(STEPS, defender, challenger)
    players = [honest(world.oracle(run), world.context) for run in (defender, challenger)]
    assert play_out(claim, world.context, *players).outcome == t.BOTH_WRONG


@SLOW
@given(seed=SEEDS, defender_lies=st.booleans())
def test_evidence_that_is_not_of_the_steps(seed: int, defender_lies: bool) -> None:
    """A verifier approves an end with evidence from a faulty run, or is challenged though its evidence is right."""
    world, rng = random_world(seed), np.random.default_rng(seed)
    fault = random_fault(world, rng, STEPS)
    truth, lie = world.run(), world.run(fault)
    assume(truth.state_root(STEPS) != lie.state_root(STEPS))
    defender, challenger = (lie, truth) if defender_lies else (truth, lie)
    claim = evidence_claim(STEPS, defender, challenger)
    players = [honest(world.oracle(run), world.context) for run in (defender, challenger)]
    game = play_out(claim, world.context, *players)
    assert game.outcome == (t.DEFENDER_WRONG if defender_lies else t.CHALLENGER_WRONG), game.why
    assert game.moves == expected(claim, world, fault)


def test_evidence_that_nobody_can_open_loses() -> None:
    world = random_world(5)
    truth = world.run()
    claim = t.Claim(t.EVIDENCE, 0, STEPS, truth.state_root(0), truth.state_root(STEPS), bytes(32), b"\x01" * 32, KEY)
    players = [honest(world.oracle(truth), world.context)] * 2
    game = play_out(claim, world.context, *players)
    assert (game.outcome, game.moves) == (t.DEFENDER_WRONG, 1)


@SLOW
@given(seed=SEEDS, entry=st.integers(0, 6), defender_lies=st.booleans())
def test_initial_states(seed: int, entry: int, defender_lies: bool) -> None:
    world, rng = random_world(seed), np.random.default_rng(seed)
    type_ = world.context.types[entry]
    fault = Fault(0, entry, int(rng.integers(0, type_.elements)), int(rng.integers(0, 64)))
    truth, lie = world.run(), world.run(fault)
    defender, challenger = (lie, truth) if defender_lies else (truth, lie)
    claim = initial_claim(defender, challenger)
    players = [honest(world.oracle(run), world.context) for run in (defender, challenger)]
    game = play_out(claim, world.context, *players)
    if defender_lies or not isinstance(world.context.program.state[entry].initial, Given):
        assert "recomputed" in game.why
    assert game.outcome == (t.DEFENDER_WRONG if defender_lies else t.CHALLENGER_WRONG), game.why
    assert game.moves == strategy.expected_moves(claim, world.context, 0, entry, tile_at(type_, fault.element))


def wide_world(terms: int) -> World:
    """A matmul with `terms` terms, so several pieces a tile."""
    state = [StateEntry("parameter.w", TensorType(F32, (terms, 40)), Uniform(BOUND))]
    builder = Builder(state, 33, [BatchInput("x", TensorType(F32, (terms,)))])
    product = builder.add("matmul", (1, 0))
    loss = builder.scalar(product)
    data = np.random.default_rng(1).standard_normal((50, terms)).astype(np.float32)
    return world_of(builder.program([builder.add("sub", (0, loss))], loss), [data])


@pytest.mark.parametrize("fan_out", [2, 4, 1024])
@pytest.mark.parametrize("piece", [0, 1, 2, 3, 4])
def test_a_fault_inside_a_chain_is_found(piece: int, fan_out: int) -> None:
    """The defender's accumulators go wrong at one piece of five and stay wrong."""
    world = wide_world(1100)
    context, fault = world.context, Fault(1, 3, 33 * 40 - 1, 29)
    truth, lie = world.run(), world.run(fault)
    claim = segment_claim(STEPS, lie, truth)
    base = honest(world.oracle(lie), context)

    def defender(game: t.Game) -> t.Move | None:
        move = base(game)
        if isinstance(move, t.PostPieces) and isinstance(game.phase, t.AwaitPieces):
            span, hashes = game.phase.span, merkle.split_hashes(move.hashes)
            size = walk.part_size(span.count)
            wrong = [span.first + (number + 1) * size > piece for number in range(len(hashes))]
            posted = [bytes(b ^ 255 for b in item) if bad else item for item, bad in zip(hashes, wrong, strict=True)]
            return t.PostPieces(b"".join(posted))
        return move

    with mock.patch.object(walk, "FAN_OUT", fan_out):
        game = play_out(claim, context, defender, honest(world.oracle(truth), context))
        tile = tile_at(context.types[3], fault.element)
        assert game.outcome == t.DEFENDER_WRONG, game.why
        assert game.moves == strategy.expected_moves(claim, context, 1, 3, tile, piece)


def test_long_lists_go_in_chunks() -> None:
    """More than 2,048 values, real bounds; a disputed node takes an input from another chunk."""
    builder = Builder([StateEntry("parameter.w", TensorType(F32, (3, 5)), Uniform(BOUND))], 2, [])
    first = value = builder.add("mul", (0, 0))
    for _ in range(3000):
        value = builder.add("neg", (value,))
    last = builder.add("add", (value, first))
    loss = builder.scalar(last)
    world = world_of(builder.program([last], loss), [])
    for wrong in (first, 1500, last):
        truth, lie = world.run(), world.run(Fault(0, wrong, 7, 20))
        for defender, challenger in ((lie, truth), (truth, lie)):
            claim = segment_claim(1, defender, challenger)
            game = play_out(
                claim, world.context, *(honest(world.oracle(r), world.context) for r in (defender, challenger))
            )
            assert game.outcome == (t.DEFENDER_WRONG if defender is lie else t.CHALLENGER_WRONG), game.why
            assert game.moves == 2 + 4 + 2 + 1


@pytest.mark.parametrize("lying", [True, False])
def test_a_contradiction_between_chunks_and_state(lying: bool) -> None:
    """All values are right but the end state is not: the challenger shows it; shown wrongly, it loses."""
    world = random_world(3)
    context, truth = world.context, world.run()
    oracle, step = world.oracle(truth), 0
    with mock.patch.object(t, "VALUES_PER_MOVE_MAX", 4):
        outputs = [truth.values(step)[value] for value in context.program.state_outputs]
        roots = [tensors.root_of(array) for array in outputs]
        if lying:
            roots[1] = bytes(32)
        start, end = truth.state_root(0), context.state_root(1, roots)
        claim = t.Claim(t.SEGMENT, 0, 1, start, end, b"", truth.state_root(1) if lying else bytes(32))
        game = open_game(claim, context)
        game = play(game, t.DEFENDER, t.PostStates(start + end), context)
        game = play(game, t.CHALLENGER, t.Name(1, claim.challenger_root), context)
        honest_post = strategy.respond(game, oracle, context)
        assert isinstance(honest_post, t.PostChunks)
        post = t.PostChunks(honest_post.entry_roots, b"".join(roots), honest_post.chunks)
        game = play(game, t.DEFENDER, post, context)
        if lying:
            move = strategy.respond(game, oracle, context)
            assert isinstance(move, t.ShowContradiction)
        else:
            index = context.list_index_of(context.program.state_outputs[1]) or 0
            move = t.ShowContradiction(1, roots[1], strategy._path_in_chunk(oracle.value_roots(0), index))
        game = play(game, t.CHALLENGER, move, context)
        assert game.outcome == (t.DEFENDER_WRONG if lying else t.CHALLENGER_WRONG)


def test_the_piece_of_a_tensor_of_narrow_tiles_fits_an_arbitration() -> None:
    """Every element of an output tile comes from another tile of a tensor with one column."""
    shape = (40, 40, 33, 1)
    builder = Builder([StateEntry("parameter.w", TensorType(F32, shape), Uniform(BOUND))], 1, [])
    moved = builder.add("permute", (0,), (2, 3, 0, 1))
    loss = builder.scalar(moved)
    world = world_of(builder.program([builder.add("sub", (0, loss))], loss), [])
    truth, lie = world.run(), world.run(Fault(0, moved, 0, 29))
    claim, sizes = segment_claim(1, lie, truth), []
    challenger = honest(world.oracle(truth), world.context)

    def weighed(game: t.Game) -> t.Move | None:
        move = challenger(game)
        sizes.append(len(encode(move)))
        return move

    game = play_out(claim, world.context, honest(world.oracle(lie), world.context), weighed)
    assert game.outcome == t.DEFENDER_WRONG, game.why
    assert max(sizes) <= ARBITRATION_BYTES_MAX


@SLOW
@given(seed=SEEDS)
def test_games_and_moves_are_bounded_and_encode(seed: int) -> None:
    world, rng = random_world(seed, nodes=12), np.random.default_rng(seed)
    truth, lie = world.run(), world.run(random_fault(world, rng, STEPS))
    assume(truth.state_root(STEPS) != lie.state_root(STEPS))
    game = open_game(segment_claim(STEPS, lie, truth), world.context)
    oracles = [world.oracle(lie), world.oracle(truth)]
    while game.turn is not None:
        move = strategy.respond(game, oracles[game.turn], world.context)
        assert move is not None
        data = encode(move)
        assert len(data) <= (ARBITRATION_BYTES_MAX if isinstance(move, t.Arbitrate) else t.MOVE_BYTES_MAX)
        assert decode(t.Move, data) == move
        game = play(game, game.turn, move, world.context)
        data = encode(game)
        assert len(data) <= t.MOVE_BYTES_MAX + 1024
        assert decode(t.Game, data) == game
    assert game.outcome == t.DEFENDER_WRONG


class TestOrder:
    """Moves out of turn, after the end or of another kind have no effect."""

    def setup_method(self) -> None:
        self.world = random_world(1)
        fault = Fault(0, self.world.context.program.first_node_value, 0, 30)
        self.truth, self.lie = self.world.run(), self.world.run(fault)
        self.context = self.world.context
        self.claim = segment_claim(STEPS, self.lie, self.truth)
        self.game = open_game(self.claim, self.context)
        self.post = strategy.respond(self.game, self.world.oracle(self.lie), self.context)

    def test_out_of_turn(self) -> None:
        assert self.game.turn == t.DEFENDER
        for mover in (t.CHALLENGER, 2, -1):
            with pytest.raises(Rejection) as caught:
                play(self.game, mover, self.post, self.context)
            assert caught.value.reason is NOT_YOUR_TURN
        after = play(self.game, t.DEFENDER, self.post, self.context)
        assert (after.turn, after.moves) == (t.CHALLENGER, 1)
        with pytest.raises(Rejection) as caught:
            play(after, t.DEFENDER, self.post, self.context)
        assert caught.value.reason is NOT_YOUR_TURN

    def test_another_kind_of_move(self) -> None:
        for move in (t.Name(1, bytes(32)), t.PostValues(b"", b""), t.Arbitrate(None, (), ())):
            with pytest.raises(Rejection) as caught:
                play(self.game, t.DEFENDER, move, self.context)
            assert caught.value.reason is WRONG_MOVE

    def test_too_large(self) -> None:
        with pytest.raises(Rejection) as caught:
            play(self.game, t.DEFENDER, t.PostStates(bytes(t.MOVE_BYTES_MAX)), self.context)
        assert caught.value.reason is MOVE_TOO_LARGE

    @pytest.mark.parametrize("loser", [t.DEFENDER, t.CHALLENGER])
    def test_nothing_moves_after_the_end(self, loser: int) -> None:
        over = forfeit(self.game, loser, "late")
        assert over.outcome == (t.DEFENDER_WRONG if loser == t.DEFENDER else t.CHALLENGER_WRONG)
        assert (over.turn, over.why, over.moves) == (None, "late", 0)
        for mover in (t.DEFENDER, t.CHALLENGER):
            with pytest.raises(Rejection) as caught:
                play(over, mover, self.post, self.context)
            assert caught.value.reason is GAME_OVER
            with pytest.raises(Rejection) as caught:
                forfeit(over, mover, "late again")
            assert caught.value.reason is GAME_OVER
        assert strategy.respond(over, self.world.oracle(self.truth), self.context) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"kind": 3},
            {"steps": 0},
            {"steps": 1025},
            {"first_step": -1},
            {"first_step": 1 << 40},
            {"start_root": b""},
            {"end_root": bytes(31)},
            {"evidence": bytes(32)},
            {"kind": t.EVIDENCE},
            {"kind": t.INITIAL},
            {"challenger_root": b""},
        ],
        ids=str,
    )
    def test_claims_that_make_no_sense(self, changes: dict[str, object]) -> None:
        fields = {name: getattr(self.claim, name) for name in self.claim.__struct_fields__}
        with pytest.raises(Rejection) as caught:
            open_game(t.Claim(**(fields | changes)), self.context)
        assert caught.value.reason is BAD_CLAIM

    def test_claims_on_which_both_agree(self) -> None:
        fields = {name: getattr(self.claim, name) for name in self.claim.__struct_fields__}
        with pytest.raises(Rejection) as caught:
            open_game(t.Claim(**(fields | {"challenger_root": self.claim.end_root})), self.context)
        assert caught.value.reason is BAD_CLAIM


def test_given_entries_need_a_checkpoint() -> None:
    world = random_world(1)
    claim = initial_claim(world.run(), world.run(Fault(0, 0, 0, 1)))
    assert open_game(claim, world.context).turn == t.DEFENDER
    with pytest.raises(Rejection) as caught:
        open_game(claim, Context(world.context.program, world.context.dataset, world.context.seed))
    assert caught.value.reason is BAD_CLAIM


def test_a_dataset_without_the_batch_cannot_be_disputed() -> None:
    world = random_world(1)
    claim = segment_claim(1, world.run(Fault(0, 0, 0, 1)), world.run(Fault(0, 0, 0, 30)))
    for dataset in (world.context.dataset[:1], world.context.dataset[1:], ()):
        with pytest.raises(Rejection) as caught:
            open_game(claim, Context(world.context.program, dataset, SEED, world.context.checkpoint))
        assert caught.value.reason is BAD_CLAIM


def test_scalars_may_come_with_one_dimension() -> None:
    """An execution whose arrays have lost the shape of a scalar still plays by the program's types."""
    world = random_world(2)

    class Flat(Run):
        def values(self, step: int) -> list[Array]:
            return [np.ascontiguousarray(array) for array in super().values(step)]

    plain = world.oracle(world.run())
    flat = ArrayOracle(world.context.program, Flat(world.context, world.initial, world.dataset))
    assert flat.value_roots(0) == plain.value_roots(0)
    assert flat.entry_roots(1) == plain.entry_roots(1)


def test_levels_agree_with_the_walk() -> None:
    for fan_out in (2, 3, 5):
        with mock.patch.object(walk, "FAN_OUT", fan_out):
            for count in range(1, 80):
                for item in range(count):
                    span, cuts = t.Span(0, count, b"", b""), 0
                    while span.count > 1 or cuts == 0:
                        size = walk.part_size(span.count)
                        assert walk.part_count(span.count) <= fan_out
                        span, cuts = walk.part_of(span, (item - span.first) // size, b"", b""), cuts + 1
                    assert (span.first, cuts) == (item, walk.levels(count, item))
