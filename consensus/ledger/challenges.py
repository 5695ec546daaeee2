"""Challenges by anyone bonded: announced by a commitment, shown after the verdicts, so that nobody steals a find."""

from __future__ import annotations

from consensus.ledger import keys, money, settlement
from consensus.ledger.call import Call
from consensus.ledger.disputes import open_dispute
from consensus.ledger.messages import (
    APPROVED,
    Challenge,
    EvidenceChallenge,
    InitialChallenge,
    OpenChallengeCommit,
    OpenChallengeReveal,
    SegmentChallenge,
    challenge_commitment,
)
from consensus.ledger.providers import add_duty
from consensus.ledger.reasons import (
    BAD_CHALLENGE,
    BAD_PROVIDER_STATE,
    BOND_TOO_SMALL,
    CHALLENGE_CLOSED,
    CHALLENGE_PENDING,
    COMMITMENT_MISMATCH,
    NO_CHALLENGE,
    OWN_CLAIM,
    TOO_MANY_CHALLENGES,
)
from consensus.ledger.records import (
    DISPUTE_BOTH_WRONG,
    DISPUTE_DEFENDER_WRONG,
    DISPUTE_EVIDENCE,
    DISPUTE_INITIAL,
    DISPUTE_SEGMENT,
    INSTALMENT_CLOSING,
    INSTALMENT_DRAWING,
    INSTALMENT_REVEALING,
    INSTALMENT_VERIFYING,
    INSTALMENT_WATCHING,
    INSTALMENT_WINDOW,
    PROVIDER_WITHDRAWING,
    VERIFICATION_REVEALED,
    VERIFICATION_SLASHED,
    Challenger,
    DisputeRecord,
    Instalment,
    PendingChallenge,
)
from consensus.ledger.schedule import verifier_bond
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection

CHALLENGEABLE = (
    INSTALMENT_DRAWING,
    INSTALMENT_VERIFYING,
    INSTALMENT_WATCHING,
    INSTALMENT_REVEALING,
    INSTALMENT_WINDOW,
)
"""Phases in which a challenge may be announced."""
_SHOWING = (INSTALMENT_WINDOW, INSTALMENT_CLOSING)


def open_challenge_commit(state: State, call: Call, message: OpenChallengeCommit) -> None:
    """Announce a challenge and lock its bond."""
    provider = state.provider(call.sender)
    if provider.state == PROVIDER_WITHDRAWING:
        raise Rejection(BAD_PROVIDER_STATE, "the provider is leaving")
    instalment = state.instalment(message.task_id, message.instalment)
    if instalment.state not in CHALLENGEABLE:
        raise Rejection(CHALLENGE_CLOSED, f"the instalment is {instalment.state}")
    if call.sender == instalment.solver:
        raise Rejection(OWN_CLAIM, "the solver cannot challenge its own instalment")
    if call.sender in instalment.pending_challengers:
        raise Rejection(CHALLENGE_PENDING, "reveal the pending challenge first")
    if instalment.challenges >= state.parameters.disputes_per_instalment_max:
        raise Rejection(TOO_MANY_CHALLENGES, f"{instalment.challenges} challenges were opened already")
    bond = verifier_bond(state.task(message.task_id).solver_bond_nano, state.parameters)
    if provider.free_nano < bond:
        raise Rejection(BOND_TOO_SMALL, f"{bond} nano of free bond are needed, {provider.free_nano} are free")
    money.lock(state, call.sender, bond)
    add_duty(state, call.sender, message.task_id)
    state.put(
        keys.challenge(message.task_id, message.instalment, call.sender),
        PendingChallenge(
            task_id=message.task_id,
            instalment=message.instalment,
            attempt=instalment.attempt,
            challenger=call.sender,
            commitment=message.commitment,
            bond_nano=bond,
            height=call.height,
        ),
    )
    state.change_instalment(
        message.task_id,
        message.instalment,
        pending_challengers=(*instalment.pending_challengers, call.sender),
        challenges=instalment.challenges + 1,
    )
    state.emit("challenge_committed", message.task_id, instalment=message.instalment, challenger=call.sender)


def open_challenge_reveal(state: State, call: Call, message: OpenChallengeReveal) -> None:
    """Show a challenge: its dispute opens, or the open one over the same claim is joined."""
    challenge = message.challenge
    number = 0 if isinstance(challenge, InitialChallenge) else challenge.instalment
    instalment = state.instalment(message.task_id, number)
    pending = state.find(keys.challenge(message.task_id, number, call.sender), PendingChallenge)
    if pending is None:
        raise Rejection(NO_CHALLENGE, f"nothing is pending against instalment {number}")
    if instalment.state not in _SHOWING or instalment.secret_pending:
        raise Rejection(CHALLENGE_CLOSED, f"shown after verdicts and secret; the instalment is {instalment.state}")
    if call.height <= pending.height:
        raise Rejection(CHALLENGE_CLOSED, "a challenge is shown in a later block than it was announced")
    if challenge_commitment(call.sender, message.task_id, challenge, message.salt) != pending.commitment:
        raise Rejection(COMMITMENT_MISMATCH, "the challenge is not the one committed to")
    if challenge.attempt != instalment.attempt:
        raise Rejection(BAD_CHALLENGE, f"the present attempt is {instalment.attempt}, not {challenge.attempt}")
    if isinstance(challenge, EvidenceChallenge) and _overtaken(state, instalment, challenge.verifier, pending.height):
        state.change_instalment(message.task_id, number, pending_challengers=_others(instalment, call.sender))
        settlement.free_pending(state, call.height, instalment, call.sender, pending.bond_nano)
        state.emit("challenge_moot", message.task_id, instalment=number, challenger=call.sender)
        return
    if not isinstance(challenge, InitialChallenge) and challenge.segment in instalment.voided:
        _about_the_error(state, call, instalment, challenge, pending)
        return
    kind, segment, defender, defender_root, own_root = _claim(state, instalment, challenge)
    if own_root == defender_root:
        raise Rejection(BAD_CHALLENGE, "the challenge claims the very same root")
    if defender == call.sender:
        raise Rejection(OWN_CLAIM, "nobody challenges itself")
    state.put(keys.challenge(message.task_id, number, call.sender), None)
    left = _others(instalment, call.sender)
    instalment = state.change_instalment(message.task_id, number, pending_challengers=left)
    challenger = Challenger(call.sender, pending.bond_nano, False)
    open_dispute(state, call.height, instalment, kind, segment, defender, defender_root, challenger, own_root)


def _about_the_error(
    state: State,
    call: Call,
    instalment: Instalment,
    challenge: SegmentChallenge | EvidenceChallenge,
    pending: PendingChallenge,
) -> None:
    """A challenge of what was shown with a forced error: no dispute, and no jackpot.

    Its solver could tell anybody. The first who has the right root wins the finder's share of what approvers lose.
    """
    state.change_instalment(instalment.task_id, instalment.number, pending_challengers=_others(instalment, call.sender))
    settlement.free_pending(state, call.height, instalment, call.sender, pending.bond_nano)
    right = instalment.segment_roots[instalment.forced_segment - instalment.first_segment]
    found = isinstance(challenge, SegmentChallenge) and challenge.segment == instalment.forced_segment
    if found and isinstance(challenge, SegmentChallenge) and challenge.end_root == right:
        if not instalment.finder:
            state.change_instalment(instalment.task_id, instalment.number, finder=call.sender)
        state.emit("error_found", instalment.task_id, instalment=instalment.number, challenger=call.sender)
    else:
        state.emit("challenge_moot", instalment.task_id, instalment=instalment.number, challenger=call.sender)


def _others(instalment: Instalment, challenger: bytes) -> tuple[bytes, ...]:
    return tuple(other for other in instalment.pending_challengers if other != challenger)


def _overtaken(state: State, instalment: Instalment, verifier: bytes, announced_height: int) -> bool:
    """Whether the verifier was proven wrong since the challenge was announced: then there is nothing left to win.

    One announced after the proof is no such case: it would take a challenge's place for nothing but a fee.
    """
    slot = settlement.slot_of(instalment, verifier)
    if slot is None or slot.state != VERIFICATION_SLASHED:
        return False
    disputes = [state.dispute(dispute_id) for dispute_id in state.task(instalment.task_id).disputes]
    return any(
        (dispute.instalment, dispute.attempt) == (instalment.number, instalment.attempt)
        and dispute.resolved_height >= announced_height
        and _lost(dispute, verifier)
        for dispute in disputes
    )


def _lost(dispute: DisputeRecord, party: bytes) -> bool:
    if dispute.defender == party:
        return dispute.state in (DISPUTE_DEFENDER_WRONG, DISPUTE_BOTH_WRONG)
    return any(challenger.address == party and challenger.lost for challenger in dispute.challengers)


def _claim(state: State, instalment: Instalment, challenge: Challenge) -> tuple[str, int, bytes, bytes, bytes]:
    """(kind, segment, defender, its root, the challenger's root)."""
    if isinstance(challenge, InitialChallenge):
        initial = state.task(instalment.task_id).initial_root
        return DISPUTE_INITIAL, 0, instalment.solver, initial, challenge.initial_root
    position = challenge.segment - instalment.first_segment
    if not 0 <= position < len(instalment.segment_roots):
        raise Rejection(BAD_CHALLENGE, f"segment {challenge.segment} is not of instalment {instalment.number}")
    if isinstance(challenge, SegmentChallenge):
        claimed = instalment.segment_roots[position]
        return DISPUTE_SEGMENT, challenge.segment, instalment.solver, claimed, challenge.end_root
    evidence = _evidence(instalment, challenge)
    return DISPUTE_EVIDENCE, challenge.segment, challenge.verifier, evidence, challenge.evidence_root


def _evidence(instalment: Instalment, challenge: EvidenceChallenge) -> bytes:
    """The evidence root with which the verifier approved the segment."""
    slot = settlement.slot_of(instalment, challenge.verifier)
    if slot is not None and slot.state == VERIFICATION_REVEALED:
        for finding in slot.findings:
            if finding.segment == challenge.segment and finding.verdict == APPROVED:
                return finding.root
    raise Rejection(BAD_CHALLENGE, "that verifier has no standing approval of the segment")
