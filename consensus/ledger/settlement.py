"""Paying an instalment, freeing its verifiers, and undoing what was proven wrong."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from consensus.ledger import games, jackpots, keys, life, money, phases
from consensus.ledger.assignment import active_slots
from consensus.ledger.messages import APPROVED, ARITHMETIC_NATIVE, DISAGREED, UNAVAILABLE, Finding
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.providers import end_duty, missed
from consensus.ledger.records import (
    DISPUTE_EVIDENCE,
    DISPUTE_MOOT,
    ENDED_BY_ANOTHER,
    INSTALMENT_DRAWING,
    INSTALMENT_FORCED,
    INSTALMENT_INVALID,
    INSTALMENT_READY,
    INSTALMENT_REVEALING,
    INSTALMENT_SETTLED,
    INSTALMENT_UNSEALING,
    INSTALMENT_UNSERVED,
    INSTALMENT_UNVERIFIABLE,
    INSTALMENT_VERIFYING,
    INSTALMENT_WINDOW,
    INSTALMENT_WITHHELD,
    TASK_CANCELLED,
    TASK_EXPIRED,
    VERIFICATION_PAID,
    VERIFICATION_RELEASED,
    VERIFICATION_REVEALED,
    VERIFICATION_SLASHED,
    DisputeRecord,
    Instalment,
    Owed,
    PendingChallenge,
    Task,
    Verification,
)
from consensus.ledger.schedule import instalment_steps, segment_span
from consensus.ledger.view import State


def settle(state: State, height: int, task_id: bytes) -> None:
    """Settle instalments in order as far as they are ready, then let the task go on."""
    if _end_what_failed(state, height, task_id):
        return
    for number in life.unsettled(state.task(task_id)):
        _verify_again(state, height, state.instalment(task_id, number))
    if _end_what_failed(state, height, task_id):
        return
    for number in life.unsettled(state.task(task_id)):
        instalment = state.instalment(task_id, number)
        if instalment.state != INSTALMENT_READY or instalment.open_disputes:
            break
        _pay_instalment(state, height, instalment)
    for number in life.unsettled(state.task(task_id)):
        _go_on_to_the_right_roots(state, height, state.instalment(task_id, number))
    life.advance(state, height, task_id)


def _verify_again(state: State, height: int, instalment: Instalment) -> None:
    """All its verifiers were proven wrong, so nobody has verified it: others are drawn."""
    if instalment.state != INSTALMENT_READY or instalment.open_disputes or active_slots(instalment):
        return
    task_id, number = instalment.task_id, instalment.number
    draws = instalment.draws + 1
    give_up = phases.give_up_height(state, height, task_id)
    changed = state.change_instalment(task_id, number, draws=draws, give_up_height=give_up)
    if draws < state.parameters.verifier_draws_max:
        phases.enter(state, changed, INSTALMENT_DRAWING, height)
    else:
        state.change_instalment(task_id, number, state=INSTALMENT_UNVERIFIABLE, due_height=0)


def _go_on_to_the_right_roots(state: State, height: int, instalment: Instalment) -> None:
    """A forced error's own disputes are over: the next block draws verifiers of the right roots."""
    waits = instalment.state == INSTALMENT_FORCED and not instalment.due_height
    if waits and not instalment.open_disputes:
        phases.enter(state, instalment, INSTALMENT_FORCED, height)


def fail(state: State, height: int, instalment: Instalment, how: str) -> None:
    """An instalment is unserved, unverifiable or its secret withheld: that ends the task's unsettled work.

    Open disputes over the solver's work are decided first: a solver about to be proven wrong would else get away with
    the small slash for withholding its states, or with nothing.
    """
    state.change_instalment(instalment.task_id, instalment.number, state=how, due_height=0)
    settle(state, height, instalment.task_id)


def _end_what_failed(state: State, height: int, task_id: bytes) -> bool:
    """Do what a failed instalment of the task waits for; whether that ended the unsettled work."""
    instalments = [state.instalment(task_id, number) for number in life.unsettled(state.task(task_id))]
    failed = next((i for i in instalments if i.state in _FAILED), None)
    disputes = [state.dispute(dispute_id) for instalment in instalments for dispute_id in instalment.open_disputes]
    if failed is None or any(dispute.kind != DISPUTE_EVIDENCE for dispute in disputes):
        return False
    if any(_doubted(instalment) for instalment in instalments):
        return False
    if any(i.state == INSTALMENT_WITHHELD for i in instalments):
        _secret_withheld(state, height, task_id)
    elif failed.state == INSTALMENT_UNSERVED:
        _solver_failed(state, height, failed, "the states were not served")
    else:
        _give_up(state, height, task_id)
    return True


_FAILED = (INSTALMENT_UNSERVED, INSTALMENT_UNVERIFIABLE, INSTALMENT_WITHHELD)


def _doubted(instalment: Instalment) -> bool:
    """Whether a disagreement waits for the secret before it becomes a dispute."""
    waits = instalment.secret_pending and instalment.state in _PHASES_WITH_VERDICTS
    return waits and has_disagreement(instalment.verifications)


_PHASES_WITH_VERDICTS = (
    INSTALMENT_DRAWING,  # of a second set: a watch of the first has spoken
    INSTALMENT_VERIFYING,
    INSTALMENT_REVEALING,
    INSTALMENT_WINDOW,
    INSTALMENT_UNSEALING,
)


def has_disagreement(slots: Iterable[Verification]) -> bool:
    """Whether a verdict says that something is wrong."""
    return any(slot.initial_root or any(finding.verdict == DISAGREED for finding in slot.findings) for slot in slots)


def _pay_instalment(state: State, height: int, instalment: Instalment) -> None:
    task_id, number = instalment.task_id, instalment.number
    task, spec = state.task(task_id), state.spec(task_id)
    gas = instalment_steps(spec, number)[1] * task.gas_per_step
    price = money.work_price(gas, task.solver_price_nano)
    money.pay(state, money.escrow(task_id), instalment.solver, price)
    fees = pay_owed(state, instalment)
    for slot in instalment.verifications:
        if slot.state == VERIFICATION_REVEALED:
            approved = [finding for finding in slot.findings if finding.verdict == APPROVED]
            fee = fee_of(state, instalment, slot, approved)
            money.pay(state, money.escrow(task_id), slot.verifier, fee)
            fees += fee
            release_slot(state, height, instalment, slot.verifier, VERIFICATION_PAID, fee)
        else:
            release_slot(state, height, instalment, slot.verifier, VERIFICATION_RELEASED)
    state.change_instalment(task_id, number, state=INSTALMENT_SETTLED, solver_paid_nano=price)
    state.change_task(
        task_id,
        settled=number + 1,
        settled_root=instalment.end_root,
        solver_paid_nano=task.solver_paid_nano + price,
        verifiers_paid_nano=task.verifiers_paid_nano + fees,
    )
    state.emit("instalment_settled", task_id, instalment=number, solver_nano=price, verifiers_nano=fees)


def pay_owed(state: State, instalment: Instalment) -> int:
    """Pay those who verified what was shown with a forced error; the sum."""
    for owed in instalment.owed:
        money.pay(state, money.escrow(instalment.task_id), owed.verifier, owed.fee_nano)
    return sum(owed.fee_nano for owed in instalment.owed)


def fees_of_forced_round(state: State, instalment: Instalment, lost: DisputeRecord | None = None) -> tuple[Owed, ...]:
    """Fees of those who verified what was shown with a forced error, and did not approve the error itself.

    Who disagreed at it knows the right root, which re-execution alone gives: the solver's, or the one that won the
    dispute that the solver `lost`. The segment that began at the wrong state was work like the others, whatever its
    verdict.
    """
    right = instalment.segment_roots[instalment.forced_segment - instalment.first_segment]
    owed = []
    for slot in instalment.verifications:
        approved = any(f.segment == instalment.forced_segment and f.verdict == APPROVED for f in slot.findings)
        if slot.state != VERIFICATION_REVEALED or approved:
            continue
        done = [
            finding
            for finding in slot.findings
            if finding.verdict == APPROVED
            or (finding.verdict == DISAGREED and finding.segment == instalment.forced_segment + 1)
            or (finding.verdict == DISAGREED and finding.segment == instalment.forced_segment and finding.root == right)
            or (finding.verdict == DISAGREED and lost is not None and _right(lost, instalment.number, finding, False))
        ]
        owed.append(Owed(slot.verifier, fee_of(state, instalment, slot, done)))
    return tuple(owed)


def fee_of(state: State, instalment: Instalment, slot: Verification, findings: list[Finding]) -> int:
    """What re-executing the segments of these findings is worth."""
    task, spec = state.task(instalment.task_id), state.spec(instalment.task_id)
    steps = sum(segment_span(spec, finding.segment)[1] for finding in findings)
    return money.work_price(steps * task.gas_per_step, slot.price_nano)


# --- verifiers' slots


def slot_of(instalment: Instalment, verifier: bytes) -> Verification | None:
    """The verifier's slot, or None."""
    return next((slot for slot in instalment.verifications if slot.verifier == verifier), None)


def change_slot(state: State, instalment: Instalment, slot: Verification) -> Instalment:
    """Put the new version of a verifier's slot into the instalment."""
    present = state.instalment(instalment.task_id, instalment.number).verifications
    slots = tuple(slot if other.verifier == slot.verifier else other for other in present)
    return state.change_instalment(instalment.task_id, instalment.number, verifications=slots)


def release_slot(
    state: State, height: int, instalment: Instalment, verifier: bytes, new_state: str, fee_nano: int = 0
) -> None:
    """Free a slot's bond and duty; nothing happens to one that is free already."""
    slot = slot_of(state.instalment(instalment.task_id, instalment.number), verifier)
    if slot is None or slot.bond_nano == 0:
        return
    money.unlock(state, verifier, slot.bond_nano)
    changed = msgspec.structs.replace(slot, state=new_state, bond_nano=0, fee_nano=fee_nano)
    change_slot(state, instalment, changed)
    end_duty(state, height, verifier, instalment.task_id, verifying=1)


def slash_slot(
    state: State, height: int, instalment: Instalment, verifier: bytes, winner: bytes | None, why: str
) -> None:
    """A verifier was proven wrong: its bond for this instalment is lost."""
    slot = slot_of(state.instalment(instalment.task_id, instalment.number), verifier)
    if slot is None or slot.bond_nano == 0:
        return
    money.slash(state, verifier, slot.bond_nano, winner, why)
    change_slot(state, instalment, msgspec.structs.replace(slot, state=VERIFICATION_SLASHED, bond_nano=0))
    end_duty(state, height, verifier, instalment.task_id, verifying=1)


# --- what was proven wrong


def solver_wrong(state: State, height: int, dispute: DisputeRecord, winner: bytes | None) -> None:
    """The solver lost its game: slash it; another resumes after what is settled.

    Everything unsettled falls, and with it every other open dispute and pending challenge of the task. Verifiers of
    fallen instalments who were right are paid out of the solver's bond. Those who approved the claim get nothing, and
    lose nothing: a solver can lose a game about a right claim on purpose, and they had no move in it. What a verifier
    answers for is its evidence, in a dispute of its own.
    """
    task_id = dispute.task_id
    task = state.task(task_id)
    compensations = _compensations(state, dispute)
    _restore_taxes(state, task_id)
    left = state.task(task_id).solver_bond_nano
    money.slash(state, task.solver, left, winner, "solver proven wrong", compensations)
    state.change_task(task_id, solver_bond_nano=0)
    state.emit("solver_slashed", task_id, solver=task.solver, dispute=dispute.dispute_id, winner=winner or b"")
    drop_unsettled(state, height, task_id)
    _go_on_without(state, height, task_id)


def _go_on_without(state: State, height: int, task_id: bytes) -> None:
    closing = state.task(task_id).closing
    if closing in (TASK_CANCELLED, TASK_EXPIRED):
        life.end(state, height, task_id, closing)
    else:
        life.replace_solver(state, height, task_id)


def _restore_taxes(state: State, task_id: bytes) -> None:
    """The solver pays for drawing its fallen instalments' forced errors anew."""
    for number in life.unsettled(state.task(task_id)):
        jackpots.restore_tax(state, task_id, number)


def _secret_withheld(state: State, height: int, task_id: bytes) -> None:
    """The solver did not show a secret, or none that fits what it showed: its whole bond is gone, nobody wins it.

    Were it cheaper than a lost dispute, a solver that verdicts or challenges say is wrong would rather keep silent.
    """
    task = state.task(task_id)
    owed: list[tuple[bytes, int]] = []
    for number in life.unsettled(task):
        instalment = state.instalment(task_id, number)
        doubted = _defenders_of_evidence(state, instalment)
        owed += [(fee.verifier, fee.fee_nano) for fee in instalment.owed]
        if instalment.voided:
            fees = fees_of_forced_round(state, instalment)
            owed += [(fee.verifier, fee.fee_nano) for fee in fees if fee.verifier not in doubted]
            continue
        for slot in instalment.verifications:
            if slot.state == VERIFICATION_REVEALED and slot.verifier not in doubted:
                done = [finding for finding in slot.findings if finding.verdict != UNAVAILABLE]
                owed.append((slot.verifier, fee_of(state, instalment, slot, done)))
    _restore_taxes(state, task_id)
    left = state.task(task_id).solver_bond_nano
    money.slash(state, task.solver, left, None, "secret withheld", tuple(owed))
    state.change_task(task_id, solver_bond_nano=0)
    state.emit("solver_failed", task_id, solver=task.solver, why="secret withheld")
    drop_unsettled(state, height, task_id)
    _go_on_without(state, height, task_id)


def _pay_owed_out_of_the_bond(state: State, task_id: bytes) -> None:
    """Who verified a forced error of what falls now is paid by the solver, as far as its bond goes."""
    for number in life.unsettled(state.task(task_id)):
        for owed in state.instalment(task_id, number).owed:
            task = state.task(task_id)
            jackpots.take_from_solver(
                state, task, money.balance(owed.verifier), min(owed.fee_nano, task.solver_bond_nano)
            )


def _solver_failed(state: State, height: int, failed: Instalment, why: str) -> None:
    """The solver did not serve its states, or did not open its instalment: what is unsettled falls; draw another."""
    task_id = failed.task_id
    task = state.task(task_id)
    lost = unserved_nano(state, task, failed)
    money.slash(state, task.solver, lost, None, why)
    missed(state, task.solver)
    state.change_task(task_id, solver_bond_nano=task.solver_bond_nano - lost)
    _restore_taxes(state, task_id)
    _pay_owed_out_of_the_bond(state, task_id)
    state.emit("solver_failed", task_id, solver=task.solver, why=why)
    drop_unsettled(state, height, task_id)
    _go_on_without(state, height, task_id)


def unserved_nano(state: State, task: Task, failed: Instalment) -> int:
    """What an instalment whose states cannot be had costs its solver: by its price, at least a missed duty.

    That they were withheld is never proven, for verifiers may lie. Yet what cannot be looked at may be anything: were
    it as cheap as a missed duty, a solver with accomplices among the verifiers would withhold what is wrong.
    """
    least = life.penalty(state, task.solver_bond_nano)
    if not failed.unserved:
        return least
    gas = instalment_steps(state.spec(task.task_id), failed.number)[1] * task.gas_per_step
    price = money.work_price(gas, task.solver_price_nano)
    return min(task.solver_bond_nano, max(least, price * state.parameters.unserved_bps // BASIS_POINTS))


def _give_up(state: State, height: int, task_id: bytes) -> None:
    """Nobody can verify: the task expires with what is settled, and nobody is to blame."""
    state.emit("task_unverifiable", task_id)
    task = state.task(task_id)
    fees = sum(pay_owed(state, state.instalment(task_id, number)) for number in life.unsettled(task))
    state.change_task(task_id, verifiers_paid_nano=task.verifiers_paid_nano + fees)
    drop_unsettled(state, height, task_id)
    closing = state.task(task_id).closing
    life.end(state, height, task_id, TASK_CANCELLED if closing == TASK_CANCELLED else TASK_EXPIRED)


def _approved(dispute: DisputeRecord, slot: Verification) -> bool:
    """Whether the slot's verdict stands behind the disproved claim."""
    if dispute.kind == "initial":
        return slot.initial_root == b""
    return any(finding.segment == dispute.segment and finding.verdict == APPROVED for finding in slot.findings)


def _compensations(state: State, dispute: DisputeRecord) -> tuple[tuple[bytes, int], ...]:
    """(verifier, fee) of everyone who revealed a verdict that was right, on any instalment that falls."""
    owed: list[tuple[bytes, int]] = []
    native = state.spec(dispute.task_id).arithmetic == ARITHMETIC_NATIVE
    for number in life.unsettled(state.task(dispute.task_id)):
        instalment = state.instalment(dispute.task_id, number)
        owed += [(fee.verifier, fee.fee_nano) for fee in instalment.owed]
        doubted = _defenders_of_evidence(state, instalment)
        if instalment.voided:
            fees = fees_of_forced_round(state, instalment, dispute)
            owed += [(fee.verifier, fee.fee_nano) for fee in fees if fee.verifier not in doubted]
            continue
        for slot in instalment.verifications:
            if number == dispute.instalment and _approved(dispute, slot):
                continue
            if slot.state == VERIFICATION_REVEALED and slot.verifier not in doubted:
                right = [finding for finding in slot.findings if _right(dispute, number, finding, native)]
                owed.append((slot.verifier, fee_of(state, instalment, slot, right)))
    return tuple(owed)


def _right(dispute: DisputeRecord, number: int, finding: Finding, native: bool) -> bool:
    """Whether the finding says what the dispute proved. In a native task no two who are right have the same root."""
    if finding.verdict == DISAGREED:
        segment = (dispute.kind, dispute.instalment, dispute.segment) == ("segment", number, finding.segment)
        return segment and (native or finding.root == dispute.challenger_root)
    return finding.verdict == APPROVED


def _defenders_of_evidence(state: State, instalment: Instalment) -> set[bytes]:
    disputes = [state.dispute(dispute_id) for dispute_id in instalment.open_disputes]
    return {dispute.defender for dispute in disputes if dispute.kind == DISPUTE_EVIDENCE}


def drop_unsettled(state: State, height: int, task_id: bytes) -> None:
    """Declare every unsettled instalment invalid and free everyone who still has something at stake there."""
    task = state.task(task_id)
    for number in life.unsettled(task):
        instalment = state.instalment(task_id, number)
        for slot in instalment.verifications:
            release_slot(state, height, instalment, slot.verifier, VERIFICATION_RELEASED)
        for challenger in instalment.pending_challengers:
            bond = pending_challenge(state, instalment, challenger).bond_nano
            free_pending(state, height, instalment, challenger, bond)
        for dispute_id in instalment.open_disputes:
            end_moot(state, height, dispute_id)
        state.change_instalment(task_id, number, state=INSTALMENT_INVALID, open_disputes=(), pending_challengers=())
        state.emit("instalment_invalid", task_id, instalment=number, attempt=instalment.attempt)
    state.change_task(task_id, committed=task.settled)


def pending_challenge(state: State, instalment: Instalment, challenger: bytes) -> PendingChallenge:
    """The unrevealed challenge of an account that is listed as pending."""
    return state.need(keys.challenge(instalment.task_id, instalment.number, challenger), PendingChallenge)


def free_pending(state: State, height: int, instalment: Instalment, challenger: bytes, bond_nano: int) -> None:
    """Forget a challenge that was not revealed and free what is left of its bond."""
    money.unlock(state, challenger, bond_nano)
    state.put(keys.challenge(instalment.task_id, instalment.number, challenger), None)
    end_duty(state, height, challenger, instalment.task_id)


def release_challengers(state: State, height: int, dispute: DisputeRecord) -> None:
    """Free the bonds of everyone whose game was not lost."""
    for challenger in dispute.challengers:
        if challenger.bond_nano:
            money.unlock(state, challenger.address, challenger.bond_nano)
            end_duty(state, height, challenger.address, dispute.task_id)
    freed = tuple(msgspec.structs.replace(challenger, bond_nano=0) for challenger in dispute.challengers)
    state.change_dispute(dispute.dispute_id, challengers=freed)


def end_moot(state: State, height: int, dispute_id: bytes) -> None:
    """End a dispute without a ruling."""
    dispute = state.dispute(dispute_id)
    release_challengers(state, height, dispute)
    state.change_dispute(dispute_id, state=DISPUTE_MOOT, resolved_height=height, how=ENDED_BY_ANOTHER)
    games.forget(state, dispute_id)
    why = "another dispute was decided first"
    state.emit(
        "dispute_resolved", dispute_id, task=dispute.task_id, outcome=DISPUTE_MOOT, how=ENDED_BY_ANOTHER, why=why
    )
