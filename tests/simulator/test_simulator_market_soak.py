"""Markets, and networks with the ledger, that no other run has seen, each for SOAK_SECONDS (600 unless set).

Seeds begin at a number that the clock chooses; a violation names the seed and the command that repeats it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
import time

import pytest

from tests.simulator import campaign as networks
from tests.simulator.ledger import __main__ as markets

pytestmark = pytest.mark.soak
JOBS = multiprocessing.cpu_count()


def first_seed() -> int:
    """Where the seeds of this run begin."""
    return int(os.environ.get("SOAK_FIRST_SEED", str(1_000_000 + int(time.time()) % 1_000_000_000)))


def budget_s() -> float:
    """Seconds of each test."""
    return float(os.environ.get("SOAK_SECONDS", "600"))


def test_fresh_markets_for_a_budget_of_time() -> None:
    first = first_seed()
    report = markets.campaign(itertools.count(first), JOBS, budget_s())
    print(f"\n{report.played} markets from seed {first} in {report.wall_s:.0f} s on {JOBS} processes")
    assert report.played > 0
    assert not report.failed, "\n\n".join(said for _, said in report.failed)


def test_fresh_networks_with_the_ledger_for_a_budget_of_time() -> None:
    first = first_seed()
    report = networks.campaign(networks.drawn(first, sys.maxsize, "ledger"), JOBS, budget_s())
    print(f"\n{report.played} schedules from seed {first} in {report.wall_s:.0f} s on {JOBS} processes")
    assert report.played > 0
    assert not report.failed, "\n\n".join(said for _, _, said in report.failed)
