"""The end of a block: votes whose time is up are counted, and what was decided takes effect.

Parameters changed when block H - 1 ends are those under which block H is checked, filled and executed, by every node.
"""

from __future__ import annotations

from consensus.ledger import money, proposals, tally, voting
from consensus.ledger.enactment import enact
from consensus.ledger.proposal_messages import CancelUpgrade, ChangeParameters, Grant, PlanUpgrade
from consensus.ledger.proposal_records import (
    PROPOSAL_ENACTED,
    PROPOSAL_FAILED,
    PROPOSAL_NO_QUORUM,
    PROPOSAL_PASSED,
    PROPOSAL_VETOED,
    PROPOSAL_VOTING,
    Proposal,
)
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection


def end_block(state: State, height: int) -> None:
    """Everything of governance that is due when block `height` ends."""
    voting.prune(state)
    while (agenda := state.governance.agenda) and agenda[0].height <= height:
        state.change_governance(agenda=agenda[1:])
        proposal = state.proposal(agenda[0].number)
        if proposal.state == PROPOSAL_VOTING:
            _close(state, height, proposal)
        else:
            _enact(state, proposal)


def _close(state: State, height: int, proposal: Proposal) -> None:
    """Count the vote, give the deposit back or burn it, and say when what was decided takes effect."""
    number, counted = proposal.number, tally.count(state, proposal.number)
    result = tally.outcome(counted, state.parameters)
    burnt = result in (PROPOSAL_NO_QUORUM, PROPOSAL_VETOED)
    target = money.BURNT if burnt else money.balance(proposal.proposer)
    money.transfer(state, money.deposit(number), target, proposal.deposit_nano)
    effect = _effect_height(state, height, proposal) if result == PROPOSAL_PASSED else 0
    proposal = state.change_proposal(number, state=result, tally=counted, effect_height=effect)
    open_votes = tuple(other for other in state.governance.voting if other != number)
    state.change_governance(voting=open_votes, pruning=(*state.governance.pruning, number))
    state.emit("proposal_ended", number.to_bytes(8, "big"), state=result, effect_height=effect)
    if result != PROPOSAL_PASSED:
        return
    if isinstance(proposal.content, ChangeParameters | Grant):
        proposals.put_on_agenda(state, effect - 1, number)
    else:
        _enact(state, proposal)


def _effect_height(state: State, height: int, proposal: Proposal) -> int:
    match proposal.content:
        case PlanUpgrade(_, planned, _):
            return planned
        case CancelUpgrade():
            return height + 1
        case ChangeParameters() | Grant():
            return height + state.parameters.enactment_blocks
        case _:
            return 0


def _enact(state: State, proposal: Proposal) -> None:
    number, subject = proposal.number, proposal.number.to_bytes(8, "big")
    state.begin()
    try:
        enact(state, number, proposal.content, proposal.effect_height)
    except Rejection as error:
        state.rollback()
        state.change_proposal(number, state=PROPOSAL_FAILED, effect_height=0, why=error.reason.code)
        state.emit("proposal_failed", subject, why=error.message)
        return
    state.commit()
    state.change_proposal(number, state=PROPOSAL_ENACTED)
    state.emit("proposal_enacted", subject)
