"""Slow links: the chain gives time by the bytes there are to fetch, and who is honest and that slow loses nothing."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from ledger_world import ASK, GSN, PROGRAM, Actor, World, key, spec

from consensus.ledger import queries
from consensus.ledger.duties import Duty
from consensus.ledger.messages import Message, PublishProgram, SubmitTask
from consensus.ledger.parameters import Parameters, devnet_parameters, mainnet_parameters
from consensus.ledger.reasons import BAD_SPEC
from consensus.ledger.schedule import fetch_blocks, task_end_bound, verify_blocks
from gensyn_node.primitives.codec import encode
from gensyn_node.roles.patience import fetch_patience

DATA_BYTES = 10 * 3 * 4
STATE_BYTES = 2 * 3 * 4
"""Of the toy program's data set and state."""
CREW = ("alice", "bob", "carol", "dave", "erin")


def slow_parameters(bytes_per_block: int) -> Parameters:
    """Links of so few bytes a block that the toy takes many; otherwise nobody is waited for for long."""
    return msgspec.structs.replace(
        devnet_parameters(),
        fetch_bytes_per_block=bytes_per_block,
        start_blocks=4,
        heartbeat_blocks=60,
        train_blocks_base=60,
        verify_blocks_base=6,
        reveal_blocks=5,
        window_blocks=3,
    )


class SlowActor(Actor):
    """Fetches so many bytes a block, and does nothing before it has what it needs."""

    bytes_per_block = 10**9

    def answer(self, world: World, duty: Duty) -> Message | None:
        """Says that states are unavailable when half of its time, or the time given for fetching, is over."""
        task = world.task(duty.task_id)
        if duty.kind not in ("start", "verify"):
            return super().answer(world, duty)
        states = len(duty.segments) + 1 if duty.kind == "verify" else 0
        needed = -(-(DATA_BYTES + states * STATE_BYTES) // self.bytes_per_block)
        since = task.due_height - world.parameters.start_blocks - task.fetch_blocks
        if duty.kind == "verify":
            slots = world.instalment(duty.task_id, duty.instalment).verifications
            since = next(slot.drawn_height for slot in slots if slot.verifier == self.address)
        self.blind = False
        if world.height - since < needed:
            if duty.kind == "start" or world.height < fetch_patience(since, duty.due_height, task.fetch_blocks):
                return None
            self.blind = True
        return super().answer(world, duty)


def crew(world: World, speeds: dict[str, int], default: int) -> None:
    for name in CREW:
        actor = SlowActor(name)
        actor.bytes_per_block = speeds.get(name, default)
        world.register(actor, ask=ASK)


def test_time_follows_the_bytes() -> None:
    order = spec(samples=3, instalments=1)
    for bytes_per_block, blocks in ((10**6, 0), (216, 1), (215, 1), (108, 2), (10, 21)):
        assert fetch_blocks(order, STATE_BYTES, slow_parameters(bytes_per_block)) == blocks
    world = World(slow_parameters(10))
    crew(world, {}, 10**9)
    task_id = world.submit(order)
    task = world.task(task_id)
    assert task.fetch_blocks == 21
    world.until(lambda: world.task(task_id).state == "assigned")
    assert world.task(task_id).due_height - world.height == 4 + 21
    world.until(lambda: world.task(task_id).committed == 1 and world.instalment(task_id).state == "verifying")
    drawn = world.instalment(task_id).verifications[0].drawn_height
    blocks = verify_blocks(order, task.gas_per_step, world.parameters)
    assert world.instalment(task_id).due_height - drawn == blocks + 21
    usual = task_end_bound(order, task.gas_per_step, world.parameters)
    assert task_end_bound(order, task.gas_per_step, world.parameters, 21) > usual + 2 * 21


def test_who_is_as_slow_as_the_chain_waits_for_trains_verifies_and_is_paid() -> None:
    world = World(slow_parameters(10))
    crew(world, {}, 10)
    task_id = world.submit(spec(samples=3))
    task = world.finish(task_id, 1_000)
    kinds = Counter(world.kinds())
    assert task.state == "finished" and not kinds["slashed"] and not kinds["states_unavailable"]
    assert task.attempt == 1


def test_the_same_links_would_have_been_punished_without_that_time() -> None:
    """The bug that the time by bytes mends: a start missed, and verdicts that blame the solver."""
    world = World(slow_parameters(10**6))
    crew(world, {}, 10)
    task_id = world.submit(spec(samples=3, deadline_blocks=200))
    world.finish(task_id, 1_000)
    assert Counter(world.kinds())["slashed"] >= 1


def test_a_link_below_the_floor_costs_its_owner_nothing_and_blames_nobody_by_itself() -> None:
    """One slow verifier of three says in time that it could not fetch; another looks at the same segments."""
    world = World(slow_parameters(10))
    crew(world, {}, 10**9)
    task_id = world.submit(spec(samples=3, verifiers=3, instalments=1))
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).committed == 1 and world.instalment(task_id).state == "verifying")
    slow = world.actors[world.name_of(world.instalment(task_id).verifications[0].verifier)]
    slow.bytes_per_block = 1
    looks = world.instalment(task_id).verifications[0].segments
    before = world.worth(slow.name)
    task = world.finish(task_id, 1_000)
    kinds = Counter(world.kinds())
    assert task.state == "finished" and not kinds["slashed"] and kinds["states_unavailable"] == 1
    slots = world.instalment(task_id).verifications
    assert [one.segments for one in slots if one.refusals] == [looks] and len(slots) == 3
    assert slow.address not in [one.verifier for one in slots]
    assert world.instalment(task_id).solver == solver.address
    assert before - GSN // 1000 < world.worth(slow.name) <= before, "its messages' fees, and no pay"


@pytest.mark.parametrize("dead", [False, True])
def test_others_after_them_tell_slow_verifiers_from_a_dead_solver(dead: bool) -> None:
    """Two slow verifiers of two: others look at the same, and only if none of many can fetch is it the solver."""
    world = World(slow_parameters(10))
    crew(world, {}, 10**9)
    task_id = world.submit(spec(samples=3, instalments=1, deadline_blocks=400))
    solver = world.solver_of(task_id)
    world.until(lambda: world.task(task_id).committed == 1 and world.instalment(task_id).state == "verifying")
    first = [world.name_of(slot.verifier) for slot in world.instalment(task_id).verifications]
    for name in CREW if dead else first:
        world.actors[name].bytes_per_block = 1
    world.until(lambda: bool(world.instalment(task_id).refusers and world.instalment(task_id).verifications))
    second = [world.name_of(slot.verifier) for slot in world.instalment(task_id).verifications]
    assert not set(first) & set(second)
    assert [world.name_of(one) for one in world.instalment(task_id).refusers] == first
    if dead:
        world.until(lambda: "solver_failed" in world.kinds())
        for name in CREW:
            world.actors[name].bytes_per_block = 10**9
        assert world.finish(task_id, 1_000).state == "finished", "the submitter is served by another"
        assert world.instalment(task_id).solver != solver.address
    else:
        task = world.finish(task_id, 1_000)
        assert task.state == "finished" and world.instalment(task_id).solver == solver.address
        assert "slashed" not in world.kinds()
    lost = {name: queries.provider(world.ledger, key(name).address) for name in CREW}
    slashed = {name for name, one in lost.items() if one is not None and one.slashed_nano}
    assert slashed == ({solver.name} if dead else set())


def test_the_same_are_asked_again_where_there_are_no_others() -> None:
    world = World(slow_parameters(10))
    for name in CREW[:3]:
        world.register(SlowActor(name), ask=ASK)
    task_id = world.submit(spec(samples=3, instalments=1))
    world.until(lambda: world.task(task_id).committed == 1 and world.instalment(task_id).state == "verifying")
    first = [world.name_of(slot.verifier) for slot in world.instalment(task_id).verifications]
    for name in first:
        world.actors[name].bytes_per_block = 1
    world.until(lambda: bool(world.instalment(task_id).refusers and world.instalment(task_id).verifications))
    for name in first:
        world.actors[name].bytes_per_block = 10**9
    assert world.finish(task_id, 1_000).state == "finished"


def test_data_so_large_that_nobody_could_be_waited_for_are_refused() -> None:
    world = World(msgspec.structs.replace(slow_parameters(1), task_deadline_blocks_max=100))
    world.do("submitter", PublishProgram(encode(PROGRAM)))
    assert world.refused("submitter", SubmitTask(spec(deadline_blocks=50))) == BAD_SPEC.code
    assert fetch_blocks(spec(), 10**12, mainnet_parameters()) == 3 * 10**6
