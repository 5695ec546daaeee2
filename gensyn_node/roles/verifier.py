"""The verifier: re-execute the segments that were drawn, bind oneself to the verdict, then show it."""

from __future__ import annotations

import secrets
from pathlib import Path

import structlog
import trio

from consensus.ledger import queries
from consensus.ledger.duties import Duty, SegmentWork
from consensus.ledger.messages import (
    APPROVED,
    DISAGREED,
    UNAVAILABLE,
    Finding,
    VerdictCommit,
    VerdictReveal,
    verdict_commitment,
)
from consensus.ledger.records import Task
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.cheats import Cheats
from gensyn_node.roles.materials import Materials, write_durably
from gensyn_node.roles.reasons import STATE_UNAVAILABLE, VERDICT_LOST
from gensyn_node.roles.status import Activity
from gensyn_node.roles.worker_client import Worker
from ml.reasons import BAD_CHECKPOINT
from ml.worker.messages import Job, Train, Trained, Verified, Verify

log = structlog.get_logger()


class Verdict(Struct):
    """What was committed to, kept on disk until it is shown."""

    findings: tuple[Finding, ...]
    initial_root: bytes
    salt: bytes


def line_of(attempt: int) -> str:
    """The folder of the states that this node fetched to check one attempt of a task."""
    return f"check-{attempt}"


class Verifier:
    """Drives one node's verifications."""

    def __init__(
        self,
        chain: ChainApi,
        account: NodeAccount,
        materials: Materials,
        worker: Worker,
        activity: Activity,
        cheats: Cheats,
    ) -> None:
        self._chain = chain
        self._account = account
        self._materials = materials
        self._worker = worker
        self._activity = activity
        self._cheats = cheats

    async def verify(self, duty: Duty) -> None:
        """Re-execute, write the verdict down, commit to it."""
        path = self._verdict_path(duty)
        if not path.exists():
            made = self._made_up(duty) if self._cheats.lazy_verifier else await self._examine(duty)
            await trio.to_thread.run_sync(write_durably, path, encode(made))
        verdict = await _read_verdict(path)
        commitment = verdict_commitment(
            self._account.address,
            duty.task_id,
            duty.instalment,
            duty.attempt,
            verdict.findings,
            verdict.initial_root,
            verdict.salt,
        )
        await self._account.send(VerdictCommit(duty.task_id, duty.instalment, duty.attempt, commitment))

    async def reveal(self, duty: Duty) -> None:
        """Show the verdict committed to."""
        path = self._verdict_path(duty)
        if not path.exists():
            raise Rejection(VERDICT_LOST, f"{path} is gone: the verdict on task {duty.task_id.hex()[:12]} is lost")
        verdict = await _read_verdict(path)
        message = VerdictReveal(
            duty.task_id, duty.instalment, duty.attempt, verdict.findings, verdict.initial_root, verdict.salt
        )
        await self._account.send(message)
        approved = sum(finding.verdict == APPROVED for finding in verdict.findings)
        log.info(
            "verdict_revealed",
            task=duty.task_id.hex(),
            instalment=duty.instalment,
            approved=approved,
            of=len(verdict.findings),
        )

    async def _examine(self, duty: Duty) -> Verdict:
        task = queries.task(self._chain.view(), duty.task_id)
        if task is None:
            raise InvariantViolation("a duty of a task that does not exist")
        job = await self._materials.job(self._chain.view(), task)
        own_initial = await self._initial_root(duty, job) if duty.check_initial else b""
        differs = own_initial != b"" and own_initial != task.initial_root
        findings = []
        for number, work in enumerate(duty.segments):
            self._activity.now(
                f"verifying task {duty.task_id.hex()[:12]}: segment {number + 1} of {len(duty.segments)}", duty.task_id
            )
            findings.append(await self.examine_segment(task, duty.attempt, job, work))
        return Verdict(tuple(findings), own_initial if differs else b"", secrets.token_bytes(32))

    async def examine_segment(self, task: Task, attempt: int, job: Job, work: SegmentWork) -> Finding:
        """Fetch one segment's start, run it, compare its end."""
        states = self._materials.states(task.task_id, line_of(attempt))
        try:
            if work.first_step or work.start_blob:
                await self._materials.fetch_state(task, work.start_root, work.start_blob, work.first_step, states)
        except Rejection as refusal:
            if refusal.reason is not STATE_UNAVAILABLE:
                raise
            log.warning("state_unavailable", task=task.task_id.hex(), segment=work.segment, error=refusal.message)
            return Finding(work.segment, UNAVAILABLE, b"")
        request = Verify(job, str(states), work.first_step, work.steps, work.start_root, work.end_root)
        try:
            found = await self._worker.final(request)
        except Rejection as refusal:
            if not is_bad_checkpoint(refusal):
                raise
            # What was served under the committed name is not the committed state: as good as not served.
            self._materials.drop_state(work.first_step, states)
            log.warning("state_is_wrong", task=task.task_id.hex(), segment=work.segment, error=refusal.message)
            return Finding(work.segment, UNAVAILABLE, b"")
        if not isinstance(found, Verified):
            raise InvariantViolation(f"the worker answered {type(found).__name__} to Verify")
        if found.agrees:
            return Finding(work.segment, APPROVED, found.evidence_root)
        log.warning("segment_disagreed", task=task.task_id.hex(), segment=work.segment, own=found.end_root.hex())
        return Finding(work.segment, DISAGREED, found.end_root)

    async def _initial_root(self, duty: Duty, job: Job) -> bytes:
        """The root of the state that the seed gives, in a folder of its own."""
        states = self._materials.states(duty.task_id, "initial")
        made = await self._worker.final(Train(job, str(states), 0, 0, 1, 1))
        if not isinstance(made, Trained):
            raise InvariantViolation(f"the worker answered {type(made).__name__} to Train")
        return made.initial_root

    def _made_up(self, duty: Duty) -> Verdict:
        findings = tuple(Finding(work.segment, APPROVED, secrets.token_bytes(32)) for work in duty.segments)
        return Verdict(findings, b"", secrets.token_bytes(32))

    def _verdict_path(self, duty: Duty) -> Path:
        folder = self._materials.states(duty.task_id, line_of(duty.attempt))
        return folder / f"verdict-{duty.instalment}"

    async def own_findings(self, task_id: bytes, attempt: int, instalment: int) -> tuple[Finding, ...]:
        """This node's own findings of an instalment, where it verified it."""
        path = self._materials.states(task_id, line_of(attempt)) / f"verdict-{instalment}"
        if self._cheats.lazy_verifier or not path.exists():
            return ()
        return (await _read_verdict(path)).findings


def is_bad_checkpoint(refusal: Rejection) -> bool:
    """Whether the worker refused a state file."""
    return refusal.message.startswith(BAD_CHECKPOINT.code)


async def _read_verdict(path: Path) -> Verdict:
    verdict: Verdict = decode(Verdict, await trio.Path(path).read_bytes())
    return verdict
