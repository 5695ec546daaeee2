"""Events as sentences, with names; nothing of a block is told twice."""

from __future__ import annotations

import re
from typing import Any

import pytest

from consensus.ledger.events import EVENTS
from gensyn_node.devnet import chronicle
from gensyn_node.devnet.chronicle import Chronicle, sentence_of

NAMES = {"gsn1alice": "node0", "gsn1bob": "node1"}


def event(kind: str, subject: str = "ab" * 32, /, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "subject": subject, "fields": [[name, value] for name, value in fields.items()]}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            event("slashed", "gsn1bob", amount_nano=2 * 10**9, winner="gsn1alice", why="verdict proven wrong"),
            "node1 is slashed 2 GSN (verdict proven wrong); node0 wins its share",
        ),
        (
            event("slashed", "gsn1bob", amount_nano=1, winner="", why="secret withheld"),
            "node1 is slashed 0.000000001 GSN (secret withheld)",
        ),
        (
            event("secret_shown", instalment=1, outcome="forced", segment=4),
            "the secret of instalment 1 is shown: segment 4 was shown with an error on purpose",
        ),
        (
            event("jackpot_paid", instalment=1, claimant="gsn1alice", amount_nano=5 * 10**8),
            "node0 found the error of instalment 1 and takes 0.5 GSN",
        ),
        (
            event(
                "dispute_opened", "cd" * 32, task="ab", kind="evidence", segment=3,
                defender="gsn1bob", challenger="gsn1alice",
            ),
            "dispute cdcdcdcdcdcd opens: node0 against node1, about its evidence of segment 3",
        ),
        (event("heartbeat", step=3), ""),
    ],
)  # fmt: skip
def test_what_a_story_tells(told: dict[str, Any], words: str) -> None:
    assert sentence_of(told, lambda address: NAMES[address]) == words


def test_every_sentence_is_of_an_event_and_of_fields_that_it_has() -> None:
    examples: dict[str, Any] = {"kind": "segment", "outcome": "right", "solver": "gsn1alice"}
    for kind in chronicle._SENTENCES:
        subject, names = EVENTS[kind]
        fields = {name: examples.get(name, 7) for name in names}
        for name in ("winner", "defender", "challenger", "verifier"):
            fields |= {name: "gsn1bob"} if name in fields else {}
        text = sentence_of(
            event(kind, "gsn1alice" if subject in ("provider", "validator") else "ab" * 32, **fields), NAMES.get
        )
        assert text and not re.search(r"gsn1|[{}]|None", text), kind


class Blocks:
    """A node with a few blocks."""

    def __init__(self) -> None:
        self.head = 2

    def call(self, method: str, **parameters: Any) -> Any:
        if method == "block":
            return {"height": self.head}
        number = parameters["height"]
        return {"events": [event("secret_withheld", instalment=number, solver="gsn1bob"), event("heartbeat")]}


def test_every_block_is_read_once() -> None:
    blocks = Blocks()
    told = Chronicle(blocks, NAMES, 1)  # type: ignore[arg-type]
    first = told.read_on()
    assert first == [(2, "node1 does not show the secret of instalment 2")]
    assert told.read_on() == []
    blocks.head = 4
    assert [height for height, _ in told.read_on()] == [3, 4]
    assert [line.partition(":")[0] for line in told.lines] == ["block 2", "block 3", "block 4"]
