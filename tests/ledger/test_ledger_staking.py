"""Stake: delegating and leaving, the set, slashes, rewards, jail; and the published mistakes of other chains."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from ledger_world import CHAIN, GSN, World, key

from consensus.ledger import keys, queries, staking
from consensus.ledger.block import Misbehaviour
from consensus.ledger.messages import (
    Bond,
    Delegate,
    Message,
    Unbond,
    Undelegate,
    validator_key_proof_bytes,
)
from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.stake_records import ValidatorRecord
from consensus.ledger.view import State

FIRST = key("validator").address
ALL_BPS = 10_000


def world_with(**changes: Any) -> World:
    """A world with other parameters."""
    parameters: Parameters = msgspec.structs.replace(devnet_parameters(), **changes)
    return World(parameters)


def bond(name: str, amount: int) -> Bond:
    """The bond that registers the validator of a named operator."""
    proof = key(name + "'s validator").sign(validator_key_proof_bytes(CHAIN, key(name).address))
    return Bond(key(name + "'s validator").public, amount, proof)


def validator_of(name: str) -> bytes:
    """Address of a named operator's validator."""
    return key(name + "'s validator").address


def record(world: World, validator: bytes) -> ValidatorRecord:
    """A validator as it stands."""
    return State(world.ledger).validator(validator)


def staked(world: World, validator: bytes, name: str) -> int:
    """What a named account's delegation is worth."""
    return staking.delegated_nano(State(world.ledger), validator, key(name).address)


def accuse(world: World, validator: bytes, height: int) -> None:
    """A block with evidence of a double vote."""
    offence = (Misbehaviour(validator, height),)
    world.block_in(msgspec.structs.replace(world.context(world.height + 1), misbehaviours=offence))


def blocks(world: World, count: int) -> None:
    """Empty blocks."""
    for _ in range(count):
        world.block()


# --- delegating and leaving


def test_delegated_stake_gives_power_is_shown_and_comes_back_after_the_unbonding_time() -> None:
    world = World()
    world.do("alice", Delegate(FIRST, 50 * GSN, 0))
    assert world.deltas[-1].validator_updates[0].power == 150
    assert staked(world, FIRST, "alice") == 50 * GSN and staked(world, FIRST, "operator") == 100 * GSN
    shown = queries.delegations(world.ledger, key("alice").address)
    assert [(one.validator, one.stake_nano) for one in shown] == [(FIRST, 50 * GSN)]
    world.do("alice", Undelegate(FIRST, 50 * GSN))
    assert world.deltas[-1].validator_updates[0].power == 100
    waiting = world.balance("alice")
    blocks(world, world.parameters.unbonding_blocks + 1)
    assert world.balance("alice") == waiting
    world.block()
    assert world.balance("alice") == waiting + 50 * GSN
    assert queries.delegations(world.ledger, key("alice").address) == []
    assert State(world.ledger).find(keys.delegation(FIRST, key("alice").address), object) is None


@pytest.mark.parametrize(
    ("who", "message", "code"),
    [
        ("alice", Delegate(bytes(20), GSN, ALL_BPS), "E1210"),
        ("alice", Delegate(FIRST, 0, ALL_BPS), "E1211"),
        ("alice", Delegate(FIRST, 5_000 * GSN, ALL_BPS), "E1204"),
        ("alice", Delegate(FIRST, 1, ALL_BPS), "E1213"),
        ("operator", Delegate(FIRST, GSN, ALL_BPS), "E1213"),
        ("operator", Undelegate(FIRST, GSN), "E1213"),
        ("alice", Undelegate(FIRST, GSN), "E1206"),
        ("bob", Undelegate(FIRST, 0), "E1211"),
        ("bob", Undelegate(FIRST, 11 * GSN), "E1206"),
        ("bob", Undelegate(FIRST, 10 * GSN - 1), "E1213"),
        ("bob", Unbond(FIRST, GSN), "E1207"),
    ],
)
def test_what_is_not_a_delegation_is_refused(who: str, message: Message, code: str) -> None:
    world = World()
    world.do("bob", Delegate(FIRST, 10 * GSN, 0))
    assert world.refused(who, message) == code
