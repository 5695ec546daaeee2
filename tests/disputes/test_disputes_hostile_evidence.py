"""Evidence that is no evidence: whatever a challenger makes up at the arbitration loses for it, and nothing crashes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from proofs import tensors
from proofs.pinpoint import types as t
from proofs.pinpoint.game import play
from proofs.pinpoint.strategy import respond
from proofs.program.operators import infer
from proofs.program.shapes import checked
from proofs.program.types import TensorType
from tests.disputes.lazy_parties import Dispute, Input, LazyOracle, arbitrations

F32S = Input("f32", (40, 700), 1)
"""All bit patterns: NaNs with payloads, both zeros, denormals, infinities."""
DISPUTES = (
    Dispute("matmul", (Input("f32", (40, 700)), Input("f32", (700, 33))), ()),
    Dispute("matmul", (Input("f32", (33, 40), 1), Input("f32", (40, 33), 1)), ()),
    Dispute("matmul", (Input("f32", (1, 1), 1), Input("f32", (1, 1), 1)), ()),
    Dispute("matmul", (Input("f32", (2, 5, 257), 1), Input("f32", (2, 257, 3), 1)), ()),
    Dispute("sum_last", (F32S,), ()),
    Dispute("sum_last", (Input("f32", (1,), 1),), ()),
    Dispute("sum_first", (Input("f32", (513, 33), 1),), ()),
    Dispute("max_last", (Input("f32", (5, 1025), 1),), ()),
    Dispute("argmax_last", (Input("f32", (5, 1025), 1),), ()),
    Dispute("embedding_grad", (Input("f32", (130, 33), 1), Input("i64", (130,), 40)), (40,)),
    Dispute("embedding", (F32S, Input("i64", (9,), 60)), ()),
    Dispute("exp", (Input("f32", (), 1),), ()),
    Dispute("maximum", (F32S, Input("f32", (), 1)), ()),
    Dispute("permute", (Input("i64", (32, 64, 64), 1 << 62),), (1, 2, 0)),
    Dispute("where", (Input("bool", (40, 1)), F32S, Input("f32", (700,), 1)), ()),
    Dispute("cast", (F32S,), (1,)),
)


def names() -> list[str]:
    return [f"{item.operator}-{number}" for number, item in enumerate(DISPUTES)]


def games(dispute: Dispute) -> Iterator[tuple[t.Game, t.Arbitrate]]:
    """The first, a middle and the last piece, with the honest evidence."""
    for _, game in arbitrations(dispute, sorted({0, dispute.pieces // 2, dispute.pieces - 1})):
        move = respond(game, LazyOracle(dispute), dispute.context)
        assert isinstance(move, t.Arbitrate)
        yield game, move


def ruled(game: t.Game, move: t.Arbitrate, dispute: Dispute) -> int | None:
    """The outcome; None when the move is no move (nothing happens). The move is one that the codec lets pass."""
    try:
        return play(game, t.CHALLENGER, decode(t.Arbitrate, encode(move), max_bytes=1 << 20), dispute.context).outcome
    except Rejection:
        return None


@pytest.mark.parametrize("dispute", DISPUTES, ids=names())
def test_any_bit_patterns_are_arbitrated(dispute: Dispute) -> None:
    for game, move in games(dispute):
        assert ruled(game, move, dispute) == t.DEFENDER_WRONG


def _changed(data: bytes, change: Callable[[np.ndarray], None]) -> bytes:
    raw = np.frombuffer(data, np.uint8).copy()
    change(raw)
    return raw.tobytes()


def _put(pattern: bytes) -> Callable[[np.ndarray], None]:
    def change(raw: np.ndarray) -> None:
        raw[: len(pattern)] = np.frombuffer(pattern, np.uint8)[: len(raw)]

    return change


PATTERNS = (
    b"\x45\x23\xc1\x7f",  # A NaN with a payload.
    b"\x00\x00\xc0\xff",  # One with a sign.
    b"\x01\x00\x80\x7f",  # A signalling one.
    b"\x00\x00\x00\x80",  # -0.
    b"\x01\x00\x00\x00",  # The smallest denormal.
)


@pytest.mark.parametrize("dispute", DISPUTES, ids=names())
def test_changed_tiles_and_accumulators_lose(dispute: Dispute) -> None:
    for game, move in games(dispute):
        for pattern in PATTERNS:
            for number, tile in enumerate(move.tiles[:2]):
                data = _changed(tile.data, _put(pattern))
                if data != tile.data:
                    forged = t.InputTile(tile.input, tile.tile, data, tile.path)
                    tiles = (*move.tiles[:number], forged, *move.tiles[number + 1 :])
                    assert ruled(game, t.Arbitrate(move.accumulator, move.inputs, tiles), dispute) == t.CHALLENGER_WRONG
            held = move.accumulator
            if held is not None and (data := _changed(held.data, _put(pattern))) != held.data:
                forged_accumulator = t.Accumulator(held.dtype, held.shape, data)
                other = t.Arbitrate(forged_accumulator, move.inputs, move.tiles)
                assert ruled(game, other, dispute) == t.CHALLENGER_WRONG


@pytest.mark.parametrize("dispute", DISPUTES, ids=names())
def test_evidence_of_another_shape_or_place_loses(dispute: Dispute) -> None:
    for game, move in games(dispute):
        made = [
            t.Arbitrate(move.accumulator, move.inputs, tiles)
            for tiles in (
                (),
                move.tiles[:-1],
                (*move.tiles, *move.tiles[:1]),
                tuple(t.InputTile(-1, tile.tile, tile.data, tile.path) for tile in move.tiles),
                tuple(t.InputTile(tile.input + 9, tile.tile, tile.data, tile.path) for tile in move.tiles),
                tuple(t.InputTile(tile.input, -1, tile.data, tile.path) for tile in move.tiles),
                tuple(t.InputTile(tile.input, 1 << 62, tile.data, tile.path) for tile in move.tiles),
                tuple(t.InputTile(tile.input, tile.tile, tile.data[:-1], tile.path) for tile in move.tiles),
                tuple(t.InputTile(tile.input, tile.tile, tile.data + b"\0", tile.path) for tile in move.tiles),
                tuple(t.InputTile(tile.input, tile.tile, b"", tile.path) for tile in move.tiles),
                tuple(t.InputTile(tile.input, tile.tile, tile.data, tile.path + bytes(32)) for tile in move.tiles),
                tuple(t.InputTile(tile.input, tile.tile, tile.data, tile.path + b"x") for tile in move.tiles),
            )
        ]
        made += [
            t.Arbitrate(move.accumulator, (), move.tiles),
            t.Arbitrate(move.accumulator, (*move.inputs, *move.inputs), move.tiles),
            t.Arbitrate(move.accumulator, tuple(t.InputRoot(-1, i.root, i.path) for i in move.inputs), move.tiles),
            t.Arbitrate(move.accumulator, tuple(t.InputRoot(i.input, b"", i.path) for i in move.inputs), move.tiles),
        ]
        held = move.accumulator
        if held is not None:
            rows, columns = held.shape
            shapes: list[tuple[int, ...]] = [(columns, rows)] if rows != columns else []
            for shape in (
                *shapes,
                (),
                (0, 32),
                (-1, columns),
                (rows * columns,),
                (1 << 40, 1 << 40),
                (rows, columns, 1),
            ):
                made.append(t.Arbitrate(t.Accumulator(held.dtype, shape, held.data), move.inputs, move.tiles))
            for dtype in {"f32", "i64", "bool", "f64", ""} - {held.dtype}:
                made.append(t.Arbitrate(t.Accumulator(dtype, held.shape, held.data), move.inputs, move.tiles))
            made.append(t.Arbitrate(t.Accumulator(held.dtype, held.shape, b""), move.inputs, move.tiles))
            made.append(t.Arbitrate(None, move.inputs, move.tiles))
        for forged in made:
            if forged != move:
                assert ruled(game, forged, dispute) in (t.CHALLENGER_WRONG, None), forged.accumulator


@pytest.mark.parametrize("accumulator", [None, (32, 32), (1, 1), (32, 2), (8, 32)])
def test_an_agreed_accumulator_that_no_piece_leaves_does_not_crash(accumulator: tuple[int, int] | None) -> None:
    dispute = DISPUTES[0]
    _, game = next(arbitrations(dispute, [1]))
    phase, move = game.phase, respond(game, LazyOracle(dispute), dispute.context)
    assert isinstance(phase, t.AwaitEvidence) and isinstance(move, t.Arbitrate)
    for dtype in ("f32", "i64", "u8"):
        array = np.full(accumulator or (5, 5), 1, tensors.NUMPY_DTYPES[dtype])
        if dtype == "f32":
            array[0, 0] = np.array([0x7FC12345], np.uint32).view(np.float32)[0]
        agreed = t.AwaitEvidence(phase.target, phase.tile, tensors.accumulator_hash(array), phase.span)
        supplied = t.Accumulator(dtype, array.shape, tensors.tile_bytes(array))
        forged = t.Arbitrate(supplied, move.inputs, move.tiles)
        outcome = ruled(t.Game(game.claim, 0, agreed), forged, dispute)
        assert outcome in (t.CHALLENGER_WRONG, t.BOTH_WRONG)


@pytest.mark.parametrize(
    ("operator", "shapes", "attributes"),
    [
        ("matmul", ((0, 3), (3, 2)), ()),
        ("matmul", ((2, 0), (0, 2)), ()),
        ("sum_last", ((4, 0),), ()),
        ("add", ((0,), (0,)), ()),
        ("reshape", ((4,),), (0, 4)),
        ("full", (), (0, 0, 0)),
        ("slice", ((4,),), (2, 2, 1)),
    ],
)
def test_empty_tensors_are_refused(
    operator: str, shapes: tuple[tuple[int, ...], ...], attributes: tuple[int, ...]
) -> None:
    """An operator never meets an empty tensor: a value of that type is refused wherever it would come from."""

    with pytest.raises(Rejection) as caught:
        infer(operator, tuple(checked(TensorType("f32", shape)) for shape in shapes), attributes)
    assert caught.value.reason.code in ("E1503", "E1505")
