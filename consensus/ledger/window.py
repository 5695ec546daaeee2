"""After the verdicts: what a disagreement opens, the window for challenges, and its end."""

from __future__ import annotations

from consensus.ledger import jackpots, life, money, settlement
from consensus.ledger.disputes import open_dispute
from consensus.ledger.messages import APPROVED, DISAGREED
from consensus.ledger.phases import enter
from consensus.ledger.records import (
    DISPUTE_INITIAL,
    DISPUTE_SEGMENT,
    INSTALMENT_CLOSING,
    INSTALMENT_FORCED,
    INSTALMENT_READY,
    Challenger,
    Instalment,
    Verification,
)
from consensus.ledger.view import State


def open_verdicts_dispute(state: State, height: int, instalment: Instalment, slot: Verification) -> None:
    """The verdict's first disagreement becomes a dispute; the verifier's locked bond answers for it.

    Not one that says nothing about the right roots: those of a forced error, and of the segment that began with it.
    """
    challenger = Challenger(slot.verifier, 0, False)
    solver = instalment.solver
    if slot.initial_root:
        initial, own = state.task(instalment.task_id).initial_root, slot.initial_root
        open_dispute(state, height, instalment, DISPUTE_INITIAL, 0, solver, initial, challenger, own)
        return
    for finding in slot.findings:
        claimed = instalment.segment_roots[finding.segment - instalment.first_segment]
        forced = finding.segment in instalment.voided
        if finding.verdict != DISAGREED or (forced and _settled_by_secret(instalment, finding.segment, finding.root)):
            continue
        segment, own = finding.segment, finding.root
        open_dispute(state, height, instalment, DISPUTE_SEGMENT, segment, solver, claimed, challenger, own)
        return


def _settled_by_secret(instalment: Instalment, segment: int, root: bytes) -> bool:
    """Whether a disagreement at a forced error needs no dispute: it has the right root, or began at the wrong one."""
    return segment != instalment.forced_segment or has_right_root(instalment, segment, root)


def has_right_root(instalment: Instalment, segment: int, root: bytes) -> bool:
    """Whether this is the right end root of the segment, as the solver has it."""
    return root == instalment.segment_roots[segment - instalment.first_segment]


def approved_the_error(instalment: Instalment, slot: Verification) -> bool:
    """Whether the verdict stands behind a forced error."""
    if instalment.forced_segment not in instalment.voided:
        return False
    return any(f.segment == instalment.forced_segment and f.verdict == APPROVED for f in slot.findings)


def end_challenges(state: State, height: int, instalment: Instalment) -> None:
    """No more challenges are announced: those that were are shown now; with none the instalment waits for nothing.

    After a forced error the verifiers that approved it have the same time to insist.
    """
    contestable = any(approved_the_error(instalment, slot) for slot in instalment.verifications)
    if instalment.pending_challengers or contestable:
        enter(state, instalment, INSTALMENT_CLOSING, height + state.parameters.reveal_blocks)
    else:
        ready(state, height, instalment)


def end_closing(state: State, height: int, instalment: Instalment) -> None:
    """Challenges that were announced and never shown cost the small slash."""
    for challenger in instalment.pending_challengers:
        drop_pending(state, height, instalment, challenger)
    changed = state.change_instalment(instalment.task_id, instalment.number, pending_challengers=())
    ready(state, height, changed)


def drop_pending(state: State, height: int, instalment: Instalment, challenger: bytes) -> None:
    """Slash a little of an unrevealed challenge's bond and free the rest."""
    pending = settlement.pending_challenge(state, instalment, challenger)
    lost = life.penalty(state, pending.bond_nano)
    money.slash(state, challenger, lost, None, "challenge not revealed")
    settlement.free_pending(state, height, instalment, challenger, pending.bond_nano - lost)


def ready(state: State, height: int, instalment: Instalment) -> None:
    """All that can be said against the instalment is said; a forced error's finders are paid."""
    task_id, number = instalment.task_id, instalment.number
    if instalment.voided:
        jackpots.pay(state, instalment)
        state.change_instalment(task_id, number, state=INSTALMENT_FORCED, due_height=0)
    else:
        state.change_instalment(task_id, number, state=INSTALMENT_READY, due_height=0)
        state.emit("instalment_ready", task_id, instalment=number)
    settlement.settle(state, height, task_id)
