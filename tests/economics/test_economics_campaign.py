"""A fifth dishonest on the production ledger: every task finishes, nobody honest is slashed."""

from __future__ import annotations

import os

import pytest

from tests.bench.economics.campaign import CHEATS, TASKS_A_MARKET, Plan, figures, total


def test_tasks_among_cheats_finish_and_nobody_honest_is_slashed() -> None:
    books = total([Plan(seed, tasks=6) for seed in range(4)])
    found = figures(books)
    assert found["tasks"] == 24 and found["unfinished"] == 0 and found["honest_slashed"] == 0
    assert books.dishonest_slashed > 0
    assert found["verification_per_training"] > 0 and found["messages_per_task"] > 0


@pytest.mark.soak
def test_a_thousand_tasks_among_every_kind_of_cheat() -> None:
    tasks = int(os.environ.get("ECONOMICS_TASKS", "1000"))
    books = total([Plan(seed) for seed in range(-(-tasks // TASKS_A_MARKET))], jobs=2)
    found = figures(books)
    assert found["tasks"] >= tasks and found["unfinished"] == 0 and found["honest_slashed"] == 0
    assert len(books.gain_nano) >= min(len(CHEATS), tasks // TASKS_A_MARKET)
