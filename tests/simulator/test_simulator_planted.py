"""The checkers can fail: every planted bug is found by the schedules, within its budget of seeds."""

from __future__ import annotations

import pytest

from tests.simulator.application import Violation
from tests.simulator.planted import PLANTED, PlantedBug
from tests.simulator.simulation import Simulation


def test_enough_bugs_are_planted() -> None:
    assert len({bug.name for bug in PLANTED}) == len(PLANTED) >= 35


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_planted_bug_is_found(bug: PlantedBug, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        bug.plant(patch)
        seed, said = found(bug)
    assert bug.found in said, said
    Simulation(seed, bug.schedule).run(limit_ms=bug.limit_ms)  # the same seed without the bug


def found(bug: PlantedBug) -> tuple[int, str]:
    """The first seed of the budget that finds a broken promise, and what is said."""
    for seed in range(bug.seeds):
        try:
            Simulation(seed, bug.schedule).run(limit_ms=bug.limit_ms)
        except Violation as violation:
            return seed, str(violation)
    raise AssertionError(f"not found by {bug.seeds} seeds")
