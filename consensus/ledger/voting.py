"""Casting votes, and keeping them equal to the stake they stand for until the vote ends.

A vote weighs what its owner has bonded there when the votes are counted. A validator's ballot keeps running sums of the
delegators that voted themselves; when a delegation changes, the sums follow, so the same stake never counts twice
wherever it moves, and counting never looks at delegators.
"""

from __future__ import annotations

from consensus.ledger import keys, staking
from consensus.ledger.call import Call
from consensus.ledger.proposal_messages import CHOICES, CastVote
from consensus.ledger.proposal_records import PROPOSAL_VOTING, Ballot, DelegatorVote
from consensus.ledger.reasons import BAD_CHOICE, NO_VOTING_STAKE, VOTING_OVER
from consensus.ledger.tally import stake_units
from consensus.ledger.view import PAGE, State
from gensyn_node.primitives.errors import Rejection

PAGES_PRUNED_PER_BLOCK = 4
"""Pages of an ended proposal's votes that one block deletes."""
_NOTHING = (0, 0, 0, 0)


def own_units(state: State, validator: bytes, account: bytes) -> int:
    """Units of a validator's stake that belong to a delegator: its shares."""
    return staking.delegation(state, validator, account).shares


def cast_vote(state: State, call: Call, message: CastVote) -> None:
    """Vote as an operator or as a delegator."""
    proposal = state.proposal(message.proposal)
    if proposal.state != PROPOSAL_VOTING:
        raise Rejection(VOTING_OVER, f"proposal {message.proposal} is {proposal.state}")
    if message.choice >= len(CHOICES):
        raise Rejection(BAD_CHOICE, f"choice {message.choice}")
    record = state.validator(message.validator)
    if record.operator == call.sender:
        if stake_units(record) == 0:
            raise Rejection(NO_VOTING_STAKE, f"validator {message.validator.hex()} has no stake")
        ballot = _ballot(state, message.proposal, message.validator)
        _put_ballot(state, message.proposal, message.validator, Ballot(message.choice, ballot.own_units))
    else:
        units = own_units(state, message.validator, call.sender)
        if units == 0:
            raise Rejection(NO_VOTING_STAKE, f"nothing is delegated to {message.validator.hex()}")
        _set_delegator_vote(state, message.proposal, message.validator, call.sender, message.choice, units)
    subject = message.proposal.to_bytes(8, "big")
    state.emit("vote_cast", subject, voter=call.sender, validator=message.validator, choice=CHOICES[message.choice])


def delegation_changed(state: State, validator: bytes, delegator: bytes) -> None:
    """A delegation grew, shrank or ended: the delegator's votes in open proposals weigh what it now has there."""
    for number in state.governance.voting:
        vote = state.find(keys.delegator_vote(number, validator, delegator), DelegatorVote)
        if vote is not None:
            units = own_units(state, validator, delegator)
            _set_delegator_vote(state, number, validator, delegator, vote.choice, units)


def _set_delegator_vote(state: State, number: int, validator: bytes, delegator: bytes, choice: int, units: int) -> None:
    key = keys.delegator_vote(number, validator, delegator)
    before = state.find(key, DelegatorVote)
    ballot = _ballot(state, number, validator)
    sums = list(ballot.own_units)
    if before is None:
        _remember(state, number, key)
    else:
        sums[before.choice] -= before.units
    sums[choice] += units
    state.put(key, DelegatorVote(choice, units))
    _put_ballot(state, number, validator, Ballot(ballot.choice, (sums[0], sums[1], sums[2], sums[3])))


def _ballot(state: State, number: int, validator: bytes) -> Ballot:
    return state.find(keys.ballot(number, validator), Ballot) or Ballot(None, _NOTHING)


def _put_ballot(state: State, number: int, validator: bytes, ballot: Ballot) -> None:
    key = keys.ballot(number, validator)
    if state.find(key, Ballot) is None:
        _remember(state, number, key)
    state.put(key, ballot)


def _remember(state: State, number: int, key: bytes) -> None:
    """List a record of a vote, so that it is found and deleted when the vote is over."""
    votes = state.proposal(number).votes
    state.append_id(lambda page: keys.votes_page(number, page), votes, key)
    state.change_proposal(number, votes=votes + 1)


def prune(state: State) -> None:
    """Delete some of the oldest ended proposal's votes."""
    pruning = state.governance.pruning
    if not pruning:
        return
    number = pruning[0]
    for _ in range(PAGES_PRUNED_PER_BLOCK):
        votes = state.proposal(number).votes
        if votes == 0:
            state.change_governance(pruning=pruning[1:])
            return
        page = (votes - 1) // PAGE
        for key in state.need(keys.votes_page(number, page), tuple[bytes, ...]):
            state.put(key, None)
        state.put(keys.votes_page(number, page), None)
        state.change_proposal(number, votes=page * PAGE)
