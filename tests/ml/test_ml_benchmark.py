"""The figures of `gensyn bench ml` come from real steps and segments; no test asserts a time."""

from __future__ import annotations

import torch

from ml.benchmark.measures import eager_step, program_of, segment_figures, state_of, step_figures
from ml.benchmark.models import SUBJECTS, gpt, mlp
from ml.interpreter import Interpreter


def test_the_models_are_those_that_are_promised() -> None:
    assert list(SUBJECTS) == ["mlp", "cnn", "lstm", "gpt-4x128", "gpt-6x384"]


def test_a_step_is_timed_beside_eager_pytorch() -> None:
    figures = step_figures(mlp(20, 16, 8))
    assert figures["ratio"] == round(figures["exact_ms"] / figures["eager_ms"], 3) or figures["eager_ms"] < 1
    assert figures["exact_ms"] > 0 and figures["eager_ms"] > 0 and figures["operators"] > 20
    assert figures["step_bytes"] > figures["state_bytes"] > 4 * (20 * 16 + 16 * 10)


def test_a_segment_is_trained_committed_and_verified() -> None:
    for subject in (mlp(20, 16, 8), gpt(1, 16, 2, 8, 4, 20)):
        figures = segment_figures(subject, 3)
        assert figures["steps"] == 3 and figures["verification_ratio"] > 0 and figures["commitment_overhead"] > 0


def test_both_sides_do_the_same_step() -> None:
    """The eager step and the exact one move the same module's weights alike, for every optimizer used."""
    for subject in (mlp(20, 16, 8), gpt(1, 16, 2, 8, 4, 20)):
        program, batch = program_of(subject), subject.batch()
        given = state_of(program, subject)
        names = [entry.name for entry in program.state]
        with torch.no_grad():
            for name, parameter in subject.module.named_parameters():
                parameter.copy_(given[names.index(f"parameter.{name}")])
        moved, _ = Interpreter(program).step(given, list(batch.values()), 0)
        eager_step(subject, batch)()
        for name, parameter in subject.module.named_parameters():
            torch.testing.assert_close(
                moved[names.index(f"parameter.{name}")], parameter.detach(), rtol=2e-3, atol=2e-4
            )
