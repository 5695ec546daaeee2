"""The one task that owns the consensus core: it logs each input, feeds it, and performs the effects in order.

The order is what makes a crash harmless: an input is in the log before the core sees it; the log is synced before
anything is signed; the signer's record is synced before a signature leaves; block, ledger and head are one batch.
Slow answers (building, validating) come back as inputs, so that votes keep flowing meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog
import trio
from msgspec import structs

from consensus.tendermint import effects, inputs
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.early import EarlyMessages
from consensus.tendermint.round import RoundStep
from consensus.tendermint.types import (
    Block,
    Commit,
    ConsensusMessage,
    Evidence,
    Proposal,
    ValidatorSet,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from consensus.tendermint.verify import verify_proposal, verify_vote
from gensyn_node.app.event_bus import EventBus
from gensyn_node.app.room import Room
from gensyn_node.app.telemetry import Telemetry
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.storage.signer import Signer, SignRequest, SignStep
from gensyn_node.storage.wal import RECORD_BYTES_MAX, WriteAheadLog

if TYPE_CHECKING:
    from trio_typing import TaskStatus

INBOX_INPUTS_MAX = 4_096
"""Inputs waiting for the core; whoever brings more waits."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SealedByPeers:
    """A block of the height the core works on, with a verified commit: the height is over without us."""

    block: Block
    commit: Commit


@dataclass(frozen=True, slots=True)
class StepEntered:
    """The core works on another step than before."""

    height: int
    round: int
    step: str
    """`propose`, `prevote`, `precommit`, `decided`."""
    proposer: bytes


class SigningAllowed:
    """The watch for others with our key is over: what was not signed meanwhile is signed now."""


class Watch(Protocol):
    """What the driver asks of, and tells to, the watch for others that sign with our key."""

    @property
    def may_sign(self) -> bool:
        """Whether a signature may be given now."""

    def see_commit(self, commit: Commit, validators: ValidatorSet) -> None:
        """The commit of a block that is taken over."""

    def see_conflict(self, vote: Vote) -> None:
        """One of two votes that contradict each other."""

    def decided(self, height: int) -> None:
        """A height was decided here."""


class Ledger(Protocol):
    """What the driver needs of the chain."""

    def start_input(self) -> inputs.StartHeight:
        """The input that starts the height after the head."""

    async def build(self, request: effects.BuildValue) -> Block:
        """A block to propose, when it is time for one."""

    async def validate(self, block: Block) -> bool:
        """Whether a proposed block may follow the head."""

    async def commit(self, block: Block, commit: Commit) -> None:
        """Execute the block and make it the head, on disk."""

    def add_evidence(self, evidence: Evidence) -> None:
        """Keep proof of a double vote for our next block."""


class Driver:
    """Runs one core. `signer` is None for a node that only follows."""

    def __init__(
        self,
        *,
        chain_id: str,
        core: ConsensusCore,
        ledger: Ledger,
        wal: WriteAheadLog,
        signer: Signer | None,
        broadcast: Callable[[ConsensusMessage], None],
        clock_ms: Callable[[], int],
        room: Room | None = None,
        watch: Watch | None = None,
    ) -> None:
        """`room`: of the disk that log, sign state and database are on; None when it is never full."""
        self.core = core
        self._chain_id = chain_id
        self._ledger = ledger
        self._wal = wal
        self._signer = signer
        self._broadcast = broadcast
        self._clock_ms = clock_ms
        self._room = room or Room(Path("/"), 0)
        self._watch = watch
        self.telemetry = Telemetry(trio.current_time, clock_ms)
        self._inbox_send, self._inbox = trio.open_memory_channel[inputs.Input | SealedByPeers | SigningAllowed](
            INBOX_INPUTS_MAX
        )
        self._early = EarlyMessages()
        self._start: inputs.StartHeight | None = None
        self._nursery: trio.Nursery | None = None
        self._height_changed = trio.Event()
        self.seen: EventBus[StepEntered | Vote] = EventBus()
        """Steps and counted votes, for those who watch."""
        self._step_seen = (0, -1, RoundStep.UNSTARTED)
        self.height = 0
        """The height in progress."""
        self.moved_at = trio.current_time()
        """When the core last did something new (trio's clock)."""

    @property
    def round(self) -> int:
        """The round in progress."""
        return self.core.machine.state.round

    async def offer(self, item: inputs.Input | SealedByPeers | SigningAllowed) -> None:
        """Queue an input; waits while the inbox is full."""
        await self._inbox_send.send(item)

    async def wait_height_after(self, height: int) -> None:
        """Return once the height in progress is above `height`."""
        while self.height <= height:
            await self._height_changed.wait()

    async def run(
        self, records: tuple[bytes, ...], *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Replay the log of the height in progress, then work until cancelled. `InvariantViolation` ends the node."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await self._resume(records)
            task_status.started()
            async for item in self._inbox:
                height = self.height
                if isinstance(item, SealedByPeers):
                    await self._adopt(item)
                elif isinstance(item, SigningAllowed):
                    await self._sign_late()
                else:
                    await self._feed(item)
                while self.height > height:
                    height = self.height
                    await self._feed_early()

    async def _resume(self, records: tuple[bytes, ...]) -> None:
        """Bring the core to where the process stopped, then do what it had asked for."""
        start = self._ledger.start_input()
        self._enter(start)
        started = self.core.step(start)
        for record in records:
            logged: inputs.Input = codec.decode(inputs.Input, record, max_bytes=RECORD_BYTES_MAX)
            for effect in self.core.step(logged):
                if isinstance(effect, effects.EvidenceFound):
                    self._ledger.add_evidence(effect.evidence)
        if records:
            log.info("log_replayed", height=start.height, inputs=len(records))
            started = self.core.outstanding()
        await self._perform_all(started)
        await self._feed_early()

    async def _sign_late(self) -> None:
        """Give the signatures that the core still waits for."""
        waiting = (effects.SignVote, effects.SignProposal)
        await self._perform_all([effect for effect in self.core.outstanding() if isinstance(effect, waiting)])

    async def _feed(self, item: inputs.Input) -> None:
        if self._early.offer(item, self.height):
            return
        if not self.core.wants(item):
            self.telemetry.unwanted(item)
            return
        await self._room.persist(partial(self._wal.append, codec.encode(item)))
        found = self.core.step(item)
        self._tell(item)
        await self._perform_all(found)

    async def _feed_early(self) -> None:
        for item in self._early.take():
            await self._feed(item)

    async def _perform_all(self, first: list[effects.Effect]) -> None:
        """Perform effects in order; inputs that answer them are fed when the effects before them are done."""
        answers: deque[inputs.Input] = deque()
        todo = first
        while True:
            for effect in todo:
                answer = await self._perform(effect)
                if answer is not None:
                    answers.append(answer)
            if todo:
                self.moved_at = trio.current_time()
            if not answers:
                return
            item = answers.popleft()
            if not isinstance(item, inputs.StartHeight):
                # The start of a height follows from the head; everything else is in the log before the core sees it.
                await self._room.persist(partial(self._wal.append, codec.encode(item)))
            todo = self.core.step(item)
            self._tell(item)

    def _tell(self, item: inputs.Input) -> None:
        """What the core took, to those who count and those who watch."""
        self.telemetry.fed(item, self.core)
        if not len(self.seen):
            return
        if isinstance(item, inputs.VerifiedVote):
            self.seen.publish(item.vote)
        state = self.core.machine.state
        place = (self.core.height, state.round, state.step)
        if place != self._step_seen and state.round >= 0:
            self._step_seen = place
            proposer = self.core.proposers.of(state.round)
            self.seen.publish(StepEntered(*place[:2], state.step.name.lower(), proposer))

    async def _perform(self, effect: effects.Effect) -> inputs.Input | None:
        self.telemetry.performed(effect)
        match effect:
            case effects.SignVote(vote):
                return await self._sign_vote(vote)
            case effects.SignProposal(proposal, block):
                return await self._sign_proposal(proposal, block)
            case effects.Broadcast(message):
                self._broadcast(message)
            case effects.ScheduleTimeout():
                self._spawn(self._timer, effect)
            case effects.BuildValue():
                self._spawn(self._build, effect)
            case effects.ValidateValue():
                self._spawn(self._validate, effect)
            case effects.Decide(height, _, block, commit):
                if self._watch is not None:
                    self._watch.decided(height)
                return await self._finish_height(height, block, commit)
            case effects.EvidenceFound(evidence) if evidence.first.validator == self.core.address and self._watch:
                # Somebody has our key. The others will prove it without our help.
                self._watch.see_conflict(evidence.first)
            case effects.EvidenceFound(evidence):
                log.warning("evidence_found", height=evidence.first.height, validator=evidence.first.validator.hex())
                self._ledger.add_evidence(evidence)
            case effects.RoundEntered(height, round_, proposer):
                log.debug("round_entered", height=height, round=round_, proposer=proposer.hex())
        return None

    # --- signing

    async def _sign_vote(self, vote: Vote) -> inputs.Input | None:
        step = SignStep.PREVOTE if vote.kind is VoteType.PREVOTE else SignStep.PRECOMMIT
        signature = await self._sign(vote.height, vote.round, step, vote_sign_bytes(self._chain_id, vote))
        if signature is None:
            return None
        return verify_vote(self._chain_id, self._validators(), structs.replace(vote, signature=signature))

    async def _sign_proposal(self, proposal: Proposal, block: Block) -> inputs.Input | None:
        message = proposal_sign_bytes(self._chain_id, proposal)
        signature = await self._sign(proposal.height, proposal.round, SignStep.PROPOSAL, message)
        if signature is None:
            return None
        signed = structs.replace(proposal, signature=signature)
        return verify_proposal(self._chain_id, self._validators(), signed, block, self._clock_ms())

    def _validators(self) -> ValidatorSet:
        if self._start is None:
            raise InvariantViolation("asked to sign before the first height")
        return self._start.validators

    async def _sign(self, height: int, round_: int, step: SignStep, message: bytes) -> bytes | None:
        """The signature; None when the guard refuses (after a restart it knows more than the log).

        A record that cannot be written is written when there is room; until then no signature exists outside of here.
        """
        if self._signer is None:
            raise InvariantViolation("asked to sign without a key")
        if self._watch is not None and not self._watch.may_sign:
            return None
        await self._room.persist(self._wal.sync)
        request = SignRequest(height, round_, step, message, message, 0, self._wal.synced_records)
        try:
            return (await self._room.persist(partial(self._signer.sign, request))).signature
        except Rejection as refusal:
            log.warning("signature_refused", height=height, round=round_, step=step.name, why=str(refusal))
            return None

    # --- slow answers, each in a task of its own

    def _spawn(self, task: Callable[..., Awaitable[None]], effect: effects.Effect) -> None:
        if self._nursery is None:
            raise InvariantViolation("the driver performs effects only while it runs")
        self._nursery.start_soon(task, effect)

    async def _timer(self, effect: effects.ScheduleTimeout) -> None:
        with trio.move_on_after(effect.duration_ms / 1000) as waited:
            await self.wait_height_after(effect.height)
        if waited.cancelled_caught:
            await self.offer(inputs.Timeout(effect.height, effect.round, effect.step))

    async def _build(self, effect: effects.BuildValue) -> None:
        async with trio.open_nursery() as nursery:
            # A block that is waited for is not needed any more when the height ends.
            nursery.start_soon(self._cancel_after_height, nursery.cancel_scope, effect.height)
            block = await self._ledger.build(effect)
            await self.offer(inputs.ValueBuilt(effect.height, effect.round, block))
            nursery.cancel_scope.cancel()

    async def _cancel_after_height(self, scope: trio.CancelScope, height: int) -> None:
        await self.wait_height_after(height)
        scope.cancel()

    async def _validate(self, effect: effects.ValidateValue) -> None:
        valid = await self._ledger.validate(effect.block)
        await self.offer(inputs.ValueValidated(effect.height, effect.block.id, valid))

    # --- the end of a height

    async def _finish_height(self, height: int, block: Block, commit: Commit) -> inputs.StartHeight:
        if height != self.height:
            raise InvariantViolation(f"decided height {height} while working on {self.height}")
        if self._watch is not None and self._start is not None:
            self._watch.see_commit(commit, self._start.validators)
            if block.last_commit is not None and self._start.last_validators is not None:
                self._watch.see_commit(block.last_commit, self._start.last_validators)
        await self._ledger.commit(block, commit)
        await self._room.persist(partial(self._wal.next_height, height + 1))
        start = self._ledger.start_input()
        self._enter(start)
        return start

    async def _adopt(self, sealed: SealedByPeers) -> None:
        """Take over a block that was decided without us, unless the core got there meanwhile."""
        if sealed.block.header.height != self.height:
            return
        start = await self._finish_height(self.height, sealed.block, sealed.commit)
        await self._perform_all(self.core.step(start))

    def _enter(self, start: inputs.StartHeight) -> None:
        self._start = start
        self.height = start.height
        self.moved_at = trio.current_time()
        changed, self._height_changed = self._height_changed, trio.Event()
        changed.set()
