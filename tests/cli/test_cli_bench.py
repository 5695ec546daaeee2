"""`gensyn bench ml`: one JSON object with the promised names, tables for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.main import main
from ml.benchmark import measures, models


def output_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints; it must succeed."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert not ended.value.code
    return capsys.readouterr().out


def test_tables_and_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = {name: (lambda: models.mlp(20, 16, 8)) for name in models.SUBJECTS}
    small["gpt-4x128"] = lambda: models.gpt(1, 16, 2, 8, 4, 20)
    monkeypatch.setattr(measures, "SUBJECTS", small)
    monkeypatch.setattr(measures, "SECONDS", 0.0)
    figures = json.loads(output_of(capsys, "bench", "ml", "--threads", "2", "--json"))
    assert list(figures["step_ratio"]) == ["mlp", "cnn", "lstm", "gpt-4x128", "gpt-6x384"]
    for name, ratio in figures["step_ratio"].items():
        assert ratio == figures["steps"][name]["ratio"] > 0
    assert figures["device"]["threads"] == 2 and figures["device"]["cores"] >= 1
    assert set(figures["segments"]) == {"mlp", "gpt-4x128"}
    monkeypatch.setattr(measures, "SUBJECTS", dict.fromkeys(small, small["mlp"]))
    text = output_of(capsys, "bench", "ml")
    for word in ("A training step", "A segment", "Memory", "gpt-6x384"):
        assert word in text


def test_economics_table_and_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    few = ("bench", "economics", "--tasks", "10", "--agents", "60", "--jobs", "1")
    figures = json.loads(output_of(capsys, *few, "--json"))
    assert figures["parameters"] == "mainnet" and figures["tasks"] >= 10 * len(figures["strategies"])
    for name in ("honest solver", "honest verifier", "honest whistleblower", "honest submitter"):
        assert figures["strategies"][name]["honest"] is True
    cheat = figures["strategies"]["skip all"]
    assert cheat["honest"] is False and cheat["low"] <= cheat["mean"] <= cheat["high"] < 0
    assert figures["assumptions"] and "leaked evidence" in figures["failing"]
    assert [one["share_bps"] for one in figures["splitting"]] == figures["shares_bps"]
    picture = tmp_path / "strategies.svg"
    text = output_of(capsys, *few, "--parameters", "devnet", "--forced-errors", "1000", "--plot", str(picture))
    assert picture.read_text().count("<rect") > len(figures["strategies"]) - 5
    for word in ("What each strategy earns", "lazy verifying", "Splitting into Sybils", "Assumed:"):
        assert word in text
