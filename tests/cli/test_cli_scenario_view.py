"""A scenario as people read it: nothing twice, each dispute's end in words, money without a line break."""

from __future__ import annotations

from typing import Any

import pytest

from cli.scenario_view import Teller, show_ending
from gensyn_node.devnet.account_book import Book, Line
from gensyn_node.devnet.story import Dispute, Ending

BOOK = Book({}, {"balances": 5, "burnt": 2, "minted": 7}, 1)


def dispute(outcome: str, how: str, operator: str = "") -> Dispute:
    return Dispute("ab" * 32, outcome, how, outcome, 37, operator, 3, 10, 0, 0.0, 1.0)


def ending(disputes: tuple[Dispute, ...], lines: tuple[Line, ...]) -> Ending:
    counts = {"segments": 12, "segments_verified": 12, "verdicts": 4, "blocks": 9, "attempts": 2}
    told: dict[str, Any] = {"slashed": (), "cheaters": (), "jackpots": (), "chronicle": (), "failures": ()}
    return Ending(
        name="flip-bit",
        title="A title",
        state="finished",
        accuracy=0.97,
        loss=0.1,
        certificate_valid=True,
        disputes=disputes,
        solvers=("node1",),
        block_interval_s=0.5,
        seconds=7.0,
        before=BOOK,
        after=BOOK,
        lines=lines,
        **counts,
        **told,
    )


def test_each_way_to_end_a_dispute_has_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    disputes = (
        dispute("defender_wrong", "arbitration", "matmul"),
        dispute("challenger_wrong", "clock"),
        dispute("defender_wrong", "move"),
        dispute("", "another_dispute", "matmul"),
    )
    liar = Line("node3", "copying-verifier@step=37", 10**9, 0, 0, 123_456_789, 123_456_789)
    show_ending(ending(disputes, (liar,)))
    shown = capsys.readouterr().out
    for words in ("step 37, matmul", "by the clock", "moot", "copying-verifier", "0.123456789", "lost"):
        assert words in shown
    assert shown.count("matmul") == 1 and "It ended as it should." in shown


def test_a_state_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    tell, record = Teller(), {"steps": 600}
    for step in (5, 5, 9):
        tell("task", {"state": "training", "step": step, "record": record})
        tell("chain", {"height": 3, "text": "something"})
    for _ in range(2):
        tell("task", {"state": "verifying", "step": 600, "record": record})
    assert capsys.readouterr().out.split("\n") == [
        "  the task is training: step 5 of 600",
        "  block 3: something",
        "  the task is training: step 9 of 600",
        "  block 3: something",
        "  the task is verifying",
        "",
    ]
