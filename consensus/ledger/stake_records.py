"""What the ledger stores about stakes: validators, delegations, money on its way out, rewards, missed blocks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.ledger.fields import Address, Count, Endpoints, Hash, Nano, Small, Text
from consensus.ledger.shares import RATIO_BYTES, ZERO_RATIO
from gensyn_node.primitives.codec import Struct

Ratio = Annotated[bytes, Meta(min_length=RATIO_BYTES, max_length=RATIO_BYTES)]
"""A fixed-point number of `shares.py`, too long for the codec's integers."""


class ValidatorRecord(Struct):
    """A consensus key with stake."""

    address: Address
    """Address of the consensus key."""
    public_key: Hash
    operator: Address
    """Account that registered it: its own delegation is the validator's own stake, the commission is its."""
    stake_nano: Nano
    """All tokens delegated to it, the operator's included."""
    shares: Count
    """All delegations' shares together; a share is never worth more than one nano."""
    tombstoned: bool = False
    """Voted twice: never a validator again."""
    name: Text = ""
    endpoints: Endpoints = ()
    commission_bps: Small = 0
    """The operator's part of what its delegators earn."""
    commission_raised_height: Count = 0
    """Last time it was raised."""
    jailed_height: Count = 0
    """Taken out of the set at this height for missing blocks; 0 when it is not."""
    offence_height: Count = 0
    """Of the double vote: what began to leave before that is not slashed. 0 when there was none."""
    tombstoned_height: Count = 0
    """When the stake was slashed: what began to leave since then was slashed with it."""
    offence_slash_bps: Small = 0
    """What is taken of entries that began to leave in between, when they are paid out."""
    finder: bytes = b""
    """Account that brought the evidence; empty when there is none."""
    reward_per_share: Ratio = ZERO_RATIO
    """Rewards that one share has earned since the beginning."""
    rewards_nano: Nano = 0
    """Delegators' rewards not yet withdrawn, with what rounding left."""
    commission_nano: Nano = 0
    """Commission not yet withdrawn."""


class Delegation(Struct):
    """An account's share of a validator's stake."""

    validator: Address
    delegator: Address
    shares: Count
    reward_mark: Ratio
    """The validator's `reward_per_share` up to which this delegation was paid."""
    unbondings: tuple[Count, ...]
    """Numbers of its Unbonding entries."""


class Unbonding(Struct):
    """Money on its way out."""

    owner: Address
    amount_nano: Nano
    start_height: Count
    release_height: Count
    validator: bytes
    """Validator whose stake it was (still slashable); empty for a provider's bond."""


class Earning(Struct):
    """Rewards of a validator that its record does not know yet; one list of them is written each block."""

    validator: Address
    amount_nano: Nano


class MissedBlocks(Struct):
    """Which of the latest blocks a validator did not sign: bit `height % window`. Who missed none has no record."""

    validator: Address
    bits: bytes
