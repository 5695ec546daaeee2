"""What a validator says of itself: name, endpoints, commission; and how fast the commission may rise."""

from __future__ import annotations

from consensus.ledger import keys
from consensus.ledger.call import Call
from consensus.ledger.messages import EditValidator
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.reasons import BAD_COMMISSION, NOT_OPERATOR
from consensus.ledger.rewards import settle
from consensus.ledger.stake_records import ValidatorRecord
from consensus.ledger.staking import delegation
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection


def edit_validator(state: State, call: Call, message: EditValidator) -> None:
    """Change name, endpoints and commission; what was earned so far is divided at the old commission."""
    record = state.validator(message.validator)
    if record.operator != call.sender:
        raise Rejection(NOT_OPERATOR, f"{record.operator.hex()} operates this validator")
    raised = _check_commission(state, call.height, record, message.commission_bps)
    settle(state, record.address)
    state.change(
        keys.validator(record.address),
        ValidatorRecord,
        name=message.name,
        endpoints=message.endpoints,
        commission_bps=message.commission_bps,
        commission_raised_height=call.height if raised else record.commission_raised_height,
    )
    state.emit("validator_edited", record.address, name=message.name, commission_bps=message.commission_bps)


def _check_commission(state: State, height: int, record: ValidatorRecord, wanted_bps: int) -> bool:
    """Whether it rises. Lowering is free; so is everything while nobody else has delegated."""
    parameters = state.parameters
    if wanted_bps > BASIS_POINTS:
        raise Rejection(BAD_COMMISSION, f"{wanted_bps} basis points are more than everything")
    rise = wanted_bps - record.commission_bps
    alone = delegation(state, record.address, record.operator).shares == record.shares
    if rise <= 0 or alone:
        return rise > 0
    if rise > parameters.commission_rise_max_bps:
        raise Rejection(BAD_COMMISSION, f"it rises by {rise}, at most {parameters.commission_rise_max_bps} are allowed")
    next_height = record.commission_raised_height + parameters.commission_rise_blocks
    if record.commission_raised_height and height < next_height:
        raise Rejection(BAD_COMMISSION, f"it was raised already, again from height {next_height} on")
    return True
