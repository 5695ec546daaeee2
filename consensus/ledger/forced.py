"""Forced errors: sealed instalments are opened, verified, and judged when their solver shows its secret.

The solver bound itself to the right roots (seal) and to a secret (hash chain) before the beacon that, with the secret,
decides whether it has to show one segment with a wrong end. Until the secret is shown nobody else can know: no dispute
opens. Then whoever was drawn and disagreed at the error with the right root takes a share of the jackpot; whoever
approved it may insist (the solver may call right what is wrong), which is a dispute like any other, and loses its bond
if it does not, a share of it to the challenger that found the error; and the right roots are verified in turn.
"""

from __future__ import annotations

from consensus.ledger import jackpots, settlement, window
from consensus.ledger.block import BlockContext
from consensus.ledger.call import Call
from consensus.ledger.disputes import open_dispute
from consensus.ledger.messages import DISAGREED, ContestForcedError, OpenInstalment, RevealSecret
from consensus.ledger.phases import enter, give_up_height
from consensus.ledger.reasons import (
    BAD_COMMIT,
    BAD_INSTALMENT_STATE,
    BAD_SECRET,
    BAD_VERDICT_STATE,
    NOT_SOLVER,
    NOT_VERIFIER,
)
from consensus.ledger.records import (
    DISPUTE_SEGMENT,
    INSTALMENT_CLOSING,
    INSTALMENT_DRAWING,
    INSTALMENT_OPENING,
    INSTALMENT_SEALED,
    INSTALMENT_UNSEALING,
    INSTALMENT_UNSERVED,
    INSTALMENT_WITHHELD,
    OUTCOME_FORCED,
    OUTCOME_RIGHT,
    VERIFICATION_RELEASED,
    VERIFICATION_REVEALED,
    Challenger,
    Instalment,
)
from consensus.ledger.schedule import instalment_segments
from consensus.ledger.sealed import forced_segment, link_of, seal_of
from consensus.ledger.settlement import slot_of
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection

# --- opening


def beacon_came(state: State, context: BlockContext, instalment: Instalment) -> None:
    """The block after the commit: its beacon decides with the secret. Open the instalment when its turn is."""
    if not instalment.beacon:
        task_id, number = instalment.task_id, instalment.number
        instalment = state.change_instalment(task_id, number, beacon=context.beacon)
    if number_before_is_shown(state, instalment):
        _ask_for_roots(state, context.height, instalment)


def number_before_is_shown(state: State, instalment: Instalment) -> bool:
    """Whether the right end of the instalment before is public: where this one starts would tell it else."""
    if instalment.number == 0:
        return True
    return not state.instalment(instalment.task_id, instalment.number - 1).secret_pending


def _ask_for_roots(state: State, height: int, instalment: Instalment) -> None:
    start_root = instalment.start_root
    if instalment.number:
        start_root = state.instalment(instalment.task_id, instalment.number - 1).end_root
    changed = state.change_instalment(instalment.task_id, instalment.number, start_root=start_root)
    enter(state, changed, INSTALMENT_OPENING, height + state.parameters.forced_open_blocks)


def _own_instalment(state: State, call: Call, task_id: bytes, number: int, needed: str) -> Instalment:
    instalment = state.instalment(task_id, number)
    if instalment.solver != call.sender:
        raise Rejection(NOT_SOLVER, f"the instalment's solver is {instalment.solver.hex()}")
    if instalment.state != needed:
        raise Rejection(BAD_INSTALMENT_STATE, f"the instalment is {instalment.state}, not {needed}")
    return instalment


def open_instalment(state: State, call: Call, message: OpenInstalment) -> None:
    """The roots that are verified. That they are those sealed, but for a forced error, shows with the secret."""
    task_id, number = message.task_id, message.instalment
    _own_instalment(state, call, task_id, number, INSTALMENT_OPENING)
    count = len(instalment_segments(state.spec(task_id), number))
    if len(message.segment_roots) != count:
        raise Rejection(BAD_COMMIT, f"{len(message.segment_roots)} segment roots, the instalment has {count} segments")
    for name in ("state_blobs", "losses"):
        if len(getattr(message, name)) not in (0, count):
            raise Rejection(BAD_COMMIT, f"{name}: one a segment, or none")
    changed = state.change_instalment(
        task_id,
        number,
        segment_roots=message.segment_roots,
        state_blobs=message.state_blobs,
        losses=message.losses,
        give_up_height=give_up_height(state, call.height, task_id),
    )
    state.emit("instalment_opened", task_id, instalment=number, solver=call.sender)
    enter(state, changed, INSTALMENT_DRAWING, call.height)


# --- the secret


def end_window(state: State, height: int, instalment: Instalment) -> None:
    """No more challenges are announced; with forced errors the secret is shown before they are."""
    if instalment.secret_pending:
        ask_for_secret(state, height, instalment)
    else:
        window.end_challenges(state, height, instalment)


def ask_for_secret(state: State, height: int, instalment: Instalment) -> None:
    """Verdicts and challenges are in."""
    enter(state, instalment, INSTALMENT_UNSEALING, height + state.parameters.forced_reveal_blocks)


def secret_withheld(state: State, height: int, instalment: Instalment) -> None:
    """The solver showed no secret that fits: what it opened was not what it had to, or it is silent."""
    state.emit("secret_withheld", instalment.task_id, instalment=instalment.number, solver=instalment.solver)
    settlement.fail(state, height, instalment, INSTALMENT_WITHHELD)


def reveal_secret(state: State, call: Call, message: RevealSecret) -> None:
    """Judge what was shown: disagreements open their disputes, or a forced error is paid for and put right."""
    task_id, number = message.task_id, message.instalment
    instalment = _own_instalment(state, call, task_id, number, INSTALMENT_UNSEALING)
    position = _drawn_position(state, instalment, message.secret)
    right = _right_roots(instalment, position, message)
    sealed = seal_of(instalment.solver, task_id, number, instalment.attempt, right, message.secret)
    if sealed != instalment.seal:
        raise Rejection(BAD_SECRET, "the roots that were shown are not those that had to be")
    state.change_task(task_id, secret_link=message.secret)
    if position is None:
        instalment = state.change_instalment(task_id, number, outcome=OUTCOME_RIGHT)
        state.emit("secret_shown", task_id, instalment=number, outcome=OUTCOME_RIGHT, segment=0)
    else:
        instalment = _put_right(state, instalment, position, right, message.state_blob)
    for slot in instalment.verifications:
        if slot.state == VERIFICATION_REVEALED:
            window.open_verdicts_dispute(state, call.height, state.instalment(task_id, number), slot)
    _open_the_next(state, call.height, instalment)
    instalment = state.instalment(task_id, number)
    if instalment.unserved:
        jackpots.pay(state, instalment)
        settlement.fail(state, call.height, instalment, INSTALMENT_UNSERVED)
    else:
        window.end_challenges(state, call.height, instalment)
        settlement.settle(state, call.height, task_id)


def _drawn_position(state: State, instalment: Instalment, secret: bytes) -> int | None:
    """Place of the forced error in the instalment, None without one; the secret must be the next of its chain."""
    if link_of(secret) != state.task(instalment.task_id).secret_link:
        raise Rejection(BAD_SECRET, "this secret is not the next of the chain that the solver began with")
    rate, segments = state.spec(instalment.task_id).forced_error_bps, len(instalment.segment_roots)
    place = (instalment.task_id, instalment.number, instalment.attempt)
    return forced_segment(secret, instalment.beacon, *place, segments, rate)


def _right_roots(instalment: Instalment, position: int | None, message: RevealSecret) -> tuple[bytes, ...]:
    shown = instalment.segment_roots
    if position is None:
        if message.segment_root or message.state_blob:
            raise Rejection(BAD_SECRET, "no error was drawn: nothing is put right")
        return shown
    if len(message.segment_root) != 32 or message.segment_root == shown[position]:
        raise Rejection(BAD_SECRET, f"segment {instalment.first_segment + position} had to be shown with a wrong end")
    if len(message.state_blob) != (32 if instalment.state_blobs else 0):
        raise Rejection(BAD_SECRET, "the right state's blob is named just when those of all states were")
    return (*shown[:position], message.segment_root, *shown[position + 1 :])


def _put_right(
    state: State, instalment: Instalment, position: int, right: tuple[bytes, ...], blob: bytes
) -> Instalment:
    """From here on the instalment has the right roots; note who found the error."""
    task_id, number, segment = instalment.task_id, instalment.number, instalment.first_segment + position
    blobs = instalment.state_blobs
    changed = state.change_instalment(
        task_id,
        number,
        outcome=OUTCOME_FORCED,
        forced_segment=segment,
        forced_root=instalment.segment_roots[position],
        segment_roots=right,
        state_blobs=(*blobs[:position], blob, *blobs[position + 1 :]) if blobs else (),
    )
    state.emit("secret_shown", task_id, instalment=number, outcome=OUTCOME_FORCED, segment=segment)
    for slot in changed.verifications:
        for finding in slot.findings if slot.state == VERIFICATION_REVEALED else ():
            if (finding.segment, finding.verdict, finding.root) == (segment, DISAGREED, right[position]):
                jackpots.claim(state, changed, slot.verifier)
    return state.instalment(task_id, number)


def _open_the_next(state: State, height: int, instalment: Instalment) -> None:
    """The instalment after this one waited for the secret."""
    if state.task(instalment.task_id).committed > instalment.number + 1:
        following = state.instalment(instalment.task_id, instalment.number + 1)
        if following.state == INSTALMENT_SEALED and following.beacon:
            _ask_for_roots(state, height, following)


# --- after a forced error


def contest_forced_error(state: State, call: Call, message: ContestForcedError) -> None:
    """A verifier insists on its approval: what the solver calls right is in dispute, its bond answers for it."""
    task_id, number = message.task_id, message.instalment
    instalment = state.instalment(task_id, number)
    slot = slot_of(instalment, call.sender)
    if slot is None:
        raise Rejection(NOT_VERIFIER, f"instalment {number} has other verifiers")
    if instalment.state != INSTALMENT_CLOSING:
        raise Rejection(BAD_INSTALMENT_STATE, f"the instalment is {instalment.state}, not {INSTALMENT_CLOSING}")
    if slot.state != VERIFICATION_REVEALED or not window.approved_the_error(instalment, slot):
        raise Rejection(BAD_VERDICT_STATE, "no approval of a forced error is to be defended")
    segment, own = instalment.forced_segment, instalment.forced_root
    right = instalment.segment_roots[segment - instalment.first_segment]
    challenger = Challenger(call.sender, 0, False)
    solver = instalment.solver
    open_dispute(state, call.height, instalment, DISPUTE_SEGMENT, segment, solver, right, challenger, own)


def verify_right_roots(state: State, height: int, instalment: Instalment) -> None:
    """Whoever approved the error and did not insist loses its bond; the others are owed their fees; draw anew."""
    task_id, number = instalment.task_id, instalment.number
    owed = settlement.fees_of_forced_round(state, instalment)
    approvers = [slot for slot in instalment.verifications if window.approved_the_error(instalment, slot)]
    for slot in approvers:
        winner = instalment.finder if instalment.finder not in (b"", slot.verifier) else None
        settlement.slash_slot(state, height, instalment, slot.verifier, winner, "approved a forced error")
    for slot in instalment.verifications:
        settlement.release_slot(state, height, instalment, slot.verifier, VERIFICATION_RELEASED)
    changed = state.change_instalment(
        task_id,
        number,
        verifications=(),
        missed=(*instalment.missed, *(slot.verifier for slot in approvers)),
        owed=owed,
        second_round=True,
        refused=(),
        refusers=(),
        evidence_beacon=b"",
        draws=0,
        give_up_height=give_up_height(state, height, task_id),
    )
    enter(state, changed, INSTALMENT_DRAWING, height)
