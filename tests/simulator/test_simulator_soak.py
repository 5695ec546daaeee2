"""Schedules that no other run has seen, for SOAK_SECONDS (600 unless set): `make soak`.

Seeds begin at a number that the clock chooses; a violation names the seed and the command that repeats it.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.simulator.simulation import run

pytestmark = pytest.mark.soak


def test_fresh_schedules_for_a_budget_of_time() -> None:
    budget_s = float(os.environ.get("SOAK_SECONDS", "600"))
    first = int(os.environ.get("SOAK_FIRST_SEED", str(1_000_000 + int(time.time()) % 1_000_000_000)))
    end, seed = time.monotonic() + budget_s, first
    while time.monotonic() < end:
        run(seed)
        seed += 1
    print(f"\n{seed - first} schedules, seeds {first} to {seed - 1}, {budget_s:g} s")
    assert seed > first
