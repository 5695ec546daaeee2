"""What a double vote costs: a part of all stake behind the validator, its place for good, and something for the finder.

The finder is the operator of the validator that proposed the block with the evidence: any name inside the evidence
could be rewritten by whoever proposes it. The offender's own operator is no finder: it would have a part of it back.
The reward is a share of what the *operator's own* stake loses. Measured by all that is slashed, an operator with little
of its own and many delegators would earn by having an accomplice accuse it.
"""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.block import BlockContext, Misbehaviour
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.stake_records import ValidatorRecord
from consensus.ledger.staking import own_nano
from consensus.ledger.view import State


def punish(state: State, context: BlockContext, misbehaviour: Misbehaviour) -> None:
    """A validator's offence was proven: slash its stake and what is leaving, and end its power for good. Once.

    Evidence of an earlier offence of one that is punished already slashes nothing again, but reaches further back into
    what was leaving.
    """
    record = state.find(keys.validator(misbehaviour.validator), ValidatorRecord)
    if record is None:
        return
    if record.tombstoned:
        earliest = min(record.offence_height, misbehaviour.height)
        state.change(keys.validator(record.address), ValidatorRecord, offence_height=earliest)
        return
    proposer = state.find(keys.validator(context.proposer), ValidatorRecord)
    finder = b"" if proposer is None or proposer.operator == record.operator else proposer.operator
    share = state.parameters.equivocation_slash_bps
    slashed, own = record.stake_nano * share // BASIS_POINTS, own_nano(state, record) * share // BASIS_POINTS
    split_slash(state, money.stake(record.address), slashed, own, finder)
    state.change(
        keys.validator(record.address),
        ValidatorRecord,
        tombstoned=True,
        offence_height=misbehaviour.height,
        tombstoned_height=context.height,
        offence_slash_bps=share,
        finder=finder,
    )
    state.emit("stake_slashed", record.address, amount_nano=slashed, why=misbehaviour.kind)
    state.emit("validator_tombstoned", record.address, height=misbehaviour.height)


def split_slash(state: State, source: money.Place, slashed_nano: int, own_nano: int, finder: bytes) -> None:
    """Take a slash: a share of its own part to the finder, a share of all to the jackpot pool, the rest is burnt."""
    parameters = state.parameters
    to_finder = own_nano * parameters.winner_bps // BASIS_POINTS if finder else 0
    to_jackpot = slashed_nano * parameters.jackpot_bps // BASIS_POINTS
    if to_finder:
        money.transfer(state, source, money.balance(finder), to_finder)
        state.emit("finder_paid", finder, amount_nano=to_finder)
    money.transfer(state, source, money.JACKPOT, to_jackpot)
    money.transfer(state, source, money.BURNT, slashed_nano - to_finder - to_jackpot)
