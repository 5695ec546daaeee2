"""What a whistleblower looks at: what fits, in time, by its own secret numbers, and by what a look is worth."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest
from ledger_world import ASK, World, key, spec
from test_ledger_disputes import cheated

from consensus.ledger.duties import audits
from gensyn_node.roles.audit_choice import (
    EVIDENCE,
    OTHER_SEGMENT,
    UNPAID_START_S,
    UNPAID_TIME_PERCENT,
    Look,
    looks,
    may_look,
    pick,
)
from gensyn_node.roles.auto import Machine
from gensyn_node.roles.market import Market, market

MACHINE = Machine(1 << 40, "cpu", True, False, 0, ASK)


def windowed() -> tuple[World, bytes, str]:
    """A task of six segments of which its verifier looked at two; and a bystander."""
    world = World()
    world.crew("alice", "bob", "carol", patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=2))
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    busy = {world.task(task_id).solver, world.instalment(task_id).verifications[0].verifier}
    return world, task_id, next(name for name in ("alice", "bob", "carol") if key(name).address not in busy)


def found(world: World, name: str, machine: Machine = MACHINE, seen: Market | None = None) -> list[Look]:
    address = key(name).address
    return looks(
        world.ledger,
        audits(world.ledger, address),
        machine,
        market(world.ledger, address) if seen is None else seen,
        world.height,
    )


def test_other_segments_and_evidence_are_both_looked_at() -> None:
    world, task_id, name = windowed()
    kinds = {look.work.segment: look.kind for look in found(world, name)}
    verified = set(world.instalment(task_id).verifications[0].segments)
    assert len(kinds) == 6
    assert {segment for segment, kind in kinds.items() if kind == EVIDENCE} == verified
    assert {segment for segment, kind in kinds.items() if kind == OTHER_SEGMENT} == set(range(6)) - verified
    assert all(look.gas == 2 * world.task(task_id).gas_per_step for look in found(world, name))


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 6),
        ({"memory_bytes": (1 << 20) - 1}, 0),
        ({"gas_per_block": 1}, 0),
        ({"gas_per_block": 10**9}, 6),
    ],
)
def test_what_does_not_fit_into_memory_or_time_is_left(changes: dict[str, int], count: int) -> None:
    world, _, name = windowed()
    assert len(found(world, name, msgspec.structs.replace(MACHINE, **changes))) == count


def test_before_the_window_and_after_it_nothing_is_looked_at() -> None:
    world, task_id, name = windowed()
    world.finish(task_id)
    assert found(world, name) == []
    world.submit(spec(name="next"))
    assert found(world, name) == []


def test_pay_follows_bonds_finds_and_how_many_share() -> None:
    world, _, name = windowed()
    seen = market(world.ledger, key(name).address)

    def pay(**changes: int) -> dict[str, int]:
        given = msgspec.structs.replace(seen, **changes)
        return {look.kind: look.pay_nano for look in found(world, name, seen=given)}

    base = pay(whistleblowers=0)
    assert all(value > 0 for value in base.values())
    for kind, alone in base.items():
        assert pay(whistleblowers=4)[kind] in (alone // 5, alone // 5 + 1)
        assert pay(whistleblowers=0, finds=9)[kind] == pytest.approx(10 * alone, rel=0.01)


def test_what_is_wrong_is_among_the_looks_of_a_bystander() -> None:
    world, _, _, others = cheated()
    segments = {look.work.segment for look in found(world, others[0].name)}
    assert 2 in segments


def look(cost: int, pay: int) -> Look:
    world, _, name = PREPARED
    one = found(world, name)[0]
    return msgspec.structs.replace(one, cost_nano=cost, pay_nano=pay)


PREPARED = windowed()


def test_choices_are_random_and_lean_to_what_is_worth_most() -> None:
    listed = [look(100, 50), look(100, 1_100), look(100, 100)]
    rng = random.Random(7)
    counts: Counter[int] = Counter()
    for _ in range(3_000):
        one = pick(listed, rng.getrandbits(128))
        counts[listed.index(one) if one else -1] += 1
    assert min(counts.values()) > 10 and set(counts) == {0, 1, 2}, "none is safe"
    assert counts[1] > 20 * max(counts[0], counts[2])
    assert pick([], 5) is None


@pytest.mark.parametrize(
    ("pay", "spent_s", "watched_s", "may"),
    [
        (100, 10**9, 0.0, True),
        (99, 0.0, 0.0, True),
        (99, UNPAID_START_S * UNPAID_TIME_PERCENT / 100, 0.0, False),
        (99, 359.0, 3_000.0, True),
        (99, 360.0, 3_000.0, False),
    ],
)
def test_unpaid_looks_are_rationed(pay: int, spent_s: float, watched_s: float, may: bool) -> None:
    assert may_look(look(100, pay), spent_s, watched_s) is may
