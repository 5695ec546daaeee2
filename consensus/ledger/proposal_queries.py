"""What RPC and command line ask of governance: pure functions over any `Reader`."""

from __future__ import annotations

from consensus.ledger import keys
from consensus.ledger.block import Reader
from consensus.ledger.fields import Address, Nano, Small
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.proposal_records import PROPOSAL_VOTING, Ballot, DelegatorVote, Governance, Proposal, Tally
from consensus.ledger.tally import count, outcome, stake_units
from consensus.ledger.view import State
from consensus.ledger.voting import own_units
from gensyn_node.primitives.codec import Struct


class Standing(Struct):
    """How a vote stands, or stood at its end."""

    tally: Tally
    quorum_nano: Nano
    """Stake that has to vote."""
    outcome: str
    """What it would end with now; the same word as the state once it has ended."""


class VotingPlace(Struct):
    """A validator at which an account has a vote."""

    validator: Address
    as_operator: bool
    """True: for all stake there that does not vote itself; False: for the own delegation."""
    stake_nano: Nano
    """All stake there, or the own part."""
    choice: Small | None
    """Its vote so far."""


def governance(reader: Reader) -> Governance:
    """What governance has under way."""
    return State(reader).governance


def proposal(reader: Reader, number: int) -> Proposal | None:
    """A proposal, or None."""
    return State(reader).find(keys.proposal(number), Proposal)


def proposals(reader: Reader, limit: int = 50, before: int = 0) -> list[Proposal]:
    """Proposals, newest first; `before` of the newest are left out (paging)."""
    state = State(reader)
    stop = max(0, state.counters.proposals - before)
    return [state.proposal(number) for number in reversed(range(max(0, stop - limit), stop))]


def standing(reader: Reader, one: Proposal) -> Standing:
    """The count of now while the vote is open, that of its end afterwards."""
    state = State(reader)
    tally = count(state, one.number) if one.state == PROPOSAL_VOTING else one.tally
    parameters = state.parameters
    quorum = -(-tally.bonded_nano * parameters.quorum_bps // BASIS_POINTS)
    return Standing(tally, quorum, outcome(tally, parameters) if one.state == PROPOSAL_VOTING else one.state)


def voting_places(reader: Reader, number: int, account: bytes) -> list[VotingPlace]:
    """Where an account can vote on a proposal, and what it voted."""
    state, found = State(reader), []
    for address in state.addresses(keys.VALIDATORS):
        record = state.validator(address)
        if record.operator == account:
            ballot = state.find(keys.ballot(number, address), Ballot)
            choice = None if ballot is None else ballot.choice
            found.append(VotingPlace(address, True, record.stake_nano, choice))
        elif units := own_units(state, address, account):
            vote = state.find(keys.delegator_vote(number, address, account), DelegatorVote)
            stake = record.stake_nano * units // max(1, stake_units(record))
            found.append(VotingPlace(address, False, stake, None if vote is None else vote.choice))
    return found
