"""A task from submission to settlement, played by actors that only read their duties."""

from __future__ import annotations

import pytest
from ledger_world import ASK, GSN, Actor, Run, World, key, spec

from consensus.ledger import keys, queries, tree
from consensus.ledger.messages import CancelTask, Heartbeat
from consensus.ledger.money import work_price
from consensus.ledger.schedule import instalment_steps, task_end_bound, train_gas, verify_gas_max
from gensyn_node.primitives.codec import encode

CREW = ("alice", "bob", "carol", "dave")


def crowd(**settings: object) -> World:
    world = World()
    world.crew(*CREW, **settings)
    return world


def test_an_honest_task_is_trained_verified_and_paid_to_the_unit() -> None:
    world = crowd()
    before = {name: world.worth(name) for name in CREW}
    task_id = world.submit()
    task = world.finish(task_id)
    assert task.state == "finished"
    assert task.settled_root == Run(task.seed).state_roots(12, 0)[0]
    assert task.solver_paid_nano == train_gas(spec(), task.gas_per_step) * ASK // 10**9
    assert task.verifiers_paid_nano == verify_gas_max(spec(), task.gas_per_step) * ASK // 10**9
    assert task.solver_paid_nano + task.verifiers_paid_nano + task.refunded_nano == 10 * GSN
    record = queries.task_record(world.ledger, task_id)
    assert record is not None
    assert len(record.instalments) == 2 and record.steps_settled == 12
    for instalment in record.instalments:
        assert {verdict.state for verdict in instalment.verdicts} == {"paid"}
        assert len(instalment.verdicts) == 2
    assert "slashed" not in world.kinds()
    assert sum(world.worth(name) - before[name] for name in CREW) > 0
    proof = world.ledger.prove(keys.record(task_id))
    assert tree.verify(world.ledger.root, keys.record(task_id), encode(record), proof)


def test_a_cheating_solver_is_caught_slashed_and_replaced_at_the_last_settled_instalment() -> None:
    world = crowd(patient=True)
    task_id = world.submit(spec(samples=3))
    cheat = world.solver_of(task_id)
    cheat.faults = (9,)
    before = world.worth(cheat.name)
    world.until(lambda: world.task(task_id).attempt == 2)
    assert (world.task(task_id).settled, world.task(task_id).step) == (1, 6), "not where the one before had come to"
    task = world.finish(task_id)
    assert task.state == "finished"
    assert cheat.address in task.removed_solvers
    assert task.settled_root == Run(task.seed).state_roots(12, 0)[0], "the seed stays with the task"
    record = queries.task_record(world.ledger, task_id)
    assert record is not None
    assert [entry.outcome for entry in record.disputes] == ["defender_wrong"]
    dispute = world.dispute(task_id)
    assert (dispute.kind, dispute.segment) == ("segment", 4)
    assert dispute.moves[-1].turn == "challenger", "the challenger's evidence decides"
    assert [instalment.attempt for instalment in record.instalments] == [1, 2], "settled work stays"
    assert record.instalments[0].solver == cheat.address != record.instalments[1].solver
    earned = record.instalments[0].solver_paid_nano
    bond = max(GSN, 6 * train_gas(spec(), task.gas_per_step) * ASK // 10**9)
    fees = before + earned - bond - world.worth(cheat.name)
    assert 0 <= fees < GSN // 100, "the whole task bond is gone"


def test_a_wrong_initial_state_is_found_by_the_verifiers() -> None:
    world = crowd(patient=True)
    task_id = world.submit()
    cheat = world.solver_of(task_id)
    cheat.faults = (-1,)
    task = world.finish(task_id)
    assert task.state == "finished" and cheat.address in task.removed_solvers
    assert {world.dispute(task_id, n).kind for n in range(len(task.disputes))} == {"initial"}


def test_a_lying_verifier_loses_its_bond_and_the_solver_is_paid() -> None:
    world = crowd(patient=True)
    task_id = world.submit(spec(samples=3, verifiers=3))
    solver = world.solver_of(task_id)
    liar = next(actor for actor in world.actors.values() if actor is not solver)
    liar.faults = (2,)
    before = world.worth(liar.name)
    task = world.finish(task_id)
    assert task.state == "finished" and task.attempt == 1
    assert world.dispute(task_id).state == "challenger_wrong"
    assert world.worth(liar.name) < before
    assert world.instalment(task_id).solver == solver.address


def test_verifiers_who_approved_what_was_proven_wrong_are_not_paid() -> None:
    world = crowd(patient=True)
    task_id = world.submit(spec(samples=3, verifiers=3))
    cheat = world.solver_of(task_id)
    cheat.faults = (0,)
    lazy, *_ = [actor for actor in world.actors.values() if actor is not cheat]
    lazy.lazy = True
    before = world.worth(lazy.name)
    world.until(lambda: "solver_slashed" in world.kinds())
    slots = {slot.verifier: slot.state for slot in world.instalment(task_id).verifications}
    assert slots[lazy.address] == "released"
    assert world.worth(lazy.name) < before, "the fees of its messages, and nothing for them"


def test_a_solver_that_never_starts_loses_a_little_and_another_is_drawn() -> None:
    world = crowd()
    task_id = world.submit()
    sleeper = world.solver_of(task_id)
    sleeper.silent = True
    task = world.finish(task_id)
    assert task.state == "finished" and task.attempt == 2
    assert sleeper.address in task.removed_solvers
    slashed = queries.provider(world.ledger, sleeper.address)
    assert slashed is not None and 0 < slashed.slashed_nano < GSN and slashed.locked_nano == 0


def test_who_missed_a_start_may_still_verify_and_who_was_proven_wrong_may_not() -> None:
    """Three machines and two verifiers: without the sleeper a task would wait for a fourth machine for ever."""
    world = World()
    world.crew("alice", "bob", "carol")
    task_id = world.submit()
    sleeper = world.solver_of(task_id)
    sleeper.silent = True
    world.until(lambda: world.task(task_id).attempt == 2)
    sleeper.silent = False
    assert world.finish(task_id).state == "finished"
    record = queries.task_record(world.ledger, task_id)
    assert record is not None
    assert sleeper.address in {verdict.verifier for part in record.instalments for verdict in part.verdicts}

    other = World()
    other.crew("alice", "bob", "carol")
    task_id = other.submit(spec(samples=3, deadline_blocks=60))
    cheat = other.solver_of(task_id)
    cheat.faults = (0,)
    other.until(lambda: "solver_slashed" in other.kinds())
    assert other.finish(task_id).state == "expired", "two honest machines are too few, and the cheat is not drawn"


def test_a_solver_that_dies_while_training_keeps_what_it_settled_and_the_seed_stays() -> None:
    world = crowd(patient=True)
    task_id = world.submit()
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).settled == 1)
    seed = world.task(task_id).seed
    solver.silent = True
    task = world.finish(task_id)
    record = queries.task_record(world.ledger, task_id)
    assert record is not None
    assert task.state == "finished" and task.seed == seed
    assert record.instalments[0].solver == solver.address and record.instalments[0].solver_paid_nano > 0
    assert record.instalments[1].solver != solver.address
    assert task.settled_root == Run(task.seed).state_roots(12, 0)[0]


def test_a_committed_instalment_of_a_timed_out_solver_is_still_verified_and_paid() -> None:
    world = crowd(mute=("train",))
    task_id = world.submit()
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).state == "training")
    solver.mute = ()
    world.step()
    solver.mute = ("train",)
    for actor in world.actors.values():
        actor.mute = ("train", "verify")
    world.until(lambda: "solver_timed_out" in world.kinds() or world.task(task_id).closing == "replacing")
    for actor in world.actors.values():
        actor.mute = ()
    task = world.finish(task_id)
    record = queries.task_record(world.ledger, task_id)
    assert record is not None and task.state == "finished"
    assert record.instalments[0].solver == solver.address
    assert record.instalments[0].solver_paid_nano > 0
    assert record.instalments[1].attempt == 2


def test_heartbeats_move_the_time_out_but_not_beyond_the_instalments_own_limit() -> None:
    world = crowd(mute=("train",))
    task_id = world.submit()
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).state == "training")
    started = world.height
    limit = world.task(task_id).train_due_height
    while world.task(task_id).state == "training" and world.task(task_id).attempt == 1:
        world.block(*([(solver.name, Heartbeat(task_id, 1, 7, b""))] if world.height % 20 == 0 else []))
        if world.height < limit:
            assert world.task(task_id).due_height <= limit
    assert world.height == limit + 1
    assert limit - started == world.parameters.train_blocks_base


def test_a_solver_may_still_act_at_the_last_height_of_its_duty_and_not_one_later() -> None:
    """The heartbeat in the block after the start moves the end by one: exactly where the first end is looked at."""
    world = crowd(mute=("train",))
    task_id = world.submit()
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).state == "training")
    first_end = world.task(task_id).due_height
    world.do(solver.name, Heartbeat(task_id, 1, 7, b""))
    last = world.task(task_id).due_height
    assert last == first_end + 1
    while world.height + 1 < last:
        world.block()
    world.do(solver.name, Heartbeat(task_id, 2, 7, b""))
    assert world.height == last and world.task(task_id).state == "training"
    while world.height < world.task(task_id).due_height:
        world.block()
        assert world.task(task_id).solver == solver.address
    world.block()
    assert world.task(task_id).removed_solvers == (solver.address,)


def test_a_missing_verifier_is_replaced_and_pays_a_little() -> None:
    world = World()
    world.crew(*CREW, "erin", patient=True)
    task_id = world.submit(spec(verifiers=2, instalments=1))
    world.until(lambda: world.task(task_id).committed == 1)
    world.until(lambda: world.instalment(task_id).state == "verifying")
    absent = world.actors[world.name_of(world.instalment(task_id).verifications[0].verifier)]
    absent.silent = True
    task = world.finish(task_id)
    assert task.state == "finished"
    instalment = world.instalment(task_id)
    assert instalment.missed == (absent.address,)
    assert [slot.state for slot in instalment.verifications].count("paid") == 2
    provider = queries.provider(world.ledger, absent.address)
    assert provider is not None and provider.slashed_nano > 0 and provider.locked_nano == 0


def test_too_few_verifiers_waits_then_refunds_without_blaming_anybody() -> None:
    world = World()
    world.crew("alice")
    task_id = world.submit(spec(deadline_blocks=50))
    bound = task_end_bound(spec(deadline_blocks=50), world.task(task_id).gas_per_step, world.parameters)
    task = world.finish(task_id, bound)
    assert (task.state, task.refunded_nano) == ("expired", 10 * GSN)
    assert "slashed" not in world.kinds() and "task_unverifiable" in world.kinds()


def test_without_any_solver_the_price_comes_back_at_the_deadline() -> None:
    world = World()
    task_id = world.submit(spec(deadline_blocks=50))
    task = world.finish(task_id)
    assert (task.state, task.refunded_nano) == ("expired", 10 * GSN)
    assert task.ended_height == task.deadline_height + 1


def test_who_shows_nothing_is_not_waited_for_where_nobody_can_take_its_place() -> None:
    """Three of three verifiers bound themselves, one never shows; with the solver that is everybody there is."""
    world = World()
    world.crew(*CREW)
    task_id = world.submit(spec(instalments=1, verifiers=3))
    world.until(lambda: world.task(task_id).committed == 1 and world.instalment(task_id).state == "revealing")
    solver = world.solver_of(task_id)
    absent = next(actor for name, actor in world.actors.items() if name != solver.name)
    absent.silent = True
    begun, beacon = world.height, world.instalment(task_id).evidence_beacon
    world.until(lambda: world.instalment(task_id).state == "window")
    assert world.instalment(task_id).evidence_beacon == beacon, "what the others showed stays comparable"
    assert world.height <= begun + world.parameters.reveal_blocks + 2
    assert world.finish(task_id).state == "finished"
    missed = queries.provider(world.ledger, absent.address)
    assert missed is not None and missed.slashed_nano > 0


def test_states_that_nobody_can_fetch_are_the_solvers_fault_after_so_many_have_tried() -> None:
    world = World()
    world.crew(*CREW, "erin")
    task_id = world.submit(spec(instalments=1))
    solver = world.solver_of(task_id)
    for actor in world.actors.values():
        actor.blind = True
    world.until(lambda: "solver_failed" in world.kinds())
    assert world.kinds().count("states_unavailable") == world.parameters.refusals_max
    assert world.task(task_id).removed_solvers == (solver.address,)
    lost = [dict(event.fields)["amount_nano"] for event in world.events if event.kind == "slashed"]
    task, first = world.task(task_id), world.instalment(task_id)
    price = work_price(instalment_steps(spec(instalments=1), first.number)[1] * task.gas_per_step, ASK)
    assert lost == [price * world.parameters.unserved_bps // 10_000]
    for actor in world.actors.values():
        actor.blind = False
    assert world.finish(task_id).state == "finished"


@pytest.mark.parametrize("mute", [("start",), ("train",), ("verify",), ("reveal",), ("move",), ()])
def test_every_task_ends_within_the_bound_and_is_paid_or_refunded(mute: tuple[str, ...]) -> None:
    world = crowd(mute=mute)
    order = spec(deadline_blocks=40, samples=3)
    task_id = world.submit(order)
    world.solver_of(task_id).faults = (3,)
    task = world.task(task_id)
    bound = task_end_bound(order, task.gas_per_step, world.parameters)
    task = world.finish(task_id, bound)
    assert task.ended_height - task.submitted_height <= bound
    assert task.escrow_nano == 0
    assert task.solver_paid_nano + task.verifiers_paid_nano + task.refunded_nano == task.price_nano
    for actor in world.actors.values():
        provider = queries.provider(world.ledger, actor.address)
        assert provider is not None and (provider.locked_nano, provider.work) == (0, ())


@pytest.mark.parametrize("moment", ["waiting", "assigned", "training", "verifying"])
def test_cancelling_pays_what_was_committed_and_refunds_the_rest(moment: str) -> None:
    world = World()
    task_id = world.submit()
    if moment != "waiting":
        world.crew(*CREW, patient=True, mute=("start",) if moment == "assigned" else ())
        world.until(lambda: world.task(task_id).state in (moment, "training"))
    if moment == "verifying":
        world.until(lambda: world.task(task_id).committed == 1)
    for actor in world.actors.values():
        actor.mute = (*actor.mute, "train")
    world.do("submitter", CancelTask(task_id))
    task = world.finish(task_id)
    assert task.state == "cancelled"
    assert task.settled == (1 if moment in ("verifying",) or task.solver_paid_nano else 0)
    assert task.refunded_nano == 10 * GSN - task.solver_paid_nano - task.verifiers_paid_nano
    assert "slashed" not in world.kinds()


def test_two_tasks_of_one_submitter_do_not_touch_each_other() -> None:
    world = World()
    world.crew(*CREW, "erin")
    first, second = world.submit(), world.submit(spec(name="second", max_price_nano=5 * GSN))
    assert {world.finish(first).state, world.finish(second).state} == {"finished"}
    assert [task.task_id for task in queries.tasks(world.ledger)] == [second, first]


def test_a_solver_is_never_its_own_verifier_and_the_submitter_never_drawn() -> None:
    world = World()
    world.crew("alice", "bob", "carol")
    world.register(Actor("submitter"))
    for _ in range(3):
        task_id = world.submit()
        world.finish(task_id)
        for instalment in queries.instalments(world.ledger, task_id):
            drawn = {slot.verifier for slot in instalment.verifications}
            assert instalment.solver not in drawn and key("submitter").address not in drawn
            assert instalment.solver != key("submitter").address
