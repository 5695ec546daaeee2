"""Some kills, freezes and partitions of real nodes; `python -m tests.chaos kills` and `partitions` go on for longer."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import net_rooms
import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def campaign(*arguments: str, timeout_s: float) -> dict[str, Any]:
    """Run one in a process of its own: nodes are forked from it."""
    command = [sys.executable, "-m", "tests.chaos", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=timeout_s, check=False)
    figures: dict[str, Any] = json.loads(done.stdout or '{"faults": []}')
    assert done.returncode == 0, f"{figures['faults']}\n{done.stderr[-2000:]}"
    return figures


def test_killed_and_frozen_nodes_lose_nothing() -> None:
    figures = campaign("kills", "--count", "6", "--seed", "2", timeout_s=600)
    assert figures["kills"] >= 6
    assert figures["freezes"] >= 1
    assert figures["heights"][1] > figures["heights"][0]


@pytest.mark.skipif(bool(net_rooms.why_not()), reason=net_rooms.why_not() or "they can be used")
def test_partitioned_nodes_never_fork_and_go_on_afterwards() -> None:
    figures = campaign("partitions", "--count", "3", timeout_s=600)
    assert figures["kinds"] == {"one alone": 1, "two and two": 1, "one way": 1}


@pytest.mark.soak
@pytest.mark.skipif(bool(net_rooms.why_not()), reason=net_rooms.why_not() or "they can be used")
def test_many_partitions() -> None:
    campaign("partitions", "--count", "60", "--seed", str(time.time_ns()), timeout_s=7200)


@pytest.mark.soak
def test_many_kills() -> None:
    figures = campaign("kills", "--count", "100", "--seed", str(time.time_ns()), timeout_s=7200)
    assert figures["acknowledged_transfers"] > 0
