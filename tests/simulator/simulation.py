"""A whole network in one thread: a heap of (time, sequence, node, event), one seed, no clock and no scheduler.

`run(seed)` draws a schedule of faults from the seed, plays it, heals everything, and raises `Violation` when a checker
finds a broken promise. `python -m tests.simulator --seeds SEED:SEED` plays one seed again.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from consensus.tendermint.effects import Effect, SignProposal, SignVote
from consensus.tendermint.inputs import Input
from consensus.tendermint.round import RoundState
from consensus.tendermint.types import Block, Commit, Evidence, Proposal, ValidatorSet, Vote
from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.storage.signer import SignRequest
from tests.simulator.application import Surroundings, Violation
from tests.simulator.applications import APPLICATIONS
from tests.simulator.byzantine import RandomAttacker
from tests.simulator.checks import Checks
from tests.simulator.coverage import Coverage, overrules_lock
from tests.simulator.disk import DiskFull, OpenedLog
from tests.simulator.network import Network
from tests.simulator.node import Crash, SimulatedNode
from tests.simulator.schedule import Schedule, draw
from tests.simulator.signatures import make_key, signature_check

START_MS = 1_000_000
WORLD = -1
"""The receiver of events that are nobody's."""
ACT_EVERY_MS = 500


class Simulation:
    """The network of one schedule."""

    def __init__(self, seed: int, schedule: Schedule) -> None:
        self.rng = random.Random(f"run {seed}")
        self.schedule = schedule
        self.now_ms = START_MS
        self.heal_at = self.now_ms + schedule.fault_ms
        self.healed = False
        self._heap: list[tuple[int, int, int, Any]] = []
        self._sequence = 0
        self.events = 0
        self.coverage = Coverage()
        self.check = signature_check(real=schedule.real_signatures)
        keys = [make_key(position, real=schedule.real_signatures) for position in range(len(schedule.powers))]
        surroundings = Surroundings(schedule, keys, self.check, random.Random(f"application {seed}"))
        self.setting = APPLICATIONS[schedule.application](surroundings)
        self.nodes: list[SimulatedNode] = []
        self.attackers: list[RandomAttacker] = []
        for position, key in enumerate(keys):
            kind = schedule.byzantine.get(position)
            for salt in {None: [b""], "twins": [b"", b"twin"]}.get(kind, []):
                number = len(self.nodes)
                node = SimulatedNode(number, key, self.setting.application(number, key, salt), self)
                node.clock.repair(self.rng.randint(-schedule.skew_ms, schedule.skew_ms))
                self.nodes.append(node)
        for position, kind in schedule.byzantine.items():
            if kind == "random":
                self.attackers.append(RandomAttacker(keys[position], len(self.nodes), self.rng, self._attack))
        byzantine = {keys[position].address for position in schedule.byzantine}
        self.honest = {node.number for node in self.nodes if node.address not in byzantine}
        self.checks = Checks({self.nodes[n].address for n in self.honest}, self.check)
        self.network = Network(len(self.nodes), schedule, self.rng)

    # What nodes ask for.

    def later(self, node: int, delay_ms: int, given: Any) -> None:
        """Give something to a node after so much true time."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._sequence, node, given))

    def may_crash(self, node: SimulatedNode, place: str) -> None:
        """An effect boundary."""
        probability = self.schedule.crash_probability
        if probability and not self.healed and self.rng.random() < probability:
            raise Crash(place)

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
        """A machine has started."""
        self.coverage.seen["torn log tail cut"] += log.cut
        self.coverage.seen["damaged log set aside"] += log.damaged
        if node.number in self.honest and node.start is not None:
            self.checks.starts(node.start.height, node.start.validators)

    def stepped(self, node: SimulatedNode, given: Input, before: RoundState, effects: list[Effect]) -> None:
        """A core took an input."""
        after = node.core.machine.state
        if after is before or node.number not in self.honest:
            return
        self.coverage.stepped(given, before, after)
        if after.height != before.height:
            self.checks.starts(after.height, node.core.validators)
        for effect in effects:
            match effect:
                case SignVote(vote) if overrules_lock(before, vote.kind, vote.block_id):
                    self.coverage.seen["lock overruled by a later polka"] += 1
                case SignProposal(proposal, block) if proposal.valid_round >= 0:
                    by_another = proposal.proposer != block.header.proposer
                    self.coverage.seen["locked value proposed again by another"] += by_another

    def signed(self, node: SimulatedNode, message: Vote | Proposal) -> None:
        """A signature was made."""
        if node.number in self.honest:
            self.checks.signed(node.address, message)

    def refused(self, node: SimulatedNode, request: SignRequest) -> None:
        """The guard refused to sign."""
        self.coverage.seen["signer refuses"] += 1

    def storing(self, node: SimulatedNode, block: Block, commit: Commit, validators: ValidatorSet, by: str) -> None:
        """A height is over."""
        if node.number in self.honest:
            self.checks.storing(block, commit, validators)
            self.coverage.seen["height taken over by block sync"] += by == "sync"

    def stored(self, node: SimulatedNode, block: Block) -> None:
        """A block was executed."""
        if node.number in self.honest:
            if block.header.proposer == node.address:
                self.checks.own_block_stored(node.number, block)
            self.checks.stored(node.number, block, node.application.state_root)
            self.setting.executed(node.number, block)
            self.coverage.seen["evidence committed"] += bool(block.evidence)

    def found_evidence(self, node: SimulatedNode, evidence: Evidence) -> None:
        """A core has proof of an offence."""
        if node.number in self.honest:
            self.checks.found(node.number, evidence)
            self.coverage.seen["evidence found"] += 1

    # The loop.

    def run(self, heights_after_heal: int = 3, limit_ms: int = 120_000) -> Coverage:
        """Faults, then healing, then so many more heights for everybody, in bounded simulated time."""
        for node in self.nodes:
            self._guard(node, node.boot)
        for name, every_ms in (
            ("partition", self.schedule.partition_every_ms),
            ("crash", self.schedule.crash_every_ms),
            ("act", ACT_EVERY_MS),
        ):
            if every_ms:
                self.later(WORLD, every_ms, name)
        self.later(WORLD, self.schedule.fault_ms, "heal")
        honest = [self.nodes[number] for number in sorted(self.honest)]
        goal = None
        while self._heap and self.now_ms < self.heal_at + limit_ms:
            self.now_ms, _, number, given = heapq.heappop(self._heap)
            self.events += 1
            if number == WORLD:
                self._fault(given)
            else:
                self._event(self.nodes[number], given)
            if self.healed:
                heights = [node.application.height for node in honest]
                goal = goal or max(heights) + heights_after_heal
                if min(heights) >= goal:
                    self.setting.finish(sorted(self.honest))
                    self.coverage.seen.update(self.setting.seen())
                    return self.coverage
        lengths = [(node.application.height, node.core.machine.state.round) for node in self.nodes]
        raise Violation(f"no progress within {limit_ms} ms after healing: (heights, rounds) {lengths}, goal {goal}")

    def _event(self, node: SimulatedNode, given: Any) -> None:
        if given == "boot":
            if not node.alive:
                self._guard(node, node.boot)
        elif given[0] == "message":
            if node.alive:
                self._guard(node, lambda: node.receive(given[1], given[2]))
        else:
            self._guard(node, lambda: node.event(given))

    def _guard(self, node: SimulatedNode, action: Callable[[], None]) -> None:
        try:
            action()
        except Crash as crash:
            self.coverage.seen[f"crash {crash.place}"] += 1
            self._crash(node)
        except DiskFull:
            self._crash(node)

    def _crash(self, node: SimulatedNode) -> None:
        self.coverage.seen["crashes"] += 1
        node.stop()
        node.disk.crash(self.rng.choice(self.schedule.damages), self.rng)
        self.checks.crashed(node.number)
        self.coverage.seen["the whole network down at once"] += not any(other.alive for other in self.nodes)
        self.later(node.number, self.rng.randint(10, 2_000), "boot")

    def _fault(self, kind: str) -> None:
        if kind == "heal":
            self._heal()
        elif kind == "act":
            self.setting.act(self.now_ms)
            self.later(WORLD, ACT_EVERY_MS, "act")
        elif self.healed:
            return
        elif kind == "partition":
            self.network.change()
            self.later(WORLD, self.rng.randint(1, 2 * self.schedule.partition_every_ms), kind)
        elif kind == "crash":
            victim = self.rng.choice(self.nodes)
            if victim.alive:
                self._crash(victim)
            self.later(WORLD, self.rng.randint(1, 2 * self.schedule.crash_every_ms), kind)

    def _heal(self) -> None:
        self.healed = True
        self.network.heal()


def run(seed: int, schedule: Schedule | None = None) -> Coverage:
    """Play one seed; a `Violation` says how to play it again."""
    simulation = Simulation(seed, schedule or draw(seed))
    try:
        return simulation.run()
    except (Violation, InvariantViolation) as violation:
        again = f"python -m tests.simulator --seeds {seed}:{seed}"
        raise Violation(f"{violation}\nseed {seed}: {simulation.schedule}\nrepeat with: {again}") from None
