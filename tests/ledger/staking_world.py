"""What the tests of stakes share: worlds of several validators, and short words for what they do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from ledger_world import CHAIN, World, key

from consensus.ledger import stake_queries, staking
from consensus.ledger.block import Misbehaviour
from consensus.ledger.messages import Bond, validator_key_proof_bytes
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.stake_records import ValidatorRecord
from consensus.ledger.view import State

FIRST = key("validator").address
ANY = 10_000
"""A delegator that accepts every commission."""


def world_with(**changes: Any) -> World:
    """A world with other parameters."""
    return World(msgspec.structs.replace(devnet_parameters(), **changes))


def bond(name: str, amount: int) -> Bond:
    """The bond that registers the validator of a named operator."""
    proof = key(name + "'s validator").sign(validator_key_proof_bytes(CHAIN, key(name).address))
    return Bond(key(name + "'s validator").public, amount, proof)


def validator_of(name: str) -> bytes:
    """Address of a named operator's validator."""
    return FIRST if name == "operator" else key(name + "'s validator").address


def record(world: World, validator: bytes) -> ValidatorRecord:
    """A validator as it stands."""
    return State(world.ledger).validator(validator)


def staked(world: World, validator: bytes, name: str) -> int:
    """What a named account's delegation is worth."""
    return staking.delegated_nano(State(world.ledger), validator, key(name).address)


def owed(world: World, validator: bytes, name: str) -> int:
    """Rewards that a named account could withdraw."""
    shown = stake_queries.delegations(world.ledger, key(name).address)
    return next((one.rewards_nano for one in shown if one.validator == validator), 0)


def active(world: World) -> dict[bytes, int]:
    """The set that the stakes make."""
    return staking.active_powers(State(world.ledger))


def accuse(world: World, validator: bytes, height: int, proposer: bytes = FIRST, times: int = 1) -> None:
    """A block with evidence of a double vote."""
    offences = (Misbehaviour(validator, height),) * times
    context = world.context(world.height + 1)
    world.block_in(msgspec.structs.replace(context, misbehaviours=offences, proposer=proposer))


def blocks(world: World, count: int, absent: Iterable[bytes] = ()) -> None:
    """Empty blocks, signed by all but some."""
    world.absent = set(absent)
    for _ in range(count):
        world.block()


def four(**changes: Any) -> World:
    """A world in which alice, bob and carol operate a validator of 100 GSN each, as the first one has."""
    world = World(msgspec.structs.replace(devnet_parameters(), **changes), ("alice", "bob", "carol"))
    blocks(world, 2)
    return world
