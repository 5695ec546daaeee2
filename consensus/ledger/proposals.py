"""Opening a proposal: what it may ask for, its deposit, its place on the agenda."""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.call import Call
from consensus.ledger.enactment import check_parameters_fit
from consensus.ledger.parameter_bounds import BLOCKS_MAX, with_changes
from consensus.ledger.proposal_messages import (
    CancelUpgrade,
    ChangeParameters,
    Content,
    Grant,
    PlanUpgrade,
    Propose,
    Statement,
)
from consensus.ledger.proposal_records import PROPOSAL_VOTING, AgendaItem, Proposal, Tally
from consensus.ledger.reasons import IMPOSSIBLE_PROPOSAL, PROPOSALS_FULL
from consensus.ledger.upgrades import NAME
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection


def propose(state: State, call: Call, message: Propose) -> None:
    """Put something to the vote."""
    parameters, governance = state.parameters, state.governance
    if len(governance.voting) >= parameters.proposals_open_max:
        raise Rejection(PROPOSALS_FULL, f"{len(governance.voting)} are under vote")
    _require(message.title.strip() != "", "a proposal needs a title")
    end = call.height + parameters.voting_blocks
    _check_content(state, message.content, end + parameters.enactment_blocks)
    number = state.counters.proposals
    state.count(proposals=number + 1)
    proposal = Proposal(
        number=number,
        proposer=call.sender,
        title=message.title,
        summary=message.summary,
        content=message.content,
        state=PROPOSAL_VOTING,
        deposit_nano=0,
        submitted_height=call.height,
        voting_end_height=end,
        effect_height=0,
        tally=Tally(),
        votes=0,
        why="",
    )
    state.put(keys.proposal(number), proposal)
    money.transfer(state, money.balance(call.sender), money.deposit(number), parameters.proposal_deposit_nano)
    state.change_governance(voting=(*governance.voting, number))
    put_on_agenda(state, end, number)
    state.emit(
        "proposal_submitted",
        number.to_bytes(8, "big"),
        proposer=call.sender,
        title=message.title,
        voting_end_height=end,
    )


def put_on_agenda(state: State, height: int, number: int) -> None:
    """Have a proposal looked at when block `height` ends: exactly then, the agenda is never full."""
    agenda = sorted((*state.governance.agenda, AgendaItem(height, number)), key=lambda item: (item.height, item.number))
    state.change_governance(agenda=tuple(agenda))


def _check_content(state: State, content: Content, effect_height: int) -> None:
    """`Rejection` unless it could take effect now."""
    match content:
        case ChangeParameters(changes):
            check_parameters_fit(state, with_changes(state.parameters, changes))
        case PlanUpgrade(name, height, protocol):
            _check_upgrade(state, name, height, protocol, effect_height)
        case CancelUpgrade(name):
            plan = state.governance.upgrade
            _require(plan is not None and plan.name == name, f"no upgrade {name[:40]!r} is planned")
        case Grant(_, amount_nano):
            _require(amount_nano > 0, "a grant of nothing")
        case Statement():
            return


def _check_upgrade(state: State, name: str, height: int, protocol: int, earliest: int) -> None:
    _require(NAME.fullmatch(name) is not None, "an upgrade's name is up to 40 of a-z, 0-9, dot and hyphen")
    _require(all(done.name != name for done in state.governance.upgrades), f"the upgrade {name!r} was gone through")
    _require(height >= earliest, f"block {height} comes before the vote could take effect, at {earliest}")
    _require(height <= earliest + BLOCKS_MAX, f"block {height} is too far away")
    present = state.governance.protocol
    _require(protocol > present, f"protocol {protocol} is not above the present one, {present}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise Rejection(IMPOSSIBLE_PROPOSAL, message)
