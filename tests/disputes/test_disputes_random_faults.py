"""A short campaign of random faults (`python -m tests.disputes` runs long ones), and layers of 8,192 columns."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX
from proofs.pinpoint import types as t
from proofs.pinpoint.game import open_game, play
from proofs.pinpoint.strategy import expected_moves, respond
from proofs.tensors import tile_count
from tests.disputes.faults import Worlds, campaign
from tests.disputes.lazy_parties import Dispute, Input, LazyOracle, arbitrations
from tests.disputes.wide_layers import CASES, without_a_case

SHORT = ("every-operator", "preset-mlp-adamw")
WIDE = (
    ("matmul", (Input("f32", (64, 8192)), Input("f32", (8192, 64))), ()),
    ("matmul", (Input("f32", (3, 50, 8191)), Input("f32", (3, 8191, 40))), ()),
    ("sum_last", (Input("f32", (64, 8192), 1),), ()),
    ("max_last", (Input("f32", (64, 8192), 1),), ()),
    ("embedding_grad", (Input("f32", (700, 64), 1), Input("i64", (700,), 64)), (64,)),
    ("permute", (Input("i64", (32, 64, 64), 9),), (1, 2, 0)),
)


def test_the_honest_party_wins_every_dispute_over_random_faults(tmp_path: Path) -> None:
    figures = campaign(Worlds(tmp_path, SHORT), seed=20_260_101, first=0, count=16)
    assert figures.games == 32 and figures.faults == 16
    assert len(figures.operators) >= 8, figures.operators
    assert figures.opened_samples == 32 and figures.sample_games > 32 + 16
    print(f"\n{figures.as_json()}")


@pytest.mark.soak
def test_random_faults_over_all_architectures(tmp_path: Path) -> None:
    count = int(os.environ.get("SOAK_SECONDS", "600"))
    figures = campaign(Worlds(tmp_path), seed=1, first=0, count=count)
    assert figures.games == figures.opened_samples == 2 * count
    print(f"\n{figures.as_json()}")


@pytest.mark.parametrize("solver_lies", [True, False])
@pytest.mark.parametrize(("operator", "inputs", "attributes"), WIDE)
def test_lazy_parties_dispute_a_wide_layer(
    operator: str, inputs: tuple[Input, ...], attributes: tuple[int, ...], solver_lies: bool
) -> None:
    dispute = Dispute(operator, inputs, attributes)
    dispute = replace(dispute, tile=tile_count(dispute.output) - 1)
    honest, liar = LazyOracle(dispute), LazyOracle(dispute, (77, 5))
    parties = (liar, honest) if solver_lies else (honest, liar)
    claim = parties[0].claim_against(parties[1])
    game = open_game(claim, dispute.context)
    while game.turn is not None:
        move = respond(game, parties[game.turn], dispute.context)
        assert move is not None
        game = play(game, game.turn, move, dispute.context)
    assert game.outcome == (t.DEFENDER_WRONG if solver_lies else t.CHALLENGER_WRONG), game.why
    assert game.moves == expected_moves(claim, dispute.context, 0, dispute.value, dispute.tile, dispute.pieces - 1)


@pytest.mark.parametrize(("operator", "inputs", "attributes"), WIDE)
def test_every_piece_of_a_wide_tile_is_arbitrated_within_its_bound(
    operator: str, inputs: tuple[Input, ...], attributes: tuple[int, ...]
) -> None:
    dispute = Dispute(operator, inputs, attributes)
    oracle = LazyOracle(dispute)
    for piece, game in arbitrations(dispute, sorted({0, dispute.pieces // 2, dispute.pieces - 1})):
        move = respond(game, oracle, dispute.context)
        assert move is not None and len(encode(move)) <= ARBITRATION_BYTES_MAX, piece
        assert play(game, t.CHALLENGER, move, dispute.context).outcome == t.DEFENDER_WRONG, piece


def test_every_operator_has_a_wide_layer() -> None:
    assert without_a_case() == set()
    assert len(CASES) > 60
