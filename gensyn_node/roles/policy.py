"""Pure choices of a role driver: what a role's word means, what to register, why there is nothing to do."""

from __future__ import annotations

from consensus.ledger.messages import (
    ROLE_SOLVER,
    ROLE_VERIFIER,
    ROLE_WHISTLEBLOWER,
    ROLES_ALL,
    Message,
    PauseProvider,
    RegisterProvider,
    ResumeProvider,
    UpdateProvider,
)
from consensus.ledger.parameters import Parameters
from consensus.ledger.queries import Eligibility
from consensus.ledger.records import PROVIDER_ACTIVE, PROVIDER_PAUSED, PROVIDER_WITHDRAWING, Provider
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import format_amount
from gensyn_node.roles.reasons import UNKNOWN_ROLE
from proofs.pinpoint.types import MOVE_BYTES_MAX

AUTO = "auto"
ROLE_MASKS = {
    AUTO: ROLES_ALL,
    "solver": ROLE_SOLVER,
    "verifier": ROLE_VERIFIER,
    "whistleblower": ROLE_WHISTLEBLOWER,
    "none": 0,
}
"""`auto` may offer everything; `roles/auto.py` chooses."""
REFERENCE_ASK_NANO = 50_000_000
"""Asked per giga-gas where the owner sets no price: about what a core's electricity and wear cost."""

FEE_RESERVE_MOVES = 16
"""Dispute moves that an account can pay after it registered: who cannot pay for a duty loses more than the fee."""


def bond_and_reserve(offer_bond_nano: int, parameters: Parameters) -> int:
    """What an account must hold to register: the bond, and fees for a dispute's worth of transactions."""
    units = parameters.referee_units + MOVE_BYTES_MAX
    fee = parameters.fee_base_nano + units * parameters.fee_per_unit_nano
    return max(offer_bond_nano, parameters.provider_bond_min_nano) + FEE_RESERVE_MOVES * fee


class Offer(Struct):
    """On which terms a node works for others."""

    device_class: str
    memory_bytes: int
    ask_price_nano: int
    bond_nano: int
    """0: the least that the parameters allow."""
    endpoints: tuple[str, ...]
    name: str


def mask_of(role: str) -> int:
    """The provider roles that a word stands for; `Rejection` UNKNOWN_ROLE."""
    if role not in ROLE_MASKS:
        raise Rejection(UNKNOWN_ROLE, f"{role!r} is none of {', '.join(ROLE_MASKS)}")
    return ROLE_MASKS[role]


def registration(
    provider: Provider | None, mask: int, offer: Offer, parameters: Parameters, balance_nano: int
) -> Message | None:
    """The message that makes the ledger's record say what this node offers; None when it does, or cannot."""
    if provider is None:
        bond = max(offer.bond_nano, parameters.provider_bond_min_nano)
        if not mask or balance_nano < bond_and_reserve(offer.bond_nano, parameters):
            return None
        return RegisterProvider(
            mask, offer.device_class, offer.memory_bytes, offer.ask_price_nano, bond, offer.endpoints, offer.name
        )
    if provider.state == PROVIDER_WITHDRAWING:
        return None
    if not mask:
        return PauseProvider() if provider.state == PROVIDER_ACTIVE else None
    more = max(0, offer.bond_nano - provider.bond_nano)
    more = more if balance_nano >= more + bond_and_reserve(0, parameters) - parameters.provider_bond_min_nano else 0
    if (
        more
        or provider.roles != mask
        or provider.endpoints != offer.endpoints
        or provider.ask_price_nano != offer.ask_price_nano
        or provider.memory_bytes != offer.memory_bytes
    ):
        return UpdateProvider(
            mask, offer.device_class, offer.memory_bytes, offer.ask_price_nano, more, offer.endpoints, offer.name
        )
    return ResumeProvider() if provider.state == PROVIDER_PAUSED else None


def why_idle(
    mask: int, provider: Provider | None, bond_needed_nano: int, balance_nano: int, tasks: list[Eligibility]
) -> str:
    """Why the node has nothing to do, in one sentence, with the smallest change that would help."""
    if not mask:
        return "idle: the role is none; choose one with gensyn node role"
    if provider is None:
        if balance_nano < bond_needed_nano:
            need, have = format_amount(bond_needed_nano), format_amount(balance_nano)
            return f"idle: not registered; bond and fees of {need} are more than the balance of {have}"
        return "idle: not registered; set provider.register = true in config.toml"
    if provider.state != PROVIDER_ACTIVE:
        return f"idle: the provider is {provider.state}"
    excluded = [one for one in tasks if not one.eligible]
    if excluded:
        one = excluded[0]
        measured = f" (have {one.have}, need {one.need})" if one.need else ""
        return f"idle: excluded from task {one.task_id.hex()[:12]} by {one.why}{measured}"
    if tasks:
        return "idle: waiting for the next draw"
    return "idle: no task is looking for anybody"
