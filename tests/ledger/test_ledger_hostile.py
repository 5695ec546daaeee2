"""Attacks on the ledger: what would halt the chain, fill a block's time, or take an honest party's money."""

from __future__ import annotations

import msgspec
import pytest
from ledger_world import CHAIN, GSN, PROGRAM, Actor, World, key, spec
from test_ledger_disputes import challenge, cheated, find, play

from consensus.ledger import keys, queries, view
from consensus.ledger.duties import duties
from consensus.ledger.fees import transaction_units
from consensus.ledger.messages import (
    Bond,
    CancelTask,
    PublishProgram,
    RegisterProvider,
    SubmitTask,
    Unbond,
    WithdrawProvider,
    validator_key_proof_bytes,
)
from consensus.ledger.parameters import devnet_parameters, mainnet_parameters
from consensus.ledger.programs import MOST_BATCH_INPUTS
from consensus.ledger.records import DueItem
from consensus.ledger.schedule import bid_price, verify_blocks
from consensus.ledger.view import DUE_ITEMS_PER_HEIGHT_MAX, State
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.money import SUPPLY_NANO_MAX
from proofs.program.types import BatchInput, Fill, Node, Program, StateEntry, TensorType, program_id
from proofs.program.validate import GAS_PER_STEP_MAX

CREW = ("alice", "bob", "carol", "dave")


# --- records that cannot be read back would halt every validator at the next block


def test_a_tiny_program_at_a_huge_price_does_not_overflow_the_task() -> None:
    scalar = TensorType("f32", ())
    tiny = Program(
        opset=1,
        state=(StateEntry("p", scalar, Fill(0)),),
        batch_size=1,
        batch=(),
        nodes=(Node("neg", (0,), ()),),
        state_outputs=(2,),
        loss=2,
    )
    world = World()
    world.do("submitter", PublishProgram(encode(tiny)))
    order = spec(
        program_id=program_id(tiny),
        dataset=(),
        steps=1,
        segment_steps=1,
        instalments=1,
        verifiers=1,
        samples=1,
        max_price_nano=900 * GSN,
    )
    task_id = world.do("submitter", SubmitTask(order)).transaction_id
    gas = world.task(task_id).gas_per_step
    assert order.max_price_nano * 10**9 // (2 * gas) > SUPPLY_NANO_MAX
    world.block()
    assert world.task(task_id).bid_price_nano == bid_price(order, gas) == SUPPLY_NANO_MAX


def test_no_accepted_task_has_heights_beyond_what_a_record_holds() -> None:
    world = World()
    world.crew(*CREW)
    world.submit()
    assert world.refused("submitter", SubmitTask(spec(samples=limits.SEGMENTS_PER_INSTALMENT_MAX + 1))) == "E1308"
    for parameters in (devnet_parameters(), mainnet_parameters()):
        most = spec(samples=limits.SEGMENTS_PER_INSTALMENT_MAX, segment_steps=limits.SEGMENT_STEPS_MAX)
        blocks = verify_blocks(most, GAS_PER_STEP_MAX, parameters)
        assert blocks * (parameters.verifier_draws_max + 1) < SUPPLY_NANO_MAX >> 1


def test_verification_may_not_take_longer_than_the_longest_deadline() -> None:
    slow = msgspec.structs.replace(devnet_parameters(), train_gas_per_block=1, task_deadline_blocks_max=3_000)
    world = World(slow)
    world.submit(spec())
    assert world.refused("submitter", SubmitTask(spec(segment_steps=3, samples=20, steps=120))) == "E1308"


# --- the queue of what is due


def test_one_height_holds_a_bounded_number_of_due_items_and_the_rest_comes_soon_after() -> None:
    state = State(World().ledger)
    for number in range(3 * DUE_ITEMS_PER_HEIGHT_MAX):
        state.schedule(50, "pay_out", b"", number)
    sizes = {height: len(state.due(height)) for height in range(45, 70) if state.due(height)}
    assert sum(sizes.values()) == 3 * DUE_ITEMS_PER_HEIGHT_MAX
    assert max(sizes.values()) == DUE_ITEMS_PER_HEIGHT_MAX and min(sizes) == 50
    assert state.due(50)[0] == DueItem("pay_out", b"", 0)


def test_a_crowded_height_delays_duties_and_halts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "DUE_ITEMS_PER_HEIGHT_MAX", 2)
    world = World()
    world.crew(*CREW, "erin")
    tasks = [world.submit(spec(deadline_blocks=100)) for _ in range(8)]
    for task_id in tasks:
        assert world.finish(task_id).escrow_nano == 0


def test_a_delegation_has_few_unbondings_at_a_time() -> None:
    world = World()
    proof = key("second").sign(validator_key_proof_bytes(CHAIN, key("alice").address))
    world.do("alice", Bond(key("second").public, 100 * GSN, proof))
    results = world.block(*[("alice", Unbond(key("second").address, 1)) for _ in range(30)])
    assert 1 <= sum(result.applied for result in results) <= 16
    assert {result.code for result in results} == {"", "E1214"}
    for _ in range(world.parameters.unbonding_blocks + 4):
        world.block()
    world.do("alice", Unbond(key("second").address, 1))


def test_who_unbonds_everything_leaves_the_registry_of_validators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CANDIDATES_MAX", 2)
    world = World()
    proofs = {
        name: key(name + "'s validator").sign(validator_key_proof_bytes(CHAIN, key(name).address))
        for name in ("alice", "bob")
    }
    world.do("alice", Bond(key("alice's validator").public, 5 * GSN, proofs["alice"]))
    newcomer = Bond(key("bob's validator").public, 5 * GSN, proofs["bob"])
    assert world.refused("bob", newcomer) == "E1206"
    world.do("alice", Unbond(key("alice's validator").address, 5 * GSN))
    assert [update.power for update in world.deltas[-1].validator_updates] == [0]
    world.do("bob", newcomer)
    assert world.refused("alice", Bond(key("alice's validator").public, 5 * GSN, b"")) == "E1206"
    world.do("bob", Unbond(key("bob's validator").address, 5 * GSN))
    world.do("alice", Bond(key("alice's validator").public, 5 * GSN, b""))
    assert [update.power for update in world.deltas[-1].validator_updates] == [5]


# --- work that one block may be made to do


def test_a_block_holds_few_programs_and_few_submissions() -> None:
    for parameters in (devnet_parameters(), mainnet_parameters()):
        program, order = PublishProgram(bytes(limits.PROGRAM_BYTES_MAX)), SubmitTask(spec())
        largest = transaction_units(program, limits.PROGRAM_BYTES_MAX, parameters)
        assert largest <= parameters.block_units_max < 2 * largest
        assert parameters.block_units_max // transaction_units(order, 600, parameters) <= 40


def test_submitting_does_not_decode_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.submit()
    monkeypatch.setattr("consensus.ledger.programs.decode_program", None)
    monkeypatch.setattr("consensus.ledger.tasks.decode_program", None, raising=False)
    world.do("submitter", SubmitTask(spec()))


def test_a_program_with_more_batches_than_a_task_can_have_is_refused() -> None:
    record = TensorType("f32", (3,))
    count = MOST_BATCH_INPUTS + 1
    batch = tuple(BatchInput(f"x{number}", record) for number in range(count))
    nodes = tuple(
        msgspec.structs.replace(node, inputs=tuple(i if i < 2 else i + count - 1 for i in node.inputs))
        for node in PROGRAM.nodes
    )
    many = msgspec.structs.replace(
        PROGRAM, batch=batch, nodes=nodes, state_outputs=(3 + count - 1,), loss=6 + count - 1
    )
    assert World().refused("submitter", PublishProgram(encode(many))) == "E1308"


def test_a_task_that_nobody_can_take_is_looked_at_ever_less_often() -> None:
    world = World()
    task_id = world.submit(spec(memory_bytes=1 << 60))
    submitted, draws = world.height, 0
    for _ in range(600):
        before = world.task(task_id).due_height
        world.block()
        draws += world.task(task_id).due_height != before
    assert draws < 75
    due = world.task(task_id).due_height
    assert due - world.height <= (world.height - submitted) // 8


def test_repeated_draws_are_spread_over_heights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consensus.ledger.life.RETRIES_PER_HEIGHT_MAX", 3)
    world = World()
    world.submit(spec(memory_bytes=1 << 60))
    world.block(*[("submitter", SubmitTask(spec(memory_bytes=1 << 60))) for _ in range(15)])
    for _ in range(30):
        world.block()
        state = State(world.ledger)
        crowds = [len(state.due(height)) for height in range(world.height + 1, world.height + 60)]
        assert sum(crowds) == 16 and max(crowds) <= 3


# --- money


def test_a_cancellation_does_not_take_what_was_trained_for_nothing() -> None:
    """The states of an instalment are named in its commit: a submitter who sees it come must not cancel it away."""
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit(spec(instalments=1))
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).state == "training")
    train = next(duty for duty in duties(world.ledger, solver.address, world.height) if duty.kind == "train")
    commit = solver.answer(world, train)
    assert commit is not None
    results = world.block(("submitter", CancelTask(task_id)), (solver.name, commit))
    assert [result.applied for result in results] == [True, True]
    task = world.finish(task_id)
    assert task.settled == 1 and task.solver_paid_nano > 0


def test_after_a_cancellation_no_further_instalment_begins_and_stopping_costs_the_solver_nothing() -> None:
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit()
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).state == "training")
    world.do("submitter", CancelTask(task_id))
    assert world.refused("submitter", CancelTask(task_id)) == "E1312"
    solver.mute = ("train",)
    task = world.finish(task_id)
    assert (task.state, task.settled, task.refunded_nano) == ("cancelled", 0, task.price_nano)
    assert "slashed" not in world.kinds()
    provider = queries.provider(world.ledger, solver.address)
    assert provider is not None and (provider.misses, provider.locked_nano) == (0, 0)

    again = World()
    again.crew(*CREW, patient=True)
    task_id = again.submit()
    again.until(lambda: again.task(task_id).state == "training")
    again.do("submitter", CancelTask(task_id))
    task = again.finish(task_id)
    assert (task.state, task.committed, task.settled) == ("cancelled", 1, 1)


def test_a_cancelled_task_waits_for_its_last_commit_while_earlier_ones_settle() -> None:
    world = World()
    world.crew(*CREW)
    task_id = world.submit()
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).committed == 1)
    solver.mute = ("train",)
    world.do("submitter", CancelTask(task_id))
    world.until(lambda: world.task(task_id).settled == 1)
    assert world.task(task_id).state == "training"
    solver.mute = ()
    assert world.finish(task_id).settled == 2


def test_a_task_whose_data_nobody_serves_costs_those_who_do_not_start_next_to_nothing() -> None:
    world = World()
    world.register(Actor("alice", mute=("start",)), bond=900 * GSN, ask=3 * 10**16)
    task_id = world.submit(spec(max_price_nano=100 * GSN))
    world.until(lambda: world.task(task_id).solver, 10)
    task, before = world.task(task_id), world.worth("alice")
    assert task.solver_bond_nano > world.parameters.solver_bond_min_nano
    world.until(lambda: "solver_timed_out" in world.kinds())
    lost = before - world.worth("alice")
    assert lost == world.parameters.solver_bond_min_nano * world.parameters.miss_slash_bps // 10_000


def test_accomplices_cannot_fill_a_claim_to_keep_the_honest_finder_out() -> None:
    """Each of them would lose its game on purpose; a claim that is full opens another dispute instead."""
    few = msgspec.structs.replace(devnet_parameters(), challengers_per_dispute_max=2)
    world, task_id, solver, others = cheated(parameters=few)
    *accomplices, honest = others
    assert len(accomplices) == 2
    for who in others:
        challenge(world, who, task_id, find(world, task_id))
    found = [world.dispute(task_id, number) for number in range(2)]
    assert [len(dispute.challengers) for dispute in found] == [2, 1]
    play(world, solver, honest)
    world.until(lambda: world.dispute(task_id, 1).state != "open", 800)
    assert world.dispute(task_id, 1).state == "defender_wrong"
    assert "solver_slashed" in world.kinds()


def test_registering_and_leaving_over_and_over_leaves_nothing_behind() -> None:
    world = World()
    offer = RegisterProvider(1, "cpu", 1, 10**6, 10 * GSN, (), "x")

    for _ in range(5):
        world.block(("alice", offer), ("alice", WithdrawProvider()))
    assert State(world.ledger).addresses(keys.PROVIDERS) == ()
    for _ in range(world.parameters.unbonding_blocks + 2):
        world.block()
    assert State(world.ledger).supply.unbonding_nano == 0
