"""Forced errors: an instalment shown wrong on purpose, who finds it, who approves it, and a solver that plays foul."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256

import msgspec
import pytest
from ledger_world import ASK, GSN, WRONG_ROOT, Actor, Run, World, key, spec

from consensus.ledger import jackpots, queries, sealed
from consensus.ledger.duties import Duty
from consensus.ledger.messages import (
    CommitInstalment,
    ContestForcedError,
    Message,
    OpenChallengeCommit,
    OpenChallengeReveal,
    OpenInstalment,
    RevealSecret,
    SegmentChallenge,
    StartTask,
    SubmitTask,
    TaskSpec,
    challenge_commitment,
)
from consensus.ledger.records import Instalment
from consensus.ledger.schedule import slot_bond, task_end_bound, train_gas, verify_gas_max

OFTEN, SELDOM = 9_000, 100
SALT = sha256(b"salt").digest()


def forced_spec(**changes: object) -> TaskSpec:
    """One instalment of 6 segments, all looked at by both verifiers."""
    return spec(**{"instalments": 1, "samples": 6, "forced_error_bps": OFTEN, "max_price_nano": 40 * GSN, **changes})


def crowd(*names: str, **settings: object) -> World:
    world = World()
    world.crew(*(names or ("alice", "bob", "carol")), **settings)
    return world


def shown(world: World, task_id: bytes, number: int = 0) -> Instalment:
    """The instalment as soon as its secret is shown."""

    def known() -> bool:
        found = [one for one in queries.instalments(world.ledger, task_id) if one.number == number]
        return bool(found) and found[0].outcome != ""

    world.until(known)
    return world.instalment(task_id, number)


def slashed_nano(world: World, actor: Actor) -> int:
    provider = queries.provider(world.ledger, actor.address)
    assert provider is not None
    return provider.slashed_nano


def price(task_gas: int) -> int:
    return task_gas * ASK // 10**9


# --- the draw


def test_the_chain_of_secrets_shows_one_after_the_other() -> None:
    root = sha256(b"root").digest()
    anchor = sealed.secret_at(root, 4, -1)
    for instalment in range(4):
        secret = sealed.secret_at(root, 4, instalment)
        assert sealed.link_of(secret) == anchor
        anchor = secret
    assert anchor == root


def test_the_draw_takes_secret_and_beacon_hits_as_often_as_asked_and_every_segment_alike() -> None:
    def draw(secret: bytes, beacon: bytes) -> int | None:
        return sealed.forced_segment(secret, beacon, bytes(32), 0, 1, 5, 2_000)

    secrets = [sha256(b"s%d" % n).digest() for n in range(4_000)]
    with_one_beacon = [draw(secret, bytes(32)) for secret in secrets]
    with_one_secret = [draw(bytes(32), beacon) for beacon in secrets]
    for drawn in (with_one_beacon, with_one_secret):
        hits = Counter(place for place in drawn if place is not None)
        assert abs(hits.total() - 800) < 5 * math.sqrt(4_000 * 0.2 * 0.8)
        assert all(abs(hits[place] - 160) < 5 * math.sqrt(160) for place in range(5))
    assert sum(a != b for a, b in zip(with_one_beacon, with_one_secret, strict=True)) > 800


def test_a_seal_binds_solver_task_attempt_roots_and_secret() -> None:
    def seal(**changes: object) -> bytes:
        fields = {
            "solver": bytes(20),
            "task_id": bytes(32),
            "instalment": 0,
            "attempt": 1,
            "segment_roots": (bytes(32), bytes([1]) * 32),
            "secret": bytes(32),
        }
        return sealed.seal_of(**{**fields, **changes})  # type: ignore[arg-type]

    others = (
        seal(solver=bytes([1]) * 20),
        seal(task_id=bytes([1]) * 32),
        seal(instalment=1),
        seal(attempt=2),
        seal(segment_roots=(bytes([1]) * 32, bytes(32))),
        seal(secret=bytes([1]) * 32),
    )
    assert len({seal(), *others}) == 7


# --- the jackpot


@pytest.mark.parametrize("pool", [0, 2, 10**6, 10**12])
def test_jackpots_are_a_third_of_the_pool_at_most_and_splitting_never_gains(pool: int) -> None:
    shares = [jackpots.share_nano(pool, 10**6, 500, 9_000, n) for n in range(1, 40)]
    assert all(n * share <= pool // 3 for n, share in enumerate(shares, 1))
    for rivals in range(6):
        gains = [own * jackpots.share_nano(pool, 10**6, 500, 9_000, rivals + own) for own in range(1, 8)]
        assert max(gains) == gains[0], "one identity gets as much as any number of them"


@pytest.mark.parametrize("rate", [100, 500, 2_500, 9_000])
def test_the_average_of_a_draws_jackpots_stays_below_its_tax(rate: int) -> None:
    world = World()
    tax, payout = 10**9, world.parameters.forced_payout_bps
    assert jackpots.share_nano(10**18, tax, rate, payout, 1) * rate / 10_000 <= tax * payout / 10_000 < tax


# --- played by honest solvers


def test_without_an_error_the_task_goes_on_as_ever_and_the_tax_feeds_the_pool() -> None:
    world = crowd()
    task_id = world.submit(forced_spec(forced_error_bps=SELDOM, instalments=2))
    task = world.finish(task_id)
    assert task.state == "finished" and task.settled_root == Run(task.seed).state_roots(12, 0)[0]
    assert [world.instalment(task_id, n).outcome for n in range(2)] == ["right", "right"]
    trained = price(train_gas(forced_spec(), task.gas_per_step))
    assert task.taxed_nano == 2 * (trained // 2 * world.parameters.forced_tax_bps // 10_000)
    assert task.solver_paid_nano == trained
    assert task.verifiers_paid_nano == price(verify_gas_max(forced_spec(), task.gas_per_step))
    paid = task.taxed_nano + task.solver_paid_nano + task.verifiers_paid_nano
    assert paid + task.refunded_nano == task.price_nano
    assert queries.supply(world.ledger).jackpot_nano == task.taxed_nano
    assert "slashed" not in world.kinds()
    record = queries.task_record(world.ledger, task_id)
    assert record is not None and record.taxed_nano == task.taxed_nano


def test_nothing_public_tells_an_error_before_the_secret_is_shown() -> None:
    """Heights of everything up to the secret are the same with and without an error; no root is in the commit."""
    histories = []
    for rate in (SELDOM, OFTEN):
        world = crowd()
        task_id = world.submit(forced_spec(forced_error_bps=rate))
        first = shown(world, task_id)
        events = [event.kind for event in world.events if event.subject == task_id]
        histories.append((first.outcome, world.height, events[: events.index("secret_shown")]))
    assert [outcome for outcome, _, _ in histories] == ["right", "forced"]
    assert histories[0][1:] == histories[1][1:]


def test_who_finds_a_forced_error_shares_the_jackpot_and_the_right_roots_are_verified_in_turn() -> None:
    world = crowd()
    before = {name: world.worth(name) for name in world.actors}
    task_id = world.submit(forced_spec())
    first = shown(world, task_id)
    assert first.outcome == "forced" and first.forced_root == WRONG_ROOT
    assert first.open_disputes == () and len(first.claimants) == 2
    pool = first.tax_nano
    task = world.finish(task_id)
    assert task.state == "finished" and task.settled_root == Run(task.seed).state_roots(12, 0)[0]
    settled = world.instalment(task_id)
    assert settled.second_round and WRONG_ROOT not in settled.segment_roots
    share = jackpots.share_nano(pool, first.tax_nano, OFTEN, world.parameters.forced_payout_bps, 2)
    paid = [event.get("amount_nano") for event in world.events if event.kind == "jackpot_paid"]
    assert share > 0 and paid == [share, share]
    assert task.verifiers_paid_nano == 2 * price(verify_gas_max(forced_spec(), task.gas_per_step))
    assert queries.supply(world.ledger).jackpot_nano == pool - 2 * share
    assert "slashed" not in world.kinds()
    assert all(world.worth(name) > before[name] - GSN // 1_000 for name in before)


def test_who_approves_a_forced_error_loses_its_bond_and_the_finder_takes_the_jackpot() -> None:
    world = crowd()
    task_id = world.submit(forced_spec())
    solver = world.solver_of(task_id)
    lazy, honest = (actor for actor in world.actors.values() if actor is not solver)
    lazy.lazy = True
    before = world.worth(lazy.name)
    first = shown(world, task_id)
    bonds = {slot.verifier: slot.bond_nano for slot in first.verifications}
    assert first.claimants == (honest.address,)
    task = world.task(task_id)
    bond = slot_bond(forced_spec(), task.gas_per_step, 0, ASK, task.solver_bond_nano, world.parameters)
    assert bonds == {lazy.address: bond, honest.address: bond}
    lazy.silent = True  # It has no second round to lose.
    world.crew("dave")
    task = world.finish(task_id)
    assert task.state == "finished"
    assert ("approved a forced error", lazy.address, bond) in [
        (event.get("why"), event.subject, event.get("amount_nano")) for event in world.events if event.kind == "slashed"
    ]
    assert before - world.worth(lazy.name) >= bond
    assert [event.get("claimant") for event in world.events if event.kind == "jackpot_paid"] == [honest.address]
    assert lazy.address not in [slot.verifier for slot in world.instalment(task_id).verifications]


@pytest.mark.parametrize("lazy", [0, 1])
def test_a_challenger_takes_no_jackpot_but_its_share_of_what_an_approver_loses(lazy: int) -> None:
    """A solver can tell anybody where its error is; who was drawn cannot be told before everybody else."""
    world = crowd("alice", "bob", "carol", "dave")
    task_id = world.submit(forced_spec(verifiers=2))
    solver = world.solver_of(task_id)
    world.until(lambda: any(i.state == "verifying" for i in queries.instalments(world.ledger, task_id)))
    slots = world.instalment(task_id).verifications
    for slot in slots[:lazy]:
        world.actors[world.name_of(slot.verifier)].lazy = True
    world.until(lambda: any(i.state == "window" for i in queries.instalments(world.ledger, task_id)))
    for actor in world.actors.values():
        actor.lazy = False
    instalment, task = world.instalment(task_id), world.task(task_id)
    drawn = {slot.verifier for slot in instalment.verifications} | {solver.address}
    finder = next(actor for actor in world.actors.values() if actor.address not in drawn)
    right = Run(task.seed)
    ends = [right.state_roots(end, 0)[0] for end in range(2, 13, 2)]
    wrong = next(n for n in range(6) if instalment.segment_roots[n] != ends[n])
    challenge = SegmentChallenge(0, 1, wrong, ends[wrong])
    commitment = challenge_commitment(finder.address, task_id, challenge, SALT)
    world.do(finder.name, OpenChallengeCommit(task_id, 0, commitment))
    assert world.refused(finder.name, OpenChallengeReveal(task_id, challenge, SALT)) == "E1421"
    shown(world, task_id)
    world.do(finder.name, OpenChallengeReveal(task_id, challenge, SALT))
    before = world.worth(finder.name)
    assert finder.address not in world.instalment(task_id).claimants
    world.actors[world.name_of(slots[0].verifier)].mute = ("contest",)
    world.until(lambda: world.instalment(task_id).second_round)
    paid = [event.get("amount_nano") for event in world.events if event.kind == "jackpot_paid"]
    assert len(paid) == 2 - lazy and len(set(paid)) == 1
    won = slots[0].bond_nano * world.parameters.winner_bps // 10_000
    assert world.worth(finder.name) == before + lazy * won
    assert world.finish(task_id).disputes == () and world.kinds().count("slashed") == lazy


def test_an_instalment_is_opened_when_the_secret_before_is_shown() -> None:
    world = crowd()
    task_id = world.submit(forced_spec(instalments=2, samples=1, forced_error_bps=SELDOM))
    world.until(lambda: world.task(task_id).committed == 2)
    while world.instalment(task_id, 0).secret_pending:
        assert world.instalment(task_id, 1).state == "sealed"
        assert world.instalment(task_id, 1).segment_roots == () == world.instalment(task_id, 1).state_blobs
        world.step()
    world.step()
    assert world.instalment(task_id, 1).state != "sealed"
    assert world.finish(task_id).state == "finished"


# --- played by solvers that cheat


def test_a_cheats_disagreements_open_their_disputes_with_the_secret() -> None:
    world = crowd("alice", "bob", "carol", "dave")
    task_id = world.submit(forced_spec(forced_error_bps=SELDOM))
    cheat = world.solver_of(task_id)
    cheat.faults = (4,)
    world.until(lambda: any(i.state == "unsealing" for i in queries.instalments(world.ledger, task_id)))
    assert world.task(task_id).disputes == ()
    shown(world, task_id)
    assert world.dispute(task_id).segment == 2
    task = world.finish(task_id)
    assert task.state == "finished" and cheat.address in task.removed_solvers
    assert world.dispute(task_id).state == "defender_wrong"


@dataclass
class Twisted(Actor):
    """Shows the truth where the draw wants an error, and calls the wrong root that it sealed the right one."""

    twist: bool = False

    def roots(self, run: Run, order: TaskSpec, number: int) -> tuple[bytes, ...]:
        right = super().roots(run, order, number)
        return tuple(sha256(root).digest() for root in right) if self.twist else right

    def open(self, run: Run, world: World, order: TaskSpec, duty: Duty) -> Message:
        position = self.forced(world, order, duty)[1]
        lies, truth = self.roots(run, order, 0), super().roots(run, order, 0)
        if not self.twist or position is None:
            return super().open(run, world, order, duty)
        roots = (*lies[:position], truth[position], *lies[position + 1 :])
        return OpenInstalment(duty.task_id, duty.instalment, roots, (), ())


def test_a_solver_cannot_call_a_right_approval_a_forced_error() -> None:
    """The segment's start is right as well when it is the first: its honest verifier insists, plays, and wins."""
    world = World()
    actors = [Twisted(name) for name in ("alice", "bob", "carol", "dave")]
    world.register(*actors)
    for _ in range(12):
        task_id = world.submit(forced_spec(steps=4, segment_steps=4, verifiers=1, samples=1))
        solver = world.solver_of(task_id)
        solver.twist = True
        first = shown(world, task_id)
        if first.outcome == "forced":
            break
        world.finish(task_id)
        solver.twist = False
    verifier, before = first.verifications[0], len(world.events)
    assert verifier.findings[0].verdict == 0, "what it verified was right"
    task = world.finish(task_id)
    assert world.dispute(task_id).challengers[0].address == verifier.verifier
    assert world.dispute(task_id).state == "defender_wrong" and solver.address in task.removed_solvers
    assert verifier.verifier not in [event.subject for event in world.events[before:] if event.kind == "slashed"]


@pytest.mark.parametrize("rate", [SELDOM, OFTEN])
def test_a_secret_that_is_not_shown_costs_the_whole_bond(rate: int) -> None:
    world = crowd("alice", "bob", "carol", "dave")
    task_id = world.submit(forced_spec(forced_error_bps=rate))
    solver = world.solver_of(task_id)
    solver.mute = ("unseal",)
    bond = world.task(task_id).solver_bond_nano
    task = world.finish(task_id)
    assert task.state == "finished" and solver.address in task.removed_solvers
    assert slashed_nano(world, solver) == bond
    tax = world.instalment(task_id).tax_nano
    payers = [event.get("payer") for event in world.events if event.kind == "tax_paid"]
    assert payers == [key("submitter").address, solver.address], "each draw is paid for once"
    assert task.taxed_nano == tax


def test_a_solver_that_does_not_open_its_instalment_is_replaced() -> None:
    world = crowd("alice", "bob", "carol", "dave")
    task_id = world.submit(forced_spec())
    solver = world.solver_of(task_id)
    solver.mute = ("open",)
    task = world.finish(task_id)
    assert task.state == "finished" and solver.address in task.removed_solvers
    assert len([event for event in world.events if event.kind == "tax_paid"]) == 2


@dataclass
class Contrary(Actor):
    """Shows an error when none was drawn, and none when one was."""

    contrary: bool = False

    def open(self, run: Run, world: World, order: TaskSpec, duty: Duty) -> Message:
        roots = self.roots(run, order, duty.instalment)
        if not self.contrary:
            return super().open(run, world, order, duty)
        if self.forced(world, order, duty)[1] is None:
            roots = (WRONG_ROOT, *roots[1:])
        return OpenInstalment(duty.task_id, duty.instalment, roots, (), ())


@pytest.mark.parametrize("rate", [SELDOM, OFTEN])
def test_a_solver_that_shows_other_roots_than_it_has_to_loses_its_bond(rate: int) -> None:
    world = World()
    world.register(*[Contrary(name) for name in ("alice", "bob", "carol", "dave")])
    task_id = world.submit(forced_spec(forced_error_bps=rate))
    solver = world.solver_of(task_id)
    solver.contrary = True
    bond = world.task(task_id).solver_bond_nano
    world.until(lambda: any(i.state == "unsealing" for i in queries.instalments(world.ledger, task_id)))
    order, duty = forced_spec(forced_error_bps=rate), Duty("unseal", task_id, 1, 0, 0)
    message = solver.unseal(Run(world.task(task_id).seed), world, order, duty)
    assert world.refused(solver.name, message) == "E1326"
    assert world.finish(task_id).state == "finished"
    assert slashed_nano(world, solver) == bond
    assert next(event.get("why") for event in world.events if event.kind == "slashed") == "secret withheld"


# --- the rules of the messages


def test_what_is_refused() -> None:
    world = crowd()
    task_id = world.submit(forced_spec(forced_error_bps=SELDOM))
    solver = world.solver_of(task_id)
    assert world.refused(solver.name, StartTask(task_id)) == "E1316"
    world.step()
    other = next(name for name in world.actors if name != solver.name)
    roots = (WRONG_ROOT,) * 6
    commit = CommitInstalment(task_id, 0, WRONG_ROOT, roots, (), (), ())
    assert world.refused(solver.name, commit) == "E1316"
    assert world.refused(solver.name, msgspec.structs.replace(commit, seal=WRONG_ROOT)) == "E1316"
    world.until(lambda: any(i.state == "opening" for i in queries.instalments(world.ledger, task_id)))
    assert world.refused(other, OpenInstalment(task_id, 0, roots, (), ())) == "E1314"
    assert world.refused(solver.name, OpenInstalment(task_id, 0, roots[:5], (), ())) == "E1316"
    assert world.refused(solver.name, OpenInstalment(task_id, 0, roots, roots[:2], ())) == "E1316"
    assert world.refused(solver.name, RevealSecret(task_id, 0, WRONG_ROOT, b"", b"")) == "E1327"
    world.until(lambda: any(i.state == "unsealing" for i in queries.instalments(world.ledger, task_id)))
    right = solver.unseal(Run(world.task(task_id).seed), world, forced_spec(forced_error_bps=SELDOM), _duty(task_id))
    assert isinstance(right, RevealSecret)
    assert world.refused(other, right) == "E1314"
    assert world.refused(solver.name, msgspec.structs.replace(right, secret=WRONG_ROOT)) == "E1326"
    assert world.refused(solver.name, msgspec.structs.replace(right, segment_root=WRONG_ROOT)) == "E1326"
    assert world.refused(other, ContestForcedError(task_id, 0)) == "E1327"
    assert world.refused(solver.name, ContestForcedError(task_id, 0)) == "E1318"
    world.do(solver.name, right)
    assert world.refused(solver.name, right) == "E1327"


def _duty(task_id: bytes) -> Duty:
    return Duty("unseal", task_id, 1, 0, 0)


@pytest.mark.parametrize(
    "changes", [{"forced_error_bps": 99}, {"forced_error_bps": 10_000}, {"arithmetic": "native"}], ids=str
)
def test_a_chance_out_of_bounds_and_native_tasks_are_refused(changes: dict[str, object]) -> None:
    parameters = msgspec.structs.replace(World().parameters, native_profilers=2)
    world = World(parameters)
    task_id = world.submit()  # publishes the program
    assert task_id
    assert world.refused("submitter", SubmitTask(forced_spec(**changes))) == "E1308"


def test_plain_tasks_take_no_seals() -> None:
    world = crowd()
    task_id = world.submit()
    solver = world.solver_of(task_id)
    assert world.refused(solver.name, StartTask(task_id, WRONG_ROOT)) == "E1316"
    world.step()
    sealed_commit = CommitInstalment(task_id, 0, WRONG_ROOT, (), (), (), (), WRONG_ROOT)
    assert world.refused(solver.name, sealed_commit) == "E1316"


# --- every end


@pytest.mark.parametrize("mute", ["train", "open", "unseal", "verify", "reveal", "move", "contest"])
@pytest.mark.parametrize("rate", [SELDOM, OFTEN])
def test_whatever_everybody_leaves_undone_the_task_ends_within_its_bound(mute: str, rate: int) -> None:
    world = crowd("alice", "bob", "carol", "dave", mute=(mute,))
    order = forced_spec(forced_error_bps=rate, instalments=2, samples=2, deadline_blocks=150)
    task_id = world.submit(order)
    task = world.task(task_id)
    bound = task_end_bound(order, task.gas_per_step, world.parameters)
    ended = world.finish(task_id, bound)
    assert ended.ended_height <= task.submitted_height + bound
    paid = ended.solver_paid_nano + ended.verifiers_paid_nano + ended.taxed_nano
    assert paid + ended.refunded_nano == ended.price_nano


# --- how fast a lazy verifier loses


def verifications_until_caught(rate_bps: int, samples: int, segments: int, confidence: float) -> int:
    """Verifications within which whoever never looks approves a forced error with this confidence."""
    chance = rate_bps / 10_000 * samples / segments
    return math.ceil(math.log(1 - confidence) / math.log(1 - chance))


@pytest.mark.parametrize(("rate", "samples"), [(500, 1), (2_000, 2), (9_000, 3)])
def test_never_looking_loses_twice_its_fees_on_average_and_for_sure_within_a_computed_number(
    rate: int, samples: int
) -> None:
    """The bond against the fee, by the ledger's own functions; the number of verifications, by its own draw."""
    world, order, gas, segments = World(), forced_spec(forced_error_bps=rate, samples=samples), 10**6, 6
    fee = samples * order.segment_steps * gas * ASK // 10**9
    bond = slot_bond(order, gas, 0, ASK, 0, world.parameters)
    assert bond * rate * samples >= 2 * fee * segments * 10_000
    most = verifications_until_caught(rate, samples, segments, 0.999)
    assert most <= {500: 826, 2_000: 101, 9_000: 12}[rate]

    def caught(lazy: int, number: int) -> bool:
        secret, beacon = sha256(b"%d/%d" % (lazy, number)).digest(), sha256(b"%d" % number).digest()
        forced = sealed.forced_segment(secret, beacon, bytes(32), 0, 1, segments, rate)
        drawn = sha256(b"drawn %d/%d" % (lazy, number)).digest()[0] % segments
        return forced is not None and (forced - drawn) % segments < samples

    survivors = sum(not any(caught(lazy, number) for number in range(most)) for lazy in range(1_000))
    assert survivors <= 6, "one in a thousand is expected"
