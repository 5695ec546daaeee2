"""A whole network in one thread: a heap of (time, sequence, node, event), one seed, no clock and no scheduler.

`run(seed)` draws a schedule of faults from the seed, plays it, heals everything, and raises `Violation` when a checker
finds a broken promise. `python -m tests.simulator --seeds SEED:SEED` plays one seed again.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from consensus.tendermint.effects import Effect
from consensus.tendermint.inputs import Input, StartHeight
from consensus.tendermint.proposer import ProposerSchedule
from consensus.tendermint.round import RoundState
from consensus.tendermint.types import (
    Block,
    Certificate,
    Commit,
    DuplicateVoteEvidence,
    Proposal,
    Step,
    ValidatorSet,
    Vote,
)
from consensus.tendermint.verify import verify_certificate, verify_vote
from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.storage.signer import SignRequest
from tests.simulator.application import CHAIN, Surroundings, Violation
from tests.simulator.applications import APPLICATIONS
from tests.simulator.byzantine import ByzantineNode, RandomAttacker
from tests.simulator.checks import Checks
from tests.simulator.disk import Disk, DiskFull, OpenedLog
from tests.simulator.network import Network
from tests.simulator.node import HASTY, PARAMETERS, Crash, SimulatedNode
from tests.simulator.rare_states import Coverage
from tests.simulator.rules import Rules
from tests.simulator.schedule import Schedule, draw
from tests.simulator.signatures import make_key, signature_check

START_MS = 1_000_000
WORLD = -1
"""The receiver of events that are nobody's."""
BOOT = "boot"
ACT_EVERY_MS = 500
SELDOM = 4
"""Places at which a machine is seldom are so many times as dangerous."""
RESTART_MS = (10, 2_000)
PAUSE_MS = (50, 5_000)
FULL_MS = (200, 4_000)
JUMP_MS = 1_000
HEAL_ROUNDS = 10
"""After healing the first height may take as long as so many further rounds take that end in time-outs, and as many as
it takes for the turn to come to each honest validator: where all of them are needed and one is locked on a value of an
early round, only that one proposes what it can vote for (arXiv 1807.04938, lemma 7),"""
NEXT_ROUNDS = 5
"""each height after it as so many rounds from the first,"""
CATCH_UP_MS = 10_000
"""and restarts and catching up together so long."""


class Simulation:
    """The network of one schedule."""

    def __init__(self, seed: int, schedule: Schedule) -> None:
        self.rng = random.Random(f"run {seed}")
        self.schedule = schedule
        self.now_ms = START_MS
        self.healed = False
        self.events = 0
        self._heap: list[tuple[int, int, int, Any]] = []
        self._sequence = 0
        self._frozen_until: dict[int, int] = {}
        self._verified: dict[tuple[Vote | Certificate, bytes], Input] = {}
        self._lowest = 0
        """Of the honest nodes' heights; known anew after each executed block."""
        self.coverage = Coverage()
        self.rules = Rules()
        self.parameters = HASTY if schedule.hasty else PARAMETERS
        self.check = signature_check(real=schedule.real_signatures)
        self.keys = [make_key(position, real=schedule.real_signatures) for position in range(len(schedule.powers))]
        surroundings = Surroundings(schedule, self.keys, self.check, random.Random(f"application {seed}"))
        self.setting = APPLICATIONS[schedule.application](surroundings)
        machines = [(position, salt) for position in range(len(self.keys)) for salt in self._salts(position)]
        self.nodes = [self._node(number, *machine, len(machines)) for number, machine in enumerate(machines)]
        self.positions = [position for position, _ in machines]
        self.attackers = [
            RandomAttacker(self.keys[position], len(self.nodes), self.rng, self._attack)
            for position, kind in schedule.byzantine.items()
            if kind == "random"
        ]
        self.honest = {n for n, position in enumerate(self.positions) if position not in schedule.byzantine}
        self.checks = Checks({self.nodes[n].address for n in self.honest}, self.check)
        self.network = Network(len(self.nodes), schedule, self.rng)

    def _salts(self, position: int) -> list[bytes]:
        """One machine for each of these."""
        match self.schedule.byzantine.get(position):
            case "twins":
                return [b"", b"twin"]
            case "random" | "silent":
                return []
        return [b""]

    def _node(self, number: int, position: int, salt: bytes, nodes: int) -> SimulatedNode:
        key, kind = self.keys[position], self.schedule.byzantine.get(position)
        application = self.setting.application(number, key, salt)
        if kind in (None, "twins"):
            node = SimulatedNode(number, key, application, self)
        else:
            node = ByzantineNode(number, key, application, self, str(kind), nodes, self.rng)
        node.clock.repair(self._skew())
        node.clock.start_drift(self.now_ms, 1 + self.rng.uniform(-self.schedule.drift, self.schedule.drift))
        return node

    def _skew(self) -> int:
        return self.rng.randint(-self.schedule.skew_ms, self.schedule.skew_ms)

    # What nodes ask for.

    def later(self, node: int, delay_ms: int, given: Any) -> None:
        """Give something to a node after so much true time."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._sequence, node, given))

    def may_crash(self, node: SimulatedNode, place: str) -> None:
        """An effect boundary."""
        probability = self.schedule.crash_probability * (1 if place == "effect" else SELDOM)
        if probability and not self.healed and self.rng.random() < probability:
            raise Crash(place)

    def verified(self, message: Vote | Certificate, validators: ValidatorSet) -> Input:
        """Checked once for all receivers, with the production functions."""
        key = (message, validators.hash)
        known = self._verified.get(key)
        if known is None:
            verify = verify_vote if isinstance(message, Vote) else verify_certificate
            known = self._verified[key] = verify(CHAIN, validators, message, self.check)
        return known

    def pick(self, node: int) -> int:
        """Some other node."""
        other = self.rng.randrange(len(self.nodes) - 1)
        return other + (other >= node)

    def send(self, sender: int, receiver: int | None, message: Any) -> None:
        """To one node or to all others; the attackers overhear what goes to all."""
        for number in range(len(self.nodes)) if receiver is None else (receiver,):
            if number != sender:
                for delay in self.network.delays(sender, number, message):
                    self.later(number, delay, ("message", sender, message))
        if receiver is None and not self.healed:
            for attacker in self.attackers:
                attacker.sees(message)

    def _attack(self, receiver: int, delay_ms: int, message: Any) -> None:
        self.later(receiver, delay_ms, ("message", self.pick(receiver), message))

    # What nodes tell.

    def opened(self, node: SimulatedNode, log: OpenedLog) -> None:
        """A machine has read its log."""
        if node.number in self.honest and node.start is not None:
            if log.sits_out and self.positions[node.number] not in self.schedule.fragile:
                raise Violation("a log has lost what was synced and signed on")
            self.coverage.opened(log, node.address)
            self.checks.starts(node.start.height, node.start.validators)
            self.coverage.starts(node.start.height, node.start.validators)

    def stepped(self, node: SimulatedNode, given: Input, before: RoundState, effects: list[Effect]) -> None:
        """A core took an input."""
        if node.number not in self.honest:
            return
        if isinstance(given, StartHeight):
            self.checks.starts(given.height, given.validators)
            self.checks.height_over(node.number)
            self.coverage.starts(given.height, given.validators)
        self.rules.stepped(node.core, given, before, effects)
        self.coverage.stepped(node.core, given, before, effects)

    def replayed(self, node: SimulatedNode, expected: RoundState) -> None:
        """A machine has fed its log."""
        if node.number in self.honest and node.core.machine.state != expected:
            raise Violation(f"a replay led to {node.core.machine.state}, the log was written at {expected}")

    def received(self, node: SimulatedNode, vote: Vote) -> None:
        """A vote was fed."""
        if node.number in self.honest and vote.height == node.core.height:
            self.checks.received(node.number, vote, node.core.machine.state.round)

    def built(self, node: SimulatedNode, block: Block) -> None:
        """A block was made."""
        if node.number in self.honest:
            self.checks.built(node.number, block)
            self.rules.built.add(block.id)

    def signed(self, node: SimulatedNode, message: Vote | Proposal) -> None:
        """A signature was made."""
        if node.number in self.honest:
            self.checks.signed(node.address, message)
            newcomer = not self.schedule.powers[self.positions[node.number]]
            self.coverage.seen["validator votes that was not in the genesis"] += newcomer

    def refused(self, node: SimulatedNode, request: SignRequest) -> None:
        """The guard refused to sign."""
        self.coverage.seen["signer refuses"] += 1

    def storing(self, node: SimulatedNode, block: Block, commit: Commit, validators: ValidatorSet, by: str) -> None:
        """A height is over."""
        if node.number in self.honest:
            self.checks.storing(block, commit, validators)
            self._check_time(block)
            self.coverage.seen["height taken over by block sync"] += by == "sync"

    def _check_time(self, block: Block) -> None:
        """Proposer-based time: no block is further ahead than honest clocks can be, and the precision."""
        wrong_ms = self.schedule.skew_ms + self.schedule.drift * (self.now_ms - START_MS) + PARAMETERS.precision_ms
        if not self.schedule.jump_every_ms and block.header.time_ms > self.now_ms + wrong_ms + 1:
            raise Violation(f"block {block.header.height} is {block.header.time_ms - self.now_ms} ms ahead of time")

    def stored(self, node: SimulatedNode, block: Block) -> None:
        """A block was executed."""
        if node.number in self.honest:
            self.checks.stored(node.number, block, node.application.state_root)
            self.setting.executed(node.number, block)
            self._lowest = min(self.nodes[number].application.height for number in self.honest)
            self.coverage.stored(block)

    def found_evidence(self, node: SimulatedNode, evidence: DuplicateVoteEvidence) -> None:
        """A core has proof of an offence."""
        if node.number in self.honest:
            self.checks.found(node.number, evidence)

    # The loop.

    def run(self, heights_after_heal: int = 3, limit_ms: int | None = None) -> Coverage:
        """Faults, then healing, then so many more heights for everybody, in bounded simulated time.

        The bound follows from the time-outs, unless `limit_ms` sets it.
        """
        schedule = self.schedule
        for node, position in zip(self.nodes, self.positions, strict=True):
            self.later(node.number, schedule.late.get(position, 0), BOOT)
        for fault, every_ms in (
            (self._cut, schedule.partition_every_ms),
            (self._crash_some, schedule.crash_every_ms),
            (self._freeze, schedule.pause_every_ms),
            (self._fill, schedule.full_every_ms),
            (self._jump, schedule.jump_every_ms),
        ):
            if every_ms:
                self.later(WORLD, every_ms, partial(self._again, fault, every_ms))
        self.later(WORLD, ACT_EVERY_MS, self._act)
        self.later(WORLD, schedule.fault_ms, self._heal)
        honest = [self.nodes[number] for number in sorted(self.honest)]
        goal = end_ms = None
        while end_ms is None or self.now_ms < end_ms:
            self.now_ms, _, number, given = heapq.heappop(self._heap)
            self.events += 1
            if number == WORLD:
                given()
            else:
                self._event(self.nodes[number], given)
            if self.healed:
                goal = goal or max(node.application.height for node in honest) + heights_after_heal
                end_ms = end_ms or self.now_ms + (limit_ms or self._bound_ms(heights_after_heal))
                if self._lowest >= goal:
                    return self._finish()
        lengths = [(node.application.height, node.core.machine.state.round) for node in self.nodes]
        passed = self.now_ms - START_MS - schedule.fault_ms
        raise Violation(f"no progress within {passed} ms after healing: (heights, rounds) {lengths}, goal {goal}")

    def _bound_ms(self, heights: int) -> int:
        cores = [self.nodes[number].core for number in sorted(self.honest)]
        reached = max(core.machine.state.round for core in cores)
        ahead = max(cores, key=lambda core: core.height)
        rounds = max(HEAL_ROUNDS, self._rounds_until_all_had_a_turn(ahead.validators, reached))
        first = sum(map(self._round_ms, range(reached, reached + rounds)))
        return first + (heights - 1) * sum(map(self._round_ms, range(NEXT_ROUNDS))) + CATCH_UP_MS

    def _rounds_until_all_had_a_turn(self, validators: ValidatorSet, reached: int) -> int:
        """From the round after `reached` on, of the honest ones."""
        members = {v.address: v.power for v in validators.validators}
        waiting = {self.nodes[n].address for n in self.honest} & members.keys()
        # Priorities lie within twice the total power, so nobody waits longer, unless the rotation itself is broken.
        longest = 3 * sum(members.values()) // min(members.values()) + len(members)
        proposers, round = ProposerSchedule(validators), reached
        while waiting and round < reached + longest:
            round += 1
            waiting.discard(proposers.of(round))
        return round - reached + 1

    def _round_ms(self, round: int) -> int:
        """Of a round in which everything times out."""
        return sum(self.parameters.timeout_ms(step, round) for step in Step)

    def _finish(self) -> Coverage:
        self.setting.finish(sorted(self.honest))
        self.coverage.seen.update(self.setting.seen())
        late = self.honest & {n for n, position in enumerate(self.positions) if position in self.schedule.late}
        self.coverage.seen["late starter reaches the head"] += len(late)
        return self.coverage

    def _event(self, node: SimulatedNode, given: Any) -> None:
        thaws_at = self._frozen_until.get(node.number, 0)
        if self.now_ms < thaws_at:
            self.later(node.number, thaws_at - self.now_ms, given)
        elif given is BOOT:
            if not node.alive:
                self._guard(node, node.boot)
        elif given[0] == "message":
            if node.alive:
                self._guard(node, lambda: node.receive(given[1], given[2]))
        else:
            self._guard(node, lambda: node.event(given))

    def _guard(self, node: SimulatedNode, action: Callable[[], None]) -> None:
        """What ends a process ends it here: a crash of the schedule, a full disk, a broken promise that it notices."""
        try:
            action()
        except Crash as crash:
            self.coverage.seen[f"crash {crash.place}"] += 1
            self._crash(node)
        except DiskFull:
            self.coverage.seen["disk full"] += 1
            self._crash(node)
        except InvariantViolation:
            if node.number in self.honest:
                raise
            self._crash(node)

    # Faults.

    def _again(self, fault: Callable[[], None], every_ms: int) -> None:
        if not self.healed:
            fault()
            self.later(WORLD, self.rng.randint(1, 2 * every_ms), partial(self._again, fault, every_ms))

    def _act(self) -> None:
        self.setting.act(self.now_ms)
        self.later(WORLD, ACT_EVERY_MS, self._act)

    def _cut(self) -> None:
        self.network.change()

    def _crash_some(self) -> None:
        everybody = self.rng.random() < self.schedule.blackout
        for node in self.nodes if everybody else [self.rng.choice(self.nodes)]:
            if node.alive:
                self._crash(node)

    def _crash(self, node: SimulatedNode) -> None:
        seen, schedule = self.coverage.seen, self.schedule
        node.stop()
        damage = self.rng.choice(schedule.damages)
        if damage == "rotten" and self.positions[node.number] not in schedule.fragile:
            damage = "torn"
        node.disk.crash(damage, self.rng)
        self.checks.crashed(node.number)
        seen["crashes"] += 1
        seen["the whole network down at once"] += not any(other.alive for other in self.nodes)
        self.later(node.number, self.rng.randint(*RESTART_MS), BOOT)

    def _freeze(self) -> None:
        node = self.rng.choice(self.nodes)
        self._frozen_until[node.number] = self.now_ms + self.rng.randint(*PAUSE_MS)
        height = node.application.height
        self.later(WORLD, self._frozen_until[node.number] - self.now_ms, partial(self._thawed, node, height))

    def _thawed(self, node: SimulatedNode, height: int) -> None:
        behind = any(other.application.height > height for other in self.nodes)
        self.coverage.seen["machine frozen across a height"] += behind and node.number in self.honest

    def _fill(self) -> None:
        disk = self.rng.choice(self.nodes).disk
        disk.full = True
        self.later(WORLD, self.rng.randint(*FULL_MS), partial(self._make_room, disk))

    def _make_room(self, disk: Disk) -> None:
        disk.full = False

    def _jump(self) -> None:
        self.rng.choice(self.nodes).clock.jump(self.rng.randint(-JUMP_MS, JUMP_MS))

    def _heal(self) -> None:
        self.healed = True
        self.network.heal()
        self._frozen_until.clear()
        for node in self.nodes:
            node.disk.full = False
            node.clock.repair(self._skew())


def run(seed: int, schedule: Schedule | None = None) -> Coverage:
    """Play one seed; a `Violation` says how to play it again."""
    simulation = Simulation(seed, schedule or draw(seed))
    try:
        return simulation.run()
    except (Violation, InvariantViolation) as violation:
        again = f"python -m tests.simulator --seeds {seed}:{seed}"
        raise Violation(f"{violation}\nseed {seed}: {simulation.schedule}\nrepeat with: {again}") from None
