"""The native game: noise within the bounds always wins, one value outside them always loses, whatever else is tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from pinpoint_world import Builder, Fault, Run, World, random_fault, random_world, tile_at, world_of

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX
from proofs import tensors
from proofs.arithmetic.whole import compute_value
from proofs.native import game as rules
from proofs.native import types as t
from proofs.native.bounds import CHAIN, EXACT, bound_of, limits, within
from proofs.native.reference import Tile
from proofs.native.strategy import Accusation, accuse, defend, expected_moves
from proofs.pinpoint.types import CHALLENGER, CHALLENGER_WRONG, DEFENDER, DEFENDER_WRONG
from proofs.program.types import F32, Fill, Node, StateEntry, TensorType
from proofs.sampling import batch_indices
from proofs.state import evidence_root

Array = np.ndarray[Any, np.dtype[Any]]
STEPS = 3


class Vendor(Run):
    """An execution whose every operator is off by some noise within its bound, another for every machine."""

    noise = 0

    def _fault(self, step: int, value: int, array: Array) -> Array:
        node = self.context.node_of(value)
        if node is not None:
            array = self._noisy(step, value, node, array)
        return super()._fault(step, value, array)

    def _noisy(self, step: int, value: int, node: Node, array: Array) -> Array:
        context = self.context
        bound = bound_of(node, tuple(context.types[number] for number in node.inputs), context.types[value])
        if bound.kind == EXACT:
            return array
        inputs = [self.pending[number] for number in node.inputs]
        magnitudes = magnitudes_of(node, inputs) if bound.kind == CHAIN else None
        rng = np.random.default_rng((self.noise, step, value))
        most = np.minimum(limits(bound, array, magnitudes), 1e30)
        with np.errstate(all="ignore"):
            off = array + (rng.uniform(-0.4, 0.4, array.shape) * most).astype(np.float32)
        return np.where(np.isfinite(array), off, array).astype(np.float32).reshape(array.shape)

    def _execute(self, step: int) -> None:
        program = self.context.program
        start = self.initial if step == 0 else self._state(step)
        self.pending = list(start)
        records = len(self.arrays[0]) if self.arrays else 1
        indices = batch_indices(self.context.seed, step, program.batch_size, records)
        for array in self.arrays:
            self.pending.append(super()._fault(step, len(self.pending), np.ascontiguousarray(array[indices])))
        self.pending.append(np.array(step, np.int64))
        for node in program.nodes:
            result = compute_value(node, [self.pending[value] for value in node.inputs])
            self.pending.append(self._fault(step, len(self.pending), result))
        self.steps.append(self.pending)


def magnitudes_of(node: Node, inputs: Sequence[Array]) -> Array:
    return compute_value(node, [np.abs(item) if item.dtype == np.float32 else item for item in inputs])


def vendor(world: World, noise: int, *faults: Any) -> Vendor:
    run = Vendor(world.context, world.initial, world.dataset, faults)
    run.noise = noise
    return run


def outside(world: World, run: Run, step: int) -> list[tuple[int, int]]:
    """(value, first wrong tile) of every node of a step that is outside its bound."""
    context, values, found = world.context, run.values(step), []
    for number, node in enumerate(context.program.nodes, context.program.first_node_value):
        inputs = [values[item] for item in node.inputs]
        bound = bound_of(node, tuple(context.types[item] for item in node.inputs), context.types[number])
        magnitudes = magnitudes_of(node, inputs) if bound.needs_magnitudes else None
        wrong = ~within(bound, compute_value(node, inputs), magnitudes, values[number])
        if wrong.any():
            elements = np.flatnonzero(wrong)
            found.append((number, min(tile_at(context.types[number], int(element)) for element in elements)))
    return found


def claim_of(run: Run, steps: int = STEPS) -> t.NativeClaim:
    roots = run.state_roots(0, steps)
    return t.NativeClaim(0, steps, roots[0], roots[-1], b"")


Player = Callable[[t.NativeGame], t.NativeMove | None]


@dataclass
class Played:
    """A game with its moves."""

    game: t.NativeGame
    moves: list[t.NativeMove]


def play_out(world: World, claim: t.NativeClaim, defender: Player, challenger: Player) -> Played:
    game, moves = rules.open_game(claim, world.context), list[t.NativeMove]()
    while game.turn is not None:
        move = (defender if game.turn == DEFENDER else challenger)(game)
        if move is None:
            game = rules.forfeit(game, game.turn)
            continue
        moves.append(decode(t.NativeMove, encode(move)))
        game = rules.play(game, game.turn, moves[-1], world.context)
        game = decode(t.NativeGame, encode(game))
        assert len(moves) <= 12
    return Played(game, moves)


def played(world: World, run: Run, accusation: Accusation, claim: t.NativeClaim | None = None) -> Played:
    """Both by the book, the challenger on the values that the defender serves."""
    oracle, context = world.oracle(run), world.context
    return play_out(
        world,
        claim or claim_of(run),
        lambda game: defend(game, oracle, context),
        lambda game: accuse(game, accusation, oracle, context),
    )


@pytest.mark.parametrize("seed", range(12))
def test_an_honest_vendor_shows_any_tile_of_any_value(seed: int) -> None:
    world, rng = random_world(seed), np.random.default_rng(seed)
    run = vendor(world, seed + 1)
    for step in range(STEPS):
        assert outside(world, run, step) == []
    for _ in range(6):
        value = world.context.value_of(int(rng.integers(0, world.context.listed_values)))
        tile = int(rng.integers(0, tensors.tile_count(world.context.types[value])))
        accusation = Accusation(int(rng.integers(0, STEPS)), value, tile)
        result = played(world, run, accusation)
        pieces = Tile(accusation.step, value, tile, world.context).pieces
        # With several pieces all of them are right, and by the book there is none to name.
        assert result.game.outcome == CHALLENGER_WRONG
        assert result.game.why == (rules.IN_BOUND if pieces == 1 else rules.CLOCK)
        assert len(result.moves) == 5
        assert all(len(encode(move)) <= ARBITRATION_BYTES_MAX for move in result.moves if isinstance(move, t.Justify))


@pytest.mark.parametrize("seed", range(40))
def test_one_wrong_bit_loses_when_it_leaves_the_bound(seed: int) -> None:
    world, rng = random_world(seed % 13), np.random.default_rng(seed)
    fault = random_fault(world, rng, STEPS)
    run = vendor(world, seed, fault)
    is_batch = world.context.node_of(fault.value) is None
    found = outside(world, run, fault.step)
    if not is_batch and not found:
        return  # within what an honest kernel may give
    value, tile = (fault.value, tile_at(world.context.types[fault.value], fault.element)) if is_batch else found[0]
    assert value == fault.value
    result = played(world, run, Accusation(fault.step, value, tile))
    assert result.game.outcome == DEFENDER_WRONG, result.game.why
    assert result.game.why == rules.OUT_OF_BOUND


def long_world(terms: int = 700) -> World:
    """One product whose tiles take several pieces."""
    state = [
        StateEntry("w", TensorType(F32, (40, terms)), Fill(int(np.float32(0.25).view(np.uint32)))),
        StateEntry("v", TensorType(F32, (terms, 33)), Fill(int(np.float32(-1.5).view(np.uint32)))),
    ]
    builder = Builder(state, 1, [])
    product = builder.add("matmul", (0, 1))
    loss = builder.scalar(product)
    moved = builder.add("add", (0, loss))
    return world_of(builder.program([moved, 1], loss), [])


def wrong_product(world: World) -> tuple[Run, Accusation]:
    product = world.context.program.first_node_value
    fault = Fault(1, product, 34 * 33 + 32, 21)
    return vendor(world, 5, fault), Accusation(1, product, tile_at(world.context.types[product], 34 * 33 + 32))


def test_a_tile_of_several_pieces_takes_two_moves_more() -> None:
    world = long_world()
    run, accusation = wrong_product(world)
    honest = vendor(world, 5)
    assert played(world, run, accusation).game.why == rules.OUT_OF_BOUND
    oracle, context = world.oracle(honest), world.context

    def insists(game: t.NativeGame) -> t.NativeMove | None:
        return t.NamePiece(1) if isinstance(game.phase, t.NamingPiece) else accuse(game, accusation, oracle, context)

    result = play_out(world, claim_of(honest), lambda game: defend(game, oracle, context), insists)
    assert (result.game.outcome, result.game.why) == (CHALLENGER_WRONG, rules.REFERENCE_RIGHT)
    assert len(result.moves) == expected_moves(3) == 7


def test_long_runs_of_pieces_are_walked_in_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proofs.pinpoint.walk.FAN_OUT", 2)
    world = long_world(2_000)
    run, accusation = wrong_product(world)
    oracle, context = world.oracle(run), world.context
    pieces = Tile(1, accusation.value, accusation.tile, context).pieces
    assert pieces == 8

    def liar(game: t.NativeGame) -> t.NativeMove | None:
        move = defend(game, oracle, context)
        if not isinstance(move, t.PostReference):
            return move
        own = oracle.tile(1, accusation.value, accusation.tile)
        values = msgspec.structs.replace(move.reference.values, data=tensors.tile_bytes(own))
        return msgspec.structs.replace(move, reference=t.Carried(values, move.reference.magnitudes))

    result = play_out(world, claim_of(run), liar, lambda g: accuse(g, accusation, oracle, context))
    assert (result.game.outcome, result.game.why) == (DEFENDER_WRONG, rules.REFERENCE_WRONG)
    assert len(result.moves) == expected_moves(8, 7) == 11


@pytest.mark.parametrize("lie", ["reference", "hash"])
def test_a_made_up_reference_loses_at_its_piece(lie: str) -> None:
    world = long_world()
    run, accusation = wrong_product(world)
    oracle, context = world.oracle(run), world.context

    def liar(game: t.NativeGame) -> t.NativeMove | None:
        move = defend(game, oracle, context)
        if not isinstance(move, t.PostReference):
            return move
        if lie == "hash":
            return msgspec.structs.replace(move, hashes=bytes(32) + move.hashes[32:])
        own = oracle.tile(1, accusation.value, accusation.tile)
        values = msgspec.structs.replace(move.reference.values, data=tensors.tile_bytes(own))
        return msgspec.structs.replace(move, reference=t.Carried(values, move.reference.magnitudes))

    if lie == "hash":
        honest = vendor(world, 5)
        oracle = world.oracle(honest)
        result = play_out(world, claim_of(honest), liar, lambda g: accuse(g, accusation, oracle, context))
    else:
        result = play_out(world, claim_of(run), liar, lambda g: accuse(g, accusation, oracle, context))
    assert result.game.outcome == DEFENDER_WRONG
    assert result.game.why in (rules.REFERENCE_WRONG, rules.NOT_PROVED)
    assert len(result.moves) == 7


def test_states_that_the_operators_do_not_give_lose_as_outputs() -> None:
    """A skipped step: the values are honest, the next state is simply the old one."""
    world = random_world(3)
    run = vendor(world, 1)
    oracle, context = world.oracle(run), world.context
    skipped = [run.state_root(0), context.state_root(1, oracle.entry_roots(0))]
    claim = t.NativeClaim(0, 1, skipped[0], skipped[1], b"")

    def cheat(game: t.NativeGame) -> t.NativeMove | None:
        move = defend(game, oracle, context)
        match move:
            case t.PostStates():
                return t.PostStates(b"".join(skipped))
            case t.PostTrace():
                return msgspec.structs.replace(move, output_roots=b"".join(oracle.entry_roots(0)))
        return move

    entry = next(
        number
        for number, value in enumerate(context.program.state_outputs)
        if context.list_index_of(value) is not None and context.types[value].elements > 1
    )
    accusation = Accusation(0, entry, 0, is_output=True)
    result = play_out(world, claim, cheat, lambda game: accuse(game, accusation, oracle, context))
    assert (result.game.outcome, result.game.why) == (DEFENDER_WRONG, rules.OUTPUT_WRONG)
    honest = played(world, run, accusation)
    assert (honest.game.outcome, honest.game.why) == (CHALLENGER_WRONG, rules.OUTPUT_RIGHT)


def test_a_verifiers_evidence_is_defended_from_its_own_states() -> None:
    world = random_world(5)
    run = vendor(world, 9)
    roots = run.state_roots(0, STEPS)
    claim = t.NativeClaim(0, STEPS, roots[0], b"", evidence_root(roots))
    accusation = Accusation(1, world.context.program.first_node_value, 0)
    assert played(world, run, accusation, claim).game.outcome == CHALLENGER_WRONG
    made_up = msgspec.structs.replace(claim, evidence=bytes(32))
    assert played(world, run, accusation, made_up).game.why == rules.BAD_EVIDENCE


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"steps": 0}, "E1405"),
        ({"steps": 5_000}, "E1405"),
        ({"first_step": -1}, "E1405"),
        ({"start_root": b""}, "E1405"),
        ({"end_root": b""}, "E1405"),
        ({"evidence": bytes(32)}, "E1405"),
    ],
)
def test_claims_that_cannot_be_played(changes: dict[str, Any], code: str) -> None:
    world = random_world(1)
    claim = msgspec.structs.replace(claim_of(vendor(world, 0)), **changes)
    with pytest.raises(Rejection) as refused:
        rules.open_game(claim, world.context)
    assert refused.value.reason.code == code


def phases(world: World, run: Run, accusation: Accusation) -> list[tuple[t.NativeGame, t.NativeMove]]:
    """Every game of a play with its honest move."""
    oracle, context = world.oracle(run), world.context
    game, found = rules.open_game(claim_of(run), context), []
    while game.turn is not None:
        move = defend(game, oracle, context) if game.turn == DEFENDER else accuse(game, accusation, oracle, context)
        if move is None:
            move = t.NamePiece(0)
        found.append((game, move))
        game = rules.play(game, game.turn, move, context)
    return found


@pytest.mark.parametrize("make", [lambda: random_world(2), long_world])
def test_whoever_moves_out_of_turn_or_without_proof_gains_nothing(make: Callable[[], World]) -> None:
    world = make()
    context = world.context
    run = vendor(world, 4)
    states = phases(world, run, Accusation(1, context.program.first_node_value, 0))
    moves = [move for _, move in states]
    for game, right in states:
        turn = game.turn
        assert turn is not None
        with pytest.raises(Rejection) as refused:
            rules.play(game, CHALLENGER if turn == DEFENDER else DEFENDER, right, context)
        assert refused.value.reason.code == "E1401"
        for move in moves:
            if type(move) is not type(right):
                with pytest.raises(Rejection) as refused:
                    rules.play(game, turn, move, context)
                assert refused.value.reason.code == "E1403"
        for broken in mutations(right):
            after = rules.play(game, turn, broken, context)
            if isinstance(game.phase, t.Accusing | t.NamingStep | t.NamingPiece):
                continue  # Another accusation is as good as this one; what does not exist is tested below.
            assert after.outcome in (None, DEFENDER_WRONG), (type(right), broken)
    over = rules.forfeit(states[0][0], DEFENDER)
    assert (over.outcome, over.why) == (DEFENDER_WRONG, rules.CLOCK)
    with pytest.raises(Rejection):
        rules.forfeit(over, DEFENDER)
    with pytest.raises(Rejection) as refused:
        rules.play(over, DEFENDER, right, context)
    assert refused.value.reason.code == "E1402"
    huge = t.PostStates(bytes(1 << 18))
    with pytest.raises(Rejection) as refused:
        rules.play(states[0][0], DEFENDER, huge, context)
    assert refused.value.reason.code == "E1404"


def mutations(move: t.NativeMove) -> list[t.NativeMove]:
    """The move with one field cut, lengthened, zeroed, or a part left out."""
    found: list[t.NativeMove] = []
    for name in move.__struct_fields__:
        value = getattr(move, name)
        if isinstance(value, bytes):
            others: list[Any] = [b"", value[:-1], value + bytes(32), bytes(len(value))]
        elif isinstance(value, tuple):
            others = [value[1:], (*value, *value[:1])]
            others += [(msgspec.structs.replace(value[0], input=99), *value[1:])] if value else []
        elif isinstance(value, int):
            others = [-1, 1 << 40]
        elif isinstance(value, t.Shown):
            others = [
                None,
                msgspec.structs.replace(value, data=value.data[:-1]),
                msgspec.structs.replace(value, path=b"x"),
            ]
            others = others if isinstance(move, t.Justify) else others[1:]
        elif isinstance(value, t.Carried):
            others = [msgspec.structs.replace(value, magnitudes=None)]
            others.append(t.Carried(msgspec.structs.replace(value.values, shape=(1, 1)), value.magnitudes))
            others.append(t.Carried(msgspec.structs.replace(value.values, dtype="f64"), value.magnitudes))
        else:
            others = []
        found += [msgspec.structs.replace(move, **{name: other}) for other in others if other != value]
    return found


@pytest.mark.parametrize(
    "move", [t.AccuseTile(0, 0), t.AccuseTile(9, 10_000), t.AccuseTile(-1, 0), t.AccuseOutput(4), t.AccuseOutput(77)]
)
def test_accusing_what_is_not_there_loses(move: t.NativeMove) -> None:
    world = random_world(2)
    run = vendor(world, 4)
    oracle, context = world.oracle(run), world.context

    def challenger(game: t.NativeGame) -> t.NativeMove:
        return t.NameStep(1) if isinstance(game.phase, t.NamingStep) else move

    result = play_out(world, claim_of(run), lambda game: defend(game, oracle, context), challenger)
    assert (result.game.outcome, result.game.why) == (CHALLENGER_WRONG, rules.NOTHING_NAMED)
