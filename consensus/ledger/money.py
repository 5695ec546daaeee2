"""The one way money moves. Every amount sits in a place; the supply record keeps the total of each kind of place."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from consensus.ledger import keys
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from consensus.ledger.proposal_records import Proposal
from consensus.ledger.reasons import INSUFFICIENT_FUNDS
from consensus.ledger.records import Account, Provider, Task
from consensus.ledger.stake_records import Unbonding, ValidatorRecord
from consensus.ledger.view import State
from gensyn_node.primitives.errors import InvariantViolation, Rejection

GIGA = 10**9
"""Prices are per giga-gas."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where money is: the field of the supply that totals it, and where exactly."""

    total: str
    key: bytes = b""
    record: type | None = None
    field: str = ""


def balance(address: bytes) -> Place:
    """An account's spendable money."""
    return Place("balances_nano", keys.account(address), Account, "balance_nano")


def stake(validator: bytes) -> Place:
    """All stake behind a validator."""
    return Place("stakes_nano", keys.validator(validator), ValidatorRecord, "stake_nano")


def unbonding(number: int) -> Place:
    """Money waiting to be paid out."""
    return Place("unbonding_nano", keys.unbonding(number), Unbonding, "amount_nano")


def bond(provider: bytes) -> Place:
    """A provider's bond."""
    return Place("bonds_nano", keys.provider(provider), Provider, "bond_nano")


def escrow(task_id: bytes) -> Place:
    """A task's escrow."""
    return Place("escrows_nano", keys.task(task_id), Task, "escrow_nano")


def deposit(number: int) -> Place:
    """A proposal's deposit."""
    return Place("deposits_nano", keys.proposal(number), Proposal, "deposit_nano")


FEES = Place("fees_nano")
"""Fees and inflation, until a block deals them to validators."""
REWARDS = Place("rewards_nano")
"""What validators and delegators earned and did not withdraw; the validators' records say whose it is."""
JACKPOT = Place("jackpot_nano")
TREASURY = Place("treasury_nano")
BURNT = Place("burnt_nano")


def transfer(state: State, source: Place, target: Place, amount_nano: int) -> None:
    """Move money. `Rejection` INSUFFICIENT_FUNDS when the source has less; then nothing moved."""
    if amount_nano < 0:
        raise InvariantViolation(f"a transfer of {amount_nano} nano")
    if amount_nano == 0 or source == target:
        return
    _add(state, source, -amount_nano)
    _add(state, target, amount_nano)
    supply = state.supply
    if source.total != target.total:
        state.put(
            keys.SUPPLY,
            msgspec.structs.replace(
                supply,
                **{
                    source.total: getattr(supply, source.total) - amount_nano,
                    target.total: getattr(supply, target.total) + amount_nano,
                },
            ),
        )


def _add(state: State, place: Place, amount_nano: int) -> None:
    if place.record is None:
        held = getattr(state.supply, place.total)
        if held + amount_nano < 0:
            raise Rejection(INSUFFICIENT_FUNDS, f"{place.total} has {held} nano, {-amount_nano} are needed")
        return
    record = state.find(place.key, place.record)
    if record is None:
        if place.record is not Account:
            raise InvariantViolation(f"no record at {place.key!r} to hold money")
        record = Account()
    held = getattr(record, place.field)
    if held + amount_nano < 0:
        raise Rejection(INSUFFICIENT_FUNDS, f"{held} nano are there, {-amount_nano} are needed")
    state.put(place.key, msgspec.structs.replace(record, **{place.field: held + amount_nano}))


def mint(state: State, pool: Place, amount_nano: int) -> None:
    """Make new money in a pool."""
    supply = state.supply
    grown = {pool.total: getattr(supply, pool.total) + amount_nano, "minted_nano": supply.minted_nano + amount_nano}
    state.put(keys.SUPPLY, msgspec.structs.replace(supply, **grown))


def check_supply(state: State) -> None:
    """Every total is at least zero and together they are what was minted; `InvariantViolation` otherwise."""
    supply = state.supply
    totals = {name: getattr(supply, name) for name in supply.__struct_fields__ if name != "minted_nano"}
    if min(totals.values()) < 0 or sum(totals.values()) != supply.minted_nano:
        raise InvariantViolation(f"money is not conserved: {supply}")


def work_price(gas: int, price_nano: int) -> int:
    """What `gas` costs at `price_nano` a giga-gas, rounded down."""
    return gas * price_nano // GIGA


# --- bonds that answer for something


def lock(state: State, provider: bytes, amount_nano: int) -> None:
    """Set part of a provider's free bond aside."""
    record = state.provider(provider)
    if record.free_nano < amount_nano:
        raise InvariantViolation(f"{record.free_nano} nano of bond are free, {amount_nano} are to be locked")
    state.change_provider(provider, locked_nano=record.locked_nano + amount_nano)


def unlock(state: State, provider: bytes, amount_nano: int) -> None:
    """Give a locked part of the bond free again."""
    record = state.provider(provider)
    if record.locked_nano < amount_nano:
        raise InvariantViolation(f"{record.locked_nano} nano of bond are locked, {amount_nano} are to be freed")
    state.change_provider(provider, locked_nano=record.locked_nano - amount_nano)


@dataclass(frozen=True, slots=True)
class SlashSplit:
    """Where a slashed amount goes."""

    winner_nano: int
    jackpot_nano: int
    compensated_nano: tuple[int, ...]
    burnt_nano: int


def split_slash(
    parameters: Parameters, amount_nano: int, *, has_winner: bool, wanted: tuple[int, ...] = ()
) -> SlashSplit:
    """The shares of a slashed amount. Compensations come out of the burnt share, in order, as far as it goes."""
    to_winner = amount_nano * parameters.winner_bps // BASIS_POINTS
    to_jackpot = amount_nano * parameters.jackpot_bps // BASIS_POINTS
    to_burn = amount_nano - to_winner - to_jackpot
    compensated = []
    for amount in wanted:
        paid = min(amount, to_burn)
        to_burn -= paid
        compensated.append(paid)
    if not has_winner:
        to_winner, to_burn = 0, to_burn + to_winner
    return SlashSplit(to_winner, to_jackpot, tuple(compensated), to_burn)


def slash(
    state: State,
    provider: bytes,
    amount_nano: int,
    winner: bytes | None,
    why: str,
    compensations: tuple[tuple[bytes, int], ...] = (),
) -> None:
    """Take a locked part of a bond: a share to the winner, a share to the jackpot pool, the rest is burnt.

    Compensations (for honest work on what turned out wrong) come out of the burnt share, as far as it goes; without a
    winner that share is burnt as well. What all others can get is always below the whole: being both sides loses.
    """
    unlock(state, provider, amount_nano)
    wanted = tuple(amount for _, amount in compensations)
    split = split_slash(state.parameters, amount_nano, has_winner=winner is not None, wanted=wanted)
    for (address, _), paid in zip(compensations, split.compensated_nano, strict=True):
        pay(state, bond(provider), address, paid)
    if winner is not None:
        pay(state, bond(provider), winner, split.winner_nano)
    transfer(state, bond(provider), JACKPOT, split.jackpot_nano)
    transfer(state, bond(provider), BURNT, split.burnt_nano)
    record = state.provider(provider)
    state.change_provider(provider, slashed_nano=record.slashed_nano + amount_nano)
    state.emit("slashed", provider, amount_nano=amount_nano, winner=winner or b"", why=why)


def pay(state: State, source: Place, address: bytes, amount_nano: int) -> None:
    """Move money to an account that earned it."""
    transfer(state, source, balance(address), amount_nano)
    record = state.find(keys.provider(address), Provider)
    if record is not None:
        state.change_provider(address, earned_nano=record.earned_nano + amount_nano)
