"""The registry of machines that offer work."""

from __future__ import annotations

from consensus.ledger import keys, money
from consensus.ledger.call import Call
from consensus.ledger.messages import (
    OFFERS_NATIVE,
    ROLES_ALL,
    PauseProvider,
    RegisterProvider,
    ResumeProvider,
    UpdateProvider,
    WithdrawProvider,
)
from consensus.ledger.reasons import ALREADY_A_PROVIDER, BAD_OFFER, BAD_PROVIDER_STATE, PROVIDERS_FULL
from consensus.ledger.records import PROVIDER_ACTIVE, PROVIDER_PAUSED, PROVIDER_WITHDRAWING, Provider
from consensus.ledger.unbonding import start_unbonding
from consensus.ledger.view import State
from gensyn_node.primitives.errors import Rejection


def _check_offer(state: State, roles: int, ask_price_nano: int) -> None:
    if not roles & ROLES_ALL > 0 or roles > ROLES_ALL | OFFERS_NATIVE:
        words = "1 (solver), 2 (verifier), 4 (whistleblower), with 8: native tasks as well"
        raise Rejection(BAD_OFFER, f"roles {roles} is not a sum of {words}")
    least = state.parameters.ask_min_nano
    if ask_price_nano < least:
        raise Rejection(BAD_OFFER, f"the ask is {ask_price_nano} nano per giga-gas, at least {least} is required")


def register(state: State, call: Call, message: RegisterProvider) -> None:
    """Join the registry with a bond."""
    if state.find(keys.provider(call.sender), Provider) is not None:
        raise Rejection(ALREADY_A_PROVIDER, f"account {call.sender.hex()}")
    parameters = state.parameters
    _check_offer(state, message.roles, message.ask_price_nano)
    if message.bond_nano < parameters.provider_bond_min_nano:
        least = parameters.provider_bond_min_nano
        raise Rejection(BAD_OFFER, f"the bond is {message.bond_nano} nano, at least {least} is required")
    if len(state.addresses(keys.PROVIDERS)) >= parameters.providers_max:
        raise Rejection(PROVIDERS_FULL, f"{parameters.providers_max} are registered")
    provider = Provider(
        address=call.sender,
        name=message.name,
        state=PROVIDER_ACTIVE,
        roles=message.roles,
        device_class=message.device_class,
        memory_bytes=message.memory_bytes,
        ask_price_nano=message.ask_price_nano,
        bond_nano=0,
        locked_nano=0,
        endpoints=message.endpoints,
        solving=0,
        verifying=0,
        work=(),
        misses=0,
        registered_height=call.height,
        earned_nano=0,
        slashed_nano=0,
    )
    state.put(keys.provider(call.sender), provider)
    state.add_address(keys.PROVIDERS, call.sender)
    money.transfer(state, money.balance(call.sender), money.bond(call.sender), message.bond_nano)
    state.emit("provider_registered", call.sender, roles=message.roles, name=message.name)


def update(state: State, call: Call, message: UpdateProvider) -> None:
    """Change the offer; work in progress keeps its terms."""
    if state.provider(call.sender).state == PROVIDER_WITHDRAWING:
        raise Rejection(BAD_PROVIDER_STATE, "the provider is leaving")
    _check_offer(state, message.roles, message.ask_price_nano)
    money.transfer(state, money.balance(call.sender), money.bond(call.sender), message.add_bond_nano)
    state.change_provider(
        call.sender,
        roles=message.roles,
        device_class=message.device_class,
        memory_bytes=message.memory_bytes,
        ask_price_nano=message.ask_price_nano,
        endpoints=message.endpoints,
        name=message.name,
    )
    state.emit("provider_updated", call.sender, roles=message.roles)


def pause(state: State, call: Call, message: PauseProvider) -> None:
    """Be drawn for nothing new."""
    _move(state, call.sender, PROVIDER_ACTIVE, PROVIDER_PAUSED)


def resume(state: State, call: Call, message: ResumeProvider) -> None:
    """Be drawn again."""
    _move(state, call.sender, PROVIDER_PAUSED, PROVIDER_ACTIVE)
    state.change_provider(call.sender, misses=0)


def _move(state: State, address: bytes, source: str, target: str) -> None:
    present = state.provider(address).state
    if present != source:
        raise Rejection(BAD_PROVIDER_STATE, f"the provider is {present}, not {source}")
    state.change_provider(address, state=target)
    if target == PROVIDER_PAUSED:
        state.emit("provider_paused", address, why="asked")
    else:
        state.emit("provider_active", address)


def withdraw(state: State, call: Call, message: WithdrawProvider) -> None:
    """Leave as soon as no duty is open."""
    if state.provider(call.sender).state == PROVIDER_WITHDRAWING:
        raise Rejection(BAD_PROVIDER_STATE, "the provider is leaving already")
    state.change_provider(call.sender, state=PROVIDER_WITHDRAWING)
    state.emit("provider_withdrawing", call.sender)
    leave_if_done(state, call.height, call.sender)


# --- duties: what keeps a provider from leaving


def add_duty(state: State, address: bytes, task_id: bytes, *, solving: int = 0, verifying: int = 0) -> None:
    """One more duty, counted as solving or verifying where it is that."""
    record = state.provider(address)
    state.change_provider(
        address,
        work=(*record.work, task_id),
        solving=record.solving + solving,
        verifying=record.verifying + verifying,
    )


def end_duty(
    state: State, height: int, address: bytes, task_id: bytes, *, solving: int = 0, verifying: int = 0
) -> None:
    """One duty less; a leaving provider's bond starts its way out with the last."""
    record = state.provider(address)
    position = record.work.index(task_id)
    state.change_provider(
        address,
        work=record.work[:position] + record.work[position + 1 :],
        solving=record.solving - solving,
        verifying=record.verifying - verifying,
    )
    leave_if_done(state, height, address)


def leave_if_done(state: State, height: int, address: bytes) -> None:
    """Pay a leaving provider's bond into unbonding once it has no duty."""
    record = state.provider(address)
    if record.state != PROVIDER_WITHDRAWING or record.work:
        return
    start_unbonding(state, height, address, money.bond(address), record.bond_nano)
    state.put(keys.provider(address), None)
    state.remove_address(keys.PROVIDERS, address)
    state.emit("provider_left", address)


def missed(state: State, address: bytes) -> None:
    """A duty was not done in time; after several in a row the chain pauses the provider."""
    record = state.change_provider(address, misses=state.provider(address).misses + 1)
    if record.state == PROVIDER_ACTIVE and record.misses >= state.parameters.misses_until_paused:
        state.change_provider(address, state=PROVIDER_PAUSED)
        state.emit("provider_paused", address, why="missed duties")


def did_duty(state: State, address: bytes) -> None:
    """A duty was done: misses are no longer in a row."""
    if state.provider(address).misses:
        state.change_provider(address, misses=0)
