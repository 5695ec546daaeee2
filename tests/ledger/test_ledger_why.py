"""Why nobody comes: every reason in the rule's order, and that the smallest change is the smallest that helps."""

from __future__ import annotations

import msgspec
import pytest
from ledger_world import ASK, GSN, Actor, World, key, spec

from consensus.ledger import why
from consensus.ledger.messages import (
    ROLE_WHISTLEBLOWER,
    PauseProvider,
    RegisterProvider,
    ResumeProvider,
    UpdateProvider,
)
from consensus.ledger.why import (
    LESS_MEMORY,
    LOWER_ASK,
    MORE_BOND,
    MORE_MEMORY,
    NEW_PROVIDERS,
    OFFER_ROLE,
    RAISE_PRICE,
    RESUME,
    WAIT,
    Change,
)

MEMORY = 1 << 30


def offer(world: World, name: str, ask: int = ASK, memory: int = MEMORY, roles: int = 7, bond: int = 300 * GSN) -> None:
    world.do(name, RegisterProvider(roles, "cpu", memory, ask, bond, (name,), name))


def change(world: World, name: str, **changes: int) -> None:
    now = {"roles": 7, "memory": MEMORY, "ask": ASK, "bond": 0} | changes
    world.do(name, UpdateProvider(now["roles"], "cpu", now["memory"], now["ask"], now["bond"], (name,), name))


def standing(world: World, task_id: bytes, name: str) -> list[tuple[str, int, int]]:
    found = why.why_task(world.ledger, task_id)
    mine = next(one for one in found.standings if one.provider == key(name).address)
    return [(one.word, one.have, one.need) for one in mine.hindrances]


def changes_of(world: World, task_id: bytes) -> dict[str, Change]:
    return {one.kind: one for one in why.why_task(world.ledger, task_id).changes}


def mine(world: World, name: str) -> dict[str, Change]:
    return {one.kind: one for one in why.why_provider(world.ledger, key(name).address).changes}


def test_all_reasons_are_listed_in_the_rules_order() -> None:
    world = World()
    offer(world, "alice", ask=10**18, memory=1 << 10, roles=2, bond=10 * GSN)
    world.do("alice", PauseProvider())
    task_id = world.submit(spec(max_price_nano=30 * GSN))
    words = [word for word, _, _ in standing(world, task_id, "alice")]
    assert words == ["state", "role", "memory", "price", "bond"]


def test_the_price_that_reaches_one_more_is_the_least_that_does() -> None:
    """A bid of one nano less reaches nobody; that very price does."""
    world = World()
    offer(world, "alice", ask=3 * ASK)
    offer(world, "bob", ask=5 * ASK)
    low = spec(max_price_nano=GSN // 1000)
    task_id = world.submit(low)
    needed = changes_of(world, task_id)[RAISE_PRICE]
    assert needed.gains == 1
    for price, reached in ((needed.amount - 1, 0), (needed.amount, 1)):
        again = world.submit(msgspec.structs.replace(low, max_price_nano=price, name=str(price)))
        assert why.why_task(world.ledger, again).eligible == reached


def test_the_ask_that_reaches_one_more_draw_is_the_highest_that_does() -> None:
    world = World()
    offer(world, "bob", ask=5 * ASK)
    task_id = world.submit(spec(max_price_nano=GSN // 1000))
    ask = mine(world, "bob")[LOWER_ASK].amount
    change(world, "bob", ask=ask + 1)
    assert why.why_task(world.ledger, task_id).eligible == 0
    change(world, "bob", ask=ask)
    assert why.why_task(world.ledger, task_id).eligible == 1 or world.task(task_id).solver == key("bob").address


def test_memory_bond_pause_and_role_are_short_by_just_so_much() -> None:
    world = World()
    task_id = world.submit(spec(max_price_nano=30 * GSN))
    need = world.task(task_id).memory_bytes
    offer(world, "alice", memory=need - 5)
    offer(world, "bob", bond=10 * GSN, ask=10**16)
    offer(world, "carol", roles=2)
    offer(world, "dave")
    world.do("dave", PauseProvider())
    assert mine(world, "alice")[MORE_MEMORY] == Change(MORE_MEMORY, 5, 1)
    bond = mine(world, "bob")[MORE_BOND].amount
    assert mine(world, "carol")[OFFER_ROLE] == Change(OFFER_ROLE, 1, 1)
    assert mine(world, "dave")[RESUME] == Change(RESUME, 0, 1)
    assert changes_of(world, task_id)[LESS_MEMORY] == Change(LESS_MEMORY, need - 5, 1)
    assert NEW_PROVIDERS not in changes_of(world, task_id), "somebody would do, were the task smaller"
    eligible = why.why_task(world.ledger, task_id).eligible
    assert eligible == 0
    change(world, "bob", bond=bond - 1, ask=10**16)
    assert why.why_task(world.ledger, task_id).eligible == 0
    change(world, "bob", bond=1, ask=10**16)
    assert not standing(world, task_id, "bob") or world.task(task_id).solver == key("bob").address


def test_two_reasons_at_once_are_no_single_change() -> None:
    world = World()
    task_id = world.submit(spec(max_price_nano=30 * GSN))
    offer(world, "alice", memory=1 << 10, ask=10**18)
    assert mine(world, "alice") == {} and standing(world, task_id, "alice")[0][0] == "memory"
    assert changes_of(world, task_id) == {NEW_PROVIDERS: Change(NEW_PROVIDERS, 1, 1)}


def test_chances_are_those_of_the_draw() -> None:
    world = World()
    offer(world, "alice", ask=ASK)
    offer(world, "bob", ask=3 * ASK)
    task_id = world.submit(spec(max_price_nano=30 * GSN))
    found = why.why_task(world.ledger, task_id)
    chances = {one.name: one.chance_bps for one in found.standings}
    assert (found.wanted, found.eligible, found.drawing, found.changes) == (1, 2, "solver", ())
    assert chances == {"alice": 7_500, "bob": 2_500} or sum(chances.values()) in (9_999, 10_000)
    assert [one.chance_bps for one in why.why_provider(world.ledger, key("bob").address).standings] == [chances["bob"]]


def test_chances_of_verifiers_are_to_be_among_those_drawn() -> None:
    """Two of three alike: two thirds each."""
    world = World()
    world.crew("alice", "bob", "carol", "dave", patient=True)
    task_id = world.submit()
    world.until(lambda: world.task(task_id).committed == 1)
    solver = world.name_of(world.task(task_id).solver)
    found = why.why_task(world.ledger, task_id)
    chances = {one.name: one.chance_bps for one in found.standings}
    assert (found.drawing, found.wanted) == ("verifier", 2) and chances.pop(solver) == 0
    assert set(chances.values()) == {6_666}


def test_a_draw_of_verifiers_says_who_is_missing_and_who_is_busy() -> None:
    world = World(msgspec.structs.replace(World().parameters, verifications_per_provider_max=1))
    world.crew("alice", "bob", "carol", patient=True, mute=("verify",))
    first = world.submit()
    world.until(lambda: world.task(first).committed == 1 and world.instalment(first).state == "verifying")
    world.register(Actor("dave", patient=True))
    change(world, "dave", roles=1)
    second = world.submit(spec(name="second"))
    world.until(lambda: world.task(second).committed == 1)
    found = why.why_task(world.ledger, second)
    assert (found.drawing, found.wanted) == ("verifier", 2)
    by_name = {one.name: [each.word for each in one.hindrances] for one in found.standings}
    solver = world.name_of(world.task(second).solver)
    assert by_name[solver][0] == "solver"
    assert sum("busy" in words for words in by_name.values()) >= 1
    assert found.eligible < 2
    assert WAIT in {one.kind for one in found.changes}


def test_where_a_watch_may_be_drawn_whistleblowers_have_their_chance() -> None:
    """Each its share of the draw, times the chance that there is a watch; the task itself waits for none."""
    world = World(watch_bps=4_000)
    names = ("alice", "bob", "carol", "dave", "erin")
    world.crew(*names, patient=True, mute=("verify",))
    task_id = world.submit(spec(verifiers=1))
    world.until(lambda: world.task(task_id).committed == 1 and world.instalment(task_id).state == "verifying")
    assert why.why_task(world.ledger, task_id).drawing == ""
    busy = {world.instalment(task_id).solver, *(slot.verifier for slot in world.instalment(task_id).verifications)}
    first, *others = [name for name in names if key(name).address not in busy]
    change(world, first, roles=3)
    for name in names:
        found = why.why_provider(world.ledger, key(name).address)
        (mine,) = found.standings
        assert (mine.role, mine.task_id, found.draws) == (ROLE_WHISTLEBLOWER, task_id, 1)
        assert found.eligible == (name in others)
        assert mine.chance_bps == (2_000 if name in others else 0)
    assert why.why_provider(world.ledger, key(first).address).changes == (Change(OFFER_ROLE, ROLE_WHISTLEBLOWER, 1),)


@pytest.mark.parametrize("state", ["training", "finished"])
def test_who_draws_nobody_says_so(state: str) -> None:
    world = World()
    world.crew("alice", "bob", "carol", mute=("train",) if state == "training" else ())
    task_id = world.submit()
    world.until(lambda: world.task(task_id).state == state)
    found = why.why_task(world.ledger, task_id)
    assert (found.state, found.drawing, found.standings, found.changes) == (state, "", (), ())
    assert (found.due_height > 0) == (state == "training")
    assert why.why_provider(world.ledger, key("alice").address).draws == 0
    world.do("alice", PauseProvider())
    world.do("alice", ResumeProvider())
