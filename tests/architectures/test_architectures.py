"""Every architecture is captured, computes what PyTorch computes, and has the same bits however it is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml.capture.check import check_against_eager
from ml.kernels.threads import get_threads, set_threads
from ml.reference.operators import run as reference_step
from tests.architectures.corpus import CORPUS, prepare
from tests.architectures.training import apart, batch_of, handed, load, save, train_by_pytorch, train_exactly

STEPS = 2


@pytest.mark.parametrize("name", CORPUS)
def test_bits_and_losses(name: str, tmp_path: Path) -> None:
    threads = get_threads()
    subject = prepare(name)
    built = subject.built
    assert (
        check_against_eager(built.program, built.module, built.loss, built.optimizer, batch_of(subject, 0)).worst_ratio
        <= 1
    )
    save(handed(subject), tmp_path / "handed")
    given = load(tmp_path / "handed")
    try:
        set_threads(1)
        one = train_exactly(given, STEPS)
        set_threads(2)
        two = train_exactly(given, STEPS)
    finally:
        set_threads(threads)
    by_definition = train_exactly(
        given, STEPS, lambda state, batch, number: reference_step(given.program, state, batch, number)
    )
    assert one == two == by_definition
    assert apart(train_by_pytorch(subject, STEPS), one.losses) < 1e-4


def test_most_are_no_presets() -> None:
    assert len(CORPUS) >= 12
    assert sum(not architecture.preset for architecture in CORPUS.values()) >= len(CORPUS) / 2


def test_a_curve_that_is_elsewhere_is_seen() -> None:
    curve = [1.0 / (step + 1) for step in range(40)]
    assert apart(curve, curve) == 0
    assert apart(curve, [loss * 1.001 for loss in curve]) > 1e-4
    assert apart(curve, [*curve[:-1], float("nan")]) == float("inf")
