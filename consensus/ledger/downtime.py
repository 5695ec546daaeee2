"""Validators that do not sign: a window of missed blocks, jail, and the way out of it.

A bitmap of the last `downtime_window_blocks` for each validator that missed any; whoever leaves the set starts anew.
Nobody is jailed while that would leave fewer than `validators_min`: when a failure hits most of the set, the chain goes
on with whom it has, and the worst are jailed as soon as others are back.
"""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.block import BlockContext
from consensus.ledger.call import Call
from consensus.ledger.messages import Unjail
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.reasons import BAD_STAKE, NOT_JAILED, NOT_OPERATOR, STILL_JAILED
from consensus.ledger.stake_records import MissedBlocks, ValidatorRecord
from consensus.ledger.staking import list_candidate, own_nano, power_of
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection


def note_signatures(state: State, context: BlockContext) -> None:
    """Remember who was absent from the last commit, and jail who was too often."""
    if not context.signatures:
        return
    window = state.parameters.downtime_window_blocks
    bytes_ = -(-window // 8)
    mask, bit = (1 << window) - 1, 1 << context.height % window
    before = {entry.validator: entry.bits for entry in missed_blocks(state)}
    after: dict[bytes, int] = {}
    for one in context.signatures:
        kept = before.get(one.validator, b"")
        bits = int.from_bytes(kept, "big") if len(kept) == bytes_ else 0  # another length: the window was changed
        bits = (bits & ~bit if one.signed else bits | bit) & mask
        if bits:
            after[one.validator] = bits
    missed = {one: bits.bit_count() for one, bits in after.items() if bits & bit}
    for validator in _jail(state, context.height, missed):
        del after[validator]
    entries = tuple(MissedBlocks(one, bits.to_bytes(bytes_, "big")) for one, bits in sorted(after.items()))
    if entries != missed_blocks(state):
        state.put(keys.MISSED, entries)


def missed_blocks(state: State) -> tuple[MissedBlocks, ...]:
    """The bitmaps, in order of address."""
    return state.find(keys.MISSED, tuple[MissedBlocks, ...]) or ()


def _jail(state: State, height: int, missed: dict[bytes, int]) -> list[bytes]:
    """Of who is absent now, jail who missed too many, the worst first, while the set can spare one; those jailed.

    The absent of one commit have less than a third of the power, and so no more leaves with one block.
    """
    parameters = state.parameters
    window = parameters.downtime_window_blocks
    allowed = window * (BASIS_POINTS - parameters.downtime_signed_min_bps) // BASIS_POINTS
    guilty = [validator for count, validator in sorted((-n, one) for one, n in missed.items() if n > allowed)]
    if not guilty:
        return []
    able = {one for one in state.addresses(keys.VALIDATORS) if power_of(state, state.validator(one))}
    jailed = []
    for validator in guilty:
        if validator in able and len(able) > parameters.validators_min:
            able.discard(validator)
            jailed.append(validator)
            _put_in_jail(state, height, validator)
    return jailed


def _put_in_jail(state: State, height: int, validator: bytes) -> None:
    slashed = state.validator(validator).stake_nano * state.parameters.downtime_slash_bps // BASIS_POINTS
    money.transfer(state, money.stake(validator), money.BURNT, slashed)
    state.change(keys.validator(validator), ValidatorRecord, jailed_height=height)
    state.emit("stake_slashed", validator, amount_nano=slashed, why="missed blocks")
    state.emit("validator_jailed", validator, release_height=height + state.parameters.jail_blocks)


def unjail(state: State, call: Call, message: Unjail) -> None:
    """The operator's machine is back: into the set again."""
    record = state.validator(message.validator)
    if record.operator != call.sender:
        raise Rejection(NOT_OPERATOR, f"{record.operator.hex()} operates this validator")
    if record.tombstoned or not record.jailed_height:
        raise Rejection(NOT_JAILED, "it voted twice and never returns" if record.tombstoned else "it is not jailed")
    release = record.jailed_height + state.parameters.jail_blocks
    if call.height < release:
        raise Rejection(STILL_JAILED, f"it may return at height {release}")
    own, least = own_nano(state, record), state.parameters.stake_min_nano
    if own < least:
        raise Rejection(BAD_STAKE, f"the own stake is {own} nano, at least {least} are required: bond more first")
    state.change(keys.validator(record.address), ValidatorRecord, jailed_height=0)
    list_candidate(state, record.address)
    state.emit("validator_unjailed", record.address)
