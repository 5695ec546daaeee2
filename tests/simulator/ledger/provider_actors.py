"""Providers that do what the ledger's list of duties says, each in its character; a pure policy with its own dice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from consensus.ledger import keys, queries
from consensus.ledger import messages as m
from consensus.ledger.block import Reader
from consensus.ledger.duties import Audit, Duty, SegmentWork, audits, duties
from consensus.ledger.evidence_keys import comparable
from consensus.ledger.records import (
    DISPUTE_EVIDENCE,
    DISPUTE_INITIAL,
    INSTALMENT_WINDOW,
    PROVIDER_PAUSED,
    DisputeRecord,
    PendingChallenge,
    Task,
)
from consensus.ledger.schedule import instalment_segments, segment_span, verifier_bond
from consensus.ledger.view import State
from gensyn_node.primitives.codec import encode
from proofs.pinpoint import strategy
from proofs.pinpoint.types import Name, PostStates
from tests.simulator.ledger import forced_actors
from tests.simulator.ledger.characters import HONEST, TOLD, Character
from tests.simulator.ledger.toy_program import ASK, GSN, Execution, History, StateStore, Told, execution
from tests.simulator.ledger.wallets import Wallet

Intent = tuple[object, m.Message]
"""(what it is for, the message)."""
Place = tuple[bytes, int, int, tuple[tuple[int, bytes, bytes], ...]]
"""Task, instalment, attempt, segments drawn with their roots."""


@dataclass
class ProviderActor:
    """A machine that offers work."""

    name: str
    character: Character
    wallet: Wallet
    store: StateStore
    rng: random.Random
    bond_nano: int = 300 * GSN
    awake_since: int = 0
    """First height of the time it has been awake without a break; rises while it sleeps."""
    could_not: set[tuple[bytes, int]] = field(default_factory=set)
    """(task, attempt) that it could not go on with, because nobody serves the states."""
    finds: set[tuple[bytes, int, int]] = field(default_factory=set)
    """(task, instalment, attempt) that it announced a true challenge against."""
    _challenges: dict[tuple[bytes, int], tuple[m.Challenge, bytes]] = field(default_factory=dict)
    _verdicts: dict[Place, tuple[tuple[m.Finding, ...], bytes, bytes]] = field(default_factory=dict)
    """By what was drawn: an account may be drawn again, with other segments."""
    _claims: dict[tuple[bytes, bytes], History] = field(default_factory=dict)
    """(task, root it claimed) -> the faulty history that gives it."""
    sealed: dict[tuple[bytes, int, int], tuple[bytes, ...]] = field(default_factory=dict)
    """(task, attempt, instalment) -> the roots that it sealed."""
    _seen: set[tuple[bytes, int, int, bool]] = field(default_factory=set)
    _made: set[bytes] = field(default_factory=set)
    _ready: dict[tuple[bytes, int, int], int] = field(default_factory=dict)

    @property
    def address(self) -> bytes:
        """Its account."""
        return self.wallet.address

    def act(self, reader: Reader, height: int) -> list[bytes]:
        """Transactions to send now that the head is at `height`."""
        sent = self.wallet.again(reader, height)
        for purpose, message in self._wants(reader, height):
            if self.wallet.waits(purpose) is None:
                sent.append(self.wallet.send(reader, height, purpose, message))
        return sent

    def _wants(self, reader: Reader, height: int) -> Iterator[Intent]:
        provider = queries.provider(reader, self.address)
        if provider is None:
            if queries.account(reader, self.address).balance_nano > self.bond_nano + GSN:
                offer = m.RegisterProvider(m.ROLES_ALL, "cpu", 1 << 30, ASK, self.bond_nano, (self.name,), self.name)
                yield "register", offer
            return
        if provider.state == PROVIDER_PAUSED and self.rng.random() < 0.3:
            yield "resume", m.ResumeProvider()
        for duty in duties(reader, self.address, height):
            yield from self._duty(reader, height, duty)
        if self.character.watcher != "none":
            for audit in audits(reader, self.address, 8):
                yield from self._audit(reader, height, audit)

    def _duty(self, reader: Reader, height: int, duty: Duty) -> Iterator[Intent]:
        purpose = (duty.kind, duty.task_id, duty.attempt, duty.instalment)
        task = queries.task(reader, duty.task_id)
        assert task is not None
        match duty.kind:
            case "start" | "train":
                yield from self._solve(reader, height, task, duty, purpose)
            case "open" | "unseal":
                yield from forced_actors.answer(self, reader, task, duty, purpose)
            case "contest" if self.character.verifier != "lazy":
                yield purpose, m.ContestForcedError(duty.task_id, duty.instalment)
            case "verify" | "reveal":
                yield from self._verify(reader, height, task, duty, purpose)
            case "move":
                yield from self._move(reader, height, task, duty)
            case "reveal_challenge" if self.character.watcher != "griefing":
                known = self._challenge(reader, duty)
                if known is not None:
                    yield purpose, m.OpenChallengeReveal(duty.task_id, *known)

    def _challenge(self, reader: Reader, duty: Duty) -> tuple[m.Challenge, bytes] | None:
        """What it announced; a thief shows what the owner of the commitment has shown."""
        pending = State(reader).find(keys.challenge(duty.task_id, duty.instalment, self.address), PendingChallenge)
        known = self._challenges.get((duty.task_id, duty.instalment))
        if pending is None or known is None:
            return None if pending is None else self.store.shown_challenges.get(pending.commitment)
        self.store.shown_challenges[pending.commitment] = known
        return known

    # --- solving

    def _solve(self, reader: Reader, height: int, task: Task, duty: Duty, purpose: object) -> Iterator[Intent]:
        kind = self.character.solver
        if kind == "idle" or (kind == "late" and height + 1 < duty.due_height):
            return
        start: History | None = ()
        root = self._start_root(reader, duty)
        if root:
            start = self.store.fetch(root)
            if start is None and root in self._made:
                start = self.store.remember(root)
        if start is None:
            self.could_not.add((task.task_id, task.attempt))
            return
        if duty.kind == "start":
            yield purpose, m.StartTask(duty.task_id, forced_actors.anchor(self, reader, task))
            return
        if kind == "deserting" and (duty.instalment or self.rng.random() < 0.5):
            return
        place = (duty.task_id, duty.attempt, duty.instalment)
        ready = self._ready.setdefault(place, height + self.rng.choice((0, 0, 1, 2)))
        if height < ready:
            yield ("heartbeat", place, height), m.Heartbeat(duty.task_id, duty.first_step, 0, b"")
        else:
            yield purpose, self._commit(reader, task, duty, start)

    def _start_root(self, reader: Reader, duty: Duty) -> bytes:
        if duty.kind == "start" and duty.instalment:
            return next(
                i.end_root for i in queries.instalments(reader, duty.task_id) if i.number == duty.instalment - 1
            )
        before = self.sealed.get((duty.task_id, duty.attempt, duty.instalment - 1))
        return duty.start_root if before is None else before[-1]

    def _commit(self, reader: Reader, task: Task, duty: Duty, start: History) -> m.CommitInstalment:
        kind, spec = self.character.solver, queries.spec(reader, duty.task_id)
        assert spec is not None
        faults = list(start)
        if kind == "wrong":
            faults.append((duty.first_step + self.rng.randrange(duty.steps), self.rng.choice((1.0, 0.5))))
        elif kind == "wrong start" and duty.instalment == 0:
            faults.append((-1, 1.0))
        run = execution(task.seed, tuple(faults))
        segments = instalment_segments(spec, duty.instalment)
        ends = [sum(segment_span(spec, segment)) for segment in segments]
        initial = run.root(0) if duty.instalment == 0 else b""
        for end in (duty.first_step, *ends):
            history = tuple(fault for fault in faults if fault[0] < end)
            self.store.serve(run.root(end), history, withheld=kind == "withholding" and end > duty.first_step)
        roots = [run.root(end) for end in ends]
        self._made.update(roots)
        if kind == "garbage":
            roots[self.rng.randrange(len(roots))] = self.rng.randbytes(32)
        if spec.forced_error_bps:
            return forced_actors.sealed_commit(self, spec, duty, initial, tuple(roots))
        return m.CommitInstalment(duty.task_id, duty.instalment, initial, tuple(roots), (), (), (self.name,))

    # --- verifying

    def _verify(self, reader: Reader, height: int, task: Task, duty: Duty, purpose: object) -> Iterator[Intent]:
        kind, place = self.character.verifier, (duty.task_id, duty.instalment, duty.attempt)
        if kind == "silent" or (kind == "unrevealing" and duty.kind == "reveal"):
            return
        if kind == "copying":
            yield from self._copied(reader, duty, purpose)
            return
        # After a forced error the same segments may be drawn again, of the right roots.
        drawn = (*place, tuple((work.segment, work.start_root, work.end_root) for work in duty.segments))
        if drawn not in self._verdicts:
            findings, initial = self._findings(task, duty, kind)
            self._verdicts[drawn] = (findings, initial, sha256(self.name.encode() + duty.task_id).digest())
        verdict = self._verdicts[drawn]
        if duty.kind == "verify":
            commitment = m.verdict_commitment(self.address, *place, *verdict)
            message: m.Message = m.VerdictCommit(*place, commitment)
        else:
            message = m.VerdictReveal(*place, *verdict)
            self.store.shown_salts[self.address, *place] = verdict[2]
        yield purpose, message
        if kind == "double" and self.rng.random() < 0.5:
            yield ("again", purpose), message

    def _copied(self, reader: Reader, duty: Duty, purpose: object) -> Iterator[Intent]:
        """What another verifier has shown so far, as if it were its own."""
        for slot in State(reader).instalment(duty.task_id, duty.instalment).verifications:
            if slot.verifier == self.address:
                continue
            if duty.kind == "verify" and slot.commitment:
                yield purpose, m.VerdictCommit(duty.task_id, duty.instalment, duty.attempt, slot.commitment)
                return
            if duty.kind == "reveal" and slot.findings:
                salt = self.store.shown_salts[slot.verifier, duty.task_id, duty.instalment, duty.attempt]
                shown = (slot.findings, slot.initial_root, salt)
                yield purpose, m.VerdictReveal(duty.task_id, duty.instalment, duty.attempt, *shown)
                return

    def _findings(self, task: Task, duty: Duty, kind: str) -> tuple[tuple[m.Finding, ...], bytes]:
        findings = [self._finding(task, work, kind) for work in duty.segments]
        own = execution(task.seed, ()).root(0)
        initial = own if duty.check_initial and own != task.initial_root and kind != "lazy" else b""
        return tuple(findings), initial

    def _finding(self, task: Task, work: SegmentWork, kind: str) -> m.Finding:
        if kind == "lazy":
            return m.Finding(work.segment, m.APPROVED, self.rng.randbytes(32))
        run = self._rerun(task, work.start_root, work.first_step)
        if run is None or kind == "blind":
            return m.Finding(work.segment, m.UNAVAILABLE, b"")
        if kind == "lying":
            run = self._claim(task, run, work.first_step, work.steps)
        roots = run.state_roots(work.first_step, work.steps)
        if roots[-1] != work.end_root:
            return m.Finding(work.segment, m.DISAGREED, roots[-1])
        if kind == TOLD:
            run = Told(task.seed, run.faults)
        else:
            self.store.serve(roots[-1], run.faults)
        return m.Finding(work.segment, m.APPROVED, run.evidence_root(work))

    def _rerun(self, task: Task, start_root: bytes, first_step: int) -> Execution | None:
        """An honest execution from a state that is served (step 0 of the right initial state needs no serving)."""
        if first_step == 0 and execution(task.seed, ()).root(0) == start_root:
            return execution(task.seed, ())
        history = self.store.fetch(start_root)
        return None if history is None else execution(task.seed, history)

    def _claim(self, task: Task, run: Execution, first_step: int, steps: int) -> Execution:
        """A consistent lie about a segment."""
        faults = (*run.faults, (first_step + self.rng.randrange(steps), self.rng.choice((2.0, 4.0))))
        lie = execution(task.seed, faults)
        self._claims[task.task_id, lie.root(first_step + steps)] = faults
        return lie

    # --- disputes

    def _move(self, reader: Reader, height: int, task: Task, duty: Duty) -> Iterator[Intent]:
        kind, dispute = self.character.disputant, queries.dispute(reader, duty.dispute_id)
        assert dispute is not None
        purpose = ("move", duty.dispute_id, dispute.game, len(dispute.moves))
        if kind == "silent" or (kind == "stalling" and height + 1 < duty.due_height):
            return
        if kind == "garbage":
            root = self.rng.randbytes(32)
            move: Any = self.rng.choice((PostStates(root * 3), Name(1, root), Name(0, root)))
        else:
            game = queries.game(reader, duty.dispute_id)
            assert game is not None
            run = self._dispute_run(reader, task, dispute)
            move = strategy.respond(game, run.oracle, run.context)
        if move is not None:
            yield purpose, m.DisputeMove(duty.dispute_id, encode(move))
            if kind == "hasty":
                yield ("again", purpose), m.DisputeMove(duty.dispute_id, encode(move))

    def _dispute_run(self, reader: Reader, task: Task, dispute: DisputeRecord) -> Execution:
        """The execution it stands for: of what it committed to, of its lie, or the honest one from the agreed state."""
        if dispute.defender == self.address and dispute.kind != DISPUTE_EVIDENCE:
            return execution(task.seed, self.store.remember(dispute.defender_root) or ())
        if dispute.kind == DISPUTE_INITIAL:
            return execution(task.seed, ())
        if dispute.defender != self.address and (task.task_id, dispute.challenger_root) in self._claims:
            return execution(task.seed, self._claims[task.task_id, dispute.challenger_root])
        spec = queries.spec(reader, task.task_id)
        instalment = State(reader).instalment(task.task_id, dispute.instalment)
        assert spec is not None
        position = dispute.segment - instalment.first_segment
        start_root = instalment.segment_roots[position - 1] if position else instalment.start_root
        history = self.store.remember(start_root) or ()
        told = dispute.defender == self.address and self.character.verifier == TOLD
        return Told(task.seed, history) if told else execution(task.seed, history)

    # --- watching

    def _audit(self, reader: Reader, height: int, audit: Audit) -> Iterator[Intent]:
        place, kind = (audit.task_id, audit.instalment, audit.attempt), self.character.watcher
        phase = (*place, audit.state == INSTALMENT_WINDOW)
        if phase in self._seen or (audit.task_id, audit.instalment) in self._challenges:
            return
        pending = State(reader).instalment(audit.task_id, audit.instalment).pending_challengers
        if kind == "thief" and not pending:
            return
        self._seen.add(phase)
        task, provider = queries.task(reader, audit.task_id), queries.provider(reader, self.address)
        assert task is not None and provider is not None
        if self.rng.random() < 0.3 or not self._has_bond(reader, task) or height >= audit.due_height:
            return
        if kind == "thief":
            for other in pending:
                theirs = State(reader).find(keys.challenge(audit.task_id, audit.instalment, other), PendingChallenge)
                assert theirs is not None
                commit = m.OpenChallengeCommit(audit.task_id, audit.instalment, theirs.commitment)
                yield ("steal", place), commit
            return
        challenge = self._wrong(reader, task, audit) if kind == HONEST else self._made_up(task, audit)
        if challenge is None:
            return
        salt = self.rng.randbytes(32)
        self._challenges[audit.task_id, audit.instalment] = (challenge, salt)
        if kind == HONEST:
            self.finds.add(place)
        commitment = m.challenge_commitment(self.address, audit.task_id, challenge, salt)
        yield ("challenge", place), m.OpenChallengeCommit(audit.task_id, audit.instalment, commitment)

    def _has_bond(self, reader: Reader, task: Task) -> bool:
        provider = queries.provider(reader, self.address)
        needed = verifier_bond(task.solver_bond_nano, queries.parameters(reader))
        return provider is not None and provider.free_nano >= needed

    def _wrong(self, reader: Reader, task: Task, audit: Audit) -> m.Challenge | None:
        """The first thing that is wrong about an instalment: the initial state, a segment, a verifier's evidence."""
        right = execution(task.seed, ()).root(0)
        if audit.instalment == 0 and task.initial_root != right:
            return m.InitialChallenge(audit.attempt, right)
        evidences: dict[int, bytes] = {}
        for work in audit.segments:
            run = self._rerun(task, work.start_root, work.first_step)
            if run is None:
                continue
            roots = run.state_roots(work.first_step, work.steps)
            if roots[-1] != work.end_root:
                return m.SegmentChallenge(audit.instalment, audit.attempt, work.segment, roots[-1])
            if work.evidence_key:
                evidences[work.segment] = run.evidence_root(work)
        instalment = State(reader).instalment(audit.task_id, audit.instalment)
        for slot in instalment.verifications:
            for finding in slot.findings if slot.state == "revealed" and comparable(instalment, slot) else ():
                known = evidences.get(finding.segment)
                if finding.verdict == m.APPROVED and known is not None and finding.root != known:
                    fields = (audit.instalment, audit.attempt, finding.segment, slot.verifier, known)
                    return m.EvidenceChallenge(*fields)
        return None

    def _made_up(self, task: Task, audit: Audit) -> m.Challenge | None:
        """A challenge of a segment that is right, or of none."""
        work = self.rng.choice(audit.segments)
        run = self._rerun(task, work.start_root, work.first_step)
        if run is None or self.rng.random() < 0.3:
            return m.SegmentChallenge(audit.instalment, audit.attempt, work.segment, self.rng.randbytes(32))
        lie = self._claim(task, run, work.first_step, work.steps)
        root = lie.root(work.first_step + work.steps)
        return m.SegmentChallenge(audit.instalment, audit.attempt, work.segment, root)
