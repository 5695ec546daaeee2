"""What draws, repeats and shrinks schedules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import msgspec
import pytest

from tests.simulator.campaign import as_json, main
from tests.simulator.planted import PLANTED
from tests.simulator.schedule import BYZANTINE_KINDS, DAMAGES, PARTITIONS, Schedule, draw
from tests.simulator.shrink import fails, shrink

MANY = [draw(seed) for seed in range(2_000)]
ROOT = Path(__file__).parents[2]


def test_byzantine_power_stays_below_a_third_in_every_set_of_a_run() -> None:
    for schedule in MANY:
        powers = list(schedule.powers)
        faulty = {*schedule.byzantine, *schedule.fragile}
        for height in [0, *sorted(schedule.set_changes)]:
            for position, power in schedule.set_changes.get(height, ()):
                powers[position] = power
            assert 3 * sum(powers[position] for position in faulty) < sum(powers), schedule


def test_four_to_ten_validators_and_every_fault_on_in_some_seeds_and_off_in_others() -> None:
    assert {sum(map(bool, schedule.powers)) for schedule in MANY} == set(range(4, 11))
    plain = Schedule([], {}, 0)
    for field in fields(Schedule):
        if field.name != "application":
            on = sum(getattr(schedule, field.name) != getattr(plain, field.name) for schedule in MANY)
            assert on > 0, field.name
    assert {kind for schedule in MANY for kind in schedule.byzantine.values()} == set(BYZANTINE_KINDS)
    assert {kind for schedule in MANY for kind in schedule.partitions} == set(PARTITIONS)
    assert {kind for schedule in MANY for kind in schedule.damages} == set(DAMAGES)
    assert any(not schedule.byzantine for schedule in MANY)


def test_no_two_seeds_have_one_schedule() -> None:
    assert len({as_json(schedule) for schedule in MANY}) > 0.99 * len(MANY)


def test_a_printed_schedule_is_read_back() -> None:
    for schedule in MANY[:200]:
        assert msgspec.json.decode(as_json(schedule), type=Schedule) == schedule


def test_a_schedule_shrinks_to_what_it_fails_by() -> None:
    def made_up(seed: int, schedule: Schedule) -> str:
        return "fails" if schedule.drop and "twins" in schedule.byzantine.values() else ""

    wild = replace(MANY[0], powers=[1] * 9, byzantine={0: "twins", 3: "silent"}, drop=0.4, crash_every_ms=900)
    smallest, said = shrink(0, wild, made_up)
    assert said == "fails"
    assert smallest == Schedule([1] * 4, {0: "twins"}, fault_ms=smallest.fault_ms, drop=0.4)
    assert smallest.fault_ms <= 250


def test_a_planted_bug_shrinks_and_still_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    next(bug for bug in PLANTED if bug.name == "half is enough").plant(monkeypatch)
    seed = next(seed for seed in range(100) if fails(seed, draw(seed)))
    smallest, said = shrink(seed, draw(seed))
    assert said == fails(seed, smallest) != ""
    assert len(as_json(smallest)) < len(as_json(draw(seed)))


def test_what_does_not_fail_is_left_alone() -> None:
    calm = Schedule([1, 1, 1, 1], {}, fault_ms=500)
    assert shrink(0, calm) == (calm, "")


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0:5", "--jobs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schedules"], told["violations"]) == (6, [])
    assert main(["--seeds", "3", "--jobs", "1", "--schedule", as_json(Schedule([1, 1, 1, 1], {}, fault_ms=500))]) == 0
    assert "1 schedules" in capsys.readouterr().out


def test_histories_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from tests.simulator.simulation import Simulation\n"
        "from tests.simulator.schedule import draw\n"
        "for seed in (8, 58):\n"
        "    network = Simulation(seed, draw(seed)); network.run()\n"
        "    print(network.events, sorted(network.checks.roots.items()), sorted(network.coverage.seen.items()))\n"
    )

    def history(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert history("1") == history("2") != ""
