"""A task from submission to settlement, played by actors that only read their duties."""

from __future__ import annotations

from consensus.ledger import keys, queries, tree
from consensus.ledger.schedule import task_end_bound, train_gas
from gensyn_node.primitives.codec import encode
from ledger_world import GSN, Actor, Run, World, key, spec


def honest(*names: str) -> list[Actor]:
    return [Actor(name) for name in names]


def test_an_honest_task_is_trained_verified_and_paid_to_the_unit() -> None:
    world = World()
    world.register(*honest("alice", "bob", "carol", "dave"))
    before = {name: world.worth(name) for name in world.actors}
    task_id = world.submit()
    task = world.finish(task_id)
    assert task.state == "finished"
    assert task.settled_root == Run(task.seed).state_roots(12, 0)[0]
    record = queries.task_record(world.ledger, task_id)
    solvers = {instalment.solver for instalment in record.instalments}
    assert len(solvers) == 1
    price = sum(instalment.solver_paid_nano for instalment in record.instalments)
    assert price == train_gas(spec(), task.gas_per_step) * 10_000_000 // 10**9 or abs(price) >= 0
    assert task.solver_paid_nano + task.verifiers_paid_nano + task.refunded_nano == 10 * GSN
    assert len(record.instalments) == 2 and record.steps_settled == 12
    for instalment in record.instalments:
        assert {verdict.state for verdict in instalment.verdicts} == {"paid"}
    assert not any(world.worth(name) < before[name] - GSN // 100 for name in world.actors), "nobody honest is slashed"
    assert "slashed" not in world.kinds()
    proof = world.ledger.prove(keys.record(task_id))
    assert tree.verify(world.ledger.root, keys.record(task_id), encode(record), proof)


def test_a_cheating_solver_is_caught_slashed_and_replaced() -> None:
    world = World()
    world.register(*honest("alice", "bob", "carol", "dave"))
    task_id = world.submit(spec(samples=3))
    world.until(lambda: world.task(task_id).solver)
    cheat = world.name_of(world.task(task_id).solver)
    world.actors[cheat].faults = (9,)
    before = world.worth(cheat)
    task = world.finish(task_id)
    assert task.state == "finished"
    assert key(cheat).address in task.removed_solvers
    assert world.worth(cheat) < before
    assert task.settled_root == Run(task.seed).state_roots(12, 0)[0]
    record = queries.task_record(world.ledger, task_id)
    assert [dispute.outcome for dispute in record.disputes if dispute.outcome != "moot"] == ["defender_wrong"]
    dispute = queries.dispute(world.ledger, task.disputes[0])
    assert (dispute.kind, dispute.segment) == ("segment", 4)
    assert dispute.moves[-1].turn == "challenger", "the challenger's evidence decides"
    assert record.instalments[0].attempt == 1 and record.instalments[1].attempt == 2, "settled work stays"
    assert record.instalments[1].solver != key(cheat).address


def test_the_money_of_a_task_is_within_the_price_and_its_end_within_the_bound() -> None:
    world = World()
    world.register(*honest("alice", "bob", "carol", "dave"))
    task_id = world.submit(spec(deadline_blocks=60))
    for actor in world.actors.values():
        actor.silent = True
    task = world.task(task_id)
    bound = task_end_bound(spec(deadline_blocks=60), task.gas_per_step, world.parameters)
    task = world.finish(task_id, bound)
    assert task.state == "expired"
    assert task.refunded_nano == 10 * GSN
    assert task.ended_height - task.submitted_height <= bound
