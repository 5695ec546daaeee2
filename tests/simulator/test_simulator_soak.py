"""Schedules that no other run has seen, for SOAK_SECONDS (600 unless set) on all cores, and all twins of three rounds.

Seeds begin at a number that the clock chooses; a violation names the seed and the command that repeats it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

import pytest

from tests.simulator.campaign import Report, campaign, drawn
from tests.simulator.twins import scenarios

pytestmark = pytest.mark.soak
ENOUGH = 4_000
"""Schedules in which every rare state must turn up."""
JOBS = multiprocessing.cpu_count()


def said(report: Report) -> str:
    """The violations, one after the other."""
    return "\n\n".join(text for _, _, text in report.failed)


def test_fresh_schedules_for_a_budget_of_time() -> None:
    budget_s = float(os.environ.get("SOAK_SECONDS", "600"))
    first = int(os.environ.get("SOAK_FIRST_SEED", str(1_000_000 + int(time.time()) % 1_000_000_000)))
    report = campaign(drawn(first, sys.maxsize), JOBS, budget_s)
    print(f"\n{report.played} schedules from seed {first} in {report.wall_s:.0f} s on {JOBS} processes")
    assert not report.failed, said(report)
    assert report.played < ENOUGH or report.missing() == []


def test_all_twins_of_three_rounds() -> None:
    report = campaign(enumerate(scenarios(3)), JOBS)
    print(f"\n{report.played} scenarios in {report.wall_s:.0f} s on {JOBS} processes")
    assert not report.failed, said(report)
    assert report.played == 4 * 16**3
