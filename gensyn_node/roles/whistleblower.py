"""The whistleblower: re-executes segments of finished verifications, challenges wrong results and made-up evidence.

What it looks at, and whether now, is `audit_choice`'s to say. It is paid as the finder, in the dispute's ruling. A node
that verified an instalment itself compares the other verifiers' evidence with its own, which costs nothing.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import structlog
import trio

from consensus.ledger import queries
from consensus.ledger.block import Reader
from consensus.ledger.duties import Duty, SegmentWork, audits
from consensus.ledger.evidence_keys import evidence_key_of
from consensus.ledger.messages import (
    APPROVED,
    DISAGREED,
    Challenge,
    EvidenceChallenge,
    Finding,
    OpenChallengeCommit,
    OpenChallengeReveal,
    SegmentChallenge,
    challenge_commitment,
)
from consensus.ledger.records import INSTALMENT_WINDOW, VERIFICATION_REVEALED, Instalment
from consensus.ledger.settlement import slot_of
from consensus.ledger.view import State
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.account import NodeAccount, Unconfirmed
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.audit_choice import Look, looks, may_look, pick
from gensyn_node.roles.auto import Machine
from gensyn_node.roles.market import Market
from gensyn_node.roles.materials import Materials, write_durably
from gensyn_node.roles.reasons import CHALLENGE_LOST
from gensyn_node.roles.scheduler import AUDIT, CLAIM, Claim
from gensyn_node.roles.status import Activity
from gensyn_node.roles.verifier import Verifier, line_of
from proofs.classes import NATIVE

log = structlog.get_logger()


class Announced(Struct):
    """A challenge that was committed to, kept on disk until it is shown."""

    challenge: Challenge
    salt: bytes


class Whistleblower:
    """Drives one node's audits."""

    def __init__(
        self, chain: ChainApi, account: NodeAccount, materials: Materials, verifier: Verifier, activity: Activity
    ) -> None:
        self._chain = chain
        self._account = account
        self._materials = materials
        self._verifier = verifier
        self._activity = activity
        self._seen: set[tuple[bytes, int, str]] = set()
        """(task, instalment, line of states) whose evidence was compared with one's own."""
        self._looked: set[tuple[bytes, int, int, int]] = set()
        """(task, instalment, attempt, segment) already looked at."""
        self._spent_s = 0.0
        """Time that looks took which were not expected to pay."""

    def next_look(self, machine: Machine, seen: Market, height: int) -> Look | None:
        """What to look at now, by this node's own secret numbers; None when nothing is there or may be.

        Before the window nobody's evidence is known, and this node may yet be drawn as a verifier itself.
        """
        view = self._chain.view()
        found = [
            look
            for look in looks(view, audits(view, self._account.address), machine, seen, height)
            if _key(look) not in self._looked
            and may_look(look, self._spent_s, self._verifier.watched_s)
            and not self._is_native(look.audit.task_id)
        ]
        return pick(found, secrets.randbits(128))

    async def audit(self, look: Look) -> None:
        """Re-execute a segment; challenge what is wrong."""
        self._looked.add(_key(look))
        audit, work, view = look.audit, look.work, self._chain.view()
        task, instalment = queries.task(view, audit.task_id), _instalment(view, audit.task_id, audit.instalment)
        if task is None or instalment is None or instalment.attempt != audit.attempt:
            return
        if await self._announced_before(instalment):
            # One challenge an instalment: there is nothing more to win here.
            self._looked |= {(*_key(look)[:3], other.segment) for other in audit.segments}
            return
        CLAIM.set(Claim(AUDIT, audit.due_height, task.gas_per_step))
        self._activity.now(f"auditing task {audit.task_id.hex()[:12]}, segment {work.segment}", audit.task_id)
        started_s = trio.current_time()
        try:
            job = await self._materials.job(view, task)
            own = await self._verifier.examine_segment(task, line_of(instalment), job, work)
        finally:
            if not look.pays:
                self._spent_s += trio.current_time() - started_s
        log.info("audited", task=audit.task_id.hex(), segment=work.segment, kind=look.kind, verdict=own.verdict)
        if own.verdict == DISAGREED:
            await self._announce(
                instalment, SegmentChallenge(instalment.number, instalment.attempt, work.segment, own.root)
            )
        elif own.verdict == APPROVED and self._same_key(instalment, work):
            await self._compare(instalment, (own,), instalment.evidence_beacon)

    async def cross_check(self, task_id: bytes, number: int) -> None:
        """Compare the other verifiers' evidence with one's own, where both approved the same segment."""
        instalment = _instalment(self._chain.view(), task_id, number)
        if instalment is None or (task_id, number, line_of(instalment)) in self._seen or self._is_native(task_id):
            return
        if instalment.state == INSTALMENT_WINDOW:
            self._seen.add((task_id, number, line_of(instalment)))
            if await self._announced_before(instalment):
                return
            slot = slot_of(instalment, self._account.address)
            if slot is not None:
                own = await self._verifier.own_findings(instalment)
                await self._compare(instalment, own, slot.evidence_beacon)

    def _same_key(self, instalment: Instalment, work: SegmentWork) -> bool:
        """Whether evidence shown in the instalment has the samples that this work has: not after another draw."""
        spec = queries.spec(self._chain.view(), instalment.task_id)
        key = evidence_key_of(spec, instalment, work.segment) if spec is not None else b""
        return key == work.evidence_key != b""

    def _is_native(self, task_id: bytes) -> bool:
        """Honest evidence differs there, and a solver shows its values to drawn verifiers alone."""
        spec = queries.spec(self._chain.view(), task_id)
        return spec is not None and spec.arithmetic == NATIVE

    async def _compare(self, instalment: Instalment, own: tuple[Finding, ...], beacon: bytes) -> None:
        """Hold one's own evidence, with the samples that the beacon draws, against that of whoever showed the same."""
        roots = {finding.segment: finding.root for finding in own if finding.verdict == APPROVED}
        for verifier, finding in _approvals(instalment, beacon):
            mine = roots.get(finding.segment, finding.root)
            if mine != finding.root and verifier != self._account.address:
                challenge = EvidenceChallenge(instalment.number, instalment.attempt, finding.segment, verifier, mine)
                await self._announce(instalment, challenge)
                return

    async def _announce(self, instalment: Instalment, challenge: Challenge) -> None:
        path = self._path(instalment)
        announced = Announced(challenge, secrets.token_bytes(32))
        await trio.to_thread.run_sync(write_durably, path, encode(announced))
        log.warning("challenge", task=instalment.task_id.hex(), kind=type(challenge).__name__)
        await self._commit(instalment, announced)

    async def _announced_before(self, instalment: Instalment) -> bool:
        """Whether this node has found something here already. What is on disk was found and may be in no block yet.

        It is sent again as it is, never anew: another salt could not show what was committed to, and what was shown is
        not announced twice. Both would cost the bond of an honest finder that was restarted in between.
        """
        path = self._path(instalment)
        if not path.exists():
            return False
        if not _has_challenged(self._chain.view(), instalment, self._account.address):
            announced: Announced = decode(Announced, await trio.Path(path).read_bytes())
            await self._commit(instalment, announced)
        return True

    async def _commit(self, instalment: Instalment, announced: Announced) -> None:
        task_id, address = instalment.task_id, self._account.address
        commitment = challenge_commitment(address, task_id, announced.challenge, announced.salt)
        try:
            await self._account.send(OpenChallengeCommit(task_id, instalment.number, commitment))
        except (Rejection, Unconfirmed):
            key = (task_id, instalment.number, instalment.attempt)
            self._seen.discard((task_id, instalment.number, line_of(instalment)))  # The next look sends it again.
            self._looked = {looked for looked in self._looked if looked[:3] != key}
            raise

    async def reveal(self, duty: Duty) -> None:
        """Show the challenge committed to."""
        path = self._path(State(self._chain.view()).instalment(duty.task_id, duty.instalment))
        if not path.exists():
            raise Rejection(CHALLENGE_LOST, f"{path} is gone: the challenge against {duty.task_id.hex()[:12]} is lost")
        announced: Announced = decode(Announced, await trio.Path(path).read_bytes())
        await self._account.send(OpenChallengeReveal(duty.task_id, announced.challenge, announced.salt))

    def _path(self, instalment: Instalment) -> Path:
        return self._materials.states(instalment.task_id, line_of(instalment)) / f"challenge-{instalment.number}"


def _key(look: Look) -> tuple[bytes, int, int, int]:
    return look.audit.task_id, look.audit.instalment, look.audit.attempt, look.work.segment


def _instalment(view: Reader, task_id: bytes, number: int) -> Instalment | None:
    found = {one.number: one for one in queries.instalments(view, task_id)}
    return found.get(number)


def _has_challenged(view: Reader, instalment: Instalment, address: bytes) -> bool:
    """Whether the account's challenge of this instalment is pending, or was shown."""
    if address in instalment.pending_challengers:
        return True
    state = State(view)
    found = (state.dispute(dispute_id) for dispute_id in state.task(instalment.task_id).disputes)
    return any(
        (dispute.instalment, dispute.attempt) == (instalment.number, instalment.attempt)
        and any(challenger.address == address for challenger in dispute.challengers)
        for dispute in found
    )


def _approvals(instalment: Instalment, beacon: bytes) -> list[tuple[bytes, Finding]]:
    """(verifier, finding) of everything that was approved and stands, with evidence of the beacon's samples."""
    return [
        (slot.verifier, finding)
        for slot in instalment.verifications
        if slot.state == VERIFICATION_REVEALED and slot.evidence_beacon == beacon
        for finding in slot.findings
        if finding.verdict == APPROVED
    ]
