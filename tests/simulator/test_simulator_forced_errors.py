"""Markets with forced errors: nothing breaks, everything is reached, and each planted bug is found by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from consensus.ledger import execute, forced, jackpots, life, sealed, settlement, window
from consensus.ledger.messages import VerdictReveal
from consensus.ledger.records import INSTALMENT_WITHHELD, VERIFICATION_RELEASED, Instalment
from consensus.ledger.view import State
from tests.simulator.application import Violation
from tests.simulator.ledger.market import Schedule, run
from tests.simulator.ledger.stories import FORCED_ERRORS, FORCED_FOUL

SEEDS = range(9)
REACHED = (
    "an instalment was drawn: forced",
    "an instalment was drawn: right",
    "a forced error was approved",
    "who approved a forced error was slashed",
    "a jackpot was paid",
    "a jackpot was shared",
    "a secret was withheld",
    "dispute over segment",
    "dispute over evidence",
    "slashed: the states were not served",
    "task finished",
)


def test_markets_with_forced_errors_keep_every_promise() -> None:
    seen: Counter[str] = Counter()
    for schedule, seeds in ((FORCED_ERRORS, 1), (FORCED_FOUL, 3)):
        for seed in range(seeds):
            seen.update(run(seed, schedule).seen)
    assert [name for name in REACHED if not seen[name]] == []


def found(schedule: Schedule, wanted: str = "") -> str:
    """What the first seed that finds a broken promise, this one, says; nothing when none does."""
    for seed in SEEDS:
        try:
            run(seed, schedule)
        except Violation as violation:
            if wanted in str(violation):
                return str(violation)
    return ""


def wrapped(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, make: Callable[[Any], Any]) -> None:
    monkeypatch.setattr(module, name, make(getattr(module, name)))


def test_the_secret_is_not_in_the_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published mistake: everybody could tell a forced error from the chain alone."""

    def make(draw: Any) -> Any:
        return lambda secret, *rest: draw(bytes(32), *rest)

    wrapped(monkeypatch, sealed, "forced_segment", make)
    monkeypatch.setattr(forced, "forced_segment", sealed.forced_segment)
    assert "not that of its secret and beacon" in found(FORCED_ERRORS)


def test_the_beacon_was_known_at_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    beacons: dict[int, bytes] = {}

    def make(beacon_came: Any) -> Any:
        def early(state: State, context: Any, instalment: Instalment) -> None:
            beacons[context.height] = context.beacon
            known = beacons.get(context.height - 1, bytes([1]) * 32)
            beacon_came(state, msgspec.structs.replace(context, beacon=known), instalment)

        return early

    wrapped(monkeypatch, forced, "beacon_came", make)
    assert "not that of its secret and beacon" in found(FORCED_ERRORS)


def test_every_finder_gets_the_whole_jackpot(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(share_nano: Any) -> Any:
        return lambda pool, tax, rate, payout, claimants: share_nano(pool, tax, rate, payout, 1)

    wrapped(monkeypatch, jackpots, "share_nano", make)
    assert "a share of a jackpot that several found is too large" in found(FORCED_ERRORS)


def test_a_jackpot_is_worth_more_than_its_tax(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(share_nano: Any) -> Any:
        return lambda pool, tax, rate, payout, claimants: share_nano(pool, 100 * tax, rate, payout, claimants)

    wrapped(monkeypatch, jackpots, "share_nano", make)
    said = found(FORCED_ERRORS)
    assert "its tax is worth" in said or "several found is too large" in said


def test_a_jackpot_empties_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jackpots, "POOL_SHARE", 1)
    assert "out of a pool of" in found(FORCED_ERRORS)


def test_who_approves_a_forced_error_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(slash_slot: Any) -> Any:
        def mild(state: State, height: int, instalment: Instalment, verifier: bytes, winner: Any, why: str) -> None:
            if why == "approved a forced error":
                settlement.release_slot(state, height, instalment, verifier, VERIFICATION_RELEASED)
            else:
                slash_slot(state, height, instalment, verifier, winner, why)

        return mild

    wrapped(monkeypatch, settlement, "slash_slot", make)
    assert "a verifier that approved a forced error kept its bond" in found(FORCED_ERRORS)


def test_a_withheld_secret_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced, "secret_withheld", window.end_challenges)
    assert found(FORCED_FOUL, "an instalment was settled without its secret")


def test_a_withheld_secret_costs_only_the_small_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    def mild(state: State, height: int, task_id: bytes) -> None:
        unsettled = (state.instalment(task_id, number) for number in life.unsettled(state.task(task_id)))
        failed = next(one for one in unsettled if one.state == INSTALMENT_WITHHELD)
        settlement._solver_failed(state, height, failed, "secret withheld")

    monkeypatch.setattr(settlement, "_secret_withheld", mild)
    assert "a solver that withheld its secret kept most of its bond" in found(FORCED_FOUL)


def test_a_draw_is_held_that_nobody_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver lets fall what was drawn without an error and has it drawn again, for nothing."""
    monkeypatch.setattr(jackpots, "restore_tax", lambda state, task_id, number: None)
    assert "nano of tax" in found(FORCED_FOUL)


def test_disputes_open_before_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever disagreed with a forced error would lose its bond to a solver that did its duty."""

    handlers: dict[type, Any] = execute._HANDLERS
    reveal = handlers[VerdictReveal]

    def early(state: State, call: Any, message: VerdictReveal) -> None:
        reveal(state, call, message)
        instalment = state.instalment(message.task_id, message.instalment)
        slot = settlement.slot_of(instalment, call.sender)
        if instalment.secret_pending and slot is not None:
            window.open_verdicts_dispute(state, call.height, instalment, slot)

    monkeypatch.setitem(handlers, VerdictReveal, early)
    assert "a dispute opened before the secret was known" in found(FORCED_ERRORS)


def test_an_instalment_opens_before_the_secret_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced, "number_before_is_shown", lambda state, instalment: True)
    assert "before the secret of the one before was known" in found(FORCED_ERRORS)
