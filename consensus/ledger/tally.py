"""Counting a vote: stake behind each choice, in work bounded by the number of validators, and what follows from it."""

from __future__ import annotations

from consensus.ledger import keys, staking
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from consensus.ledger.proposal_messages import ABSTAIN, NO, VETO, YES
from consensus.ledger.proposal_records import (
    PROPOSAL_NO_QUORUM,
    PROPOSAL_PASSED,
    PROPOSAL_REJECTED,
    PROPOSAL_VETOED,
    Ballot,
    Tally,
)
from consensus.ledger.stake_records import ValidatorRecord
from consensus.ledger.view import State


def stake_units(record: ValidatorRecord) -> int:
    """Units that a validator's whole stake is divided into: its shares."""
    return record.shares


def count(state: State, number: int) -> Tally:
    """The vote as it stands: every member of the set counts with its stake of now.

    Only the set, because a quorum of it can be met whenever the chain moves; who waits for a place may never answer.
    """
    sums, bonded = [0, 0, 0, 0], 0
    for address in staking.active_powers(state):
        record = state.validator(address)
        bonded += record.stake_nano
        ballot = state.find(keys.ballot(number, address), Ballot)
        if ballot is not None:
            for choice, nano in enumerate(split(ballot, record.stake_nano, stake_units(record))):
                sums[choice] += nano
    return Tally(sums[YES], sums[NO], sums[ABSTAIN], sums[VETO], bonded)


def split(ballot: Ballot, stake_nano: int, units: int) -> tuple[int, int, int, int]:
    """A validator's stake by choice: delegators that voted count themselves, the operator's choice has the rest.

    Never more than the stake in all, whatever the units say: they are measured against the larger of both sums.
    """
    own = sum(ballot.own_units)
    whole = max(units, own, 1)
    counted = [stake_nano * part // whole for part in ballot.own_units]
    if ballot.choice is not None:
        counted[ballot.choice] += stake_nano * (whole - own) // whole
    return counted[YES], counted[NO], counted[ABSTAIN], counted[VETO]


def outcome(tally: Tally, parameters: Parameters) -> str:
    """PROPOSAL_PASSED, or which word it ends with: no quorum first, then veto, then the majority."""
    voted = tally.voted_nano
    if voted == 0 or voted * BASIS_POINTS < tally.bonded_nano * parameters.quorum_bps:
        return PROPOSAL_NO_QUORUM
    if tally.veto_nano * BASIS_POINTS > voted * parameters.veto_bps:
        return PROPOSAL_VETOED
    decided = voted - tally.abstain_nano
    if tally.yes_nano * BASIS_POINTS > decided * parameters.threshold_bps:
        return PROPOSAL_PASSED
    return PROPOSAL_REJECTED
