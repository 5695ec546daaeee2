"""Validators that are down: who is jailed, what it costs, how they return, and a chain that outlives them."""

from __future__ import annotations

import msgspec
import pytest
from ledger_world import GSN, World, key
from staking_world import ANY, FIRST, accuse, active, blocks, bond, four, record, staked, validator_of

from consensus.ledger import keys
from consensus.ledger.downtime import missed_blocks
from consensus.ledger.messages import Bond, Delegate, Unbond, Unjail
from consensus.ledger.parameters import devnet_parameters, mainnet_parameters
from consensus.ledger.stake_records import MissedBlocks
from consensus.ledger.view import State

SHORT = {"downtime_window_blocks": 20, "downtime_signed_min_bps": 5_000, "downtime_slash_bps": 100, "jail_blocks": 15}


def missed(world: World, validator: bytes) -> int:
    """Blocks of the window that a validator missed."""
    found = {entry.validator: entry.bits for entry in missed_blocks(State(world.ledger))}
    return int.from_bytes(found.get(validator, b""), "big").bit_count()


def jailed(world: World, *names: str) -> list[str]:
    """Those of the named operators whose validator is in jail."""
    return [name for name in names if record(world, validator_of(name)).jailed_height]


def test_who_signs_less_than_half_of_the_window_is_jailed_and_slashed_a_little() -> None:
    world = four(**SHORT)
    alices = validator_of("alice")
    world.do("dave", Delegate(alices, 100 * GSN, ANY))
    blocks(world, 10, absent=[alices])
    assert alices in active(world), "exactly half is enough"
    blocks(world, 1, absent=[alices])
    assert alices not in active(world)
    assert world.deltas[-1].validator_updates[0].power == 0
    assert staked(world, alices, "alice") == staked(world, alices, "dave") == 99 * GSN
    blocks(world, 10, absent=[alices])
    assert staked(world, alices, "dave") == 99 * GSN, "once"


def test_a_window_forgets_what_is_long_ago() -> None:
    world = four(**SHORT)
    alices = validator_of("alice")
    for _ in range(6):
        blocks(world, 9, absent=[alices])
        assert missed(world, alices) == 9
        blocks(world, 20)
        assert missed(world, alices) == 0
        assert State(world.ledger).find(keys.MISSED, tuple[MissedBlocks, ...]) == ()
    assert alices in active(world)


def test_who_is_back_is_not_jailed_for_what_is_over() -> None:
    world = four(**SHORT, validators_min=4)
    alices = validator_of("alice")
    blocks(world, 14, absent=[alices])
    assert not jailed(world, "alice"), "the set cannot spare it"
    world.absent = set()
    world.do("dave", bond("dave", 10 * GSN))
    world.block()
    assert missed(world, alices) > 10 and len(active(world)) == 5
    assert not jailed(world, "alice"), "it signs again"
    blocks(world, 1, absent=[alices])
    assert jailed(world, "alice")


def test_a_jailed_validator_returns_when_its_time_is_over_and_its_operator_says_so() -> None:
    world = four(**SHORT)
    alices = validator_of("alice")
    blocks(world, 11, absent=[alices])
    since = world.height
    assert world.refused("bob", Unjail(alices)) == "E1207"
    assert world.refused("alice", Unjail(alices)) == "E1219"
    blocks(world, since + 15 - 1 - world.height)
    world.do("alice", Unjail(alices))
    assert world.height == since + 15
    assert world.refused("alice", Unjail(alices)) == "E1218"
    assert active(world)[alices] == 99
    blocks(world, 30)
    assert alices in active(world)
    assert missed(world, alices) == 0


def test_who_voted_twice_is_never_let_out() -> None:
    world = four(**SHORT)
    alices = validator_of("alice")
    blocks(world, 11, absent=[alices])
    accuse(world, alices, world.height)
    blocks(world, 20)
    assert world.refused("alice", Unjail(alices)) == "E1218"


def test_who_lost_its_least_stake_in_jail_bonds_more_first() -> None:
    world = four(**SHORT, stake_min_nano=100 * GSN)
    alices = validator_of("alice")
    blocks(world, 11, absent=[alices])
    blocks(world, 20)
    assert world.refused("alice", Unjail(alices)) == "E1206"
    world.do("alice", Bond(key("alice's validator").public, GSN, b""))
    world.do("alice", Unjail(alices))
    assert alices in active(world)


def test_an_outage_of_most_of_the_set_leaves_the_least_set_and_a_chain_that_goes_on() -> None:
    world = four(**SHORT, validators_min=2)
    everybody = [validator_of(name) for name in ("operator", "alice", "bob", "carol")]
    for alive in (everybody[:1], everybody[3:]):
        blocks(world, 40, absent=set(everybody) - set(alive))
        assert len(active(world)) >= 2
        assert set(alive) <= set(active(world)), "who is here is never jailed for who is not"
    blocks(world, 20)
    for name in jailed(world, "operator", "alice", "bob", "carol"):
        world.do(name, Unjail(validator_of(name)))
    assert len(active(world)) == 4


@pytest.mark.parametrize(("worse", "bad"), [("alice", "bob"), ("bob", "alice")])
def test_the_worst_are_jailed_first(worse: str, bad: str) -> None:
    world = four(**SHORT, validators_min=4)
    blocks(world, 3, absent=[validator_of(worse)])
    blocks(world, 12, absent=[validator_of(worse), validator_of(bad)])
    assert not jailed(world, worse, bad)
    world.do("dave", bond("dave", 10 * GSN))
    world.block()
    assert jailed(world, worse, bad) == [worse], "the set can spare one"


def test_with_everybody_in_jail_or_gone_the_jailed_sign() -> None:
    world = four(**SHORT)
    alices = validator_of("alice")
    blocks(world, 11, absent=[alices])
    for name in ("operator", "bob"):
        world.do(name, Unbond(validator_of(name), 100 * GSN))
    assert world.refused("carol", Unbond(validator_of("carol"), 100 * GSN)) == "E1209"
    accuse(world, validator_of("carol"), world.height)
    assert active(world) == {alices: 99}, "the jailed before the tombstoned"


def test_a_newcomer_has_the_same_half_window() -> None:
    world = four(**SHORT)
    world.do("dave", bond("dave", 100 * GSN))
    new = validator_of("dave")
    blocks(world, 2)
    blocks(world, 10, absent=[new])
    assert new in active(world)
    blocks(world, 2, absent=[new])
    assert new not in active(world)


def test_a_changed_window_starts_anew() -> None:
    world = four(**SHORT)
    alices = validator_of("alice")
    blocks(world, 8, absent=[alices])
    state = State(world.ledger)
    state.put(keys.PARAMETERS, msgspec.structs.replace(state.parameters, downtime_window_blocks=100))
    world.ledger._values.update({k: v for k, v in state.writes().items() if v is not None})
    blocks(world, 1, absent=[alices])
    assert missed(world, alices) == 1


def test_with_the_presets_a_restart_or_a_minute_on_a_devnet_is_no_offence() -> None:
    for parameters, blocks_down in ((mainnet_parameters(), 100), (devnet_parameters(), 60 * 4)):
        allowed = parameters.downtime_window_blocks * (10_000 - parameters.downtime_signed_min_bps) // 10_000
        assert blocks_down <= allowed


def test_the_first_validator_alone_is_never_jailed() -> None:
    world = World(msgspec.structs.replace(devnet_parameters(), **SHORT))
    blocks(world, 60, absent=[FIRST])
    assert list(active(world)) == [FIRST]
    assert staked(world, FIRST, "operator") == 100 * GSN
