"""Actors of native tasks: each computes with rounding errors of its own, measures, looks, points and shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
from ledger_world import DATA, DATASET, PROGRAM, Actor, Run, World, spec

from consensus.ledger import queries
from consensus.ledger.duties import Duty
from consensus.ledger.messages import (
    APPROVED,
    DISAGREED,
    OFFERS_NATIVE,
    ROLES_ALL,
    UNAVAILABLE,
    DemandValues,
    DiscloseValues,
    DisputeMove,
    Finding,
    Message,
    ProfileCommit,
    ProfileReveal,
    TaskSpec,
    VerdictCommit,
    VerdictReveal,
    verdict_commitment,
)
from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.records import Task
from gensyn_node.primitives.codec import encode
from proofs.arithmetic.whole import compute_value
from proofs.native.bounds import ROUNDED, bound_of, within
from proofs.native.game import values_root
from proofs.native.profile import PARTS, profile_commitment
from proofs.native.strategy import Accusation, accuse, defend
from proofs.pinpoint import strategy
from proofs.pinpoint.context import Context
from proofs.pinpoint.oracle import ArrayOracle
from proofs.sampling import batch_indices
from proofs.state import evidence_root

SALT = sha256(b"salt").digest()


def native_parameters(**changes: Any) -> Parameters:
    """A chain that takes native tasks."""
    return msgspec.structs.replace(devnet_parameters(), **{"native_profilers": 3, **changes})


def native_spec(**changes: Any) -> TaskSpec:
    """A valid native task."""
    return spec(arithmetic="native", **changes)


@dataclass
class NativeRun(Run):
    """An execution whose sums are off by `noise` units in the last place, from an agreed state on if one is given."""

    noise: int = 0
    first: int = 0
    start: Any = None
    made: dict[int, list[Any]] = field(default_factory=dict)

    def values(self, step: int) -> list[Any]:
        if step not in self.made:
            values = [self.state(step), np.ascontiguousarray(DATA[batch_indices(self.seed, step, 2, 10)])]
            values.append(np.array(step, np.int64))
            for position, node in enumerate(PROGRAM.nodes):
                value = compute_value(node, [values[i] for i in node.inputs])
                if position == 0:
                    for _ in range(self.noise):
                        value = np.nextafter(value, np.float32(np.inf))
                    value = value + np.float32(self.error) if step in self.faults else value
                values.append(value)
            self.made[step] = values
        return self.made[step]

    def state(self, step: int) -> Any:
        if step == self.first and self.start is not None:
            return self.start
        return super().state(step)

    def fault(self, step: int) -> Accusation | None:
        """What an audit of a step finds."""
        values, context = self.values(step), Context(PROGRAM, DATASET, self.seed)
        for number, node in enumerate(PROGRAM.nodes, PROGRAM.first_node_value):
            inputs = [values[item] for item in node.inputs]
            bound = bound_of(node, tuple(context.types[item] for item in node.inputs), context.types[number])
            if bound.kind == ROUNDED and not within(bound, compute_value(node, inputs), None, values[number]).all():
                return Accusation(step, number, 0)
        return None


@dataclass
class NativeActor(Actor):
    """A provider of native tasks. `noise`: units in the last place by which its machine is off."""

    noise: int = 0
    accuses: bool = False
    """As a verifier, it disagrees with everything."""
    hides: bool = False
    """As a solver, it does not serve its values: whoever suspects it cannot look."""
    entries: int = 1
    """How many distances it measures."""
    roles: int = ROLES_ALL | OFFERS_NATIVE

    def own_run(self, task: Task) -> NativeRun:
        return NativeRun(task.seed, self.faults, self.error, noise=self.noise)

    def answer(self, world: World, duty: Duty) -> Message | None:
        task = world.task(duty.task_id)
        if duty.kind in self.mute:
            return None
        match duty.kind:
            case "train":
                return self.commit(self.own_run(task), task, native_spec(), duty)
            case "profile":
                commitment = profile_commitment(task.task_id, self.address, self.measured(), SALT)
                return ProfileCommit(task.task_id, commitment)
            case "reveal_profile":
                return ProfileReveal(task.task_id, self.measured(), SALT)
            case "disclose":
                return None if self.hides else self.disclosure(task, duty)
            case "verify" | "reveal":
                return self.judge(world, task, duty)
            case "move":
                return self.move(world, task, duty)
        return super().answer(world, duty)

    def measured(self) -> tuple[int, ...]:
        return (100 * (1 + self.noise),) * self.entries

    def disclosure(self, task: Task, duty: Duty) -> DiscloseValues:
        """What it computed in the first segment it is asked about."""
        run, work = self.own_run(task), duty.segments[0]
        steps = range(work.first_step, work.first_step + work.steps)
        oracle = ArrayOracle(PROGRAM, run)
        values = b"".join(values_root(list(oracle.value_roots(step))) for step in steps)
        where = (task.task_id, duty.instalment, duty.attempt, work.segment)
        states = b"".join(run.state_roots(work.first_step, work.steps))
        return DiscloseValues(*where, states, values, (bytes(32),) * work.steps)

    def judge(self, world: World, task: Task, duty: Duty) -> Message | None:
        instalment = world.instalment(task.task_id, duty.instalment)
        for work in duty.segments if duty.kind == "verify" else ():
            if self.suspects(world, task, work):
                said = queries.disclosure(world.ledger, instalment, work.segment)
                if said is None:
                    return DemandValues(task.task_id, duty.instalment, duty.attempt, work.segment)
                if not said.states and world.height < said.demanded_height + 4:
                    return None
        findings = tuple(self.find(world, task, work) for work in duty.segments)
        initial = NativeRun(task.seed).state_roots(0, 0)[0]
        initial = initial if duty.check_initial and initial != task.initial_root else b""
        if duty.kind == "reveal":
            return VerdictReveal(task.task_id, duty.instalment, duty.attempt, findings, initial, SALT)
        where = (self.address, task.task_id, duty.instalment, duty.attempt)
        commitment = verdict_commitment(*where, findings, initial, SALT)
        return VerdictCommit(task.task_id, duty.instalment, duty.attempt, commitment)

    def checked(self, world: World, task: Task, first: int) -> NativeRun:
        """Its own execution of a segment from the solver's state."""
        return NativeRun(task.seed, (), noise=self.noise, first=first, start=solver_run(world, task).state(first))

    def suspects(self, world: World, task: Task, work: Any) -> bool:
        """Whether it has to look at the solver's values."""
        return not self.lazy and not self.accuses and self.excess(world, task, work) > 10_000

    def excess(self, world: World, task: Task, work: Any) -> int:
        """How far the segment is off, in basis points of the threshold."""
        own, theirs = self.checked(world, task, work.first_step), solver_run(world, task)
        start, end = own.state(work.first_step), own.state(work.first_step + work.steps)
        claimed = theirs.state(work.first_step + work.steps).astype(float)
        apart = np.linalg.norm(claimed - end) / np.linalg.norm(end - start)
        limit = queries.profile(world.ledger, task.task_id).limits[0]
        return min(0xFFFFFFFF, int(-(-apart * PARTS * 10_000 // limit)))

    def find(self, world: World, task: Task, work: Any) -> Finding:
        steps = range(work.first_step, work.first_step + work.steps)
        own, theirs = self.checked(world, task, work.first_step), solver_run(world, task)
        roots = own.state_roots(work.first_step, work.steps)
        if self.lazy:
            return Finding(work.segment, APPROVED, sha256(b"lazy").digest())
        if self.accuses:
            return Finding(work.segment, DISAGREED, roots[-1], 20_000)
        excess = self.excess(world, task, work)
        if excess <= 10_000:
            return Finding(work.segment, APPROVED, evidence_root(roots), excess)
        if solver_actor(world, task).hides or "disclose" in solver_actor(world, task).mute:
            return Finding(work.segment, UNAVAILABLE, b"")
        wrong = any(theirs.fault(step) for step in steps)
        return Finding(
            work.segment, DISAGREED if wrong else APPROVED, roots[-1] if wrong else evidence_root(roots), excess
        )

    def move(self, world: World, task: Task, duty: Duty) -> Message | None:
        game = queries.native_game(world.ledger, duty.dispute_id)
        if game is None:
            run = self.own_run(task)
            exact = queries.game(world.ledger, duty.dispute_id)
            answer = strategy.respond(exact, ArrayOracle(PROGRAM, run), run.context)
            return None if answer is None else DisputeMove(duty.dispute_id, encode(answer))
        context = Context(PROGRAM, DATASET, task.seed)
        record = queries.dispute(world.ledger, duty.dispute_id)
        if record.defender == self.address:
            run = self.own_run(task) if record.kind == "segment" else self.checked(world, task, game.claim.first_step)
            move = defend(game, ArrayOracle(PROGRAM, run), context)
        else:
            run = solver_run(world, task)
            steps = range(game.claim.first_step, game.claim.first_step + game.claim.steps)
            found = next((fault for step in steps if (fault := run.fault(step))), None)
            found = found or Accusation(steps.start, PROGRAM.first_node_value, 0)
            move = accuse(game, found, ArrayOracle(PROGRAM, run), context)
        return None if move is None else DisputeMove(duty.dispute_id, encode(move))


def solver_actor(world: World, task: Task) -> NativeActor:
    """The task's solver."""
    found = next(actor for actor in world.actors.values() if actor.address == task.solver)
    assert isinstance(found, NativeActor)
    return found


def solver_run(world: World, task: Task) -> NativeRun:
    """What the solver served."""
    return solver_actor(world, task).own_run(task)
