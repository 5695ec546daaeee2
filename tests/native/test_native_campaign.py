"""A small campaign: no honest solver is slashed, gross cheats are suspected at every length and named by an audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.campaign import run, table
from tests.native.cheats import CHEATS
from tests.native.machines import MACHINES, machines_here
from tests.native.models import MODELS

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    machines = [machine for machine in MACHINES if machine.name in ("1-thread", "old")]
    return run(Path(tmp_path_factory.mktemp("campaign")), 2, ("mlp-adamw",), machines)


def test_no_honest_solver_is_slashed(result: dict) -> None:
    honest = result["honest"]["mlp-adamw"]
    assert result["trials"] == honest["trials"] == 4
    assert result["slashed"] == 0
    assert honest["values"] > 300 and honest["elements"] > 100_000
    assert 0 < max(honest["noise"].values()) < 1e-3
    assert 0 < max(honest["used"].values()) < 1
    assert honest["measured"][10] > honest["entries"] // 2


@pytest.mark.parametrize("cheat", CHEATS)
def test_every_cheat_is_suspected_and_named(result: dict, cheat: str) -> None:
    row = result["cheats"]["mlp-adamw"][cheat]
    assert row["operator"]
    # At one step, stale weights are the right ones.
    assert row["5"] > 1 and row["10"] > 1 and (row["1"] > 1 or cheat == "stale weights")


@pytest.mark.soak
def test_no_honest_solver_of_any_model_on_any_machine_is_slashed(tmp_path: Path) -> None:
    result = run(tmp_path, 6, (), machines_here())
    assert result["not_captured"] == {} and len(result["honest"]) == len(MODELS)
    assert result["trials"] == 6 * len(MODELS) * len(machines_here())
    assert result["slashed"] == 0
    for rows in result["cheats"].values():
        assert all(row["operator"] for row in rows.values())


def test_the_table_names_every_cheat(result: dict) -> None:
    shown = table(result)
    assert all(cheat in shown for cheat in CHEATS) and "4 honest trials, 0 slashed" in shown
