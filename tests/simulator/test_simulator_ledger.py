"""The production ledger, mempool and block rules on the faulty network, with actors that cheat."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.simulator.application import Violation
from tests.simulator.ledger import application
from tests.simulator.schedule import Schedule, draw
from tests.simulator.simulation import run

SEEDS = range(6)
CALM = Schedule([1, 1, 1, 1], {}, fault_ms=3_000, application="ledger")


def test_the_ledger_on_a_faulty_network() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen.update(run(seed, replace(draw(seed), application="ledger", fault_ms=12_000)).seen)
    for reached in ("crashes", "task finished", "dispute over segment", "a replaced transaction was included"):
        assert seen[reached] > 0, f"no schedule reached: {reached}"


def test_real_signatures_and_beacons() -> None:
    assert run(1, replace(CALM, real_signatures=True, fault_ms=3_000)).seen["decisions"] > 0


def test_one_seed_gives_one_history() -> None:
    assert run(4, CALM).seen == run(4, CALM).seen


def test_planted_bug_two_nodes_execute_a_block_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    execute, calls = application.execute_decided, Counter[str]()

    def by_chance(*arguments: Any) -> Any:
        calls["executed"] += 1
        delta, state = execute(*arguments)
        events = delta.events if calls["executed"] % 2 else ()
        return msgspec.structs.replace(delta, events=events), state

    monkeypatch.setattr(application, "execute_decided", by_chance)
    with pytest.raises(Violation, match="two executions of block"):
        run(0, CALM)
