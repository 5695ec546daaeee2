"""What an accepted proposal does. A `Rejection` here means that it is impossible by now; then nothing has changed."""

from __future__ import annotations

from consensus.ledger import keys, money, staking
from consensus.ledger.parameter_bounds import with_changes
from consensus.ledger.parameters import Parameters
from consensus.ledger.proposal_messages import CancelUpgrade, ChangeParameters, Content, Grant, PlanUpgrade, Statement
from consensus.ledger.reasons import BAD_PARAMETER, IMPOSSIBLE_PROPOSAL
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection

DEPOSIT_SHARE = 100
"""A deposit rises to at most this part of all money: somebody can pay for the next proposal."""


def check_parameters_fit(state: State, parameters: Parameters) -> None:
    """`Rejection` BAD_PARAMETER when this very chain would lose its validators or its next vote under them."""
    present, most = state.parameters, state.supply.minted_nano // DEPOSIT_SHARE
    if parameters.proposal_deposit_nano > max(most, present.proposal_deposit_nano):
        raise Rejection(BAD_PARAMETER, f"proposal_deposit_nano: at most {most}, a hundredth of all money")
    before = staking.able_powers(state)
    state.put(keys.PARAMETERS, parameters)
    after = staking.able_powers(state)
    state.put(keys.PARAMETERS, present)
    kept = sum(power for key, power in before.items() if after.get(key, 0) > 0)
    if 3 * kept <= 2 * sum(before.values()):
        raise Rejection(BAD_PARAMETER, "a third of the voting power or more would no longer validate")


def enact(state: State, number: int, content: Content, effect_height: int) -> None:
    """Make it so. `effect_height` is the first block under it."""
    subject = number.to_bytes(8, "big")
    match content:
        case ChangeParameters(changes):
            parameters = with_changes(state.parameters, changes)
            check_parameters_fit(state, parameters)
            _keep_expired_evidence_expired(state, effect_height, parameters)
            state.put(keys.PARAMETERS, parameters)
            for change in changes:
                state.emit("parameter_changed", subject, name=change.name, value=change.value)
        case Grant(to, amount_nano):
            money.transfer(state, money.TREASURY, money.balance(to), amount_nano)
            state.emit("grant_paid", to, amount_nano=amount_nano)
        case PlanUpgrade(name, height, protocol):
            planned = state.governance.upgrade
            if planned is not None:
                raise Rejection(IMPOSSIBLE_PROPOSAL, f"the upgrade {planned.name!r} is planned already")
            if any(done.name == name for done in state.governance.upgrades):
                raise Rejection(IMPOSSIBLE_PROPOSAL, f"the upgrade {name!r} was gone through")
            if protocol <= state.governance.protocol:
                raise Rejection(IMPOSSIBLE_PROPOSAL, f"protocol {state.governance.protocol} is in force already")
            state.change_governance(upgrade=content)
            state.emit("upgrade_planned", subject, name=name, height=height)
        case CancelUpgrade(name):
            planned = state.governance.upgrade
            if planned is None or planned.name != name:
                raise Rejection(IMPOSSIBLE_PROPOSAL, f"no upgrade {name!r} is planned any more")
            state.change_governance(upgrade=None)
            state.emit("upgrade_cancelled", subject, name=name)
        case Statement():
            return


def _keep_expired_evidence_expired(state: State, height: int, parameters: Parameters) -> None:
    """A longer unbonding time brings no offence back whose stake was paid out, and none that nodes forgot."""
    present = state.parameters.unbonding_blocks
    if parameters.unbonding_blocks > present:
        floor = max(state.governance.evidence_floor, height - present)
        state.change_governance(evidence_floor=max(0, floor))
