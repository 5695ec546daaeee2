"""Disputes played by re-execution: a faulty run loses to an honest one, in the number of moves that the rules give."""

from __future__ import annotations

from pathlib import Path

import pytest
from ml_jobs import run_of

from gensyn_node.primitives.errors import Rejection
from ml.checkpoint import root_of_state
from ml.oracle import dispute_context, next_move
from ml.presets import Built
from ml.segment import verify_segment
from ml.trainer import Run, initial_state, train
from ml.worker.messages import Fault
from proofs.pinpoint import CHALLENGER_WRONG, DEFENDER, DEFENDER_WRONG, Claim, Game
from proofs.pinpoint.game import open_game, play
from proofs.pinpoint.types import EVIDENCE, INITIAL, SEGMENT


def quiet(step: int, loss: float, seconds: float = 0.0) -> None:
    """No progress."""


def segment_roots(run: Run, directory: Path, steps: int, every: int) -> list[bytes]:
    """The segment roots of a training."""
    return [item.root for item in train(run, directory, 0, steps, every, quiet)]


def played(claim: Claim, defender: tuple[Run, Path], challenger: tuple[Run, Path]) -> Game:
    """A game played to its end, each party from its own run and states."""
    context = dispute_context(challenger[0])
    game = open_game(claim, context)
    while game.outcome is None:
        run, directory = defender if game.turn == DEFENDER else challenger
        turn = game.turn
        assert turn is not None
        game = play(game, turn, next_move(run, directory, game), context)
        assert game.moves < 40
    return game


def node_outputs(built: Built, operator: str) -> list[int]:
    """The values that an operator makes."""
    first = built.program.first_node_value
    return [first + number for number, node in enumerate(built.program.nodes) if node.operator == operator]


@pytest.mark.parametrize("operator", ["matmul", "sum_first", "exp", "sub", "scatter_last", "permute", "batch"])
def test_a_faulty_solver_loses(operator: str, mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    value = (
        len(mlp_sgd.program.state)
        if operator == "batch"
        else node_outputs(mlp_sgd, operator)[0 if operator == "permute" else -1]
    )
    honest = run_of(mlp_sgd, table_data)
    # A small change of a zero would be rounded away.
    bit = 30 if operator == "scatter_last" else 29
    faulty = run_of(mlp_sgd, table_data, fault=Fault(7, value, 40, bit))
    own = segment_roots(honest, tmp_path / "honest", 15, 5)
    committed = segment_roots(faulty, tmp_path / "faulty", 15, 5)
    assert committed[:2] == own[:2] and committed[2] != own[2]
    claim = Claim(SEGMENT, 5, 5, committed[1], committed[2], b"", own[2])
    game = played(claim, (faulty, tmp_path / "faulty"), (honest, tmp_path / "honest"))
    assert game.outcome == DEFENDER_WRONG, game.why


def test_an_honest_solver_wins(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    honest = run_of(mlp_sgd, table_data)
    faulty = run_of(mlp_sgd, table_data, fault=Fault(6, node_outputs(mlp_sgd, "matmul")[0], 3, 28))
    own = segment_roots(honest, tmp_path / "honest", 10, 5)
    other = segment_roots(faulty, tmp_path / "faulty", 10, 5)
    claim = Claim(SEGMENT, 5, 5, own[1], own[2], b"", other[2])
    game = played(claim, (honest, tmp_path / "honest"), (faulty, tmp_path / "faulty"))
    assert game.outcome == CHALLENGER_WRONG, game.why


def test_a_faulty_transformer_loses(gpt_adamw: Built, token_data: Path, tmp_path: Path) -> None:
    honest = run_of(gpt_adamw, token_data)
    faulty = run_of(gpt_adamw, token_data, fault=Fault(1, node_outputs(gpt_adamw, "matmul")[5], 100, 30))
    own = segment_roots(honest, tmp_path / "honest", 2, 2)
    committed = segment_roots(faulty, tmp_path / "faulty", 2, 2)
    claim = Claim(SEGMENT, 0, 2, own[0], committed[1], b"", own[1])
    game = played(claim, (faulty, tmp_path / "faulty"), (honest, tmp_path / "honest"))
    assert game.outcome == DEFENDER_WRONG, game.why


def test_false_evidence_loses(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    honest = run_of(mlp_sgd, table_data)
    faulty = run_of(mlp_sgd, table_data, fault=Fault(2, node_outputs(mlp_sgd, "mul")[-1], 3, 28))
    own = segment_roots(honest, tmp_path / "honest", 5, 5)
    true = verify_segment(honest, tmp_path / "honest", 0, 5, own[0], quiet, bytes(32))
    false = verify_segment(faulty, tmp_path / "faulty", 0, 5, own[0], quiet, bytes(32))
    assert true.evidence_root != false.evidence_root
    claim = Claim(EVIDENCE, 0, 5, own[0], false.end_root, false.evidence_root, true.evidence_root, bytes(32))
    game = played(claim, (faulty, tmp_path / "faulty"), (honest, tmp_path / "honest"))
    assert game.outcome == DEFENDER_WRONG, game.why


def test_a_false_initial_state_loses(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    honest = run_of(mlp_sgd, table_data)
    faulty = run_of(mlp_sgd, table_data, fault=Fault(-1, 2, 100, 25))
    own, false = (root_of_state(run.program, 0, initial_state(run)) for run in (honest, faulty))
    claim = Claim(INITIAL, 0, 0, b"", false, b"", own)
    game = played(claim, (faulty, tmp_path / "faulty"), (honest, tmp_path / "honest"))
    assert game.outcome == DEFENDER_WRONG, game.why


def test_who_agrees_has_no_move(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    honest = run_of(mlp_sgd, table_data)
    own = segment_roots(honest, tmp_path, 5, 5)
    context = dispute_context(honest)
    game = open_game(Claim(SEGMENT, 0, 5, own[0], own[1], b"", bytes(32)), context)
    game = play(game, DEFENDER, next_move(honest, tmp_path, game), context)
    with pytest.raises(Rejection):
        next_move(honest, tmp_path, game)
