"""One validator on a simulated machine: the production `ConsensusCore`, a disk that can lose what was not synced, an
application, and the smallest driver that does the core's effects in the order of the real one.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import structs

from consensus.tendermint.block import check_roots, verify_commit
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.early import EarlyMessages
from consensus.tendermint.effects import (
    Broadcast,
    BuildValue,
    Decide,
    Effect,
    EvidenceFound,
    ScheduleTimeout,
    SignProposal,
    SignVote,
    ValidateValue,
)
from consensus.tendermint.inputs import Input, StartHeight, Timeout, ValueBuilt, ValueValidated
from consensus.tendermint.parameters import ConsensusParameters
from consensus.tendermint.proposer import ProposerSchedule
from consensus.tendermint.round import RoundState
from consensus.tendermint.types import (
    Block,
    Certificate,
    Commit,
    DuplicateVoteEvidence,
    FullProposal,
    HeightStatus,
    Proposal,
    ValidatorSet,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from consensus.tendermint.verify import SignatureCheck, verify_proposal, verify_vote
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.signer import SignRequest, SignStep
from tests.simulator.application import CHAIN, Application
from tests.simulator.clock import Clock
from tests.simulator.disk import Disk, DiskFull, OpenedLog
from tests.simulator.signatures import Key

PARAMETERS = ConsensusParameters(
    propose_ms=400, propose_growth_ms=100, vote_ms=150, vote_growth_ms=75, precision_ms=200, message_delay_ms=2_000
)
HASTY = structs.replace(PARAMETERS, propose_ms=2, propose_growth_ms=20, vote_ms=2, vote_growth_ms=10)
TICK_MS = 1_000
ANSWER_MS = 5
"""Building or validating a block takes so long."""
EXECUTE_MS = 10
"""Executing a block takes so long on the fastest machine; others need two to four times as long."""
SYNC_BLOCKS = 4
"""Stored blocks in one answer."""


@dataclass(frozen=True)
class StoredBlocks:
    """What block sync sends: blocks in a row with their commits."""

    sealed: tuple[tuple[Block, Commit], ...]
    more: bool = False
    """Whether the sender has the block after them as well."""


@dataclass(frozen=True)
class Gossip:
    """What applications tell each other."""

    content: Any


class Crash(Exception):  # noqa: N818  (it names what happened)
    """The machine stopped at this place."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


class World(Protocol):
    """What a node needs from its surroundings, and what it tells them."""

    now_ms: int
    check: SignatureCheck
    parameters: ConsensusParameters

    def send(self, sender: int, receiver: int | None, message: Any) -> None:
        """To one node, or to all others."""

    def later(self, node: int, delay_ms: int, given: Any) -> None:
        """Give something back to a node after true time."""

    def may_crash(self, node: SimulatedNode, place: str) -> None:
        """Raise `Crash` if the schedule has the machine stop here."""

    def verified(self, message: Vote | Certificate, validators: ValidatorSet) -> Input:
        """The message as a checked input. `Rejection` when it is forged."""

    def pick(self, node: int) -> int:
        """Some other node."""

    def opened(self, node: SimulatedNode, log: OpenedLog) -> None:
        """A machine has read its log."""

    def replayed(self, node: SimulatedNode, expected: RoundState) -> None:
        """A machine has fed its log; `expected` is the core's state when the last record of it was written."""

    def stepped(self, node: SimulatedNode, given: Input, before: RoundState, effects: list[Effect]) -> None:
        """The core took an input."""

    def received(self, node: SimulatedNode, vote: Vote) -> None:
        """A vote with a good signature came in and was fed."""

    def built(self, node: SimulatedNode, block: Block) -> None:
        """A block was made that the node means to propose."""

    def signed(self, node: SimulatedNode, message: Vote | Proposal) -> None:
        """A signature was made; it may or may not leave."""

    def refused(self, node: SimulatedNode, request: SignRequest) -> None:
        """The guard refused to sign."""

    def storing(self, node: SimulatedNode, block: Block, commit: Commit, validators: ValidatorSet, by: str) -> None:
        """A height is over, `by` consensus or sync; the block is about to be executed."""

    def stored(self, node: SimulatedNode, block: Block) -> None:
        """The block was executed."""

    def found_evidence(self, node: SimulatedNode, evidence: DuplicateVoteEvidence) -> None:
        """The core has proof of an offence."""


class SimulatedNode:
    """A validator (or one of two twins with the same key, or a node that only follows) and its machine."""

    def __init__(self, number: int, key: Key, application: Application, world: World) -> None:
        self.number, self.key, self.application, self.world = number, key, application, world
        self.address = key.address
        self.disk = Disk.new(key.public)
        self.clock = Clock()
        self.alive = False
        self.incarnation = 0
        self.core = ConsensusCore(CHAIN, self.world.parameters, self.address)
        self.early = EarlyMessages()
        self.start: StartHeight | None = None
        self.last_status: HeightStatus | None = None
        self._states: list[RoundState] = []
        """After each record of the log; not on the machine, but what its replays are held against."""
        self._schedules: dict[int, tuple[ValidatorSet, ProposerSchedule]] = {}

    # Life and death.

    def boot(self) -> None:
        """Start from what the disk holds: replay the log without acting, then do what is outstanding."""
        self.alive = True
        self.incarnation += 1
        self.core = ConsensusCore(CHAIN, self.world.parameters, self.address)
        self.early = EarlyMessages()
        self.last_status = None
        self.start = self.application.start_input()
        log = self.disk.open_log(self.start.height)
        self.world.opened(self, log)
        effects = self.core.step(self.start)
        for record in log.records:
            for effect in self.core.step(record):
                if isinstance(effect, EvidenceFound):
                    self._perform(effect)
        if log.records:
            self.world.replayed(self, self._states[len(log.records) - 1])
            effects = self.core.outstanding()
        del self._states[len(log.records) :]
        self.world.later(self.number, TICK_MS, ("tick", self.incarnation))
        self._perform_all(effects)

    def stop(self) -> None:
        """All that only memory held is gone."""
        self.alive = False
        self.application.crash()

    # Input.

    def feed(self, given: Input) -> None:
        """Log, step, act; then what waited for the next height, should this one be over."""
        height = self.core.height
        self._feed(given)
        while self.core.height > height:
            height = self.core.height
            for waiting in self.early.take():
                self._feed(waiting)

    def _feed(self, given: Input) -> None:
        if self.early.offer(given, self.core.height) or not self.core.wants(given):
            return
        self.disk.append(given)
        self._perform_all(self._step(given))

    def _step(self, given: Input) -> list[Effect]:
        before = self.core.machine.state
        effects = self.core.step(given)
        if isinstance(given, StartHeight):
            self._states = []
        else:
            self._states.append(self.core.machine.state)
        self.world.stepped(self, given, before, effects)
        return effects

    def receive(self, sender: int, message: Any) -> None:
        """A message from the network. A bad one changes nothing."""
        match message:
            case Vote() | Certificate() | FullProposal():
                if (given := self._checked(message)) is not None:
                    self.feed(given)
                    if isinstance(message, Vote):
                        self.world.received(self, message)
            case HeightStatus():
                self._answer(sender, message)
            case StoredBlocks(sealed, more):
                for block, commit in sealed:
                    if not self._sealed(block, commit):
                        return
                    self._adopt(block, commit)
                if more:
                    self.send(sender, self.core.status())
            case Gossip(content):
                with suppress(Rejection):
                    self.application.receive(sender, content)

    def _checked(self, message: Vote | Certificate | FullProposal) -> Input | None:
        """Signatures are verified here, outside the core; None for what is forged or of a height of no interest."""
        try:
            if isinstance(message, FullProposal):
                schedule = self._schedule_of(message.proposal.height)
                if schedule is None:
                    return None
                proposal, block = message.proposal, message.block
                given = verify_proposal(CHAIN, schedule, proposal, block, self._now(), self.world.check)
                check_roots(block)
                return given
            validators = self._set_of(message.height)
            return None if validators is None else self.world.verified(message, validators)
        except Rejection:
            return None

    def _set_of(self, height: int) -> ValidatorSet | None:
        """The set of a height that matters now: the last, the one in progress, or the next."""
        return self.application.validators(height) if abs(height - self.core.height) <= 1 else None

    def _schedule_of(self, height: int) -> ProposerSchedule | None:
        validators = self._set_of(height)
        if validators is None:
            return None
        known = self._schedules.get(height)
        if known is None or known[0] is not validators:
            known = self._schedules[height] = (validators, ProposerSchedule(validators))
        return known[1]

    def _now(self) -> int:
        return self.clock.read(self.world.now_ms)

    def _sealed(self, block: Block, commit: Commit) -> bool:
        """Whether this is the next block with a commit of our own set, every signature checked."""
        height = self.core.height
        if block.header.height != height or (commit.height, commit.block_id) != (height, block.id):
            return False
        try:
            verify_commit(CHAIN, self.core.validators, commit, self.world.check)
        except Rejection:
            return False
        return self.application.validate(block)

    def _adopt(self, block: Block, commit: Commit) -> None:
        """Block sync."""
        self._perform_all(self._step(self._finish_height(block, commit, "sync")))
        for waiting in self.early.take():
            self.feed(waiting)

    def _answer(self, peer: int, status: HeightStatus) -> None:
        stored = [self.application.sealed(status.height + n) for n in range(SYNC_BLOCKS + 1)]
        sealed = tuple(item for item in stored if item is not None)
        if sealed:
            self.send(peer, StoredBlocks(sealed[:SYNC_BLOCKS], more=len(sealed) > SYNC_BLOCKS))
        for message in self.core.answer(status):
            self.send(peer, message)

    def event(self, given: Any) -> None:
        """Something this node asked the world for has happened."""
        kind, incarnation, *rest = given
        if not self.alive or incarnation != self.incarnation:
            return
        if kind == "tick":
            self._tick()
        elif kind == "input":
            self.feed(rest[0])
        elif kind == "executed" and rest[0].header.height == self.core.height:
            height = self.core.height
            start = self._finish_height(rest[0], self.core.decided_commit() or rest[1], "consensus")
            self._perform_all(self._step(start))
            while self.core.height > height:
                height = self.core.height
                for waiting in self.early.take():
                    self.feed(waiting)

    def _tick(self) -> None:
        """Once a second: a node that did not move says what it has, and again what it said."""
        status, last = self.core.status(), self.last_status
        if last is not None and (status.height, status.round) == (last.height, last.round):
            for message in self.core.own_messages():
                self.send(None, message)
        for _ in range(2):
            self.send(self.world.pick(self.number), status)
        self.last_status = status
        for content in self.application.gossip(self._now()):
            self.send(None, Gossip(content))
        self.world.later(self.number, TICK_MS, ("tick", self.incarnation))

    def send(self, receiver: int | None, message: Any) -> None:
        """To the network."""
        self.world.send(self.number, receiver, message)

    # Effects.

    def _perform_all(self, first: list[Effect]) -> None:
        """Perform effects in order; inputs that answer them are fed when the effects before them are done."""
        answers: deque[Input] = deque()
        todo = first
        while True:
            for effect in todo:
                self.world.may_crash(self, "effect")
                if (answer := self._perform(effect)) is not None:
                    answers.append(answer)
            if not answers:
                return
            given = answers.popleft()
            self.disk.append(given)
            todo = self._step(given)

    def _perform(self, effect: Effect) -> Input | None:
        match effect:
            case SignVote(vote):
                return self._sign_vote(vote)
            case SignProposal(proposal, block):
                return self._sign_proposal(proposal, block)
            case Broadcast(message):
                self.send(None, message)
            case ScheduleTimeout(height, round, step, duration_ms):
                self._later(self.clock.wait(duration_ms), Timeout(height, round, step))
            case BuildValue(height, round):
                self._later(ANSWER_MS, ValueBuilt(height, round, self._build(effect)))
            case ValidateValue(height, _, block):
                self._later(ANSWER_MS, ValueValidated(height, block.id, self._validate(block)))
            case Decide(_, _, block, commit):
                delay_ms = EXECUTE_MS * (1 + self.number % 4)
                self.world.later(self.number, delay_ms, ("executed", self.incarnation, block, commit))
            case EvidenceFound(evidence):
                self.world.found_evidence(self, evidence)
                self.application.add_evidence(evidence)
        return None

    def _build(self, request: BuildValue) -> Block:
        block = self.application.build(request, self._now())
        self.world.built(self, block)
        return block

    def _validate(self, block: Block) -> bool:
        return self.application.validate(block)

    def _later(self, delay_ms: int, given: Input) -> None:
        self.world.later(self.number, delay_ms, ("input", self.incarnation, given))

    def _sign_vote(self, vote: Vote) -> Input | None:
        step = SignStep.PREVOTE if vote.kind is VoteType.PREVOTE else SignStep.PRECOMMIT
        message = vote_sign_bytes(CHAIN, vote)
        signature = self._sign((vote.height, vote.round, step), message)
        if signature is None:
            return None
        signed = Vote(vote.kind, vote.height, vote.round, vote.block_id, vote.validator, signature)
        self.world.signed(self, signed)
        return verify_vote(CHAIN, self.core.validators, signed, self.world.check)

    def _sign_proposal(self, proposal: Proposal, block: Block) -> Input | None:
        message = proposal_sign_bytes(CHAIN, proposal)
        place = (proposal.height, proposal.round)
        signature = self._sign((*place, SignStep.PROPOSAL), message)
        if signature is None:
            return None
        signed = Proposal(*place, proposal.valid_round, proposal.block_id, proposal.proposer, signature)
        self.world.signed(self, signed)
        return verify_proposal(CHAIN, self.core.proposers, signed, block, self._now(), self.world.check)

    def _sign(self, place: tuple[int, int, SignStep], message: bytes) -> bytes | None:
        """The log is synced first, then the record; the signature is the last to exist."""
        self.disk.sync()
        request = SignRequest(*place, message, message, 0, self.disk.synced_records)
        self.world.may_crash(self, "between log and signature")
        try:
            signature = self.disk.sign(request, self.key.sign).signature
        except Rejection:
            self.world.refused(self, request)
            return None
        self.world.may_crash(self, "between signature and broadcast")
        return signature

    # The end of a height.

    def _finish_height(self, block: Block, commit: Commit, by: str) -> StartHeight:
        """Block, commit and state in one batch; then the log of the next height."""
        if self.disk.full:
            raise DiskFull
        self.world.storing(self, block, commit, self.core.validators, by)
        self.world.may_crash(self, "between decision and store")
        self.application.execute(block, commit)
        self.world.stored(self, block)
        self.world.may_crash(self, "between store and next log")
        self.disk.next_height(block.header.height + 1)
        self.start = self.application.start_input()
        return self.start
