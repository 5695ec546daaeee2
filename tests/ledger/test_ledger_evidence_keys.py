"""Keys of evidence: known when verifiers are drawn, one for all of a segment; and the disputes over samples."""

from __future__ import annotations

import msgspec
import pytest
from ledger_world import GSN, Actor, Run, World, own_evidence, spec
from test_ledger_disputes import CREW, challenge, play
from test_ledger_forced_errors import crowd, forced_spec, shown
from test_ledger_watch import split_crowd

from consensus.ledger import queries
from consensus.ledger.duties import Audit, audits, duties, segment_work
from consensus.ledger.evidence_keys import comparable, evidence_key_of, shown_key
from consensus.ledger.messages import ARITHMETIC_NATIVE, EvidenceChallenge
from consensus.ledger.records import Instalment
from consensus.ledger.view import State
from proofs.pinpoint.strategy import SAMPLE_MOVES
from proofs.samples import evidence_key


def keys_of(world: World, instalment: Instalment) -> list[bytes]:
    """The keys of an instalment's segments, as its verifiers are told them."""
    order = queries.spec(world.ledger, instalment.task_id)
    count = range(instalment.first_segment, instalment.first_segment + len(instalment.segment_roots))
    return [segment_work(State(world.ledger), order, instalment, segment).evidence_key for segment in count]


def watched(samples: int = 2, **settings: object) -> tuple[World, bytes, Actor, Actor]:
    """A task whose only verifier has the settings; the instalment's window is open. World, task, verifier, finder."""
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=samples))
    solver = world.solver_of(task_id)
    for actor in world.actors.values():
        for name, value in settings.items() if actor is not solver else ():
            setattr(actor, name, value)
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    slot = world.instalment(task_id).verifications[0]
    verifier = next(actor for actor in world.actors.values() if actor.address == slot.verifier)
    finder = next(actor for actor in world.actors.values() if actor not in (solver, verifier))
    finder.told = False
    return world, task_id, verifier, finder


def test_the_key_is_known_from_the_draw_on_and_the_same_for_all_verifiers() -> None:
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=2, samples=6))
    world.until(lambda: any(one.state == "drawing" for one in queries.instalments(world.ledger, task_id)))
    assert keys_of(world, world.instalment(task_id)) == [b""] * 6
    world.until(lambda: world.instalment(task_id).state == "verifying")
    instalment = world.instalment(task_id)
    found = keys_of(world, instalment)
    assert len(set(found)) == 6 and all(len(key) == 32 for key in found)
    assert found[2] == evidence_key(instalment.evidence_beacon, task_id, 0, 1, 2)
    native = msgspec.structs.replace(queries.spec(world.ledger, task_id), arithmetic=ARITHMETIC_NATIVE)
    assert evidence_key_of(native, instalment, 2) == b"", "no two machines draw the same there"
    told = [
        [work.evidence_key for work in duty.segments]
        for slot in instalment.verifications
        for duty in duties(world.ledger, slot.verifier, world.height)
    ]
    assert told == [found, found]
    world.until(lambda: world.instalment(task_id).state == "window")
    one, other = (slot.findings for slot in world.instalment(task_id).verifications)
    assert one == other, "honest evidence is the same"
    outside = next(a for a in world.actors.values() if a.address not in {s.verifier for s in instalment.verifications})
    seen: list[Audit] = audits(world.ledger, outside.address, world.height)
    assert all([work.evidence_key for work in audit.segments] == found for audit in seen)
    assert world.finish(task_id).state == "finished"
    assert keys_of(world, world.instalment(task_id)) == found, "who audits later needs it"


def test_a_verifier_that_replaces_another_has_the_same_key() -> None:
    """Those who committed already have shown nothing: evidence of the instalment stays comparable."""
    world = World()
    world.crew(*CREW, "erin", patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=2, samples=6))
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "verifying")
    before, late = keys_of(world, world.instalment(task_id)), world.instalment(task_id).verifications[0].verifier
    actor = next(actor for actor in world.actors.values() if actor.address == late)
    actor.silent = True
    world.until(lambda: world.instalment(task_id).missed == (late,))
    actor.silent = False
    world.until(lambda: world.instalment(task_id).state == "window")
    assert keys_of(world, world.instalment(task_id)) == before
    revealed = [slot.findings for slot in world.instalment(task_id).verifications if slot.findings]
    assert len(revealed) == 2 and revealed[0] == revealed[1]


def test_a_second_set_of_verifiers_has_new_keys() -> None:
    """What the first set has shown with its approvals is worth nothing to the second one."""
    world = World()
    world.crew(*CREW, "erin", patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=2, samples=6))
    solver = world.solver_of(task_id)
    for actor in world.actors.values():
        actor.blind = actor is not solver
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "verifying")
    before = keys_of(world, world.instalment(task_id))
    world.until(lambda: bool(world.instalment(task_id).refusers))
    assert keys_of(world, world.instalment(task_id)) == before, "until somebody new is drawn"
    for actor in world.actors.values():
        actor.blind = False
    world.until(lambda: world.instalment(task_id).state == "window")
    after = keys_of(world, world.instalment(task_id))
    assert not {*before} & {*after} and world.finish(task_id).state == "finished"


def test_a_watch_that_keeps_its_place_answers_for_the_key_that_it_was_drawn_with() -> None:
    world = split_crowd()
    for name in ("alice", "bob", "carol"):
        world.actors[name].blind = True
    task_id = world.submit(spec(instalments=1, deadline_blocks=400))
    world.until(lambda: world.task(task_id).committed and bool(world.instalment(task_id).refusers))
    first = world.instalment(task_id).evidence_beacon
    world.until(lambda: world.instalment(task_id).evidence_beacon != first)
    instalment = world.instalment(task_id)
    kept = next(slot for slot in instalment.verifications if slot.watch)
    order, segment = queries.spec(world.ledger, task_id), kept.segments[0]
    before, now = shown_key(order, instalment, segment, kept), evidence_key_of(order, instalment, segment)
    assert before and now and before != now and not comparable(instalment, kept)
    work = msgspec.structs.replace(segment_work(State(world.ledger), order, instalment, segment), evidence_key=before)
    assert kept.findings[0].root == Run(world.task(task_id).seed).evidence_root(work)


def test_right_roots_after_a_forced_error_have_new_keys() -> None:
    world = crowd()
    task_id = world.submit(forced_spec())
    first = shown(world, task_id)
    assert first.outcome == "forced"
    before = keys_of(world, first)
    world.until(lambda: world.instalment(task_id).second_round and world.instalment(task_id).state == "verifying")
    after = keys_of(world, world.instalment(task_id))
    assert all(before) and all(after) and not {*before} & {*after}
    assert world.finish(task_id).state == "finished" and "slashed" not in world.kinds()


@pytest.mark.parametrize("segment", [0, 1])
def test_a_verifier_that_was_told_the_state_roots_loses_its_bond(segment: int) -> None:
    """The whole segment is right; what it was not told is what the key drew."""
    world, task_id, verifier, finder = watched(told=True)
    instalment = world.instalment(task_id)
    drawn = instalment.verifications[0].segments[segment]
    right = own_evidence(world, task_id, drawn)
    before, had = world.worth(finder.name), world.worth(verifier.name)
    challenge(world, finder, task_id, EvidenceChallenge(0, 1, drawn, verifier.address, right))
    play(world, *world.actors.values())
    task = world.finish(task_id)
    dispute = world.dispute(task_id)
    assert (dispute.state, dispute.how, len(dispute.moves)) == ("defender_wrong", "arbitration", SAMPLE_MOVES)
    order = queries.spec(world.ledger, task_id)
    assert dispute.evidence_key == evidence_key_of(order, instalment, drawn)
    assert task.state == "finished" and task.attempt == 1 and task.solver_paid_nano > 0
    told, other = world.instalment(task_id).verifications
    assert (told.state, told.fee_nano) == ("slashed", 0) and other.state == "paid"
    assert task.verifiers_paid_nano == other.fee_nano, "settled on somebody else's word"
    assert world.worth(finder.name) > before and world.worth(verifier.name) < had


def test_a_right_sample_stands_and_the_false_accuser_pays() -> None:
    """The accuser has every root right and makes up a sample; the referee finds the verifier's."""
    world, task_id, verifier, griefer = watched()
    griefer.told = True
    drawn = world.instalment(task_id).verifications[0].segments[0]
    order = queries.spec(world.ledger, task_id)
    work = segment_work(State(world.ledger), order, world.instalment(task_id), drawn)
    false = Run(world.task(task_id).seed, told=True).evidence_root(work)
    before, had = world.worth(griefer.name), world.worth(verifier.name)
    challenge(world, griefer, task_id, EvidenceChallenge(0, 1, drawn, verifier.address, false))
    play(world, *world.actors.values())
    task = world.finish(task_id)
    dispute = world.dispute(task_id)
    assert (dispute.state, dispute.how, len(dispute.moves)) == ("challenger_wrong", "arbitration", SAMPLE_MOVES)
    assert world.worth(griefer.name) < before - GSN // 1000 and world.worth(verifier.name) > had
    assert task.verifiers_paid_nano > 0
