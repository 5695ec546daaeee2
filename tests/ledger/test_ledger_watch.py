"""The drawn watch: who is drawn over what and when, what it is paid, what it finds, and that nobody waits for it."""

from __future__ import annotations

import math
from collections import Counter
from hashlib import sha256

import msgspec
import pytest
from ledger_world import ASK, GSN, Actor, World, key, own_evidence, spec
from native_world import native_parameters, native_spec

from consensus.ledger import queries, watching
from consensus.ledger.duties import duties
from consensus.ledger.messages import (
    ROLE_SOLVER,
    ROLE_VERIFIER,
    ROLE_WHISTLEBLOWER,
    EvidenceChallenge,
    OpenChallengeCommit,
    OpenChallengeReveal,
    challenge_commitment,
)
from consensus.ledger.parameters import mainnet_parameters
from consensus.ledger.records import Instalment, Verification
from consensus.ledger.schedule import (
    bid_price,
    slot_bond,
    verify_gas_max,
    watch_bps_of,
    watch_gas_max,
    work_gas_max,
)

ALWAYS = 10_000
CREW = ("alice", "bob", "carol", "dave", "erin")
WORKERS = ROLE_SOLVER | ROLE_VERIFIER
SALT = sha256(b"salt").digest()


def crowd(*names: str, watch_bps: int = ALWAYS) -> World:
    world = World(watch_bps=watch_bps)
    world.crew(*(names or CREW))
    return world


def split_crowd() -> World:
    """Three who train and verify, and erin who watches."""
    world = World(watch_bps=ALWAYS)
    world.register(*(Actor(name, roles=WORKERS) for name in ("alice", "bob", "carol")))
    world.register(Actor("erin", roles=ROLE_WHISTLEBLOWER))
    return world


def watch_of(world: World, task_id: bytes, number: int = 0) -> Verification | None:
    slots = world.instalment(task_id, number).verifications
    return next((slot for slot in slots if slot.watch), None)


def shown(world: World, task_id: bytes) -> Instalment:
    """The first instalment as soon as its secret is shown."""
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).outcome)
    return world.instalment(task_id)


def drawn(world: World, task_id: bytes) -> Verification:
    """The watch of the first instalment, as soon as there is one."""
    world.until(lambda: world.task(task_id).committed and watch_of(world, task_id))
    found = watch_of(world, task_id)
    assert found is not None
    return found


# --- the draw


def test_the_draw_has_its_chance_and_takes_every_claimed_segment_alike() -> None:
    claimed = (3, 5, 5, 8)
    beacons = [sha256(b"b%d" % n).digest() for n in range(4_000)]
    hits = Counter(watching.drawn_segment(beacon, bytes(32), 64, 2_500, claimed) for beacon in beacons)
    assert abs(hits.total() - hits[None] - 1_000) < 5 * math.sqrt(4_000 * 0.25 * 0.75)
    assert all(abs(hits[s] - 250 * claimed.count(s)) < 5 * math.sqrt(500) for s in (3, 5, 8))
    assert {watching.drawn_segment(beacon, bytes(32), 64, 0, claimed) for beacon in beacons} == {None}


def test_it_is_drawn_by_the_beacon_after_all_verdicts_are_bound_over_what_a_verifier_did() -> None:
    world = crowd()
    task_id = world.submit(spec(instalments=1))
    slot = drawn(world, task_id)
    instalment = world.instalment(task_id)
    verifiers = [other for other in instalment.verifications if not other.watch]
    assert instalment.state == "watching" and all(other.commitment for other in verifiers)
    assert not any(other.findings for other in instalment.verifications), "nothing is shown yet"
    claimed = tuple(segment for other in verifiers for segment in other.segments)
    beacon = world.context(slot.drawn_height).beacon
    assert slot.segments == (watching.drawn_segment(beacon, task_id, 64, ALWAYS, claimed),)
    before = [e for e in world.deltas[-2].events if e.kind == "verdict_committed"]
    assert before, "the last verdict was bound in the block before"
    assert slot.verifier not in {world.task(task_id).solver, *(other.verifier for other in verifiers)}


def test_only_who_offers_the_role_and_no_party_is_drawn() -> None:
    world = split_crowd()
    task_id = world.submit(spec(instalments=1))
    assert drawn(world, task_id).verifier == key("erin").address
    assert world.finish(task_id).state == "finished"
    alone = World(watch_bps=ALWAYS)
    alone.crew("alice", "bob", "carol")
    second = alone.submit(spec(instalments=2))
    assert alone.finish(second).state == "finished" and "watch_drawn" not in alone.kinds()


def test_nobody_waits_for_a_draw_that_is_closed() -> None:
    world = crowd(watch_bps=0)
    assert world.finish(world.submit()).state == "finished"
    assert "instalment_watching" not in world.kinds()


def test_native_tasks_have_none() -> None:
    parameters = msgspec.structs.replace(native_parameters(), watch_bps=ALWAYS)
    assert (watch_bps_of(native_spec(), parameters), watch_bps_of(spec(), parameters)) == (0, ALWAYS)


# --- money


def test_it_is_paid_for_its_segment_to_the_unit() -> None:
    world = crowd()
    order = spec()
    task_id = world.submit(order)
    gas = world.task(task_id).gas_per_step
    task = world.finish(task_id)
    assert world.kinds().count("watch_drawn") == 2
    assert task.verifiers_paid_nano == (verify_gas_max(order, gas) + watch_gas_max(order, gas, ALWAYS)) * ASK // 10**9
    assert task.price_nano == task.solver_paid_nano + task.verifiers_paid_nano + task.refunded_nano
    record = queries.task_record(world.ledger, task_id)
    assert record is not None
    watches = [verdict for one in record.instalments for verdict in one.verdicts if verdict.watch]
    assert [len(verdict.findings) for verdict in watches] == [1, 1]
    assert all(verdict.fee_nano == order.segment_steps * gas * ASK // 10**9 for verdict in watches)
    for name in CREW:
        provider = queries.provider(world.ledger, key(name).address)
        assert provider is not None and (provider.locked_nano, provider.work) == (0, ())


def test_the_bid_leaves_room_for_it_whatever_governance_makes_of_the_chance_later() -> None:
    order = spec()
    gas = work_gas_max(order, 10**6, 0, 0, ALWAYS)
    assert gas - work_gas_max(order, 10**6, 0) == 2 * order.segment_steps * 10**6
    assert bid_price(order, 10**6, 0, 0, ALWAYS) < bid_price(order, 10**6)
    world = crowd(watch_bps=0)
    task_id = world.submit(order)
    task = world.task(task_id)
    assert (task.watch_bps, task.bid_price_nano) == (0, bid_price(order, task.gas_per_step))
    assert mainnet_parameters().watch_bps == 2_500


def test_it_answers_with_a_verifiers_bond() -> None:
    world = crowd()
    order = spec(instalments=1)
    task_id = world.submit(order)
    slot, task = drawn(world, task_id), world.task(task_id)
    bond = slot_bond(order, task.gas_per_step, 0, ASK, task.solver_bond_nano, world.parameters)
    assert slot.bond_nano == bond
    provider = queries.provider(world.ledger, slot.verifier)
    assert provider is not None and provider.locked_nano >= bond


# --- what it says, and what it does not hold up


def test_one_that_is_late_pays_a_little_and_nobody_replaces_it_or_waits_on() -> None:
    world = split_crowd()
    world.actors["erin"].silent = True
    task_id = world.submit(spec(instalments=1))
    slot = drawn(world, task_id)
    due, before = world.instalment(task_id).due_height, world.worth("erin")
    world.until(lambda: world.instalment(task_id).state == "revealing")
    assert world.height == due + 1
    lost = slot.bond_nano * world.parameters.miss_slash_bps // 10_000
    assert world.worth("erin") == before - lost
    task = world.finish(task_id)
    assert task.state == "finished" and world.kinds().count("watch_drawn") == 1
    assert [s.state for s in world.instalment(task_id).verifications] == ["paid", "paid", "missed"]


def test_one_that_never_shows_its_verdict_has_missed_too() -> None:
    world = split_crowd()
    world.actors["erin"].mute = ("reveal",)
    task_id = world.submit(spec(instalments=1))
    task = world.finish(task_id)
    assert task.state == "finished"
    assert [s.state for s in world.instalment(task_id).verifications] == ["paid", "paid", "missed"]


def test_that_it_could_not_fetch_the_states_decides_nothing_and_costs_nothing() -> None:
    world = split_crowd()
    erin = world.actors["erin"]
    erin.blind = True
    before = world.worth("erin")
    task_id = world.submit(spec(instalments=1, verifiers=1))
    task = world.finish(task_id)
    assert task.state == "finished" and "states_unavailable" not in world.kinds()
    slot = watch_of(world, task_id)
    assert slot is not None and (slot.state, slot.fee_nano) == ("paid", 0)
    fees = sum(result.fee_nano for delta in world.deltas for result in delta.results if result)
    assert before - world.worth("erin") < fees


def test_its_word_alone_does_not_make_states_available() -> None:
    world = split_crowd()
    for name in ("alice", "bob", "carol"):
        world.actors[name].blind = True
    task_id = world.submit(spec(instalments=1, deadline_blocks=400))
    world.until(lambda: "states_unavailable" in world.kinds())
    kept = [slot for slot in world.instalment(task_id).verifications if slot.watch]
    assert [slot.state for slot in kept] == ["revealed"], "who did its work keeps its place"
    world.until(lambda: "solver_failed" in world.kinds())
    assert world.kinds().count("watch_drawn") == 1


def test_a_lying_one_loses_its_bond_to_the_solver() -> None:
    world = split_crowd()
    world.actors["erin"].faults = (0, 2, 4, 6, 8, 10)
    before = world.worth("erin")
    task_id = world.submit(spec(instalments=1))
    slot = drawn(world, task_id)
    task = world.finish(task_id)
    assert (task.state, task.attempt) == ("finished", 1)
    assert world.dispute(task_id).state == "challenger_wrong"
    assert before - world.worth("erin") >= slot.bond_nano


def test_it_finds_what_bought_verifiers_passed() -> None:
    world = split_crowd()
    task_id = world.submit(spec(steps=2, instalments=1, samples=1))
    solver = world.solver_of(task_id)
    solver.faults = (1,)
    for actor in world.actors.values():
        actor.lazy = actor.name not in (solver.name, "erin")
    before = world.worth("erin")
    world.until(lambda: "solver_slashed" in world.kinds())
    assert world.dispute(task_id).challengers[0].address == key("erin").address
    assert world.worth("erin") > before + GSN // 10


@pytest.mark.parametrize("verifiers", [1, 2])
def test_a_lazy_verifier_is_compared_with_it_even_where_it_is_the_only_one(verifiers: int) -> None:
    world = split_crowd()
    task_id = world.submit(spec(instalments=1, verifiers=verifiers))
    solver = world.solver_of(task_id)
    for actor in world.actors.values():
        actor.lazy = actor.name not in (solver.name, "erin")
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    watch = watch_of(world, task_id)
    assert watch is not None
    claims = [
        (slot.verifier, finding.root)
        for slot in world.instalment(task_id).verifications
        for finding in slot.findings
        if not slot.watch and finding.segment == watch.segments[0]
    ]
    own = own_evidence(world, task_id, watch.segments[0])
    assert watch.findings[0].root == own and all(root != own for _, root in claims)
    challenge = EvidenceChallenge(0, 1, watch.segments[0], claims[0][0], own)
    commitment = challenge_commitment(key("erin").address, task_id, challenge, SALT)
    before = world.worth("erin")
    world.do("erin", OpenChallengeCommit(task_id, 0, commitment))
    world.do("erin", OpenChallengeReveal(task_id, challenge, SALT))
    assert world.finish(task_id).state == "finished"
    assert world.dispute(task_id).state == "defender_wrong" and world.worth("erin") > before


def test_its_duty_is_a_verifiers() -> None:
    world = split_crowd()
    task_id = world.submit(spec(instalments=1))
    slot = drawn(world, task_id)
    found = [duty for duty in duties(world.ledger, slot.verifier, world.height) if duty.kind == "verify"]
    assert [[work.segment for work in duty.segments] for duty in found] == [list(slot.segments)]
    assert found[0].due_height == world.instalment(task_id).due_height


# --- with forced errors


def test_with_forced_errors_it_has_its_share_of_the_jackpot_and_loses_as_a_verifier_does() -> None:
    seen: Counter[str] = Counter()
    order = spec(steps=4, forced_error_bps=9_000, max_price_nano=40 * GSN, instalments=1)
    for lazy in (False, True):
        world = split_crowd()
        world.actors["erin"].lazy, world.actors["erin"].mute = lazy, ("contest",)
        for _ in range(5):
            task_id = world.submit(order)
            first, watch = shown(world, task_id), watch_of(world, task_id)
            assert watch is not None
            at_error = first.outcome == "forced" and watch.segments[0] == first.forced_segment
            assert (watch.verifier in first.claimants) == (at_error and not lazy)
            task = world.finish(task_id)
            assert task.state == "finished"
            seen["found"] += at_error and not lazy
            seen["approved"] += at_error and lazy
        gone = [event for event in world.events if event.kind == "slashed"]
        assert all(event.get("why") == "approved a forced error" for event in gone)
        assert len(gone) == seen["approved"]
    assert seen["found"] and seen["approved"]
