"""Disputes: opening by claim, the clocks, moves, and what an outcome does.

Equal open claims are one dispute; distinct ones run in parallel. A dispute's game is `proofs.pinpoint`; the chain keeps
one running clock for each party and applies time-outs itself. A claim is not lost by one bad player: when the leading
challenger's game is lost its bond is gone, and the next who made the same claim plays a new game. Which game it is
follows from the task's arithmetic class: see `games`.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from consensus.ledger import disclosure, games, keys, money, settlement
from consensus.ledger.call import Call
from consensus.ledger.evidence_keys import shown_key
from consensus.ledger.messages import ARITHMETIC_NATIVE, DisputeMove
from consensus.ledger.programs import decode_program, program_record
from consensus.ledger.providers import end_duty
from consensus.ledger.reasons import DISPUTE_OVER, NOT_A_PARTY, TOO_LATE, TOO_MANY_CHALLENGES
from consensus.ledger.records import (
    DISPUTE_BOTH_WRONG,
    DISPUTE_CHALLENGER_WRONG,
    DISPUTE_DEFENDER_WRONG,
    DISPUTE_EVIDENCE,
    DISPUTE_INITIAL,
    DISPUTE_OPEN,
    DISPUTE_SEGMENT,
    ENDED_BY_CLOCK,
    TURN_CHALLENGER,
    TURN_DEFENDER,
    Challenger,
    DisputeRecord,
    Instalment,
    MoveRecord,
)
from consensus.ledger.schedule import segment_span
from consensus.ledger.view import State
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.hashing import tagged_hash
from proofs.dataset import DatasetTensor
from proofs.native.types import NativeClaim
from proofs.pinpoint import CHALLENGER, DEFENDER, Claim
from proofs.pinpoint.context import Context
from proofs.pinpoint.types import BOTH_WRONG, CHALLENGER_WRONG, DEFENDER_WRONG, EVIDENCE, INITIAL, SEGMENT

CLOCK = "clock"
"""Due item: the party in turn may have run out of time."""

_KINDS = {DISPUTE_SEGMENT: SEGMENT, DISPUTE_EVIDENCE: EVIDENCE, DISPUTE_INITIAL: INITIAL}
_OUTCOMES = {
    DEFENDER_WRONG: DISPUTE_DEFENDER_WRONG,
    CHALLENGER_WRONG: DISPUTE_CHALLENGER_WRONG,
    BOTH_WRONG: DISPUTE_BOTH_WRONG,
}
_TURNS = {DEFENDER: TURN_DEFENDER, CHALLENGER: TURN_CHALLENGER}


# --- opening


def open_dispute(
    state: State,
    height: int,
    instalment: Instalment,
    kind: str,
    segment: int,
    defender: bytes,
    defender_root: bytes,
    challenger: Challenger,
    challenger_root: bytes,
) -> bytes:
    """Open a dispute, or join an open one over the same claim; its id.

    When that one is full another opens: accomplices who mean to lose its games cannot keep an honest finder out.
    TOO_MANY_CHALLENGES when the challenger is in one over this claim already.
    """
    claim = (kind, segment, defender, challenger_root)
    for other_id in instalment.open_disputes:
        other = state.dispute(other_id)
        if (other.kind, other.segment, other.defender, other.challenger_root) == claim and _joins(
            state, other, challenger
        ):
            return other_id
    counters, task, spec = state.counters, state.task(instalment.task_id), state.spec(instalment.task_id)
    slot = settlement.slot_of(instalment, defender)
    number = counters.disputes
    dispute_id = tagged_hash("gensyn/dispute/1", task.task_id, number.to_bytes(8, "little"))
    clock = state.parameters.move_clock_blocks
    record = DisputeRecord(
        dispute_id=dispute_id,
        task_id=task.task_id,
        instalment=instalment.number,
        attempt=instalment.attempt,
        kind=kind,
        segment=segment,
        state=DISPUTE_OPEN,
        defender=defender,
        defender_root=defender_root,
        challenger_root=challenger_root,
        challengers=(challenger,),
        lead=0,
        game=0,
        turn=TURN_DEFENDER,
        turn_height=height,
        due_height=height + clock,
        defender_clock_blocks=clock,
        challenger_clock_blocks=clock,
        phase="",
        opened_height=height,
        resolved_height=0,
        moves=(),
        how="",
        evidence_key=shown_key(spec, instalment, segment, slot) if slot and kind == DISPUTE_EVIDENCE else b"",
    )
    state.put(keys.dispute(dispute_id), record)
    state.count(disputes=number + 1)
    state.append_id(keys.disputes_page, number, dispute_id)
    state.change_task(task.task_id, disputes=(*task.disputes, dispute_id))
    opened = (*state.instalment(task.task_id, instalment.number).open_disputes, dispute_id)
    state.change_instalment(task.task_id, instalment.number, open_disputes=opened)
    state.emit(
        "dispute_opened",
        dispute_id,
        task=task.task_id,
        kind=kind,
        segment=segment,
        defender=defender,
        challenger=challenger.address,
    )
    _start_game(state, height, dispute_id)
    return dispute_id


def _joins(state: State, dispute: DisputeRecord, challenger: Challenger) -> bool:
    """Put a challenger into a dispute over its claim; whether there was a place."""
    if any(other.address == challenger.address for other in dispute.challengers):
        if challenger.bond_nano == 0:
            return True  # a verifier's verdict is decided along with its own challenge
        raise Rejection(TOO_MANY_CHALLENGES, "the account is a challenger of this claim already")
    if len(dispute.challengers) >= state.parameters.challengers_per_dispute_max:
        return False
    state.change_dispute(dispute.dispute_id, challengers=(*dispute.challengers, challenger))
    state.emit("dispute_joined", dispute.dispute_id, challenger=challenger.address)
    return True


def claim_of(state: State, dispute: DisputeRecord) -> Claim | NativeClaim:
    """What the game is about."""
    instalment, spec = state.instalment(dispute.task_id, dispute.instalment), state.spec(dispute.task_id)
    kind = _KINDS[dispute.kind]
    if kind == INITIAL:
        return Claim(INITIAL, 0, 0, b"", dispute.defender_root, b"", dispute.challenger_root)
    first_step, steps = segment_span(spec, dispute.segment)
    position = dispute.segment - instalment.first_segment
    start = instalment.segment_roots[position - 1] if position else instalment.start_root
    end = instalment.segment_roots[position]
    evidence = dispute.defender_root if kind == EVIDENCE else b""
    if spec.arithmetic == ARITHMETIC_NATIVE:
        said = None if evidence else disclosure.find(state, instalment, dispute.segment)
        states, values = (said.states, said.values) if said else (b"", b"")
        return NativeClaim(first_step, steps, start, b"" if evidence else end, evidence, states, values)
    return Claim(kind, first_step, steps, start, end, evidence, dispute.challenger_root, dispute.evidence_key)


def game_context(state: State, task_id: bytes) -> Context:
    """What the referee knows of the task."""
    task, spec = state.task(task_id), state.spec(task_id)
    return _context(program_record(state, task.program_id).program, spec.dataset, task.seed, spec.checkpoint_root)


@lru_cache(maxsize=8)
def _context(program: bytes, dataset: tuple[DatasetTensor, ...], seed: bytes, checkpoint: bytes) -> Context:
    return Context(decode_program(program), dataset, seed, checkpoint)


def _start_game(state: State, height: int, dispute_id: bytes) -> None:
    """A fresh game with fresh clocks."""
    dispute = state.dispute(dispute_id)
    game = games.start(claim_of(state, dispute), game_context(state, dispute.task_id))
    clock = state.parameters.move_clock_blocks
    games.store(state, dispute_id, game)
    state.change_dispute(dispute_id, defender_clock_blocks=clock, challenger_clock_blocks=clock)
    _give_turn(state, height, dispute_id, game)


# --- clocks


def _serial(dispute: DisputeRecord) -> int:
    """Names the present turn; a due item of an earlier one does nothing."""
    return dispute.game * 1_000_000 + len(dispute.moves)


def _give_turn(state: State, height: int, dispute_id: bytes, game: games.AnyGame) -> None:
    """Start the clock of the party in turn: what it has left, and never less than the extension."""
    dispute, parameters = state.dispute(dispute_id), state.parameters
    defends = game.turn == DEFENDER
    clock = dispute.defender_clock_blocks if defends else dispute.challenger_clock_blocks
    if game.moves <= parameters.game_moves_max:
        clock = max(clock, parameters.move_extension_blocks)
    clocks = {"defender_clock_blocks" if defends else "challenger_clock_blocks": clock}
    dispute = state.change_dispute(
        dispute_id,
        turn=TURN_DEFENDER if defends else TURN_CHALLENGER,
        turn_height=height,
        due_height=height + clock,
        phase=type(game.phase).__name__,
        **clocks,
    )
    state.schedule(dispute.due_height + 1, CLOCK, dispute_id, _serial(dispute))


def clock_due(state: State, height: int, dispute_id: bytes, serial: int) -> None:
    """The party in turn ran out of time, unless it moved."""
    dispute = state.dispute(dispute_id)
    if dispute.state != DISPUTE_OPEN or _serial(dispute) != serial or height <= dispute.due_height:
        return
    loser = DEFENDER if dispute.turn == TURN_DEFENDER else CHALLENGER
    game = games.forfeit(games.load(state, dispute_id), loser, f"the {dispute.turn}'s clock ran out")
    state.emit("dispute_timed_out", dispute_id, turn=dispute.turn)
    resolve(state, height, dispute_id, game, ENDED_BY_CLOCK)


# --- moves


def dispute_move(state: State, call: Call, message: DisputeMove) -> None:
    """Play a move; the referee may decide on it."""
    dispute = state.dispute(message.dispute_id)
    if dispute.state != DISPUTE_OPEN:
        raise Rejection(DISPUTE_OVER, f"the dispute ended at height {dispute.resolved_height}: {dispute.state}")
    mover = _party(dispute, call.sender)
    if call.height > dispute.due_height:
        raise Rejection(TOO_LATE, f"the turn ended at height {dispute.due_height}")
    before = games.load(state, dispute.dispute_id)
    game, move = games.play(before, mover, message.move, game_context(state, dispute.task_id))
    used = call.height - dispute.turn_height
    spent = (
        {"defender_clock_blocks": max(0, dispute.defender_clock_blocks - used)}
        if mover == DEFENDER
        else {"challenger_clock_blocks": max(0, dispute.challenger_clock_blocks - used)}
    )
    entry = MoveRecord(call.height, call.transaction_id, call.sender, _TURNS[mover], len(message.move))
    state.change_dispute(dispute.dispute_id, moves=(*dispute.moves, entry), **spent)
    state.emit(
        "dispute_moved",
        dispute.dispute_id,
        mover=call.sender,
        turn=_TURNS[mover],
        move=type(move).__name__,
        phase=type(game.phase).__name__,
        bytes=len(message.move),
    )
    if game.outcome is None:
        games.store(state, dispute.dispute_id, game)
        _give_turn(state, call.height, dispute.dispute_id, game)
    else:
        resolve(state, call.height, dispute.dispute_id, game, games.how_ended(move))


def _party(dispute: DisputeRecord, sender: bytes) -> int:
    if sender == dispute.defender:
        return DEFENDER
    if sender == dispute.challengers[dispute.lead].address:
        return CHALLENGER
    raise Rejection(NOT_A_PARTY, "only the defender and the leading challenger move")


# --- outcomes


def resolve(state: State, height: int, dispute_id: bytes, game: games.AnyGame, how: str) -> None:
    """Do what the game's outcome says; `how` is one of the ENDED_BY words."""
    if game.outcome is None:
        raise InvariantViolation("a game without outcome cannot be resolved")
    outcome = _OUTCOMES[game.outcome]
    dispute = state.dispute(dispute_id)
    lead = dispute.challengers[dispute.lead]
    if outcome != DISPUTE_DEFENDER_WRONG:
        winner = dispute.defender if outcome == DISPUTE_CHALLENGER_WRONG else None
        _slash_lead(state, height, dispute, winner)
    if outcome == DISPUTE_CHALLENGER_WRONG and dispute.lead + 1 < len(dispute.challengers):
        state.change_dispute(dispute_id, lead=dispute.lead + 1, game=dispute.game + 1)
        state.emit("dispute_taken_over", dispute_id, why=game.why)
        _start_game(state, height, dispute_id)
        return
    _close(state, height, dispute_id, outcome, how, game.why)
    if outcome != DISPUTE_CHALLENGER_WRONG:
        winner = lead.address if outcome == DISPUTE_DEFENDER_WRONG else None
        _defender_wrong(state, height, state.dispute(dispute_id), winner)
    settlement.settle(state, height, dispute.task_id)


def _slash_lead(state: State, height: int, dispute: DisputeRecord, winner: bytes | None) -> None:
    """The leading challenger lost its game: its bond, or its verifier's bond, is gone."""
    lead = dispute.challengers[dispute.lead]
    if lead.bond_nano:
        money.slash(state, lead.address, lead.bond_nano, winner, "challenger proven wrong")
        end_duty(state, height, lead.address, dispute.task_id)
    else:
        instalment = state.instalment(dispute.task_id, dispute.instalment)
        settlement.slash_slot(state, height, instalment, lead.address, winner, "verdict proven wrong")
    lost = msgspec.structs.replace(lead, bond_nano=0, lost=True)
    challengers = (*dispute.challengers[: dispute.lead], lost, *dispute.challengers[dispute.lead + 1 :])
    state.change_dispute(dispute.dispute_id, challengers=challengers)


def _close(state: State, height: int, dispute_id: bytes, outcome: str, how: str, why: str) -> None:
    dispute = state.dispute(dispute_id)
    settlement.release_challengers(state, height, dispute)
    state.change_dispute(dispute_id, state=outcome, resolved_height=height, how=how, phase="")
    games.forget(state, dispute_id)
    instalment = state.instalment(dispute.task_id, dispute.instalment)
    left = tuple(other for other in instalment.open_disputes if other != dispute_id)
    state.change_instalment(dispute.task_id, dispute.instalment, open_disputes=left)
    state.emit("dispute_resolved", dispute_id, task=dispute.task_id, outcome=outcome, how=how, why=why)


def _defender_wrong(state: State, height: int, dispute: DisputeRecord, winner: bytes | None) -> None:
    if dispute.kind == DISPUTE_EVIDENCE:
        instalment = state.instalment(dispute.task_id, dispute.instalment)
        settlement.slash_slot(state, height, instalment, dispute.defender, winner, "evidence proven wrong")
    else:
        settlement.solver_wrong(state, height, dispute, winner)
