"""The mistakes that audits found in other dispute games, one named test each, and what outcomes cost whom."""

from __future__ import annotations

from hashlib import sha256
from typing import get_args

import msgspec
import pytest
from ledger_world import GSN, Actor, Run, World, key, own_evidence, spec

from consensus.ledger import games, queries
from consensus.ledger.duties import audits, duties
from consensus.ledger.execute import execute_block
from consensus.ledger.messages import (
    ROLE_WHISTLEBLOWER,
    Challenge,
    DisputeMove,
    EvidenceChallenge,
    Finding,
    InitialChallenge,
    OpenChallengeCommit,
    OpenChallengeReveal,
    SegmentChallenge,
    VerdictCommit,
    VerdictReveal,
    challenge_commitment,
    verdict_commitment,
)
from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.records import TASK_ENDED
from consensus.ledger.schedule import game_blocks_max
from gensyn_node.primitives.codec import encode
from proofs.pinpoint.types import Finished, Game, Name, Phase, PostStates

CREW = ("alice", "bob", "carol", "dave")
SALT = bytes(32)


def cheated(segment_step: int = 4, parameters: Parameters | None = None) -> tuple[World, bytes, Actor, list[Actor]]:
    """An instalment in its window whose solver cheated and whose (lazy) verifiers approved; the rest are bystanders."""
    world = World(parameters)
    world.crew(*CREW, "erin", patient=True, mute=("move",))
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=6))
    solver = world.solver_of(task_id)
    solver.faults = (segment_step,)
    for actor in world.actors.values():
        actor.lazy = True
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    verifier = world.instalment(task_id).verifications[0].verifier
    others = [actor for actor in world.actors.values() if actor.address not in (solver.address, verifier)]
    for actor in world.actors.values():
        actor.lazy = False
    return world, task_id, solver, others


def right_root(world: World, task_id: bytes, segment: int) -> bytes:
    """The state root that the segment really ends with (its start is right in these tests)."""
    return Run(world.task(task_id).seed).state_roots(2 * segment + 2, 0)[0]


def challenge(world: World, who: Actor, task_id: bytes, what: Challenge) -> None:
    """Announce and show a challenge."""
    commit(world, who, task_id, what)
    world.do(who.name, OpenChallengeReveal(task_id, what, SALT))


def commit(world: World, who: Actor, task_id: bytes, what: Challenge, instalment: int = 0) -> None:
    world.do(who.name, OpenChallengeCommit(task_id, instalment, challenge_commitment(who.address, task_id, what, SALT)))


def find(world: World, task_id: bytes, segment: int = 2) -> SegmentChallenge:
    return SegmentChallenge(0, 1, segment, right_root(world, task_id, segment))


def wrong(segment: int, text: bytes = b"nonsense") -> SegmentChallenge:
    return SegmentChallenge(0, 1, segment, sha256(text).digest())


def play(world: World, *actors: Actor) -> None:
    for actor in actors:
        actor.mute = ()


# --- whistleblowers


def test_a_whistleblower_finds_what_verifiers_approved_and_is_paid() -> None:
    world, task_id, _, others = cheated()
    finder = others[0]
    audit = audits(world.ledger, finder.address)[0]
    run = Run(world.task(task_id).seed)
    bad = [w for w in audit.segments if run.state_roots(w.first_step + w.steps, 0)[0] != w.end_root]
    assert bad[0].segment == 2
    before = world.worth(finder.name)
    challenge(world, finder, task_id, find(world, task_id))
    play(world, *world.actors.values())
    world.until(lambda: "solver_slashed" in world.kinds())
    assert world.dispute(task_id).state == "defender_wrong"
    assert world.worth(finder.name) > before, "the finder is paid"
    assert world.instalment(task_id).verifications[0].state == "released", "not paid"
    assert world.finish(task_id).state == "finished"


def test_evidence_that_a_lazy_verifier_made_up_costs_its_bond_and_the_solver_nothing() -> None:
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=2))
    solver = world.solver_of(task_id)
    for actor in world.actors.values():
        actor.lazy = actor is not solver
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    slot = world.instalment(task_id).verifications[0]
    finder = next(a for a in world.actors.values() if a.address not in (solver.address, slot.verifier))
    segment = slot.segments[0]
    own = own_evidence(world, task_id, segment)
    before = world.worth(finder.name)
    challenge(world, finder, task_id, EvidenceChallenge(0, 1, segment, slot.verifier, own))
    play(world, *world.actors.values())
    for actor in world.actors.values():
        actor.lazy = False
    world.until(lambda: "dispute_resolved" in world.kinds())
    assert world.dispute(task_id).state == "defender_wrong"
    assert world.worth(finder.name) > before
    task = world.finish(task_id)
    assert task.state == "finished" and task.attempt == 1 and task.solver_paid_nano > 0
    lazy, other = world.instalment(task_id).verifications
    assert (lazy.state, lazy.fee_nano) == ("slashed", 0), "no fee for work not done"
    assert other.state == "paid" and other.verifier not in (slot.verifier, solver.address)
    assert task.verifiers_paid_nano == other.fee_nano > 0, "settled on somebody's word"


def test_what_nobody_is_left_to_verify_is_not_settled() -> None:
    """The only verifier made its evidence up, and so does everybody who is drawn after it."""
    world = World()
    world.crew(*CREW, patient=True)
    finder = Actor("erin", roles=ROLE_WHISTLEBLOWER)
    world.register(finder)
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=2))
    solver, slashed = world.solver_of(task_id), set[bytes]()
    for actor in world.actors.values():
        actor.lazy = actor is not solver
    world.until(lambda: world.task(task_id).committed == 1)
    escrow = world.task(task_id).escrow_nano
    while world.task(task_id).state not in TASK_ENDED:
        instalment = world.instalment(task_id)
        slot = instalment.verifications[-1] if instalment.verifications else None
        if slot is not None and (instalment.state, slot.state) == ("window", "revealed"):
            slashed.add(slot.verifier)
            segment = slot.segments[0]
            own = own_evidence(world, task_id, segment)
            challenge(world, finder, task_id, EvidenceChallenge(0, 1, segment, slot.verifier, own))
            world.until(lambda: not world.instalment(task_id).open_disputes)
        else:
            world.step()
    task = world.task(task_id)
    assert len(slashed) == len(CREW) - 1
    assert (task.state, task.solver_paid_nano, task.verifiers_paid_nano) == ("expired", 0, 0)
    assert task.refunded_nano == escrow


def test_true_evidence_stands_and_the_challenger_pays_the_verifier() -> None:
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=2))
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    slot = world.instalment(task_id).verifications[0]
    griefer = next(a for a in world.actors.values() if a.address not in (world.task(task_id).solver, slot.verifier))
    verifier = world.name_of(slot.verifier)
    before, had = world.worth(griefer.name), world.worth(verifier)
    griefer.mute = ("move",)
    what = EvidenceChallenge(0, 1, slot.segments[0], slot.verifier, sha256(b"x").digest())
    challenge(world, griefer, task_id, what)
    task = world.finish(task_id)
    assert world.dispute(task_id).state == "challenger_wrong"
    assert world.worth(griefer.name) < before and world.worth(verifier) > had
    assert task.verifiers_paid_nano > 0


# --- the named mistakes


def test_nothing_settles_while_a_dispute_about_it_is_open() -> None:
    world, task_id, _, others = cheated()
    challenge(world, others[0], task_id, find(world, task_id))
    for _ in range(world.parameters.move_clock_blocks - 2):
        world.step()
        assert world.task(task_id).settled == 0
    assert world.instalment(task_id).state == "ready"


def test_no_move_after_resolution() -> None:
    world, task_id, solver, others = cheated()
    challenge(world, others[0], task_id, find(world, task_id))
    dispute_id = world.dispute(task_id).dispute_id
    world.until(lambda: world.dispute(task_id).state != "open")
    for actor in world.actors.values():
        actor.silent = True
    world.step()
    move = DisputeMove(dispute_id, encode(PostStates(bytes(96))))
    assert world.refused(solver.name, move) == "E1430"
    assert world.refused(others[0].name, DisputeMove(dispute_id, encode(Name(1, bytes(32))))) == "E1430"


def test_many_bogus_challenges_neither_block_the_true_one_nor_the_chain() -> None:
    world, task_id, solver, others = cheated()
    spammer, finder = others[0], others[1]
    for number in range(4):
        challenge(world, spammer, task_id, wrong(number, b"spam"))
    challenge(world, finder, task_id, find(world, task_id))
    opened = len(world.task(task_id).disputes)
    assert opened == 5
    play(world, solver, finder)
    world.until(lambda: "solver_slashed" in world.kinds())
    states = [world.dispute(task_id, n).state for n in range(opened)]
    assert states.count("defender_wrong") == 1 and set(states) <= {"defender_wrong", "moot", "challenger_wrong"}


def test_challenges_by_others_are_bounded_and_verifiers_keep_their_right_to_disagree() -> None:
    few = msgspec.structs.replace(devnet_parameters(), disputes_per_instalment_max=3)
    world, task_id, _, others = cheated(parameters=few)
    for number, who in enumerate(others):
        challenge(world, who, task_id, wrong(number))
    assert world.refused(others[0].name, OpenChallengeCommit(task_id, 0, bytes(32))) == "E1424"
    world = World(few)
    world.crew(*CREW, "erin", patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=4, samples=6))
    world.solver_of(task_id).faults = (4,)
    world.finish(task_id)
    assert world.dispute(task_id).state == "defender_wrong"
    assert len(world.dispute(task_id).challengers) == 4, "four verifiers, one claim, above the bound for others"


def test_a_last_second_move_leaves_the_other_party_time_to_answer() -> None:
    world, task_id, solver, others = cheated()
    finder = others[0]
    challenge(world, finder, task_id, find(world, task_id))
    clock, extension = world.parameters.move_clock_blocks, world.parameters.move_extension_blocks
    dispute = world.dispute(task_id)
    while world.height + 1 < dispute.due_height:
        world.block()
    play(world, solver)
    world.step()
    assert world.height == dispute.due_height
    dispute = world.dispute(task_id)
    assert dispute.turn == "challenger" and dispute.challenger_clock_blocks == clock
    play(world, finder)
    world.step()
    dispute = world.dispute(task_id)
    assert dispute.turn == "defender"
    assert dispute.due_height == world.height + extension, "never less than the extension"


def test_a_party_with_time_left_does_not_lose_by_the_clock() -> None:
    world, task_id, _, others = cheated()
    challenge(world, others[0], task_id, find(world, task_id))
    due = world.dispute(task_id).due_height
    while world.height < due:
        world.block()
        assert world.dispute(task_id).state == "open"
    world.block()
    assert world.dispute(task_id).state == "defender_wrong"
    assert world.dispute(task_id).how == "clock"


def test_the_clock_runs_over_the_whole_game_not_per_move() -> None:
    world, task_id, solver, others = cheated()
    finder = others[0]
    challenge(world, finder, task_id, find(world, task_id))
    clock = world.parameters.move_clock_blocks
    spent = {"defender": 0, "challenger": 0}
    while world.dispute(task_id).state == "open":
        dispute = world.dispute(task_id)
        turn = dispute.turn
        for _ in range(9):
            world.block()
        mover = solver if turn == "defender" else finder
        mover.mute = ()
        began = dispute.turn_height
        world.step()
        mover.mute = ("move",)
        spent[turn] += world.height - began
        after = world.dispute(task_id)
        if after.state == "open":
            assert after.defender_clock_blocks == clock - spent["defender"]
            assert after.challenger_clock_blocks == clock - spent["challenger"]
    assert spent["defender"] > 0 and spent["challenger"] > 0


def test_a_dispute_is_over_within_its_computed_time_however_slowly_both_play() -> None:
    world, task_id, solver, others = cheated()
    challenge(world, others[0], task_id, find(world, task_id))
    opened = world.height
    while world.dispute(task_id).state == "open":
        dispute = world.dispute(task_id)
        while world.height + 1 < dispute.due_height:
            world.block()
        play(world, solver, others[0])
        world.step()
    assert world.height - opened <= game_blocks_max(world.parameters)


def test_equal_claims_are_one_dispute_and_the_same_account_joins_once() -> None:
    world, task_id, _, others = cheated()
    what = find(world, task_id)
    challenge(world, others[0], task_id, what)
    challenge(world, others[1], task_id, what)
    assert len(world.task(task_id).disputes) == 1
    assert [c.address for c in world.dispute(task_id).challengers] == [others[0].address, others[1].address]
    commit(world, others[0], task_id, what)
    assert world.refused(others[0].name, OpenChallengeReveal(task_id, what, SALT)) == "E1424"


def test_distinct_claims_run_in_parallel_and_the_first_proof_ends_them_all() -> None:
    world, task_id, solver, others = cheated()
    challenge(world, others[0], task_id, wrong(0))
    challenge(world, others[1], task_id, find(world, task_id))
    play(world, solver, others[1])
    world.until(lambda: "solver_slashed" in world.kinds())
    assert world.dispute(task_id, 0).state == "moot"
    for other in others:
        provider = queries.provider(world.ledger, other.address)
        assert (provider.locked_nano, provider.slashed_nano) == (0, 0), "bonds of ended disputes come back"


def test_a_claim_lost_on_purpose_is_taken_over_by_the_next_who_made_it() -> None:
    world, task_id, solver, others = cheated()
    saboteur, finder = others[0], others[1]
    what = find(world, task_id)
    challenge(world, saboteur, task_id, what)
    challenge(world, finder, task_id, what)
    play(world, solver)
    world.step()
    assert world.dispute(task_id).turn == "challenger"
    world.do(saboteur.name, DisputeMove(world.dispute(task_id).dispute_id, encode(Name(0, bytes(32)))))
    dispute = world.dispute(task_id)
    assert dispute.state == "open" and dispute.lead == 1 and dispute.challengers[0].lost
    assert dispute.defender_clock_blocks == world.parameters.move_clock_blocks
    play(world, finder)
    world.until(lambda: world.dispute(task_id).state != "open")
    assert world.dispute(task_id).state == "defender_wrong"
    assert queries.provider(world.ledger, saboteur.address).slashed_nano > 0
    assert queries.provider(world.ledger, finder.address).earned_nano > 0


def test_a_refuted_claim_may_be_made_again_with_a_new_bond() -> None:
    world, task_id, solver, others = cheated()
    what = find(world, task_id)
    challenge(world, others[0], task_id, what)
    play(world, solver)
    world.step()
    world.do(others[0].name, DisputeMove(world.dispute(task_id).dispute_id, encode(Name(0, bytes(32)))))
    assert world.dispute(task_id).state == "challenger_wrong"
    challenge(world, others[1], task_id, what)
    play(world, others[1])
    world.until(lambda: world.dispute(task_id, 1).state != "open")
    assert world.dispute(task_id, 1).state == "defender_wrong"


def test_nobody_takes_another_ones_bond_or_prize() -> None:
    world, task_id, _, others = cheated()
    what = find(world, task_id)
    challenge(world, others[0], task_id, what)
    challenge(world, others[1], task_id, what)
    before = {actor.name: world.worth(actor.name) for actor in others}
    play(world, *world.actors.values())
    world.until(lambda: "solver_slashed" in world.kinds())
    gains = [world.worth(actor.name) - before[actor.name] for actor in others]
    assert gains[0] > 0 and -GSN // 100 < gains[1] <= 0 and gains[2] == 0, gains
    assert all(queries.provider(world.ledger, actor.address).locked_nano == 0 for actor in others)


def test_a_stranger_cannot_move_and_a_party_cannot_move_out_of_turn() -> None:
    world, task_id, solver, others = cheated()
    challenge(world, others[0], task_id, find(world, task_id))
    dispute_id = world.dispute(task_id).dispute_id
    assert world.refused(others[1].name, DisputeMove(dispute_id, encode(PostStates(b"")))) == "E1429"
    assert world.refused(others[0].name, DisputeMove(dispute_id, encode(Name(1, bytes(32))))) == "E1401"
    assert world.refused(solver.name, DisputeMove(dispute_id, encode(Name(1, bytes(32))))) == "E1403"
    assert world.refused(solver.name, DisputeMove(dispute_id, b"\xc1")) == "E1002"
    assert world.refused(solver.name, DisputeMove(bytes(32), b"")) == "E1428"
    assert world.dispute(task_id).moves == ()


def test_a_move_that_proves_nothing_loses_for_its_author() -> None:
    world, task_id, solver, others = cheated()
    challenge(world, others[0], task_id, find(world, task_id))
    world.do(solver.name, DisputeMove(world.dispute(task_id).dispute_id, encode(PostStates(bytes(96)))))
    assert world.dispute(task_id).state == "defender_wrong"


def test_programs_that_word_an_ending_otherwise_have_the_same_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = games.exact.play, games.exact.forfeit
    roots = []
    for words in "as it is now", "as a later release says it":

        def say(game: Game, words: str = words) -> Game:
            phase = game.phase
            told = msgspec.structs.replace(phase, why=words) if isinstance(phase, Finished) else phase
            return msgspec.structs.replace(game, phase=told)

        monkeypatch.setattr(games.exact, "play", lambda *game, say=say: say(rules[0](*game)))
        monkeypatch.setattr(games.exact, "forfeit", lambda *game, say=say: say(rules[1](*game)))
        world, task_id, solver, others = cheated()
        challenge(world, others[0], task_id, wrong(0))  # its finder never moves
        challenge(world, others[1], task_id, wrong(1))
        challenge(world, others[2], task_id, find(world, task_id))
        play(world, solver)
        world.step()
        world.do(others[1].name, DisputeMove(world.dispute(task_id, 1).dispute_id, encode(Name(0, bytes(32)))))
        play(world, others[2])
        world.until(lambda world=world, task_id=task_id: "solver_slashed" in world.kinds())
        ended = [world.dispute(task_id, number) for number in range(3)]
        assert [(one.state, one.how) for one in ended] == [
            ("moot", "another_dispute"),
            ("challenger_wrong", "move"),
            ("defender_wrong", "arbitration"),
        ]
        told = [event.get("why") for event in world.events if event.kind == "dispute_resolved"]
        assert words in told
        roots.append(world.ledger.root)
    assert roots[0] == roots[1]


def test_the_names_of_phases_that_the_ledger_stores_stay_as_they_are() -> None:
    """`DisputeRecord.phase` is a part of the state: who renames a phase parts from the chain."""
    assert [phase.__name__ for phase in get_args(Phase)] == [
        *("AwaitStates", "NameState", "AwaitValues", "NameChunk", "AwaitChunk", "NameValue", "AwaitEntries"),
        *("NameEntry", "AwaitTiles", "NameTile", "AwaitPieces", "NamePiece", "AwaitEvidence", "Finished"),
    ]


def test_both_may_be_wrong_and_then_both_are_slashed_and_nobody_wins() -> None:
    world, task_id, solver, others = cheated()
    liar = others[0]
    liar.faults, liar.error = (4,), 2.0
    root = Run(world.task(task_id).seed, (4,), 2.0).state_roots(6, 0)[0]
    challenge(world, liar, task_id, SegmentChallenge(0, 1, 2, root))
    play(world, *world.actors.values())
    world.until(lambda: world.dispute(task_id).state != "open")
    assert world.dispute(task_id).state == "both_wrong"
    for wrong_one in (solver, liar):
        provider = queries.provider(world.ledger, wrong_one.address)
        assert provider.slashed_nano >= GSN // 4 and provider.earned_nano == 0
    liar.faults = ()
    assert world.finish(task_id).state == "finished"


def test_self_dealing_loses_more_than_half_of_the_bond() -> None:
    world, task_id, solver, others = cheated()
    accomplice = others[0]
    before = world.worth(solver.name) + world.worth(accomplice.name)
    challenge(world, accomplice, task_id, find(world, task_id))
    play(world, *world.actors.values())
    world.until(lambda: "solver_slashed" in world.kinds())
    slashed = queries.provider(world.ledger, solver.address).slashed_nano
    assert before - world.worth(solver.name) - world.worth(accomplice.name) >= slashed // 2


@pytest.mark.parametrize("how", ["clock", "move", "arbitration"])
def test_a_solver_cannot_have_its_honest_verifiers_slashed_by_losing_on_purpose(how: str) -> None:
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=2, samples=6))
    solver = world.solver_of(task_id)
    solver.mute = ("move",)
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    verifiers = [slot.verifier for slot in world.instalment(task_id).verifications]
    accomplice = next(a for a in world.actors.values() if a.address not in (solver.address, *verifiers))
    lie = SegmentChallenge(0, 1, 2, sha256(b"another root").digest())
    challenge(world, accomplice, task_id, lie)
    right, twisted = Run(world.task(task_id).seed), Run(world.task(task_id).seed, (4,))
    # The right start and the right end, with a made-up state in between that the referee can refute.
    between = (*right.state_roots(4, 0), *twisted.state_roots(5, 0), *right.state_roots(6, 0))
    states = {"move": bytes(96), "arbitration": b"".join(between)}.get(how)
    if states is not None:
        world.do(solver.name, DisputeMove(world.dispute(task_id).dispute_id, encode(PostStates(states))))
    if how == "arbitration":
        solver.faults = twisted.faults
        play(world, solver)
    world.until(lambda: "solver_slashed" in world.kinds())
    assert world.dispute(task_id).how == how
    slashed = [event.subject for event in world.events if event.kind == "slashed"]
    assert slashed == [solver.address]


def test_a_cheat_does_not_escape_its_dispute_by_withholding_its_states_from_others() -> None:
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=3, samples=6))
    solver = world.solver_of(task_id)
    solver.faults = (4,)
    accomplices = [actor for actor in world.actors.values() if actor is not solver][:2]
    for actor in accomplices:
        actor.blind = True
    solver.mute = ("move",)
    world.until(lambda: "dispute_opened" in world.kinds())
    world.until(lambda: world.instalment(task_id).state == "unserved")
    assert "slashed" not in world.kinds()
    solver.mute = ()
    world.until(lambda: "solver_slashed" in world.kinds())
    assert world.dispute(task_id).state == "defender_wrong"


def test_without_open_disputes_withheld_states_end_the_solvers_work_at_once() -> None:
    world = World()
    world.crew(*CREW, "erin", "operator", patient=True, blind=True)
    task_id = world.submit(spec(instalments=1, verifiers=2, samples=6))
    solver = world.solver_of(task_id)
    world.until(lambda: "solver_failed" in world.kinds())
    assert [event.subject for event in world.events if event.kind == "slashed"] == [solver.address]
    assert world.instalment(task_id).state == "invalid"


# --- commit and reveal


def test_a_seen_reveal_cannot_be_front_run() -> None:
    world, task_id, _, others = cheated()
    finder, thief = others[0], others[1]
    what = find(world, task_id)
    commit(world, finder, task_id, what)
    copied = challenge_commitment(finder.address, task_id, what, SALT)
    own = challenge_commitment(thief.address, task_id, what, SALT)
    results = world.block(
        (thief.name, OpenChallengeCommit(task_id, 0, own)),
        (thief.name, OpenChallengeReveal(task_id, what, SALT)),
        (finder.name, OpenChallengeReveal(task_id, what, SALT)),
    )
    assert [result.code for result in results] == ["", "E1421", ""]
    assert world.dispute(task_id).challengers[0].address == finder.address
    world.do(others[2].name, OpenChallengeCommit(task_id, 0, copied))
    assert world.refused(others[2].name, OpenChallengeReveal(task_id, what, SALT)) == "E1320"


def test_an_announced_challenge_that_is_never_shown_costs_a_little() -> None:
    world, task_id, _, others = cheated()
    before = world.worth(others[0].name)
    commit(world, others[0], task_id, find(world, task_id))
    world.until(lambda: world.instalment(task_id).state == "closing")
    world.finish(task_id)
    lost = queries.provider(world.ledger, others[0].address).slashed_nano
    assert 0 < lost < GSN and world.worth(others[0].name) < before
    assert queries.provider(world.ledger, others[0].address).locked_nano == 0


def test_a_challenge_that_another_ones_proof_overtook_costs_nothing() -> None:
    """Two find the same lazy verifier: it is slashed for the first challenge before the second one is shown."""
    world = World()
    world.crew(*CREW, patient=True)
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=2))
    solver = world.solver_of(task_id)
    for actor in world.actors.values():
        actor.lazy = actor is not solver
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "window")
    slot = world.instalment(task_id).verifications[0]
    first, second = [a for a in world.actors.values() if a.address not in (solver.address, slot.verifier)][:2]
    made = []
    for segment in slot.segments:
        own = own_evidence(world, task_id, segment)
        made.append(EvidenceChallenge(0, 1, segment, slot.verifier, own))
    commit(world, second, task_id, made[1])
    challenge(world, first, task_id, made[0])
    world.until(lambda: world.instalment(task_id).verifications[0].state == "slashed")
    assert world.instalment(task_id).pending_challengers == (second.address,)
    world.do(second.name, OpenChallengeReveal(task_id, made[1], SALT))
    assert "challenge_moot" in world.kinds()
    late = EvidenceChallenge(0, 1, slot.segments[0], slot.verifier, bytes(32))
    commit(world, first, task_id, late)
    assert world.refused(first.name, OpenChallengeReveal(task_id, late, SALT)) == "E1426", "announced after the proof"
    assert world.finish(task_id).state == "finished"
    provider = queries.provider(world.ledger, second.address)
    assert (provider.slashed_nano, provider.locked_nano) == (0, 0)


def test_a_challenge_may_be_shown_until_the_end_of_the_closing_phase() -> None:
    world, task_id, _, others = cheated()
    what = find(world, task_id)
    commit(world, others[0], task_id, what)
    world.until(lambda: world.instalment(task_id).state == "closing")
    assert [duty.kind for duty in duties(world.ledger, others[0].address, world.height)] == ["reveal_challenge"]
    late = OpenChallengeCommit(task_id, 0, bytes(32))
    assert world.refused(others[1].name, late) == "E1421"
    world.do(others[0].name, OpenChallengeReveal(task_id, what, SALT))
    assert world.instalment(task_id).open_disputes


def test_a_verdict_cannot_be_copied_or_changed() -> None:
    world = World()
    world.crew(*CREW, patient=True, mute=("verify", "reveal"))
    task_id = world.submit(spec(instalments=1, samples=6))
    world.until(lambda: world.task(task_id).committed and world.instalment(task_id).state == "verifying")
    first, second = (world.name_of(slot.verifier) for slot in world.instalment(task_id).verifications)
    findings = tuple(Finding(n, 0, sha256(b"evidence").digest()) for n in range(6))
    commitment = verdict_commitment(key(first).address, task_id, 0, 1, findings, b"", SALT)
    reveal = VerdictReveal(task_id, 0, 1, findings, b"", SALT)
    assert world.refused(first, reveal) == "E1319", "not before everybody committed"
    world.do(first, VerdictCommit(task_id, 0, 1, commitment))
    assert world.refused(first, VerdictCommit(task_id, 0, 1, commitment)) == "E1319"
    world.do(second, VerdictCommit(task_id, 0, 1, commitment))
    assert world.refused(second, reveal) == "E1320", "bound to the first verifier's address"
    changed = VerdictReveal(task_id, 0, 1, (*findings[:5], Finding(5, 2, b"")), b"", SALT)
    assert world.refused(first, changed) == "E1320"
    world.do(first, reveal)
    assert world.refused(first, reveal) == "E1319"


def test_verifiers_are_not_known_when_the_solver_commits() -> None:
    """The draw depends on the beacon after the commit; a known implementation leaves its randomness out."""
    drawn = set()
    for number in range(4):
        world = World()
        world.crew(*CREW, "erin", patient=True)
        task_id = world.submit(spec(instalments=1, samples=1))
        while not world.task(task_id).committed:
            world.step()
        assert world.instalment(task_id).verifications == ()
        other_beacon = msgspec.structs.replace(world.context(world.height + 1), beacon=bytes([number] * 32))
        world.ledger.apply(execute_block(world.ledger, other_beacon, []))
        drawn.add(tuple((slot.verifier, slot.segments) for slot in world.instalment(task_id).verifications))
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (lambda world, task_id: SegmentChallenge(0, 1, 6, bytes(32)), "E1426"),
        (lambda world, task_id: SegmentChallenge(0, 2, 2, bytes(32)), "E1426"),
        (lambda world, task_id: SegmentChallenge(0, 1, 2, world.instalment(task_id).segment_roots[2]), "E1426"),
        (lambda world, task_id: InitialChallenge(1, world.task(task_id).initial_root), "E1426"),
        (lambda world, task_id: EvidenceChallenge(0, 1, 2, bytes(20), bytes(32)), "E1426"),
    ],
)
def test_challenges_that_name_nothing_are_refused(what: object, code: str) -> None:
    world, task_id, _, others = cheated()
    made = what(world, task_id)  # type: ignore[operator]
    commit(world, others[0], task_id, made)
    assert world.refused(others[0].name, OpenChallengeReveal(task_id, made, SALT)) == code


def test_who_may_announce_a_challenge() -> None:
    world, task_id, solver, others = cheated()
    announce = OpenChallengeCommit(task_id, 0, bytes(32))
    assert world.refused("submitter", announce) == "E1302"
    assert world.refused(solver.name, announce) == "E1427"
    assert world.refused(others[0].name, OpenChallengeCommit(task_id, 3, bytes(32))) == "E1317"
    assert world.refused(others[0].name, OpenChallengeReveal(task_id, find(world, task_id), SALT)) == "E1423"
    world.do(others[0].name, announce)
    assert world.refused(others[0].name, announce) == "E1422"
