"""Planted ledger, dispute and mempool bugs: each is found by a few schedules, so the checks can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consensus.ledger import (
    assignment,
    challenges,
    disputes,
    execute,
    keys,
    life,
    messages,
    money,
    records,
    settlement,
    slashing,
    staking,
    unbonding,
    verification,
    window,
)
from consensus.ledger.records import Account, Provider
from consensus.ledger.stake_records import ValidatorRecord
from consensus.ledger.view import State
from consensus.mempool import Mempool
from tests.simulator.application import Violation
from tests.simulator.ledger.characters import Character
from tests.simulator.ledger.market import Market, run
from tests.simulator.ledger.stories import (
    CALM,
    COPIES,
    FLOOD,
    HONEST,
    OFFENCES,
    QUARRELS,
    RING,
    SELECTIVE_SERVING,
    SLOW_QUARRELS,
)

SEEDS = range(12)
"""The budget: so many schedules, each a second at most."""


def found(schedule: Any) -> str:
    """What the first schedule that finds a broken promise says; nothing when none of the budget does."""
    for seed in SEEDS:
        try:
            run(seed, schedule)
        except Violation as violation:
            return str(violation)
    return ""


@pytest.mark.parametrize("schedule", [CALM, QUARRELS, OFFENCES, FLOOD])
def test_without_a_planted_bug_nothing_is_found(schedule: Any) -> None:
    run(0, schedule)


def wrapped(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a function by what `make` makes of it."""
    monkeypatch.setattr(module, name, make(getattr(module, name)))


def test_refund_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(end: Any) -> Any:
        def twice(state: State, height: int, task_id: bytes, how: str) -> None:
            refund = state.task(task_id).escrow_nano
            end(state, height, task_id, how)
            task = state.task(task_id)
            account = state.account(task.submitter)
            state.put(
                keys.account(task.submitter),
                msgspec.structs.replace(account, balance_nano=account.balance_nano + refund),
            )

        return twice

    wrapped(monkeypatch, life, "end", make)
    assert "balances_nano" in found(CALM)


def test_clock_refunded_on_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(give_turn: Any) -> Any:
        def refunding(state: State, height: int, dispute_id: bytes, game: Any) -> None:
            clock = state.parameters.move_clock_blocks
            state.change_dispute(dispute_id, defender_clock_blocks=clock, challenger_clock_blocks=clock)
            give_turn(state, height, dispute_id, game)

        return refunding

    wrapped(monkeypatch, disputes, "_give_turn", make)
    assert "the ledger's clock ends at" in found(SLOW_QUARRELS)


def test_beacon_known_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    beacons: dict[int, bytes] = {}

    def make(draw_verifiers: Any) -> Any:
        def early(state: State, context: Any, instalment: Any) -> None:
            beacons[context.height] = context.beacon
            known = beacons.get(context.height - 1, b"\1" * 32)
            draw_verifiers(state, msgspec.structs.replace(context, beacon=known), instalment)

        return early

    wrapped(monkeypatch, verification, "draw_verifiers", make)
    assert "not those of the beacon after the commit" in found(CALM)


def test_one_offence_is_punished_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(punish: Any) -> Any:
        def forgetful(state: State, context: Any, misbehaviour: Any) -> None:
            if state.find(keys.validator(misbehaviour.validator), ValidatorRecord) is not None:
                state.change(keys.validator(misbehaviour.validator), ValidatorRecord, tombstoned=False)
            punish(state, context, misbehaviour)

        return forgetful

    wrapped(monkeypatch, slashing, "punish", make)
    assert "punished twice" in found(OFFENCES)


def test_leaving_stake_is_not_slashed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unbonding, "slashed_nano", lambda record, entry: 0)
    assert "leaving stake was paid out" in found(OFFENCES)


def test_who_leaves_takes_more_than_its_shares_are_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staking, "worth", lambda held, stake, shares: held)
    assert "a share of a validator's stake lost worth" in found(OFFENCES)


def test_tombstoned_validators_keep_their_power(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(power_of: Any) -> Any:
        return lambda state, record: power_of(state, msgspec.structs.replace(record, tombstoned=False))

    wrapped(monkeypatch, staking, "power_of", make)
    assert "its stake is worth 0" in found(OFFENCES)


def handler(monkeypatch: pytest.MonkeyPatch, message: type, make: Callable[[Any], Any]) -> None:
    """Replace a message's handler by what `make` makes of it."""
    handlers: dict[type, Any] = execute._HANDLERS
    monkeypatch.setitem(handlers, message, make(handlers[message]))


def test_a_challenges_bond_is_not_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(commit: Any) -> Any:
        def free(state: State, call: Any, message: Any) -> None:
            before = state.provider(call.sender).locked_nano
            commit(state, call, message)
            money.unlock(state, call.sender, state.provider(call.sender).locked_nano - before)

        return free

    handler(monkeypatch, messages.OpenChallengeCommit, make)
    assert "locked" in found(QUARRELS)


class Anything(bytes):
    """Differs from nothing."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


def test_a_verdict_is_shown_that_was_not_committed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "verdict_commitment", lambda *_: Anything(32))
    assert "not the one committed to" in found(COPIES)


def test_a_commitment_does_not_bind_the_verifier(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(verdict_commitment: Any) -> Any:
        return lambda verifier, *rest: verdict_commitment(b"", *rest)

    wrapped(monkeypatch, messages, "verdict_commitment", make)
    monkeypatch.setattr(verification, "verdict_commitment", messages.verdict_commitment)
    assert "copied from another verifier" in found(COPIES)


def test_a_stolen_challenge_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenges, "challenge_commitment", lambda *_: Anything(32))
    thieves = replace(CALM, characters=[*[Character("wrong", "lazy")] * 3, *HONEST, *[Character(watcher="thief")] * 2])
    assert "a challenge was shown that is not the one committed to" in found(thieves)


def test_a_last_second_move_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(give_turn: Any) -> Any:
        def without_extension(state: State, height: int, dispute_id: bytes, game: Any) -> None:
            parameters = state.parameters
            state.put(keys.PARAMETERS, msgspec.structs.replace(parameters, move_extension_blocks=0))
            give_turn(state, height, dispute_id, game)
            state.put(keys.PARAMETERS, parameters)

        return without_extension

    wrapped(monkeypatch, disputes, "_give_turn", make)
    assert "the ledger's clock ends at" in found(SLOW_QUARRELS)


def test_a_party_with_time_left_loses_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def early(schedule: Any) -> Any:
        def sooner(state: State, height: int, kind: str, *rest: Any) -> int:
            return schedule(state, height - 2 * (kind == disputes.CLOCK), kind, *rest)  # type: ignore[no-any-return]

        return sooner

    def hasty(clock_due: Any) -> Any:
        def ends(state: State, height: int, dispute_id: bytes, serial: int) -> None:
            dispute = state.dispute(dispute_id)
            if disputes._serial(dispute) == serial and dispute.state == records.DISPUTE_OPEN:
                state.change_dispute(dispute_id, due_height=height - 1)
            clock_due(state, height, dispute_id, serial)

        return ends

    wrapped(monkeypatch, State, "schedule", early)
    wrapped(monkeypatch, disputes, "clock_due", hasty)
    assert "lost by the clock with time left" in found(SLOW_QUARRELS)


def test_a_move_counts_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(dispute_move: Any) -> Any:
        def always(state: State, call: Any, message: Any) -> None:
            dispute = state.dispute(message.dispute_id)
            if dispute.state == records.DISPUTE_OPEN:
                dispute_move(state, call, message)
                return
            fields = {"mover": call.sender, "turn": dispute.turn, "move": "Name", "phase": "AwaitTiles", "bytes": 1}
            state.emit("dispute_moved", message.dispute_id, **fields)

        return always

    handler(monkeypatch, messages.DisputeMove, make)
    hasty = [*HONEST, *[Character("wrong", "lying", "hasty", "false")] * 4]
    assert "a move counted after the dispute's resolution" in found(replace(CALM, characters=hasty))


def test_settled_before_the_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(enter: Any) -> Any:
        def hurry(state: State, instalment: Any, phase: str, due_height: int) -> Any:
            changed = enter(state, instalment, phase, due_height)
            if phase == records.INSTALMENT_WINDOW:
                window.ready(state, due_height - state.parameters.window_blocks, changed)
            return changed

        return hurry

    wrapped(monkeypatch, verification, "enter", make)
    assert "before its window ended" in found(CALM)


def test_nothing_of_a_slash_is_burnt(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(slash: Any) -> Any:
        def generous(state: State, provider: bytes, amount: int, winner: Any, *rest: Any) -> None:
            before = state.supply.burnt_nano
            slash(state, provider, amount, winner, *rest)
            if winner is not None:
                money.transfer(state, money.BURNT, money.balance(winner), state.supply.burnt_nano - before)

        return generous

    wrapped(monkeypatch, money, "slash", make)
    assert "self-dealing pays" in found(QUARRELS)


def after_refusal(monkeypatch: pytest.MonkeyPatch, undo: Callable[[State, Any, Any], None]) -> None:
    """Do something more whenever a message was refused."""

    def make(apply: Any) -> Any:
        def undoing(state: State, context: Any, data: bytes, *rest: Any) -> Any:
            result = apply(state, context, data, *rest)
            if result.code and result.fee_nano:
                undo(state, messages.decode_transaction(data), result)
            return result

        return undoing

    wrapped(monkeypatch, execute, "_apply", make)


def test_a_refused_message_leaves_the_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    def undo(state: State, transaction: Any, result: Any) -> None:
        account = keys.account(transaction.sender_address)
        state.change(account, Account, nonce=transaction.nonce)

    after_refusal(monkeypatch, undo)
    assert "nonce" in found(CALM)


def test_a_refused_message_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def undo(state: State, transaction: Any, result: Any) -> None:
        back = money.balance(transaction.sender_address)
        money.transfer(state, money.FEES, back, min(result.fee_nano, state.supply.fees_nano))

    after_refusal(monkeypatch, undo)
    assert "a trader has" in found(CALM)


def test_a_full_height_loses_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(schedule: Any) -> Any:
        def losing(state: State, height: int, *rest: Any) -> int:
            return height if state.due(height) else schedule(state, height, *rest)  # type: ignore[no-any-return]

        return losing

    wrapped(monkeypatch, State, "schedule", make)
    broken = found(replace(CALM, characters=RING))
    assert "a clock ran out and nothing happened" in broken or "after its bound" in broken


def test_a_solver_may_verify_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def everybody(state: State, task: Any, instalment: Any) -> assignment.Sortition:
        providers = [state.provider(address) for address in state.addresses(keys.PROVIDERS)]
        taken = {slot.verifier for slot in instalment.verifications}
        free = tuple(provider for provider in providers if provider.address not in taken)
        return assignment.Sortition(free, (1,) * len(free), state.spec(task.task_id).verifiers - len(taken))

    monkeypatch.setattr(verification, "verifier_sortition", everybody)
    assert "a solver verifies itself" in found(CALM)


def test_a_solver_that_loses_on_purpose_takes_its_verifiers_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(solver_wrong: Any) -> Any:
        def blaming(state: State, height: int, dispute: Any, winner: Any) -> None:
            instalment = state.instalment(dispute.task_id, dispute.instalment)
            for slot in instalment.verifications:
                if slot.state == records.VERIFICATION_REVEALED and settlement._approved(dispute, slot):
                    settlement.slash_slot(state, height, instalment, slot.verifier, winner, "approved it")
            solver_wrong(state, height, dispute, winner)

        return blaming

    wrapped(monkeypatch, settlement, "solver_wrong", make)
    assert "an honest party was slashed" in found(replace(CALM, characters=RING))


def test_a_cheat_escapes_its_dispute_by_withholding_states(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(state: State, height: int, instalment: Any, how: str) -> None:
        settlement._solver_failed(state, height, instalment, "the states were not served")

    monkeypatch.setattr(settlement, "fail", at_once)
    assert "had challenged got away" in found(SELECTIVE_SERVING)


def test_more_is_minted_than_the_parameters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(mint: Any) -> Any:
        return lambda state, place, amount: mint(state, place, 2 * amount)

    wrapped(monkeypatch, money, "mint", make)
    assert "were minted in one block" in found(CALM)


def test_a_mempool_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mempool, "_make_room", lambda *_: ())
    assert "a mempool holds more" in found(FLOOD)


def unordered_digest() -> str:
    """State roots of a market whose ledger goes through those drawn in the order of a set."""
    drawn = assignment.Sortition.draw

    def careless(self: assignment.Sortition, beacon: bytes, *purpose: bytes) -> list[Provider]:
        by_address = {provider.address: provider for provider in drawn(self, beacon, *purpose)}
        return [by_address[address] for address in set(by_address)]

    assignment.Sortition.draw = careless  # type: ignore[method-assign]
    market = Market(0, CALM)
    market.run()
    return market.digest()


def test_iteration_over_a_set_splits_the_state_roots_of_two_processes() -> None:
    root = Path(__file__).resolve().parents[2]
    code = "from tests.simulator.test_simulator_market_bugs import unordered_digest; print(unordered_digest())"
    outputs = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        outputs.add(done.stdout.strip())
    assert len(outputs) > 1
