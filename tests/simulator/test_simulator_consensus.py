"""Hundreds of faulty schedules against the production core: no promise broken, every rare state reached."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.simulator.application import Violation
from tests.simulator.rare_states import RARE_STATES
from tests.simulator.schedule import BYZANTINE_KINDS, DAMAGES, Schedule, draw
from tests.simulator.simulation import Simulation, run

CALM = Schedule([1, 1, 1, 1], {}, fault_ms=1_000)
STORM = Schedule([1, 1, 1, 1], {}, fault_ms=8_000, drop=0.2, partition_every_ms=600, crash_every_ms=2_000)

# Equivocation and loss together most often make a polka that somebody locked on another value does not see.
CONTRADICTED = Schedule([1, 1, 1, 1], {0: "equivocator"}, fault_ms=12_000, drop=0.3)


def test_drawn_schedules_reach_every_rare_state() -> None:
    seen: Counter[str] = Counter()
    for seed in range(160):
        seen.update(run(seed).seen)
    for seed in range(20):
        seen.update(run(seed, CONTRADICTED).seen)
    assert {name for name in RARE_STATES if not seen[name]} == set()


@pytest.mark.parametrize("kind", BYZANTINE_KINDS)
def test_each_byzantine_habit_in_a_storm(kind: str) -> None:
    for seed in range(3):
        run(seed, replace(STORM, byzantine={seed: kind}))


def test_one_seed_gives_one_history() -> None:
    def history() -> tuple[int, dict[int, bytes], Counter[str]]:
        network = Simulation(8, draw(8))
        network.run()
        return network.events, network.checks.decided, network.coverage.seen

    assert history() == history()


def test_real_signatures() -> None:
    assert run(3, replace(draw(3), real_signatures=True)).seen["decisions"] > 0


def test_without_faults_every_height_takes_one_round() -> None:
    coverage = Simulation(0, CALM).run(heights_after_heal=20)
    assert coverage.seen["decisions"] >= 80
    assert coverage.seen["decisions above round 0"] == 0
    assert coverage.seen["height taken over by block sync"] == 0


def test_one_lock_that_all_wait_for_ends_when_its_owner_proposes() -> None:
    # Ten of 31 are Byzantine, so each honest vote is needed, and the validator locked in round 0 has a power of one.
    alone = Schedule(
        [1, 3, 1, 2, 1, 1, 1, 1, 10, 10],
        {9: "random"},
        fault_ms=8_000,
        drop=0.4,
        filter=0.6,
        filtered=("prevote",),
        partition_every_ms=600,
        partitions=("ring",),
        scripted=tuple(tuple(int(machine in apart) for machine in range(20)) for apart in ((11,), (10, 19), (2,))),
        crash_every_ms=3_000,
        pause_every_ms=2_000,
        damages=DAMAGES,
        skew_ms=80,
        jump_every_ms=3_000,
    )
    assert run(313_964, alone).seen["decisions above round 0"] > 0


def test_a_third_of_the_power_missing_stops_the_chain_without_forking_it() -> None:
    silent = replace(CALM, byzantine={0: "silent", 1: "silent"})
    with pytest.raises(Violation, match="no progress"):
        Simulation(0, silent).run(limit_ms=20_000)


def test_a_violation_names_seed_schedule_and_command() -> None:
    with pytest.raises(Violation, match=r"(?s)no progress.*seed 7: Schedule\(.*repeat with: .* --seeds 7:7"):
        run(7, replace(CALM, byzantine={0: "silent", 1: "silent"}))


def test_rare_states_are_named_once() -> None:
    assert len(set(RARE_STATES)) == len(RARE_STATES) >= 20
