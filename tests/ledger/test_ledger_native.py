"""Native tasks on the ledger: profiled, trained, verified by distance, disputed over one operator, paid to the unit."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_world import ASK, GSN, PROGRAM, Actor, Run, World, key
from native_world import SALT, NativeActor, NativeRun, native_parameters, native_spec

from consensus.ledger import queries
from consensus.ledger.duties import Duty
from consensus.ledger.messages import (
    CancelTask,
    DemandValues,
    DiscloseValues,
    DisputeMove,
    EvidenceChallenge,
    Finding,
    OpenChallengeCommit,
    OpenChallengeReveal,
    ProfileCommit,
    ProfileReveal,
    PublishProgram,
    SubmitTask,
    UpdateProvider,
    challenge_commitment,
)
from consensus.ledger.parameters import Parameters
from consensus.ledger.records import Task
from consensus.ledger.schedule import profile_gas, task_end_bound, train_gas, verify_gas_max
from gensyn_node.primitives.codec import encode
from proofs.native.profile import DISTANCE_MAX, profile_commitment
from proofs.native.strategy import expected_moves
from proofs.native.types import NameStep

CREW = ("alice", "bob", "carol", "dave", "erin")


def crowd(parameters: Parameters | None = None, **settings: object) -> World:
    world = World(parameters or native_parameters())
    for noise, name in enumerate(CREW):
        world.register(NativeActor(name, noise=noise % 3, **settings))  # type: ignore[arg-type]
    return world


def profilers(world: World, task_id: bytes) -> list[NativeActor]:
    slots = queries.profile(world.ledger, task_id).slots
    return [actor for slot in slots for actor in world.actors.values() if actor.address == slot.profiler]


def test_a_closed_class_is_refused_with_its_code() -> None:
    world = World(native_parameters(native_profilers=0))
    world.do("alice", PublishProgram(encode(PROGRAM)))
    assert world.refused("submitter", SubmitTask(native_spec())) == "E1322"
    world = World(native_parameters())
    world.do("alice", PublishProgram(encode(PROGRAM)))
    assert world.refused("submitter", SubmitTask(native_spec(segment_steps=11))) == "E1308"
    assert world.refused("submitter", SubmitTask(native_spec(max_price_nano=0))) == "E1310"


def test_an_honest_native_task_is_profiled_trained_verified_and_paid_to_the_unit() -> None:
    world = crowd()
    before = {name: world.worth(name) for name in CREW}
    task_id = world.submit(native_spec())
    assert world.task(task_id).state == "profiling"
    task = world.finish(task_id)
    assert task.state == "finished"
    gas = 3 * profile_gas(native_spec(), task.gas_per_step)
    assert task.solver_paid_nano == train_gas(native_spec(), task.gas_per_step) * ASK // 10**9
    checked = verify_gas_max(native_spec(), task.gas_per_step)
    assert task.verifiers_paid_nano == (checked + gas) * ASK // 10**9
    assert task.solver_paid_nano + task.verifiers_paid_nano + task.refunded_nano == 10 * GSN
    assert sum(world.worth(name) - before[name] for name in CREW) > 0
    assert "slashed" not in world.kinds() and "dispute_opened" not in world.kinds()
    profile = queries.profile(world.ledger, task_id)
    assert profile.state == "done" and [slot.state for slot in profile.slots] == ["paid"] * 3
    record = queries.task_record(world.ledger, task_id)
    assert (record.arithmetic, record.limits) == ("native", profile.limits)
    findings = [one for item in record.instalments for verdict in item.verdicts for one in verdict.findings]
    assert findings and any(one.excess_bps for one in findings)


def test_thresholds_follow_from_what_was_shown() -> None:
    world = crowd(native_parameters(native_margin_bps=30_000, native_floor_parts=1))
    task_id = world.submit(native_spec())
    world.until(lambda: world.task(task_id).state != "profiling")
    profile = queries.profile(world.ledger, task_id)
    shown = sorted(slot.distances[0] for slot in profile.slots)
    assert profile.limits == (2 * 3 * shown[-1],)


def test_profilers_are_of_different_classes_as_long_as_there_are_some() -> None:
    world = crowd()
    for name, device in (("alice", "gpu"), ("bob", "npu")):
        one = queries.provider(world.ledger, key(name).address)
        offer = UpdateProvider(one.roles, device, one.memory_bytes, one.ask_price_nano, 0, one.endpoints, one.name)
        world.do(name, offer)
    for _ in range(3):
        task_id = world.submit(native_spec())
        world.step()
        classes = [slot.device_class for slot in queries.profile(world.ledger, task_id).slots]
        assert sorted(classes) == ["cpu", "gpu", "npu"]
        world.do("submitter", CancelTask(task_id))


def test_a_profiler_that_is_silent_or_does_not_show_pays_and_the_others_suffice() -> None:
    for mute, state in (("profile", "missed"), ("reveal_profile", "missed")):
        world = crowd()
        task_id = world.submit(native_spec())
        world.step()
        bad = profilers(world, task_id)[0]
        bad.mute = (mute,)
        before = world.worth(bad.name)
        world.until(lambda w=world, t=task_id: w.task(t).state != "profiling")
        assert world.worth(bad.name) < before
        profile = queries.profile(world.ledger, task_id)
        assert profile.state == "done" and profile.slots[0].state == state
        assert bad.address in profile.missed
        assert world.finish(task_id).state == "finished"


@pytest.mark.parametrize("mute", ["profile", "reveal_profile"])
def test_a_task_that_nobody_profiles_is_refunded_within_its_bound(mute: str) -> None:
    world = crowd(mute=(mute,))
    task_id = world.submit(native_spec(deadline_blocks=900))
    task = world.finish(task_id, 2_000)
    assert task.state == "expired" and task.refunded_nano == 10 * GSN
    bound = task_end_bound(native_spec(deadline_blocks=900), task.gas_per_step, world.parameters)
    assert task.ended_height <= task.submitted_height + bound
    assert all(queries.provider(world.ledger, actor.address).locked_nano == 0 for actor in world.actors.values())


def test_too_few_candidates_wait_until_the_deadline_and_are_refunded() -> None:
    world = World(native_parameters())
    world.register(NativeActor("alice"))
    task_id = world.submit(native_spec(deadline_blocks=700))
    task = world.finish(task_id, 1_000)
    assert task.state == "expired" and task.refunded_nano == 10 * GSN and not task.solver


def test_a_task_whose_every_entry_is_noise_is_refunded_and_its_profilers_are_paid() -> None:
    class Noisy(NativeActor):
        def measured(self) -> tuple[int, ...]:
            return (DISTANCE_MAX,)

    world = World(native_parameters())
    world.register(*(Noisy(name) for name in CREW))
    task_id = world.submit(native_spec())
    task = world.finish(task_id)
    assert task.state == "expired"
    assert task.verifiers_paid_nano == 3 * profile_gas(native_spec(), task.gas_per_step) * ASK // 10**9
    assert task.verifiers_paid_nano + task.refunded_nano == 10 * GSN
    assert queries.profile(world.ledger, task_id).state == "failed"


def test_cancelling_while_profiling_frees_everybody() -> None:
    world = crowd()
    task_id = world.submit(native_spec())
    world.step()
    world.step()
    world.do("submitter", CancelTask(task_id))
    task = world.task(task_id)
    assert task.state == "cancelled" and task.refunded_nano == 10 * GSN
    for actor in world.actors.values():
        provider = queries.provider(world.ledger, actor.address)
        assert provider.locked_nano == 0 and provider.work == ()
    for _ in range(400):
        world.step()


def test_profilers_messages_are_refused_from_others_and_at_other_times() -> None:
    world = crowd(mute=("profile", "reveal_profile"))
    task_id = world.submit(native_spec())
    commit, reveal = ProfileCommit(task_id, bytes(32)), ProfileReveal(task_id, (100,), SALT)
    assert world.refused("submitter", ProfileCommit(bytes(32), bytes(32))) == "E1323"
    world.step()
    drawn = [actor.name for actor in profilers(world, task_id)]
    stranger = next(name for name in CREW if name not in drawn)
    assert world.refused(stranger, commit) == "E1324"
    assert world.refused(drawn[0], reveal) == "E1319"
    for name in drawn:
        address = key(name).address
        shown = (100, 100) if name == drawn[0] else (100,)
        world.do(name, ProfileCommit(task_id, profile_commitment(task_id, address, shown, SALT)))
    assert world.refused(drawn[0], commit) == "E1319"
    assert world.refused(drawn[0], reveal) == "E1320"
    assert world.refused(drawn[0], ProfileReveal(task_id, (100, 100), SALT)) == "E1325"
    world.do(drawn[1], reveal)
    assert world.refused(drawn[1], reveal) == "E1319"
    world.do(drawn[2], reveal)
    world.until(lambda: world.task(task_id).state != "profiling")
    assert queries.profile(world.ledger, task_id).limits == (world.parameters.native_floor_parts,)
    assert world.refused(drawn[1], reveal) == "E1323"


# --- verification and disputes


def trained_by(world: World, task_id: bytes, **changes: object) -> NativeActor:
    """The solver, with a character, before it trained anything."""
    world.until(lambda: world.task(task_id).solver)
    solver = next(actor for actor in world.actors.values() if actor.address == world.task(task_id).solver)
    for name, value in changes.items():
        setattr(solver, name, value)
    return solver


def test_a_cheating_solver_is_suspected_looked_at_and_slashed_for_one_operator() -> None:
    world = crowd(patient=True)
    task_id = world.submit(native_spec(samples=3))
    cheat = trained_by(world, task_id, faults=(9,), error=0.01)
    before = world.worth(cheat.name)
    task = world.finish(task_id, 2_000)
    assert task.state == "finished" and cheat.address in task.removed_solvers
    record = queries.task_record(world.ledger, task_id)
    assert {entry.outcome for entry in record.disputes} <= {"defender_wrong", "moot"}
    dispute = queries.dispute(world.ledger, task.disputes[0])
    assert (dispute.kind, dispute.segment, dispute.defender) == ("segment", 4, cheat.address)
    assert len(dispute.moves) == expected_moves(1, disclosed=True) == 4
    assert (dispute.how, dispute.moves[-1].turn) == ("arbitration", "defender")
    assert world.worth(cheat.name) < before


def test_values_are_demanded_by_those_who_judge_and_shown_by_the_solver_once() -> None:
    world = crowd()
    task_id = world.submit(native_spec(samples=3))
    cheat = trained_by(world, task_id, faults=(3,), error=0.01, mute=("disclose",))
    world.until(lambda: world.task(task_id).committed)
    world.step()
    instalment = world.instalment(task_id)
    drawn = {slot.verifier: slot.segments for slot in instalment.verifications}
    names = {actor.address: name for name, actor in world.actors.items()}
    name = names[next(iter(drawn))]
    segment = drawn[world.actors[name].address][1]
    ask = DemandValues(task_id, 0, instalment.attempt, segment)
    assert world.refused(cheat.name, ask) == "E1318"
    assert world.refused(name, DemandValues(task_id, 0, instalment.attempt, 5)) == "E1318"
    assert world.refused(name, DemandValues(task_id, 0, instalment.attempt + 1, segment)) == "E1317"
    run, blobs = cheat.own_run(world.task(task_id)), (bytes(32), bytes(32))
    states = b"".join(run.state_roots(2 * segment, 2))
    said = DiscloseValues(task_id, 0, instalment.attempt, segment, states, bytes(64), blobs)
    assert world.refused(cheat.name, said) == "E1337"
    world.do(name, ask)
    assert world.refused(name, ask) == "E1336"
    assert world.refused(name, said) == "E1337"
    other = b"".join(run.state_roots(2 * segment + 2, 2))
    for wrong in (
        msgspec.structs.replace(said, states=other),
        msgspec.structs.replace(said, states=states[:64]),
        msgspec.structs.replace(said, values=bytes(32)),
        msgspec.structs.replace(said, blobs=()),
    ):
        assert world.refused(cheat.name, wrong) == "E1338"
    world.do(cheat.name, said)
    assert world.refused(cheat.name, said) == "E1337"
    assert queries.disclosure(world.ledger, world.instalment(task_id), segment).states == states


def test_a_solver_that_shows_one_thing_and_commits_to_another_loses() -> None:
    """It serves values that point at the wrong operator, and means to show a clean one when that is accused."""

    class Turncoat(NativeActor):
        def disclosure(self, task: Task, duty: Duty) -> DiscloseValues:
            said = super().disclosure(task, duty)
            return msgspec.structs.replace(said, values=bytes(len(said.values)))

    world = World(native_parameters())
    for noise, name in enumerate(CREW):
        world.register(Turncoat(name, noise=noise % 3, patient=True))
    task_id = world.submit(native_spec(samples=3))
    cheat = trained_by(world, task_id, faults=(3,), error=0.01)
    task = world.finish(task_id, 2_000)
    dispute = queries.dispute(world.ledger, task.disputes[0])
    assert (dispute.state, dispute.how, dispute.defender) == ("defender_wrong", "move", cheat.address)
    why = [dict(event.fields)["why"] for event in world.events if event.kind == "dispute_resolved"]
    assert "contradiction" in why


def test_an_honest_solver_far_off_is_looked_at_and_approved() -> None:
    """Noise beyond the threshold: within its bound at every operator, so nobody is slashed and everybody is paid."""
    world = crowd(native_parameters(native_floor_parts=1, native_margin_bps=10_000))
    for actor in world.actors.values():
        actor.measured = lambda: (1,)  # type: ignore[method-assign]
    task_id = world.submit(native_spec())
    trained_by(world, task_id, noise=3)
    task = world.finish(task_id)
    assert task.state == "finished" and "slashed" not in world.kinds()
    record = queries.task_record(world.ledger, task_id)
    findings = [one for item in record.instalments for verdict in item.verdicts for one in verdict.findings]
    assert any(one.excess_bps > 10_000 and one.verdict == 0 for one in findings)


def test_a_verifier_that_accuses_an_honest_solver_loses() -> None:
    world = crowd()
    task_id = world.submit(native_spec())
    solver = trained_by(world, task_id)
    liar = next(actor for actor in world.actors.values() if actor is not solver)
    liar.accuses = True
    before = {actor.name: world.worth(actor.name) for actor in world.actors.values()}
    task = world.finish(task_id, 2_000)
    assert task.state == "finished" and task.solver_paid_nano
    disputes = [queries.dispute(world.ledger, one) for one in task.disputes]
    assert all(one.state == "challenger_wrong" for one in disputes)
    assert world.worth(solver.name) > before[solver.name]
    if disputes:
        assert world.worth(liar.name) < before[liar.name]


def test_a_solver_that_hides_its_values_when_suspected_fails() -> None:
    world = crowd()
    task_id = world.submit(native_spec(samples=3))
    cheat = trained_by(world, task_id, faults=(3,), error=0.01, hides=True)
    task = world.finish(task_id, 3_000)
    assert task.state == "finished" and cheat.address in task.removed_solvers
    assert "states_unavailable" in world.kinds()
    punished = [event for event in world.events if (event.kind, event.subject) == ("slashed", cheat.address)]
    assert [dict(event.fields)["why"] for event in punished] == ["the states were not served"]


def test_a_lazy_verifier_cannot_defend_its_evidence() -> None:
    world = crowd(native_parameters(window_blocks=30))
    task_id = world.submit(native_spec())
    trained_by(world, task_id)
    world.until(lambda: world.task(task_id).committed)
    for actor in world.actors.values():
        actor.lazy = True
    world.until(lambda: queries.instalments(world.ledger, task_id)[0].state == "window")
    instalment = queries.instalments(world.ledger, task_id)[0]
    slot = instalment.verifications[0]
    finder = next(
        actor
        for actor in world.actors.values()
        if actor.address not in {instalment.solver, *(one.verifier for one in instalment.verifications)}
    )
    mine = EvidenceChallenge(0, instalment.attempt, slot.segments[0], slot.verifier, bytes(32))
    commitment = challenge_commitment(finder.address, task_id, mine, SALT)
    world.do(finder.name, OpenChallengeCommit(task_id, 0, commitment))
    world.do(finder.name, OpenChallengeReveal(task_id, mine, SALT))
    dispute_id = world.task(task_id).disputes[0]
    world.until(lambda: queries.dispute(world.ledger, dispute_id).state != "open")
    dispute = queries.dispute(world.ledger, dispute_id)
    assert (dispute.kind, dispute.state) == ("evidence", "defender_wrong")
    assert dispute.defender == slot.verifier


def test_a_wrong_initial_state_is_disputed_exactly() -> None:
    """The seed gives equal bits on every machine, whatever the class."""
    world = crowd()
    task_id = world.submit(native_spec())
    cheat = trained_by(world, task_id, faults=(-1,))
    task = world.finish(task_id, 2_000)
    dispute = queries.dispute(world.ledger, task.disputes[0])
    assert (dispute.kind, dispute.state, dispute.defender) == ("initial", "defender_wrong", cheat.address)
    assert task.state == "finished" and task.initial_root == NativeRun(task.seed).state_roots(0, 0)[0]


class Measuring(Actor):
    """A verifier that reports a distance where there is none to report."""

    def verdict(self, run: Run, world: World, duty: Duty) -> tuple[tuple[Finding, ...], bytes]:
        findings, initial = super().verdict(run, world, duty)
        return tuple(msgspec.structs.replace(one, excess_bps=7) for one in findings), initial


def test_distances_belong_to_native_findings() -> None:
    world = World()
    world.register(*(Measuring(name) for name in CREW))
    task_id = world.submit()
    world.until(lambda: "instalment_revealing" in world.kinds())
    assert "E1321" in {result.code for result in world.step()}
    assert not any(slot.findings for slot in queries.instalments(world.ledger, task_id)[0].verifications)


def hasty() -> Parameters:
    """Deadlines so short that random schedules run into all of them."""
    return native_parameters(
        task_deadline_blocks_min=5,
        start_blocks=4,
        heartbeat_blocks=6,
        train_blocks_base=12,
        verify_blocks_base=5,
        reveal_blocks=3,
        window_blocks=4,
        move_clock_blocks=6,
        move_extension_blocks=2,
        game_moves_max=20,
        unbonding_blocks=7,
    )


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_money_is_conserved_and_every_native_task_ends(seed: int) -> None:
    """Every block is audited by the world; here the schedule is random."""
    rng = random.Random(seed)
    world = World(hasty())
    duties = ("profile", "reveal_profile", "start", "train", "verify", "reveal", "disclose", "move")
    for noise, name in enumerate(CREW):
        mute = tuple(duty for duty in duties if rng.random() < 0.1)
        faults = (rng.randrange(-1, 12),) if rng.random() < 0.4 else ()
        character = {"lazy": rng.random() < 0.2, "accuses": rng.random() < 0.2, "hides": rng.random() < 0.2}
        entries = rng.choice([1, 1, 1, 2])
        world.register(NativeActor(name, faults, 0.01, noise=noise % 3, mute=mute, entries=entries, **character))
    task_id = world.submit(native_spec(deadline_blocks=70, samples=3))
    for _ in range(70):
        messages = [(actor.name, m) for actor in world.actors.values() if rng.random() < 0.7 for m in actor.act(world)]
        who = rng.choice(CREW)
        noise = [
            ProfileCommit(task_id, bytes(32)),
            ProfileReveal(task_id, (rng.randrange(1 << 32),) * rng.choice([0, 1, 3]), SALT),
            DisputeMove((world.task(task_id).disputes or (bytes(32),))[-1], encode(NameStep(rng.randrange(4)))),
        ]
        messages.append((who, rng.choice(noise)))
        if rng.random() < 0.02:
            messages.append(("submitter", CancelTask(task_id)))
        rng.shuffle(messages)
        world.block(*messages)
    for actor in world.actors.values():
        actor.silent = rng.random() < 0.5
    task = world.task(task_id)
    bound = task_end_bound(native_spec(deadline_blocks=70, samples=3), task.gas_per_step, world.parameters)
    world.until(lambda: world.task(task_id).ended_height, bound)
    assert world.task(task_id).ended_height - task.submitted_height <= bound
    for provider in queries.providers(world.ledger):
        assert (provider.locked_nano, provider.work, provider.solving, provider.verifying) == (0, (), 0, 0)
    assert queries.supply(world.ledger).escrows_nano == 0
