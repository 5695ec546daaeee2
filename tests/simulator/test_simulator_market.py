"""Schedules of honest and cheating actors on the production ledger: money, roots, ends and honest bonds hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulator.ledger.coverage import RARE_STATES
from tests.simulator.ledger.market import Market, draw, run

SEEDS = range(20)


@pytest.mark.parametrize("first", range(0, len(SEEDS), 10))
def test_markets(first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS[first : first + 10]:
        seen.update(run(seed).seen)
    for reached in ("task finished", "dispute over segment", "a solver was replaced", "a verifier was redrawn"):
        assert seen[reached] > 0, f"no market reached: {reached}"


def digest(seed: int) -> str:
    """All state roots of a seed, as one hash."""
    market = Market(seed, draw(seed))
    market.run()
    return market.digest()


def test_two_processes_with_different_hash_seeds_agree_on_every_state_root() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", "from tests.simulator.test_simulator_market import digest; print(digest(19))"]
    outputs = set()
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        outputs.add(done.stdout.strip())
    assert outputs == {digest(19)}


@pytest.mark.soak
def test_every_rare_state_is_reached() -> None:
    seen: Counter[str] = Counter()
    for seed in range(1_000):
        seen.update(run(seed).seen)
    assert not [name for name in RARE_STATES if not seen[name]]
