"""A whole network in one thread: a heap of (time, sequence, node, input), one seed, no clock and no scheduler.

`run(seed)` draws a schedule of faults from the seed, plays it, heals everything, and raises `Violation` when a checker
finds a broken promise. `python tests/simulator/simulation.py SEED` plays one seed again.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulated_node import CHAIN, Crash, SimulatedNode, World, stub_check, stub_sign

from consensus.tendermint.block import verify_commit
from consensus.tendermint.types import (
    NIL,
    Block,
    BlockId,
    Certificate,
    Commit,
    Evidence,
    FullProposal,
    HeightStatus,
    Proposal,
    Validator,
    ValidatorSet,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from consensus.tendermint.validators import new_validator_set
from consensus.tendermint.verify import SignatureCheck
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import InvariantViolation, Rejection


class Violation(AssertionError):  # noqa: N818  (it names what happened)
    """A promise of the protocol was broken."""


@dataclass
class Schedule:
    """The faults of one run, drawn from its seed."""

    powers: list[int]
    byzantine: dict[int, str]
    """Position -> twins, random or silent; together less than a third of the power."""
    fault_ms: int
    drop: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    """Share of messages with a heavy-tailed delay."""
    filter: float = 0.0
    """Chance that one receiver gets none of one kind of message of one round: what hides a polka or a decision."""
    partition_every_ms: int = 0
    one_way: bool = False
    crash_probability: float = 0.0
    crash_every_ms: int = 0
    skew_ms: int = 0
    real_signatures: bool = False


def draw(seed: int) -> Schedule:
    """Every fault kind is on in some seeds and off in others, so that combinations of few are common."""
    rng = random.Random(f"schedule {seed}")
    count = rng.choice([4, 4, 4, 5, 7])
    powers = [rng.choice([1, 1, 1, 2, 3]) for _ in range(count)] if rng.random() < 0.4 else [1] * count
    byzantine: dict[int, str] = {}
    for position in rng.sample(range(count), count):
        share = sum(powers[p] for p in byzantine) + powers[position]
        if 3 * share < sum(powers) and rng.random() < 0.6:
            byzantine[position] = rng.choice(["twins", "twins", "random", "silent"])
    return Schedule(
        powers,
        byzantine,
        fault_ms=rng.choice([4_000, 8_000, 12_000]),
        drop=rng.choice([0.0, 0.05, 0.2, 0.4]),
        duplicate=rng.choice([0.0, 0.1]),
        slow=rng.choice([0.0, 0.05, 0.3]),
        partition_every_ms=rng.choice([0, 600, 2_500]),
        one_way=rng.random() < 0.3,
        crash_probability=rng.choice([0.0, 0.0, 0.01]),
        crash_every_ms=rng.choice([0, 0, 900, 3_000]),
        skew_ms=rng.choice([0, 80]),
        real_signatures=rng.random() < 0.02,
        filter=rng.choice([0.0, 0.0, 0.3, 0.6]),
    )


@dataclass
class Checks:
    """The promises, checked at every event that could break one."""

    honest: set[bytes]
    check: SignatureCheck
    decided: dict[int, BlockId] = field(default_factory=dict)
    signed: dict[tuple[Any, ...], BlockId] = field(default_factory=dict)
    proposed: set[BlockId] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)

    def on_signed(self, address: bytes, message: Vote | Proposal) -> None:
        kind = message.kind.name if isinstance(message, Vote) else "proposal"
        place = (address, message.height, message.round, kind)
        if self.signed.setdefault(place, message.block_id) != message.block_id:
            raise Violation(f"an honest validator signed two values at {place[1:]}")
        self.seen["votes above round 2"] += message.round > 2

    def on_decided(self, block: Block, commit: Commit, validators: ValidatorSet) -> None:
        height = block.header.height
        if self.decided.setdefault(height, block.id) != block.id:
            raise Violation(f"two blocks were decided at height {height}")
        if any(b"bad" in transaction for transaction in block.transactions):
            raise Violation(f"an invalid block was decided at height {height}")
        try:
            verify_commit(CHAIN, validators, commit, self.check)
        except Rejection as rejection:
            raise Violation(f"height {height} was decided with a bad commit: {rejection}") from None
        self.seen["decisions"] += 1
        self.seen["decisions above round 0"] += commit.round > 0
        self.seen["decisions above round 2"] += commit.round > 2

    def on_evidence(self, evidence: Evidence) -> None:
        self.seen["evidence"] += 1
        if evidence.first.validator in self.honest:
            raise Violation("evidence against an honest validator")


class Simulation(World):
    """The network of one schedule."""

    def __init__(self, seed: int, schedule: Schedule) -> None:
        self.rng = random.Random(f"run {seed}")
        self.schedule = schedule
        self.now_ms = 1_000_000
        self.heal_at = self.now_ms + schedule.fault_ms
        self.healed = False
        self._heap: list[tuple[int, int, int, Any]] = []
        self._sequence = 0
        self.events = 0
        self._filters: dict[tuple[int, int, int, str], bool] = {}
        self.check = crypto.verify if schedule.real_signatures else stub_check
        self._build_nodes()
        self.groups = [0] * len(self.nodes)

    def _build_nodes(self) -> None:
        validators, signers = [], []
        for position, power in enumerate(self.schedule.powers):
            key = crypto.SecretKey(hashlib.sha256(b"%d" % position).digest())
            validators.append(Validator(key.address, key.public, power))
            signers.append(key.sign if self.schedule.real_signatures else _stub_signer(key.public))
        genesis = new_validator_set(validators)
        self.validators, self.signers, self.genesis = validators, signers, genesis
        self.nodes: list[SimulatedNode] = []
        self.random_attackers: list[int] = []
        for position, validator in enumerate(validators):
            kind = self.schedule.byzantine.get(position)
            for salt in {None: [b""], "twins": [b"", b"twin"]}.get(kind, []):
                node = SimulatedNode(len(self.nodes), validator, genesis, self, signers[position], salt=salt)
                node.clock_skew_ms = self.rng.randint(-self.schedule.skew_ms, self.schedule.skew_ms)
                self.nodes.append(node)
            if kind == "random":
                self.random_attackers.append(position)
        byzantine = {validators[position].address for position in self.schedule.byzantine}
        self.honest = [node.number for node in self.nodes if node.validator.address not in byzantine]
        self.checks = Checks({self.nodes[n].validator.address for n in self.honest}, self.check)

    # What nodes ask for.

    def later(self, node: int, delay_ms: int, given: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._sequence, node, given))

    def roll(self, probability: float) -> bool:
        return probability > 0 and not self.healed and self.rng.random() < probability

    def pick(self, node: int) -> int:
        return self.rng.choice([n for n in range(len(self.nodes)) if n != node])

    def send(self, sender: int, receiver: int | None, message: Any) -> None:
        for number in range(len(self.nodes)) if receiver is None else (receiver,):
            if number != sender:
                self._deliver(sender, number, message)
        if receiver is None and not self.healed:
            for position in self.random_attackers:
                self._attack(position, message)

    def _deliver(self, sender: int, receiver: int, message: Any) -> None:
        schedule, rng = self.schedule, self.rng
        delay = rng.randint(5, 40)
        copies = 1
        if not self.healed:
            blocked = self.groups[sender] != self.groups[receiver]
            if schedule.one_way and self.groups[sender] > self.groups[receiver]:
                blocked = False
            if blocked or rng.random() < schedule.drop or self._filtered(receiver, message):
                return
            copies += rng.random() < schedule.duplicate
            if rng.random() < schedule.slow:
                delay = int(40 * rng.paretovariate(0.8))
        for _ in range(copies):
            self.later(receiver, min(delay, 20_000), ("message", sender, message))

    def _filtered(self, receiver: int, message: Any) -> bool:
        """One roll for all messages of one kind, height and round to one receiver."""
        if not self.schedule.filter or isinstance(message, HeightStatus):
            return False
        match message:
            case Vote(kind, height, round) | Certificate(kind, height, round):
                place = (receiver, height, round, kind.name)
            case FullProposal(proposal):
                place = (receiver, proposal.height, proposal.round, "proposal")
            case _:
                place = (receiver, message.block.header.height, 0, "stored block")
        if place not in self._filters:
            self._filters[place] = self.rng.random() < self.schedule.filter
        return self._filters[place]

    # Attacks.

    def _attack(self, position: int, message: Any) -> None:
        """A validator without a plan: at random it votes for anything it sees, and proposes two blocks at once."""
        if self.rng.random() < 0.5 or not isinstance(message, Vote | FullProposal):
            return
        seen = message if isinstance(message, Vote) else message.proposal
        round = max(0, seen.round + self.rng.choice([0, 0, 0, 1, 2, 9, -1]))
        block_id = self.rng.choice([seen.block_id, NIL, hashlib.sha256(b"%d" % self.rng.randrange(3)).digest()])
        fields = (self.rng.choice(list(VoteType)), seen.height, round, block_id, self.validators[position].address)
        vote = Vote(*fields, self.signers[position](vote_sign_bytes(CHAIN, Vote(*fields))))
        targets = self.rng.sample(range(len(self.nodes)), self.rng.randint(1, len(self.nodes)))
        for target in targets:
            self.later(target, self.rng.randint(5, 60), ("message", targets[0], vote))
        if isinstance(message, FullProposal):
            self._attack_with_proposal(position, message, targets)

    def _attack_with_proposal(self, position: int, seen: FullProposal, targets: list[int]) -> None:
        header = seen.block.header
        transactions = (b"bad" if self.rng.random() < 0.5 else b"%d" % self.rng.randrange(9),)
        fields = {name: getattr(header, name) for name in header.__struct_fields__}
        fields["data_root"] = hashlib.sha256(b"".join(transactions)).digest()
        block = Block(type(header)(**fields), transactions, seen.block.last_commit, ())
        for round in range(seen.proposal.round, seen.proposal.round + len(self.validators)):
            valid_round = self.rng.choice([-1, -1, round - 1])
            proposal = Proposal(header.height, round, valid_round, block.id, self.validators[position].address)
            signature = self.signers[position](proposal_sign_bytes(CHAIN, proposal))
            signed = Proposal(header.height, round, valid_round, block.id, proposal.proposer, signature)
            for target in targets:
                self.later(target, self.rng.randint(5, 60), ("message", targets[0], FullProposal(signed, block)))

    # What nodes tell.

    def note_signed(self, node: int, message: Vote | Proposal) -> None:
        if node in self.honest:
            self.checks.on_signed(self.nodes[node].validator.address, message)

    def note_decided(self, node: int, block: Block, commit: Commit, validators: ValidatorSet) -> None:
        if node in self.honest:
            self.checks.on_decided(block, commit, validators)

    def note_evidence(self, node: int, evidence: Evidence) -> None:
        self.checks.on_evidence(evidence)

    # The loop.

    def run(self, heights_after_heal: int = 3, limit_ms: int = 120_000) -> Checks:
        """Faults, then healing, then so many more heights for everybody, in bounded simulated time."""
        for node in self.nodes:
            node.crash_probability = self.schedule.crash_probability
            self._guard(node, node.boot)
        if self.schedule.partition_every_ms:
            self.later(-1, self.schedule.partition_every_ms, "partition")
        if self.schedule.crash_every_ms:
            self.later(-1, self.schedule.crash_every_ms, "crash")
        self.later(-1, self.schedule.fault_ms, "heal")
        goal = None
        while self._heap and self.now_ms < self.heal_at + limit_ms:
            self.now_ms, _, number, given = heapq.heappop(self._heap)
            self.events += 1
            if number < 0:
                self._fault(given)
            else:
                self._event(self.nodes[number], given)
            if self.healed:
                goal = goal or max(len(self.nodes[n].disk.chain) for n in self.honest) + heights_after_heal
                if min(len(self.nodes[n].disk.chain) for n in self.honest) >= goal:
                    return self.checks
        lengths = [(len(node.disk.chain), node.core.machine.state.round) for node in self.nodes]
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
        except Crash:
            self._crash(node)

    def _crash(self, node: SimulatedNode) -> None:
        self.checks.seen["crashes"] += 1
        unsynced = len(node.disk.log) - node.disk.synced
        node.crash(self.rng.randint(0, max(unsynced, 0)))
        self.later(node.number, self.rng.randint(10, 2_000), "boot")

    def _fault(self, kind: str) -> None:
        if kind == "heal":
            self.healed = True
            self.groups = [0] * len(self.nodes)
            for node in self.nodes:
                node.crash_probability = 0.0
        elif not self.healed and kind == "partition":
            self.groups = [self.rng.randrange(self.rng.choice([1, 2, 2, 3])) for _ in self.nodes]
            self.later(-1, self.rng.randint(1, 2 * self.schedule.partition_every_ms), "partition")
        elif not self.healed:
            victim = self.rng.choice(self.nodes)
            if victim.alive:
                self._crash(victim)
            self.later(-1, self.rng.randint(1, 2 * self.schedule.crash_every_ms), "crash")


def _stub_signer(public_key: bytes) -> Callable[[bytes], bytes]:
    return lambda message: stub_sign(public_key, message)


def run(seed: int, schedule: Schedule | None = None) -> Checks:
    """Play one seed; a `Violation` says how to play it again."""
    simulation = Simulation(seed, schedule or draw(seed))
    try:
        return simulation.run()
    except (Violation, InvariantViolation) as violation:
        again = f"PYTHONPATH=. python tests/simulator/simulation.py {seed}"
        raise Violation(f"{violation}\nseed {seed}: {simulation.schedule}\nrepeat with: {again}") from None


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(argument, dict(run(int(argument)).seen))
