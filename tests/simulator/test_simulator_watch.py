"""Markets with drawn watches: nothing breaks, everything is reached, and each planted bug is found by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from consensus.ledger import challenges, jackpots, money, records, settlement, verification, watching
from consensus.ledger.messages import APPROVED
from consensus.ledger.records import Instalment
from consensus.ledger.view import State
from tests.simulator.application import Violation
from tests.simulator.ledger.market import Schedule, run
from tests.simulator.ledger.stories import FORCED_WATCHED, WATCHED

SEEDS = range(6)
REACHED = (
    "a watch was drawn",
    "a watch was drawn before a forced error was shown",
    "a watch was paid",
    "an instalment went on without its watch",
    "a jackpot was paid",
    "task finished",
)


def test_markets_with_watches_keep_every_promise() -> None:
    seen: Counter[str] = Counter()
    for schedule, seeds in ((WATCHED, 3), (FORCED_WATCHED, 1)):
        for seed in range(seeds):
            seen.update(run(seed, schedule).seen)
    assert [name for name in REACHED if not seen[name]] == []


def found(schedule: Schedule) -> str:
    """What the first seed that finds a broken promise says; nothing when none does."""
    for seed in SEEDS:
        try:
            run(seed, schedule)
        except Violation as violation:
            return str(violation)
    return ""


def wrapped(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, make: Callable[[Any], Any]) -> None:
    monkeypatch.setattr(module, name, make(getattr(module, name)))


def test_the_watch_counts_in_the_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "verifiers_of", lambda instalment: list(instalment.verifications))
    hurried = msgspec.structs.replace(WATCHED.parameters, verifier_draws_max=1)
    said = found(replace(WATCHED, parameters=hurried))
    assert "a window opened" in said or "too few verifiers" in said


def test_the_watch_is_paid_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(pay_owed: Any) -> Any:
        def again(state: State, instalment: Instalment) -> int:
            fees: int = pay_owed(state, instalment)
            for slot in instalment.verifications:
                if slot.watch and slot.state == records.VERIFICATION_REVEALED:
                    approved = [finding for finding in slot.findings if finding.verdict == APPROVED]
                    fee = settlement.fee_of(state, instalment, slot, approved)
                    money.pay(state, money.escrow(instalment.task_id), slot.verifier, fee)
                    fees += fee
            return fees

        return again

    wrapped(monkeypatch, settlement, "pay_owed", make)
    assert "their work is worth" in found(WATCHED)


def test_a_challenger_takes_a_jackpot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that tells an accomplice where its error is would have the tax back."""

    def make(about: Any) -> Any:
        def generous(state: State, call: Any, instalment: Instalment, *rest: Any) -> None:
            about(state, call, instalment, *rest)
            if state.instalment(instalment.task_id, instalment.number).finder == call.sender:
                jackpots.claim(state, instalment, call.sender)

        return generous

    wrapped(monkeypatch, challenges, "_about_the_error", make)
    assert "a jackpot was paid to somebody who was not drawn" in found(FORCED_WATCHED)


def test_the_watch_is_drawn_with_the_verifiers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows where it is watched works there alone."""

    def make(draw_verifiers: Any) -> Any:
        def both(state: State, context: Any, instalment: Instalment) -> None:
            draw_verifiers(state, context, instalment)
            present = state.instalment(instalment.task_id, instalment.number)
            bound = tuple(
                msgspec.structs.replace(slot, state=records.VERIFICATION_COMMITTED) for slot in present.verifications
            )
            if present.state == records.INSTALMENT_VERIFYING and watching.may_be_drawn(state, present):
                watching.draw_watch(state, context, msgspec.structs.replace(present, verifications=bound))

        return both

    wrapped(monkeypatch, verification, "draw_verifiers", make)
    assert "a watch was drawn while nobody had bound a verdict" in found(WATCHED)


def test_the_watchs_beacon_was_known_when_the_verdicts_were_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    beacons: dict[int, bytes] = {}

    def make(draw_watch: Any) -> Any:
        def early(state: State, context: Any, instalment: Instalment) -> bool:
            known = beacons.get(context.height - 1, bytes([1]) * 32)
            drawn: bool = draw_watch(state, msgspec.structs.replace(context, beacon=known), instalment)
            return drawn

        return early

    def note(phase_due: Any) -> Any:
        def noted(state: State, context: Any, *rest: Any) -> None:
            beacons[context.height] = context.beacon
            phase_due(state, context, *rest)

        return noted

    wrapped(monkeypatch, watching, "draw_watch", make)
    wrapped(monkeypatch, verification, "phase_due", note)
    assert "is not that of the beacon after the verdicts" in found(WATCHED)
