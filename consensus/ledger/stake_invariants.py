"""The audit of stakes: shares against tokens, rewards against what can be withdrawn, entries against who lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from consensus.ledger.records import Supply
from consensus.ledger.shares import add_reward, reward, worth
from consensus.ledger.stake_records import Delegation, Earning, MissedBlocks, Unbonding, ValidatorRecord
from gensyn_node.primitives.errors import InvariantViolation


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantViolation(message)


def check_shares(validators: Iterable[ValidatorRecord], delegations: Iterable[Delegation]) -> None:
    """Every validator's shares are its delegations', none is worth more than a nano, and together not all the stake."""
    held: Counter[bytes] = Counter()
    worths: Counter[bytes] = Counter()
    records = {record.address: record for record in validators}
    for one in delegations:
        record = records[one.validator]
        held[one.validator] += one.shares
        worths[one.validator] += worth(one.shares, record.stake_nano, record.shares)
        _require(bool(one.shares or one.unbondings), "an empty delegation")
    for record in records.values():
        name = record.address.hex()
        _require(held[record.address] == record.shares, f"{name}: the shares do not add up")
        _require(record.stake_nano <= record.shares, f"{name}: a share is worth more than one nano")
        _require(bool(record.stake_nano) == bool(record.shares), f"{name}: stake without shares, or shares of nothing")
        _require(worths[record.address] <= record.stake_nano, f"{name}: the shares are worth more than the stake")


def check_rewards(
    validators: Iterable[ValidatorRecord],
    delegations: Iterable[Delegation],
    earnings: Iterable[Earning],
    supply: Supply,
) -> None:
    """What was earned is there, and covers what every delegation can withdraw."""
    records = {record.address: record for record in validators}
    earned = {entry.validator: entry.amount_nano for entry in earnings}
    owed: Counter[bytes] = Counter()
    for one in delegations:
        record = records[one.validator]
        ratio = record.reward_per_share
        if record.shares:
            amount = earned.get(one.validator, 0)
            ratio = add_reward(ratio, amount - amount * record.commission_bps // 10_000, record.shares)
        owed[one.validator] += reward(one.shares, one.reward_mark, ratio)
    total = sum(earned.values())
    for record in records.values():
        amount = earned.get(record.address, 0)
        there = record.rewards_nano + amount - amount * record.commission_bps // 10_000
        _require(owed[record.address] <= there, f"{record.address.hex()}: more rewards are owed than there are")
        _require(bool(record.shares) or there == 0, f"{record.address.hex()}: rewards of nobody")
        total += record.rewards_nano + record.commission_nano
    _require(total == supply.rewards_nano, f"rewards: {total}, the supply says otherwise: {supply}")


def check_entries(
    entries: Mapping[int, Unbonding],
    delegations: Iterable[Delegation],
    indexes: Mapping[bytes, tuple[bytes, ...]],
) -> None:
    """Every entry of a validator's stake is listed by its owner's delegation, every delegation by its owner's index."""
    listed = {number: (one.validator, one.delegator) for one in delegations for number in one.unbondings}
    staked = {number: (entry.validator, entry.owner) for number, entry in entries.items() if entry.validator}
    _require(listed == staked, "the unbonding entries are not those that delegations list")
    pairs = {(validator, owner) for owner, validators in indexes.items() for validator in validators}
    _require(pairs == {(one.validator, one.delegator) for one in delegations}, "the indexes are not the delegations")


def check_missed(missed: tuple[MissedBlocks, ...]) -> None:
    """The bitmaps are in order, and none is empty."""
    addresses = [entry.validator for entry in missed]
    _require(addresses == sorted(set(addresses)), "missed blocks out of order")
    _require(all(any(entry.bits) for entry in missed), "an empty bitmap is kept")
