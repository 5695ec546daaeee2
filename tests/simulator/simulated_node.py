"""One validator on a simulated machine: the production `ConsensusCore`, a disk that can lose what was not synced, and
the smallest driver that does the core's effects in order, as the real one must.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from consensus.tendermint.block import verify_commit
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
from consensus.tendermint.evidence import verify_evidence
from consensus.tendermint.inputs import Input, StartHeight, Timeout, ValueBuilt, ValueValidated
from consensus.tendermint.parameters import ConsensusParameters
from consensus.tendermint.proposer import rotate
from consensus.tendermint.types import (
    NIL,
    Block,
    Certificate,
    Commit,
    Evidence,
    FullProposal,
    Header,
    HeightStatus,
    Proposal,
    Step,
    Validator,
    ValidatorSet,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from consensus.tendermint.verify import SignatureCheck, verify_certificate, verify_proposal, verify_vote
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection

CHAIN = "simulated"
PARAMETERS = ConsensusParameters(
    propose_ms=400, propose_growth_ms=100, vote_ms=150, vote_growth_ms=75, precision_ms=200, message_delay_ms=2_000
)
Signer = Callable[[bytes], bytes]


def stub_sign(public_key: bytes, message: bytes) -> bytes:
    """A stand-in for ed25519: as good as real as long as nobody uses another's key, which no simulated node does."""
    return hashlib.blake2b(message, key=public_key, digest_size=16).digest()


def stub_check(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return stub_sign(public_key, message) == signature


@dataclass
class Disk:
    """What survives a crash: blocks with their commits, the synced part of the log, the signer's record."""

    chain: list[tuple[Block, Commit]] = field(default_factory=list)
    log: list[Input] = field(default_factory=list)
    synced: int = 0
    signed: tuple[int, int, int, bytes, bytes] = (0, 0, 0, b"", b"")

    def sync(self) -> None:
        self.synced = len(self.log)

    def sign(self, height: int, round: int, step: int, message: bytes, signer: Signer) -> bytes | None:
        """The double-sign guard: never a second message at one place, never backwards. Saved before it returns."""
        last = self.signed
        if (height, round, step) < last[:3]:
            return None
        if (height, round, step) == last[:3]:
            return last[4] if message == last[3] else None
        signature = signer(message)
        self.signed = (height, round, step, message, signature)
        return signature


@dataclass(frozen=True)
class StoredBlock:
    """What block sync sends."""

    block: Block
    commit: Commit


class World:
    """What a node needs from its surroundings; `simulation` implements it."""

    now_ms: int
    check: SignatureCheck

    def send(self, sender: int, receiver: int | None, message: Any) -> None:
        raise NotImplementedError

    def later(self, node: int, delay_ms: int, given: Any) -> None:
        raise NotImplementedError

    def roll(self, probability: float) -> bool:
        raise NotImplementedError

    def pick(self, node: int) -> int:
        raise NotImplementedError

    def note_signed(self, node: int, message: Vote | Proposal) -> None:
        raise NotImplementedError

    def note_decided(self, node: int, block: Block, commit: Commit, validators: ValidatorSet) -> None:
        raise NotImplementedError

    def note_evidence(self, node: int, evidence: Evidence) -> None:
        raise NotImplementedError


class Crash(Exception):  # noqa: N818  (it names what happened)
    """The machine stopped here."""


class SimulatedNode:
    """A validator (or one of two twins with the same key) and its machine."""

    def __init__(
        self,
        number: int,
        validator: Validator,
        genesis: ValidatorSet,
        world: World,
        signer: Signer,
        *,
        salt: bytes = b"",
    ) -> None:
        self.number, self.validator, self.genesis, self.world = number, validator, genesis, world
        self.sign, self.salt = signer, salt
        self.disk = Disk()
        self.clock_skew_ms = 0
        self.crash_probability = 0.0
        self.alive = False
        self.incarnation = 0
        self.sets = [genesis, genesis]
        self.core = ConsensusCore(CHAIN, PARAMETERS, validator.address)
        self.early = EarlyMessages()
        self.last_status: HeightStatus | None = None

    # Life and death.

    def boot(self) -> None:
        """Start from what the disk holds: replay the log without acting, then do what is outstanding."""
        self.alive = True
        self.incarnation += 1
        self.core = ConsensusCore(CHAIN, PARAMETERS, self.validator.address)
        self.early = EarlyMessages()
        for given in [self._start_height(), *self.disk.log]:
            self.core.step(given)
        self.disk.sync()
        self.world.later(self.number, 1_000, ("tick", self.incarnation))
        self._do(self.core.outstanding())

    def crash(self, keep_unsynced: int) -> None:
        """Stop. Of the log's unsynced tail only so many records were written."""
        self.alive = False
        self.disk.log = self.disk.log[: self.disk.synced + keep_unsynced]

    def _start_height(self) -> StartHeight:
        height = len(self.disk.chain) + 1
        while len(self.sets) <= height:
            self.sets.append(rotate(self.sets[-1], 1))
        if height == 1:
            return StartHeight(1, self.genesis)
        return StartHeight(height, self.sets[height], self.disk.chain[-1][1], self.sets[height - 1])

    # Input.

    def feed(self, given: Input) -> None:
        """Log, step, act."""
        if self.early.offer(given, self.core.height):
            return
        self.disk.log.append(given)
        self._do(self.core.step(given))

    def receive(self, sender: int, message: Any) -> None:
        """A message from the network: verified here, outside the core."""
        try:
            self._receive(sender, message)
        except Rejection:
            return

    def _receive(self, sender: int, message: Any) -> None:
        check = self.world.check
        height = getattr(message, "height", None) or 0
        validators = self.sets[height] if 0 < height < len(self.sets) else self.core.validators
        match message:
            case Vote():
                self.feed(verify_vote(CHAIN, validators, message, check))
            case FullProposal(proposal, block):
                schedule = (
                    self.core.proposers if proposal.height == self.core.height else rotate(self.core.validators, 1)
                )
                received = self.world.now_ms + self.clock_skew_ms
                self.feed(verify_proposal(CHAIN, schedule, proposal, block, received, check))
            case Certificate():
                self.feed(verify_certificate(CHAIN, validators, message, check))
            case HeightStatus():
                self._answer(sender, message)
            case StoredBlock(block, commit) if block.header.height == self.core.height:
                if commit.block_id == block.id and commit.height == self.core.height:
                    verify_commit(CHAIN, self.core.validators, commit, check)
                    self._store(block, commit)

    def _answer(self, peer: int, status: HeightStatus) -> None:
        if status.height <= len(self.disk.chain):
            for block, commit in self.disk.chain[status.height - 1 : status.height + 3]:
                self.world.send(self.number, peer, StoredBlock(block, commit))
        for message in self.core.answer(status):
            self.world.send(self.number, peer, message)

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
            self._store(rest[0], self.core.decided_commit() or rest[1])

    def _tick(self) -> None:
        """Once a second: a node that did not move says what it has, and again what it said."""
        status = self.core.status()
        if self.last_status is not None and (status.height, status.round) == (
            self.last_status.height,
            self.last_status.round,
        ):
            for message in self.core.own_messages():
                self.world.send(self.number, None, message)
        for _ in range(2):
            self.world.send(self.number, self.world.pick(self.number), status)
        self.last_status = status
        self.world.later(self.number, 1_000, ("tick", self.incarnation))

    # Effects.

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self.world.roll(self.crash_probability):
                raise Crash
            self._act(effect)

    def _act(self, effect: Effect) -> None:
        match effect:
            case SignVote(vote):
                step = Step.PREVOTE if vote.kind is VoteType.PREVOTE else Step.PRECOMMIT
                if signature := self._signed(vote.height, vote.round, step, vote_sign_bytes(CHAIN, vote)):
                    signed = Vote(vote.kind, vote.height, vote.round, vote.block_id, vote.validator, signature)
                    self.world.note_signed(self.number, signed)
                    self._feed_own(verify_vote(CHAIN, self.core.validators, signed, self.world.check))
            case SignProposal(proposal, block):
                message = proposal_sign_bytes(CHAIN, proposal)
                if signature := self._signed(proposal.height, proposal.round, Step.PROPOSE, message):
                    fields = (proposal.height, proposal.round, proposal.valid_round, proposal.block_id)
                    signed_proposal = Proposal(*fields, proposal.proposer, signature)
                    self.world.note_signed(self.number, signed_proposal)
                    now = self.world.now_ms + self.clock_skew_ms
                    self._feed_own(
                        verify_proposal(CHAIN, self.core.proposers, signed_proposal, block, now, self.world.check)
                    )
            case Broadcast(broadcast):
                self.world.send(self.number, None, broadcast)
            case ScheduleTimeout(height, round, step, duration_ms):
                self._later(duration_ms, Timeout(height, round, step))
            case BuildValue(height, round, last_commit):
                self._later(5, ValueBuilt(height, round, self._build(height, round, last_commit)))
            case ValidateValue(height, _, block):
                self._later(5, ValueValidated(height, block.id, self._valid(block)))
            case Decide(_, _, block, commit):
                self.world.later(self.number, 10, ("executed", self.incarnation, block, commit))
            case EvidenceFound(evidence):
                verify_evidence(CHAIN, self.core.validators, evidence, self.world.check)
                self.world.note_evidence(self.number, evidence)

    def _signed(self, height: int, round: int, step: Step, message: bytes) -> bytes | None:
        self.disk.sync()
        signature = self.disk.sign(height, round, step, message, self.sign)
        if self.world.roll(self.crash_probability):
            raise Crash
        return signature

    def _feed_own(self, given: Input) -> None:
        """Our own message. It needs no sync: a replay asks for it again, and gets the same signature."""
        self.feed(given)

    def _later(self, delay_ms: int, given: Input) -> None:
        self.world.later(self.number, delay_ms, ("input", self.incarnation, given))

    def _build(self, height: int, round: int, last_commit: Commit | None) -> Block:
        previous = self.disk.chain[-1][0].header if self.disk.chain else None
        transactions = (b"%d/%d/" % (height, round) + self.validator.address + self.salt,)
        return Block(
            Header(
                chain_id=CHAIN,
                height=height,
                time_ms=max(self.world.now_ms + self.clock_skew_ms, previous.time_ms + 1 if previous else 1),
                previous_block_id=previous.id if previous else NIL,
                last_commit_root=hashlib.sha256(encode(last_commit)).digest(),
                data_root=hashlib.sha256(b"".join(transactions)).digest(),
                evidence_root=b"",
                app_hash=b"",
                results_root=b"",
                validators_hash=self.core.validators.hash,
                next_validators_hash=self.core.validators.hash,
                proposer=self.validator.address,
                beacon_proof=b"",
            ),
            transactions,
            last_commit,
            (),
        )

    def _valid(self, block: Block) -> bool:
        """Stands in for `validate_block` and execution: links, contents, and the last commit with every signature."""
        previous = self.disk.chain[-1][0].header if self.disk.chain else None
        header, commit = block.header, block.last_commit
        if header.previous_block_id != (previous.id if previous else NIL) or any(
            b"bad" in t for t in block.transactions
        ):
            return False
        if header.data_root != hashlib.sha256(b"".join(block.transactions)).digest():
            return False
        if previous is None or commit is None:
            return previous is None and commit is None
        try:
            verify_commit(CHAIN, self.sets[header.height - 1], commit, self.world.check)
        except Rejection:
            return False
        return commit.block_id == previous.id and header.time_ms > previous.time_ms

    def _store(self, block: Block, commit: Commit) -> None:
        """Block, commit and the end of the log in one batch; then the next height."""
        self.world.note_decided(self.number, block, commit, self.core.validators)
        self.disk.chain.append((block, commit))
        self.disk.log, self.disk.synced = [], 0
        self._do(self.core.step(self._start_height()))
        for given in self.early.take():
            self.feed(given)
