"""Schedules of honest and cheating actors on the production ledger: money, roots, ends and honest bonds hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.simulator.ledger.market import Market, draw, run
from tests.simulator.ledger.rare_states import RARE_STATES
from tests.simulator.ledger.stories import (
    DESERTED_CLAIMS,
    LAZINESS,
    LEAKS,
    OFFENCES,
    QUARRELS,
    SELECTIVE_SERVING,
    SILENCE,
    SLOW_QUARRELS,
)

SEEDS_MIN, SEEDS_MAX = 8, 60
"""Seeds of mixed crowds: so many at least, and more until every rare state was reached."""
STORIES = (
    (QUARRELS, 5),
    (SLOW_QUARRELS, 1),
    (DESERTED_CLAIMS, 2),
    (LAZINESS, 2),
    (LEAKS, 1),
    (OFFENCES, 4),
    (SELECTIVE_SERVING, 2),
    (SILENCE, 1),
)
"""(schedule, number of its seeds)"""


def test_every_rare_state_is_reached_and_no_promise_broken() -> None:
    seen: Counter[str] = Counter()
    for schedule, seeds in STORIES:
        for seed in range(seeds):
            seen.update(run(seed, schedule).seen)
    for seed in range(SEEDS_MAX):
        if seed >= SEEDS_MIN and all(seen[name] for name in RARE_STATES):
            break
        seen.update(run(seed).seen)
    assert [name for name in RARE_STATES if not seen[name]] == []


def digest(seed: int) -> str:
    """All state roots of a seed, as one hash."""
    market = Market(seed, draw(seed))
    market.run()
    return market.digest()


def test_a_process_with_another_hash_seed_gives_the_same_state_roots() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", "from tests.simulator.test_simulator_market import digest; print(digest(2))"]
    environment = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == digest(2)
