"""Verifying an instalment: draw verifiers, verdicts by commit and reveal, the window.

Verifiers and their segments come from the beacon of the block after the commit, which nobody knew when committing.
"""

from __future__ import annotations

import msgspec

from consensus.ledger import forced, life, money, settlement, watching, window
from consensus.ledger.assignment import active_slots, verifier_sortition
from consensus.ledger.block import BlockContext
from consensus.ledger.call import Call
from consensus.ledger.messages import (
    APPROVED,
    ARITHMETIC_NATIVE,
    DISAGREED,
    UNAVAILABLE,
    VerdictCommit,
    VerdictReveal,
    verdict_commitment,
)
from consensus.ledger.phases import enter
from consensus.ledger.providers import did_duty, end_duty
from consensus.ledger.reasons import (
    BAD_FINDINGS,
    BAD_VERDICT_STATE,
    COMMITMENT_MISMATCH,
    NOT_VERIFIER,
    UNKNOWN_INSTALMENT,
)
from consensus.ledger.records import (
    INSTALMENT_DRAWING,
    INSTALMENT_REVEALING,
    INSTALMENT_UNSERVED,
    INSTALMENT_UNVERIFIABLE,
    INSTALMENT_VERIFYING,
    INSTALMENT_WATCHING,
    INSTALMENT_WINDOW,
    VERIFICATION_COMMITTED,
    VERIFICATION_DRAWN,
    VERIFICATION_MISSED,
    VERIFICATION_RELEASED,
    VERIFICATION_REVEALED,
    Instalment,
    Refused,
    Verification,
)
from consensus.ledger.schedule import samples_of, verify_blocks
from consensus.ledger.slots import fill_slot
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection
from proofs.sampling import draw_segments


def phase_due(state: State, context: BlockContext, task_id: bytes, number: int) -> None:
    """A phase's time is over, unless it ended before."""
    attempt, which = divmod(number, 64)
    instalment = state.instalment(task_id, which)
    if instalment.attempt != attempt or context.height <= instalment.due_height:
        return
    match instalment.state:
        case "sealed":
            forced.beacon_came(state, context, instalment)
        case "opening":
            settlement.fail(state, context.height, instalment, INSTALMENT_UNSERVED)
        case "unsealing":
            forced.secret_withheld(state, context.height, instalment)
        case "forced":
            forced.verify_right_roots(state, context.height, instalment)
        case "drawing":
            draw_verifiers(state, context, instalment)
        case "verifying":
            _late_commits(state, context, instalment)
        case "watching":
            _watch_or_reveal(state, context, instalment)
        case "revealing":
            end_reveals(state, context.height, instalment)
        case "window":
            forced.end_window(state, context.height, instalment)
        case "closing":
            window.end_closing(state, context.height, instalment)
        case _:
            return


# --- drawing


def draw_verifiers(state: State, context: BlockContext, instalment: Instalment) -> None:
    """Fill the empty slots; wait for candidates, until `give_up_height`, while without them there would be too few."""
    task_id, height = instalment.task_id, context.height
    task, spec = state.task(task_id), state.spec(task_id)
    sortition = verifier_sortition(state, task, instalment)
    short = len(sortition.candidates) < sortition.count and not _enough(instalment, spec.verifiers)
    if short and height < instalment.give_up_height:
        enter(state, instalment, INSTALMENT_DRAWING, height + state.parameters.retry_blocks - 1)
        return
    purpose = (b"verifier", task_id, (instalment.attempt * 64 + instalment.number).to_bytes(8, "little"))
    drawn = sortition.draw(context.beacon, *purpose)
    shown = any(slot.findings for slot in instalment.verifications) or bool(instalment.refusers)
    if not instalment.evidence_beacon or (drawn and shown):
        # What was shown tells nothing to who comes now: their evidence samples something else.
        instalment = state.change_instalment(task_id, instalment.number, evidence_beacon=context.beacon)
    waiting = instalment.refused
    for provider in drawn:
        again, waiting = waiting[:1], waiting[1:]
        segments = again[0].segments if again else _fresh_segments(state, context, instalment, provider.address)
        refusals = again[0].times if again else 0
        instalment = fill_slot(state, height, instalment, provider, segments, refusals=refusals)
        state.emit("verifier_drawn", task_id, instalment=instalment.number, verifier=provider.address)
    instalment = state.change_instalment(task_id, instalment.number, refused=waiting)
    if not _enough(instalment, spec.verifiers):
        settlement.fail(state, height, instalment, INSTALMENT_UNVERIFIABLE)
        return
    due = height + verify_blocks(spec, task.gas_per_step, state.parameters) + task.fetch_blocks
    enter(state, instalment, INSTALMENT_VERIFYING, due)
    _reveal_if_all_committed(state, height, instalment)


def _fresh_segments(state: State, context: BlockContext, instalment: Instalment, verifier: bytes) -> tuple[int, ...]:
    """What the beacon draws for a verifier that takes nobody's place."""
    samples = samples_of(state.spec(instalment.task_id), instalment.number)
    drawn = draw_segments(context.beacon, instalment.task_id, verifier, samples, len(instalment.segment_roots))
    return tuple(instalment.first_segment + segment for segment in drawn)


def _enough(instalment: Instalment, verifiers: int) -> bool:
    """Whether more than half of the slots are filled, and nothing waits that somebody could not look at."""
    return 2 * len(active_slots(instalment)) > verifiers and not instalment.refused


def _miss(state: State, height: int, instalment: Instalment, slot: Verification) -> Instalment:
    """A verifier missed its duty: the small slash; it leaves the instalment."""
    life.penalise(state, slot.verifier, slot.bond_nano, "verifier missed its time")
    money.unlock(state, slot.verifier, slot.bond_nano - life.penalty(state, slot.bond_nano))
    end_duty(state, height, slot.verifier, instalment.task_id, verifying=1)
    state.emit("verifier_missed", instalment.task_id, instalment=instalment.number, verifier=slot.verifier)
    changed = settlement.change_slot(
        state, instalment, msgspec.structs.replace(slot, state=VERIFICATION_MISSED, bond_nano=0)
    )
    refused = changed.refused
    if slot.refusals:  # Silence is no answer to the question that it was drawn for.
        refused = (*refused, Refused(slot.segments, slot.refusals))
    missed = (*changed.missed, slot.verifier)
    return state.change_instalment(instalment.task_id, instalment.number, missed=missed, refused=refused)


def _late_commits(state: State, context: BlockContext, instalment: Instalment) -> None:
    """Replace the verifiers that did not commit; after enough draws, or where nobody is left, go on without them."""
    for slot in active_slots(instalment):
        if slot.state == VERIFICATION_DRAWN:
            instalment = _miss(state, context.height, instalment, slot)
    draws = instalment.draws + 1
    instalment = state.change_instalment(instalment.task_id, instalment.number, draws=draws)
    verifiers = state.spec(instalment.task_id).verifiers
    if draws < state.parameters.verifier_draws_max:
        draw_verifiers(state, context, instalment)
    elif _enough(instalment, verifiers):
        _reveal_if_all_committed(state, context.height, instalment)
    else:
        settlement.fail(state, context.height, instalment, INSTALMENT_UNVERIFIABLE)


def _watch_or_reveal(state: State, context: BlockContext, instalment: Instalment) -> None:
    """All verdicts are bound: this block's beacon draws the watch. One that is late has missed; nobody replaces it."""
    late = watching.at_work(instalment)
    if late is not None:
        instalment = _miss(state, context.height, instalment, late)
    elif watching.may_be_drawn(state, instalment) and watching.draw_watch(state, context, instalment):
        return
    _begin_reveals(state, context.height, instalment)


# --- verdicts


def _slot_for(state: State, call: Call, message: VerdictCommit | VerdictReveal) -> tuple[Instalment, Verification]:
    instalment = state.instalment(message.task_id, message.instalment)
    if instalment.attempt != message.attempt:
        raise Rejection(UNKNOWN_INSTALMENT, f"the present attempt is {instalment.attempt}, not {message.attempt}")
    slot = settlement.slot_of(instalment, call.sender)
    if slot is None or slot.state == VERIFICATION_MISSED:
        raise Rejection(NOT_VERIFIER, f"instalment {message.instalment} has other verifiers")
    return instalment, slot


def verdict_commit(state: State, call: Call, message: VerdictCommit) -> None:
    """A verifier binds itself to its verdict; when all have, and the watch if one is drawn, revealing begins."""
    instalment, slot = _slot_for(state, call, message)
    phase = INSTALMENT_WATCHING if slot.watch else INSTALMENT_VERIFYING
    if instalment.state != phase or slot.state != VERIFICATION_DRAWN:
        raise Rejection(BAD_VERDICT_STATE, f"the instalment is {instalment.state}, the verification {slot.state}")
    committed = msgspec.structs.replace(slot, state=VERIFICATION_COMMITTED, commitment=message.commitment)
    instalment = settlement.change_slot(state, instalment, committed)
    state.emit("verdict_committed", message.task_id, instalment=message.instalment, verifier=call.sender)
    if slot.watch:
        _begin_reveals(state, call.height, instalment)
    else:
        _reveal_if_all_committed(state, call.height, instalment)


def _reveal_if_all_committed(state: State, height: int, instalment: Instalment) -> None:
    slots = active_slots(instalment)
    if not slots or any(slot.state == VERIFICATION_DRAWN for slot in slots):
        return
    if watching.may_be_drawn(state, instalment):
        enter(state, instalment, INSTALMENT_WATCHING, height)
    else:
        _begin_reveals(state, height, instalment)


def _begin_reveals(state: State, height: int, instalment: Instalment) -> None:
    """At once over where nobody has anything left to show: no replacement came for who showed nothing."""
    if all(slot.state != VERIFICATION_COMMITTED for slot in instalment.verifications):
        end_reveals(state, height, instalment)
        return
    enter(state, instalment, INSTALMENT_REVEALING, height + state.parameters.reveal_blocks)


def verdict_reveal(state: State, call: Call, message: VerdictReveal) -> None:
    """A verifier shows its verdict; a negative one opens a dispute at once."""
    instalment, slot = _slot_for(state, call, message)
    if instalment.state != INSTALMENT_REVEALING or slot.state != VERIFICATION_COMMITTED:
        raise Rejection(BAD_VERDICT_STATE, f"the instalment is {instalment.state}, the verification {slot.state}")
    shown = verdict_commitment(
        call.sender,
        message.task_id,
        message.instalment,
        message.attempt,
        message.findings,
        message.initial_root,
        message.salt,
    )
    if shown != slot.commitment:
        raise Rejection(COMMITMENT_MISMATCH, "the verdict is not the one committed to")
    _check_findings(state, instalment, slot, message)
    revealed = msgspec.structs.replace(
        slot, state=VERIFICATION_REVEALED, findings=message.findings, initial_root=message.initial_root
    )
    instalment = settlement.change_slot(state, instalment, revealed)
    did_duty(state, call.sender)
    approved = sum(finding.verdict == APPROVED for finding in message.findings)
    state.emit(
        "verdict_revealed",
        message.task_id,
        instalment=message.instalment,
        verifier=call.sender,
        approved=approved,
        of=len(message.findings),
    )
    if not instalment.secret_pending:
        window.open_verdicts_dispute(state, call.height, instalment, revealed)
    instalment = state.instalment(message.task_id, message.instalment)
    if all(other.state != VERIFICATION_COMMITTED for other in instalment.verifications):
        end_reveals(state, call.height, instalment)


def _check_findings(state: State, instalment: Instalment, slot: Verification, message: VerdictReveal) -> None:
    if tuple(finding.segment for finding in message.findings) != slot.segments:
        raise Rejection(BAD_FINDINGS, f"the segments drawn are {slot.segments}")
    native = state.spec(instalment.task_id).arithmetic == ARITHMETIC_NATIVE
    for finding in message.findings:
        if finding.verdict not in (APPROVED, DISAGREED, UNAVAILABLE):
            raise Rejection(BAD_FINDINGS, f"segment {finding.segment}: no verdict {finding.verdict}")
        if len(finding.root) != (0 if finding.verdict == UNAVAILABLE else 32):
            raise Rejection(BAD_FINDINGS, f"segment {finding.segment}: a root of {len(finding.root)} bytes")
        if finding.excess_bps and (finding.verdict == UNAVAILABLE or not native):
            raise Rejection(BAD_FINDINGS, f"segment {finding.segment}: a distance where none was measured")
        claimed = instalment.segment_roots[finding.segment - instalment.first_segment]
        if finding.verdict == DISAGREED and finding.root == claimed:
            raise Rejection(BAD_FINDINGS, f"segment {finding.segment}: disagreement with the same root")
    if message.initial_root:
        initial = state.task(instalment.task_id).initial_root
        if instalment.number or len(message.initial_root) != 32 or message.initial_root == initial:
            raise Rejection(BAD_FINDINGS, "an own initial root belongs to instalment 0 and differs from the solver's")


# --- after the verdicts


def end_reveals(state: State, height: int, instalment: Instalment) -> None:
    """All verdicts that come are in: open the window when every slot had its states, else draw again or fail."""
    silent = [slot for slot in instalment.verifications if slot.state == VERIFICATION_COMMITTED]
    for slot in silent:
        instalment = _miss(state, height, instalment, slot)
    instalment = _release_refusers(state, height, instalment)
    task_id, number, parameters = instalment.task_id, instalment.number, state.parameters
    if any(one.times >= parameters.refusals_max for one in instalment.refused):
        _unserved(state, height, instalment)
        return
    missing = any(not slot.watch for slot in silent)
    instalment = state.change_instalment(task_id, number, draws=instalment.draws + missing)
    spoken = [slot for slot in watching.verifiers_of(instalment) if slot.findings]
    if (missing or instalment.refused) and instalment.draws < parameters.verifier_draws_max:
        enter(state, instalment, INSTALMENT_DRAWING, height)
    elif 2 * len(spoken) > state.spec(task_id).verifiers and not instalment.refused:
        enter(state, instalment, INSTALMENT_WINDOW, height + parameters.window_blocks)
    else:
        settlement.fail(state, height, instalment, INSTALMENT_UNVERIFIABLE)


def _release_refusers(state: State, height: int, instalment: Instalment) -> Instalment:
    """Who could not have a state is free again, unpaid, and loses nothing; another will look at the same segments.

    A watch keeps its place, whatever it says: it counts for nothing here.

    Nobody can tell whether it lies or was not served: to punish it would give a solver a weapon against whomever it
    does not serve.
    """
    task_id, number = instalment.task_id, instalment.number
    blind = [slot for slot in watching.verifiers_of(instalment) if _could_not_look(slot)]
    for slot in blind:
        settlement.release_slot(state, height, instalment, slot.verifier, VERIFICATION_RELEASED)
    if not blind:
        return instalment
    names = [slot.verifier for slot in blind]
    state.emit("states_unavailable", task_id, instalment=number, verifiers=len(blind))
    slots = state.instalment(task_id, number).verifications
    return state.change_instalment(
        task_id,
        number,
        verifications=tuple(slot for slot in slots if slot.verifier not in names),
        refused=(*instalment.refused, *(Refused(slot.segments, slot.refusals + 1) for slot in blind)),
        refusers=(*instalment.refusers, *names),
    )


def _could_not_look(slot: Verification) -> bool:
    """Whether the verdict is that states cannot be had; one that disagrees somewhere stands by that."""
    verdicts = [finding.verdict for finding in slot.findings if slot.state == VERIFICATION_REVEALED]
    return UNAVAILABLE in verdicts and DISAGREED not in verdicts and not slot.initial_root


def _unserved(state: State, height: int, instalment: Instalment) -> None:
    """So many could not have the states of the same segments: their solver answers for it."""
    instalment = state.change_instalment(instalment.task_id, instalment.number, unserved=True)
    if instalment.secret_pending:
        forced.ask_for_secret(state, height, instalment)
    else:
        settlement.fail(state, height, instalment, INSTALMENT_UNSERVED)
