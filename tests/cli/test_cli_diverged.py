"""A task whose training diverged, as its submitter sees it: a loss that is no number comes as a word in JSON."""

from __future__ import annotations

from typing import Any

import pytest

from cli.output import console
from cli.task_view import curve, live_view, one_line, show_task


def task(**fields: Any) -> dict[str, Any]:
    record = {
        "name": "wild",
        "steps": 100,
        "settled": 1,
        "instalments": 4,
        "disputes": [],
        "escrow_nano": 5,
        "solver_paid_nano": 1,
        "verifiers_paid_nano": 1,
        "refunded_nano": 0,
        "taxed_nano": 0,
        "spec": {"forced_error_bps": 0, "arithmetic": "rep-v1"},
    }
    losses = [[10, 2.5], [20, 1e30], [30, "inf"], [40, "nan"]]
    made = {"task_id": "ab" * 32, "state": "training", "final": False, "solver": "x", "record": record, "step": 40}
    return {**made, "losses": losses, "diverged_step": 30, "instalments": [], **fields}


def test_every_view_says_where_it_diverged(capsys: pytest.CaptureFixture[str]) -> None:
    assert "loss nan (diverged at step 30)" in one_line(task())
    assert "loss 2.5000, " in one_line(task(losses=[[10, 2.5]], diverged_step=None))
    console.print(live_view(task()))
    show_task(task())
    shown = " ".join(capsys.readouterr().out.split())
    assert "from step 30 on: the training diverged" in shown and f"gensyn task cancel {'ab' * 32}" in shown
    show_task(task(final=True))
    assert "cancel" not in capsys.readouterr().out


def test_every_view_says_where_each_instalment_is(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"number": 1, "state": "unsealing", "due_height": 9, "explanation": "its secret is due by block 9"}
    one = task(instalments=[told])
    assert "instalment 1 unsealing" in one_line(one)
    console.print(live_view(one))
    show_task(one)
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("its secret is due by block 9") == 2
    show_task({**one, "final": True})
    assert "secret" not in capsys.readouterr().out


def test_a_curve_is_drawn_of_what_is_finite() -> None:
    assert "2.5000" in curve(task()["losses"]).plain
    assert curve([[1, "nan"], [2, "-inf"]]).plain == ""
