"""The choice of roles by tables: what a machine is, what is paid, how many others do it; and a crowd that settles."""

from __future__ import annotations

import random
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
import trio
from ledger_world import GSN, Actor, World, key, spec
from roles_fakes import FakeChain

from consensus.ledger.messages import ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER, ROLES_ALL
from consensus.ledger.parameters import devnet_parameters
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import MIB
from gensyn_node.roles.auto import (
    DWELL_BLOCKS,
    FEW_WATCHERS,
    LOOK_BLOCKS,
    PRICED_OUT_TASKS,
    Choice,
    Machine,
    audit_pay,
    choose,
    looks_at,
    words_of,
)
from gensyn_node.roles.chooser import Chooser
from gensyn_node.roles.hardware import BlockTime, Speed
from gensyn_node.roles.market import NO_MARKET, Market, market

PARAMETERS = devnet_parameters()
FLOOR = PARAMETERS.train_gas_per_block
S, V, W = ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER


def machine(**changes: object) -> Machine:
    base = Machine(4096 * MIB, "cpu", False, False, 2 * FLOOR, 1_000_000)
    return msgspec.structs.replace(base, **changes)


def seen(**changes: object) -> Market:
    """A busy market in which a machine asks less than is paid."""
    base = Market(
        solvers=5,
        verifiers=5,
        whistleblowers=5,
        tasks=20,
        open_tasks=3,
        memory_least_bytes=300 * MIB,
        bid_most_nano=2_000_000,
        paid_nano=10 * GSN,
        verify_gas_most=4 * FLOOR,
        segments=2_000,
        segment_gas=FLOOR,
        finds=0,
        bounty_nano=GSN // 100,
        watch_nano=0,
    )
    return msgspec.structs.replace(base, **changes)


def first(one: Machine, there: Market) -> int:
    return choose(one, there, PARAMETERS, None, 10).mask


@pytest.mark.parametrize(
    ("case", "one", "there", "mask"),
    [
        ("a new chain: everything is needed", machine(gas_per_block=0), NO_MARKET, ROLES_ALL),
        ("a server in a busy market with enough watchers", machine(), seen(), S | V),
        ("few watch", machine(), seen(whistleblowers=FEW_WATCHERS - 1), S | V | W),
        ("finds pay for the looking", machine(), seen(finds=80, bounty_nano=10 * GSN), S | V | W),
        ("drawn watches pay for the looking", machine(), seen(watch_nano=400_000), S | V | W),
        ("drawn watches, shared by too many", machine(), seen(watch_nano=400_000, whistleblowers=30), S | V),
        ("many share the finds", machine(), seen(finds=80, bounty_nano=10 * GSN, whistleblowers=10_000), S | V),
        ("on battery nothing is begun", machine(has_battery=True, on_battery=True), seen(whistleblowers=0), 0),
        ("too slow to solve, fast enough to verify", machine(gas_per_block=FLOOR), seen(), V),
        (
            "too slow for large tasks, fast enough for what there is",
            machine(gas_per_block=FLOOR // 4),
            seen(train_gas_most=FLOOR * PARAMETERS.train_blocks_base // 8),
            S | V,
        ),
        (
            "a small task too large for half of its time",
            machine(gas_per_block=FLOOR // 4),
            seen(train_gas_most=FLOOR * PARAMETERS.train_blocks_base // 4),
            V,
        ),
        ("too slow for either", machine(gas_per_block=1_000), seen(whistleblowers=0), W),
        ("a laptop shows its speed first", machine(has_battery=True, gas_per_block=0), seen(), V),
        ("a laptop of twice the speed asked", machine(has_battery=True, gas_per_block=2 * FLOOR), seen(), S | V),
        ("a laptop below it", machine(has_battery=True, gas_per_block=2 * FLOOR - 1), seen(), V),
        ("a laptop with an accelerator", machine(has_battery=True, device="mps", gas_per_block=0), seen(), S | V),
        ("no task is small enough", machine(memory_bytes=200 * MIB), seen(whistleblowers=0), 0),
        ("nobody pays so much", machine(ask_price_nano=3_000_000), seen(), 0),
        ("nobody pays so much, and few watch", machine(ask_price_nano=3_000_000), seen(whistleblowers=0), W),
        (
            "too few tasks to say so",
            machine(ask_price_nano=3_000_000),
            seen(tasks=PRICED_OUT_TASKS - 1, whistleblowers=9),
            S | V,
        ),
    ],
)
def test_the_choice(case: str, one: Machine, there: Market, mask: int) -> None:
    made = choose(one, there, PARAMETERS, None, 10)
    assert words_of(made.mask) == words_of(mask), case
    assert [reason.role for reason in made.reasons] == ["solver", "verifier", "whistleblower"]
    assert all(reason.why for reason in made.reasons)


@pytest.mark.parametrize(
    ("role", "one", "between", "out", "back"),
    [
        (S, machine(), {"gas_per_block": FLOOR * 11 // 10}, {"gas_per_block": FLOOR - 1}, {"gas_per_block": 2 * FLOOR}),
    ],
)
def test_a_machine_between_the_thresholds_keeps_what_it_has(
    role: int, one: Machine, between: dict[str, int], out: dict[str, int], back: dict[str, int]
) -> None:
    height = 10
    held = choose(one, seen(), PARAMETERS, None, height)
    assert held.mask & role
    for change, expected in ((between, True), (out, False), (between, False), (back, True)):
        height += DWELL_BLOCKS
        held = choose(msgspec.structs.replace(one, **change), seen(), PARAMETERS, held, height)
        assert bool(held.mask & role) is expected, change


def test_watchers_join_and_leave_at_different_numbers() -> None:
    height, held = 10, choose(machine(), seen(whistleblowers=1), PARAMETERS, None, 10)
    told = []
    for others in (1, 2, 3, 4, 3, 2, 1):
        height += DWELL_BLOCKS
        held = choose(machine(), seen(whistleblowers=others), PARAMETERS, held, height)
        told.append(bool(held.mask & W))
    assert told == [True, True, True, False, False, False, True]


def test_a_choice_stands_for_a_while_except_when_the_power_goes() -> None:
    held = choose(machine(), seen(), PARAMETERS, None, 10)
    slow = machine(gas_per_block=1_000)
    assert choose(slow, seen(), PARAMETERS, held, 10 + DWELL_BLOCKS - 1) == held
    changed = choose(slow, seen(), PARAMETERS, held, 10 + DWELL_BLOCKS)
    assert changed.mask == 0 and changed.height == 10 + DWELL_BLOCKS
    unplugged = choose(machine(has_battery=True, on_battery=True), seen(), PARAMETERS, held, 11)
    assert (unplugged.mask, unplugged.height) == (0, 11)
    plugged = choose(machine(has_battery=True), seen(), PARAMETERS, unplugged, 12)
    assert plugged.mask == S | V


@pytest.mark.parametrize("finds", [0, 1, 16])
def test_a_crowd_settles_where_another_watcher_would_not_be_paid_and_does_not_flutter(finds: int) -> None:
    """30 machines, each by itself, each at its own heights, from everybody watching and from nobody."""
    there, crowd, cost = seen(finds=finds, bounty_nano=GSN), 30, FLOOR * 1_000_000 // 10**9
    names = [sha256(bytes([number])).digest()[:20] for number in range(crowd)]
    for start in (0, crowd):
        rng = random.Random(start)
        masks = [S | V | (W if number < start else 0) for number in range(crowd)]
        held = [Choice(mask, rng.randrange(20), ()) for mask in masks]
        count, changed = start, 0
        for height in range(DWELL_BLOCKS, 12 * DWELL_BLOCKS):
            for number in (number for number, name in enumerate(names) if looks_at(name, height)):
                own = bool(held[number].mask & W)
                now = msgspec.structs.replace(there, whistleblowers=count - own)
                held[number] = choose(machine(), now, PARAMETERS, held[number], height)
                if bool(held[number].mask & W) != own:
                    count, changed = count + (-1 if own else 1), height
        assert changed < 6 * DWELL_BLOCKS, "it came to rest"
        paid, one_more = (100 * audit_pay(msgspec.structs.replace(there, whistleblowers=n)) for n in (count - 1, count))
        assert count <= 4 or paid >= 80 * cost, (count, paid, cost)
        assert count >= FEW_WATCHERS and (count == crowd or one_more < 125 * cost), (count, one_more, cost)


def test_looks_are_spread_over_heights() -> None:
    names = [sha256(bytes([number])).digest()[:20] for number in range(200)]
    each = [sum(looks_at(name, height) for name in names) for height in range(LOOK_BLOCKS)]
    assert sum(each) == 200 and max(each) < 40


# --- what it is fed


def test_the_market_is_read_from_the_ledger() -> None:
    world = World()
    world.crew("alice", "bob", "carol", "dave")
    task_id = world.submit(spec(samples=3))
    world.finish(task_id)
    found = market(world.ledger, key("alice").address)
    task = world.task(task_id)
    assert (found.solvers, found.verifiers, found.whistleblowers) == (3, 3, 3)
    assert (found.tasks, found.open_tasks, found.segments, found.finds) == (1, 0, 6, 0)
    assert found.paid_nano == task.solver_paid_nano + task.verifiers_paid_nano
    assert found.bid_most_nano == task.bid_price_nano and found.memory_least_bytes == task.memory_bytes
    assert found.segment_gas == 2 * task.gas_per_step and found.verify_gas_most == 6 * task.gas_per_step
    assert found.bounty_nano > 0
    assert market(world.ledger, bytes(20)).solvers == 4


def test_wrong_work_that_was_found_counts() -> None:
    world = World()
    world.crew("alice", "bob", "carol", "dave", patient=True)
    task_id = world.submit(spec(samples=3))
    world.solver_of(task_id).faults = (9,)
    world.finish(task_id)
    assert market(world.ledger, bytes(20)).finds == 1


def test_speed_is_learnt_from_work_and_survives_a_restart(tmp_path: Path) -> None:
    speed = Speed(tmp_path / "speed")
    for gas, seconds in ((0, 1.0), (5, 0.0), (-1, 1.0), (1_000, 0.5)):
        speed.note(gas, seconds)
    assert speed.gas_per_second == 2_000
    speed.note(1_000, 0.25)
    assert speed.gas_per_second == 2_400
    speed.save()
    assert Speed(tmp_path / "speed").gas_per_second == 2_400
    (tmp_path / "speed").write_bytes(b"nonsense")
    assert Speed(tmp_path / "speed").gas_per_second == 0
    blocks = BlockTime()
    for height in range(60):
        blocks.note(height, 2.0 * height)
    assert 2_300 * 2 < blocks.gas_per_block(speed) <= 2_400 * 2


def test_the_chooser_tells_what_it_changed_and_why(tmp_path: Path) -> None:
    world = World()
    world.register(Actor("alice"), Actor("bob"))
    power = [(True, False)]
    chooser = Chooser(
        FakeChain(world), key("alice").address, "auto", machine(has_battery=True), tmp_path / "speed", lambda: power[0]
    )
    assert chooser.mask == 0
    chooser.new_block(1, 0.0)
    assert chooser.mask == V | W
    power[0] = (True, True)
    chooser.new_block(2, 1.0)
    assert chooser.mask == 0 and "battery" in chooser.why
    chooser.want("solver")
    with pytest.raises(Rejection):
        chooser.want("emperor")
    report = chooser.report(["verify"], "training", ("verification",))
    assert [(one.before, one.after) for one in report.changes] == [
        ("none", "verifier, whistleblower"),
        ("verifier, whistleblower", "none"),
        ("none", "solver"),
    ]
    assert (report.wanted, report.offered, report.draining, report.reasons) == ("solver", "solver", ("verify",), ())
    assert report.machine.on_battery


def test_a_chooser_needs_no_event_loop_and_no_disk(tmp_path: Path) -> None:
    chooser = Chooser(FakeChain(World()), bytes(20), "none", machine(), tmp_path / "missing" / "speed")
    chooser.speed.note(10, 1.0)
    chooser.speed.save()
    assert chooser.mask == 0
    trio.run(trio.sleep, 0)
