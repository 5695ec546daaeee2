"""Every state of an instalment in plain words, forced errors' own included; whose duty it is."""

from __future__ import annotations

import msgspec
import pytest

from consensus.ledger import duties, records, why
from consensus.ledger.duties import Duty
from consensus.ledger.records import Instalment
from gensyn_node.app.instalment_words import instalment_text
from gensyn_node.app.views import duty_view
from gensyn_node.app.why_words import task_sentence

STATES = sorted(value for name, value in vars(records).items() if name.startswith("INSTALMENT_"))


def instalment(**changes: object) -> Instalment:
    base = Instalment(
        task_id=bytes(32),
        number=0,
        attempt=1,
        solver=bytes(20),
        state="",
        first_segment=0,
        start_root=b"",
        segment_roots=(),
        state_blobs=(),
        losses=(),
        endpoints=(),
        commit_height=0,
        due_height=77,
        draws=0,
        give_up_height=0,
        verifications=(),
        missed=(),
        open_disputes=(),
        pending_challengers=(),
        challenges=0,
        solver_paid_nano=0,
    )
    return msgspec.structs.replace(base, **changes)


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_the_ledger_has_words(state: str) -> None:
    told = instalment_text(instalment(state=state))
    assert told.state == state and len(told.explanation) > 15 and "{" not in told.explanation


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": records.INSTALMENT_SEALED}, "under seal"),
        ({"state": records.INSTALMENT_OPENING}, "by block 77"),
        ({"state": records.INSTALMENT_UNSEALING}, "secret by block 77"),
        ({"state": records.INSTALMENT_FORCED}, "error on purpose"),
        ({"state": records.INSTALMENT_WITHHELD}, "loses its bond"),
        ({"state": records.INSTALMENT_VERIFYING, "refusers": (bytes(20),)}, "could not fetch"),
        ({"state": records.INSTALMENT_READY, "open_disputes": (bytes(32),)}, "open disputes: 1"),
        (
            {"state": "window", "outcome": "forced", "second_round": True, "claimants": (bytes(20),)},
            "error on purpose, found by 1",
        ),
    ],
)
def test_what_happened_is_said(changes: dict[str, object], words: str) -> None:
    assert words in instalment_text(instalment(**changes)).explanation


def test_why_says_where_each_instalment_is() -> None:
    found = why.TaskWhy(bytes(32), "verifying", 0, "", 0, 0, (), ())
    parts = [instalment(state="unsealing"), instalment(state="sealed", number=1)]
    sentence = task_sentence(found, _Verifying(), parts)  # type: ignore[arg-type]
    assert "instalment 0 is unsealing: verdicts" in sentence and "instalment 1 is sealed: committed" in sentence


class _Verifying:
    state = "verifying"


@pytest.mark.parametrize("kind", [duties.DUTY_OPEN, duties.DUTY_UNSEAL, duties.DUTY_TRAIN])
def test_opening_and_unsealing_are_the_solvers_duties(kind: str) -> None:
    told = duty_view(Duty(kind, bytes(32), 0, 1, 77))
    assert told.role == "solver"
