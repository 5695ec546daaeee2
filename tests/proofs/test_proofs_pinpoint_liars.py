"""Liars of every kind: whatever one party does, the honest other one wins and nothing crashes."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pinpoint_world import (
    KEY,
    Array,
    Fault,
    Player,
    World,
    evidence_claim,
    honest,
    initial_claim,
    play_out,
    random_fault,
    random_world,
    segment_claim,
)

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from proofs import tensors
from proofs.pinpoint import arbitration, strategy, walk
from proofs.pinpoint import types as t
from proofs.pinpoint.game import open_game, play

STEPS = 2
SAMPLES = 3
"""Beside the kinds of claims: evidence in which a sample is the lie."""
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 1 << 32)
LISTS = {
    t.PostStates: ("roots", "samples"),
    t.PostValues: ("entry_roots", "value_roots"),
    t.PostChunks: ("entry_roots", "output_roots", "chunks"),
    t.OpenChunk: ("value_roots",),
    t.PostEntries: ("entry_roots",),
    t.PostTiles: ("hashes",),
    t.PostPieces: ("hashes",),
}
Random = np.random.Generator


def _flip(data: bytes, rng: Random) -> bytes:
    """One flipped bit; a byte where there is none."""
    if not data:
        return b"\x01"
    changed = bytearray(data)
    changed[int(rng.integers(0, len(data)))] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _spoil_list(data: bytes, rng: Random) -> bytes:
    """A list that is wrong, short, long, ragged, turned round or shifted."""
    match int(rng.integers(0, 6)):
        case 0:
            return _flip(data, rng)
        case 1:
            return data[:-32]
        case 2:
            return data + bytes(32)
        case 3:
            return data[:-1]
        case 4:
            return b"".join(data[i : i + 32] for i in range(len(data) - 32, -1, -32))
        case _:
            return data[32:] + data[:32]


def _spoil_name(move: t.Name, rng: Random) -> t.Name:
    """Another place, another hash, a hash of a wrong length, or a place that does not exist."""
    match int(rng.integers(0, 6)):
        case 0:
            return t.Name(move.index + 1, move.hash)
        case 1:
            return t.Name(move.index - 1, move.hash)
        case 2:
            return t.Name(move.index, _flip(move.hash, rng))
        case 3:
            return t.Name(move.index, move.hash[:-1])
        case 4:
            return t.Name(int(rng.integers(-5, 5000)), rng.bytes(32))
        case _:
            return t.Name(1 << 63, move.hash)


def _spoil_evidence(move: t.Arbitrate, rng: Random) -> t.Move:
    """Tiles missing, changed, renumbered or with other paths; another accumulator; bogus input roots."""
    tiles = list(move.tiles)
    at = int(rng.integers(0, len(tiles))) if tiles else 0
    match int(rng.integers(0, 8)):
        case 0 if tiles:
            del tiles[at]
        case 1 if tiles:
            tiles[at] = t.InputTile(tiles[at].input, tiles[at].tile, _flip(tiles[at].data, rng), tiles[at].path)
        case 2 if tiles:
            tiles[at] = t.InputTile(tiles[at].input, tiles[at].tile, tiles[at].data, _flip(tiles[at].path, rng))
        case 3 if tiles:
            tiles[at] = t.InputTile(tiles[at].input, tiles[at].tile + 1, tiles[at].data, tiles[at].path)
        case 4 if tiles:
            tiles[at] = t.InputTile(tiles[at].input + 1, tiles[at].tile, tiles[at].data, tiles[at].path)
        case 5:
            return t.Arbitrate(move.accumulator, (*move.inputs, t.InputRoot(0, rng.bytes(32), b"")), move.tiles)
        case 6:
            wrong = t.Accumulator("f32", (1, 1), rng.bytes(4))
            return t.Arbitrate(None if move.accumulator else wrong, move.inputs, move.tiles)
        case _:
            return t.Arbitrate(None, (), ())
    return t.Arbitrate(move.accumulator, move.inputs, tuple(tiles))


def _spoil_sample(move: t.OpenSample, rng: Random) -> t.Move:
    """Drawn tiles missing, in another order, changed, or with other paths and roots."""
    tiles = list(move.tiles)
    at, name = int(rng.integers(0, len(tiles))), str(rng.choice(["data", "path", "root", "root_path"]))
    match int(rng.integers(0, 4)):
        case 0:
            del tiles[at]
        case 1:
            tiles.append(tiles[at])
        case 2:
            tiles = [*tiles[1:], tiles[0]]
        case _:
            tiles[at] = msgspec.structs.replace(tiles[at], **{name: _flip(getattr(tiles[at], name), rng)})
    return t.OpenSample(tuple(tiles))


def spoil(move: t.Move, rng: Random) -> t.Move:
    """A lie of the same kind as an otherwise good move."""
    if isinstance(move, t.Name):
        return _spoil_name(move, rng)
    if isinstance(move, t.NameSample):
        spoiled = _spoil_name(t.Name(move.index, move.hash), rng)
        return t.NameSample(spoiled.index, spoiled.hash)
    if isinstance(move, t.OpenSample):
        return _spoil_sample(move, rng)
    if isinstance(move, t.Arbitrate):
        return _spoil_evidence(move, rng)
    if isinstance(move, t.ShowContradiction):
        return t.ShowContradiction(int(rng.integers(-2, 9)), move.root, _flip(move.path, rng))
    names = LISTS[type(move)]
    name = names[int(rng.integers(0, len(names)))]
    return msgspec.structs.replace(move, **{name: _spoil_list(getattr(move, name), rng)})


def liar(base: Player, rng: Random, rate: float) -> Player:
    """Plays from a faulty (or true) execution, but spoils some moves and invents one where it has none."""

    def respond(game: t.Game) -> t.Move | None:
        move = base(game)
        if move is None:
            match game.phase:
                case t.NameChunk() if rng.random() < 0.5:
                    return t.ShowContradiction(int(rng.integers(0, 7)), rng.bytes(32), rng.bytes(64))
                case t.NameState() if rng.random() < 0.5:
                    return t.NameSample(int(rng.integers(0, 4)), rng.bytes(32))
                case _:
                    return t.Name(int(rng.integers(0, 4)), rng.bytes(32))
        return spoil(move, rng) if rng.random() < rate else move

    return respond


def _claim(kind: int, defender: object, challenger: object) -> t.Claim:
    makers: list[Callable[..., t.Claim]] = [
        lambda d, c: segment_claim(STEPS, d, c),
        lambda d, c: evidence_claim(STEPS, d, c),
        initial_claim,
    ]
    return makers[kind](defender, challenger)


def _false_claim(kind: int, world: World, defender_lies: bool, rng: Random) -> tuple[t.Claim, Player]:
    """A claim in which one party lies, with the liar's way to play: from a faulty run, or out of thin air."""
    truth = world.run()
    faulty = world.run(
        Fault(0, int(rng.integers(0, 7)), 0, 30) if kind == t.INITIAL else random_fault(world, rng, STEPS)
    )
    pair = (faulty, truth) if defender_lies else (truth, faulty)
    try:
        claim = _claim(kind, *pair)
    except (Rejection, ValueError):
        assume(False)
        raise
    if rng.random() < 0.3:
        name = "challenger_root" if not defender_lies else "evidence" if kind == t.EVIDENCE else "end_root"
        claim = msgspec.structs.replace(claim, **{name: rng.bytes(32)})
    return claim, honest(world.oracle(faulty if rng.random() < 0.7 else truth), world.context)


def _made_up_sample(world: World, defender_lies: bool, rng: Random) -> tuple[t.Claim, Player]:
    """Evidence with a sample that no step gives, or that another step gives; the state roots are right."""
    truth, lie = world.run(), world.run()
    step = int(rng.integers(0, STEPS))
    lie.made_up[step] = rng.bytes(32) if rng.random() < 0.5 else truth.evidence(0, STEPS, KEY)[1][1 - step]
    claim = evidence_claim(STEPS, *((lie, truth) if defender_lies else (truth, lie)))
    return claim, honest(world.oracle(lie), world.context)


@SLOW
@given(
    seed=SEEDS,
    kind=st.sampled_from([t.SEGMENT, t.EVIDENCE, t.INITIAL, SAMPLES]),
    defender_lies=st.booleans(),
    rate=st.sampled_from([0.0, 0.15, 0.5, 1.0]),
    chunk=st.sampled_from([4, 2048]),
)
def test_no_lie_wins(seed: int, kind: int, defender_lies: bool, rate: float, chunk: int) -> None:
    world, rng = random_world(seed % 40), np.random.default_rng(seed)
    if kind == SAMPLES:
        claim, base = _made_up_sample(world, defender_lies, rng)
    else:
        claim, base = _false_claim(kind, world, defender_lies, rng)
    assume(claim.challenger_root != (claim.evidence or claim.end_root))
    truthful = honest(world.oracle(world.run()), world.context)
    lying = liar(base, rng, rate)
    players = (lying, truthful) if defender_lies else (truthful, lying)
    with mock.patch.object(walk, "FAN_OUT", 4), mock.patch.object(t, "VALUES_PER_MOVE_MAX", chunk):
        game = play_out(claim, world.context, *players)
    assert game.outcome == (t.DEFENDER_WRONG if defender_lies else t.CHALLENGER_WRONG), game.why


def _phases(kind: int, chunk: int) -> list[tuple[World, t.Game, t.Move]]:
    """Every position of one game with its good move."""
    world = random_world(8)
    fault = Fault(0, 0, 0, 30) if kind == t.INITIAL else Fault(0, world.context.program.first_node_value, 5, 29)
    truth, lie = world.run(), world.run(*([] if kind == SAMPLES else [fault]))
    if kind == SAMPLES:
        lie.made_up[1] = bytes(32)
    oracles, positions = [world.oracle(lie), world.oracle(truth)], []
    with mock.patch.object(walk, "FAN_OUT", 4), mock.patch.object(t, "VALUES_PER_MOVE_MAX", chunk):
        game = open_game(_claim(t.EVIDENCE if kind == SAMPLES else kind, lie, truth), world.context)
        while game.turn is not None:
            move = strategy.respond(game, oracles[game.turn], world.context)
            assert move is not None
            positions.append((world, game, move))
            game = play(game, game.turn, move, world.context)
    assert game.outcome == t.DEFENDER_WRONG
    return positions


POSITIONS = [
    (chunk, *position)
    for kind, chunk in [
        (t.SEGMENT, 2048),
        (t.SEGMENT, 4),
        (t.EVIDENCE, 2048),
        (t.INITIAL, 2048),
        (SAMPLES, 2048),
        (SAMPLES, 4),
    ]
    for position in _phases(kind, chunk)
]
INTEGERS = st.one_of(st.integers(-3, 40), st.sampled_from([-(1 << 63), (1 << 64) - 1, 1 << 31, 1024]))
BYTES = st.one_of(st.binary(max_size=70), st.integers(0, 60).map(lambda count: b"\x05" * 32 * count))
ACCUMULATORS = st.builds(
    t.Accumulator,
    st.sampled_from(["f32", "i64", "bool", "u8", "f64", ""]),
    st.lists(INTEGERS, max_size=4).map(tuple),
    BYTES,
)
MOVES = st.one_of(
    *(st.builds(kind, *[BYTES] * len(names)) for kind, names in LISTS.items()),
    st.builds(t.Name, INTEGERS, BYTES),
    st.builds(t.ShowContradiction, INTEGERS, BYTES, BYTES),
    st.builds(t.NameSample, INTEGERS, BYTES),
    st.builds(t.OpenSample, st.lists(st.builds(t.SampledTile, BYTES, BYTES, BYTES, BYTES), max_size=5).map(tuple)),
    st.builds(
        t.Arbitrate,
        st.none() | ACCUMULATORS,
        st.lists(st.builds(t.InputRoot, INTEGERS, BYTES, BYTES), max_size=3).map(tuple),
        st.lists(st.builds(t.InputTile, INTEGERS, INTEGERS, BYTES, BYTES), max_size=3).map(tuple),
    ),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(position=st.sampled_from(POSITIONS), move=MOVES)
def test_invented_moves_have_no_effect_or_lose(position: tuple[int, World, t.Game, t.Move], move: t.Move) -> None:
    """Never another exception; a name may be a lie that only arbitration finds."""
    chunk, world, game, _ = position
    with mock.patch.object(walk, "FAN_OUT", 4), mock.patch.object(t, "VALUES_PER_MOVE_MAX", chunk):
        try:
            after = play(game, game.turn or 0, move, world.context)
        except Rejection:
            return
        needs_no_evidence = isinstance(move, t.Arbitrate) and game.claim.kind == t.INITIAL
        if not isinstance(move, t.Name | t.NameSample) and not needs_no_evidence:
            assert after.outcome == (t.DEFENDER_WRONG if game.turn == t.DEFENDER else t.CHALLENGER_WRONG)
        encode(after)


PINNED = [
    number
    for number, (_, _, game, move) in enumerate(POSITIONS)
    if game.turn == t.DEFENDER and not isinstance(move, t.PostPieces)
]


@pytest.mark.parametrize("number", PINNED)
def test_every_flipped_byte_of_a_defenders_list_loses(number: int) -> None:
    """What the defender posts is pinned by what it posted before, down to the last bit."""
    chunk, world, game, move = POSITIONS[number]
    rng = np.random.default_rng(number)
    with mock.patch.object(walk, "FAN_OUT", 4), mock.patch.object(t, "VALUES_PER_MOVE_MAX", chunk):
        for name in LISTS[type(move)]:
            for place in range(0, len(getattr(move, name)), 7):
                data = bytearray(getattr(move, name))
                data[place] ^= 1 << int(rng.integers(0, 8))
                spoiled = msgspec.structs.replace(move, **{name: bytes(data)})
                after = play(game, t.DEFENDER, spoiled, world.context)
                pinned = not (
                    isinstance(game.phase, t.AwaitStates | t.AwaitValues) and name in ("roots", "samples", "chunks")
                )
                values = name == "value_roots" and isinstance(move, t.PostValues)
                assert after.outcome == t.DEFENDER_WRONG or not pinned or values


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_bytes_that_are_no_move_are_rejected(data: bytes) -> None:
    try:
        move = decode(t.Move, data)
    except Rejection:
        return
    assert encode(move) == data


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, len(POSITIONS) - 1), place=st.integers(0, 1 << 20), byte=st.integers(0, 255))
def test_moves_changed_on_the_wire(number: int, place: int, byte: int) -> None:
    chunk, world, game, move = POSITIONS[number]
    data = bytearray(encode(move))
    data[place % len(data)] = byte
    with mock.patch.object(walk, "FAN_OUT", 4), mock.patch.object(t, "VALUES_PER_MOVE_MAX", chunk):
        try:
            play(game, game.turn or 0, decode(t.Move, bytes(data)), world.context)
        except Rejection:
            return


def _wild(array: Array, rng: Random) -> Array:
    """Random bits of the same type: NaNs with payloads, infinities, denormals, integers of any size."""
    if array.dtype == np.bool_:
        return rng.integers(0, 2, array.shape).astype(np.bool_)
    return np.frombuffer(rng.bytes(array.nbytes), array.dtype).reshape(array.shape).copy()


def _garbage(rng: Random, right: Array) -> Array:
    """An accumulator that no piece leaves behind, or one of the right type with random bits."""
    if rng.random() < 0.4:
        return _wild(right, rng)
    dtype = str(rng.choice(["<f4", "<i8", "?", "u1"]))
    shape = tuple(int(size) for size in rng.integers(0, 5, int(rng.integers(0, 4))))
    return _wild(np.zeros(shape, dtype), rng)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=SEEDS)
def test_accomplices_cannot_make_the_referee_stumble(seed: int) -> None:
    """Both parties agree on senseless data and accumulators: there is an outcome, whatever it is, and no crash."""
    rng = np.random.default_rng(seed)
    tame = random_world(seed % 60, nodes=14)
    wild = [_wild(array, rng) for array in tame.initial]
    world = World(tame.context, wild, tame.dataset)
    context, run = world.context, world.run()
    oracle, claim = world.oracle(run), t.Claim(t.SEGMENT, 0, 1, bytes(32), bytes(32), b"", b"\x01" * 32)
    for value in range(context.program.first_node_value, context.program.value_count):
        node = context.node_of(value)
        assert node is not None
        roots = tuple(tensors.root_of(run.values(0)[number]) for number in node.inputs)
        target, tile = t.Target(0, value, roots, b""), int(rng.integers(0, tensors.tile_count(context.types[value])))
        pieces = arbitration.pieces_of(claim, target, tile, context)
        piece = int(rng.integers(0, pieces))
        honest_phase = t.AwaitEvidence(target, tile, b"", t.Span(piece, 1, bytes(32), b"\x01" * 32))
        move = strategy.respond(t.Game(claim, 0, honest_phase), oracle, context)
        assert isinstance(move, t.Arbitrate)
        agreed = b""
        if piece:
            garbage = _garbage(rng, tensors.tile_of(run.values(0)[value], tile))
            agreed, type_ = tensors.accumulator_hash(garbage), tensors.type_of(garbage)
            supplied = t.Accumulator(type_.dtype, type_.shape, tensors.tile_bytes(garbage))
            move = t.Arbitrate(supplied, move.inputs, move.tiles)
        phase = t.AwaitEvidence(target, tile, agreed, honest_phase.span)
        game = play(t.Game(claim, 0, phase), t.CHALLENGER, move, context)
        assert game.outcome in (t.CHALLENGER_WRONG, t.BOTH_WRONG)
        if not piece and pieces == 1:
            assert game.outcome == t.BOTH_WRONG, game.why
            truth = tensors.tile_leaves(run.values(0)[value])[tile]
            phase = t.AwaitEvidence(target, tile, b"", t.Span(0, 1, bytes(32), truth))
            assert play(t.Game(claim, 0, phase), t.CHALLENGER, move, context).outcome == t.DEFENDER_WRONG
