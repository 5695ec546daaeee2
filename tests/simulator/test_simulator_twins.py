"""A sample of the enumeration of twins; `make soak` plays all scenarios of three rounds."""

from __future__ import annotations

from tests.simulator.schedule import Schedule
from tests.simulator.simulation import Simulation
from tests.simulator.twins import SPLITS, sample, scenarios

ROUNDS = 4
SAMPLE = 40


def test_the_enumeration_is_whole() -> None:
    assert len(SPLITS) == len(set(SPLITS)) == 16
    first = list(scenarios(1))
    assert len(first) == 4 * 16
    assert {tuple(schedule.byzantine) for schedule in first} == {(0,), (1,), (2,), (3,)}


def test_a_sample_of_four_rounds() -> None:
    chosen = list(sample(ROUNDS, SAMPLE))
    assert len(chosen) == SAMPLE
    seen = sum(played(number, schedule) for number, schedule in enumerate(chosen))
    assert seen > 0, "no twins were caught"


def played(seed: int, schedule: Schedule) -> int:
    """How much evidence honest nodes found."""
    return Simulation(seed, schedule).run().seen["evidence found"]
