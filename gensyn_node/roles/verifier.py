"""The verifier: re-execute the segments that were drawn, bind oneself to the verdict, then show it."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path

import structlog
import trio

from consensus.ledger import queries
from consensus.ledger.block import Reader
from consensus.ledger.duties import Duty, SegmentWork, segment_work
from consensus.ledger.messages import (
    APPROVED,
    DISAGREED,
    UNAVAILABLE,
    ContestForcedError,
    Finding,
    VerdictCommit,
    VerdictReveal,
    verdict_commitment,
)
from consensus.ledger.records import Instalment, Task, Verification
from consensus.ledger.settlement import slot_of
from consensus.ledger.view import State
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.cheats import Cheats, as_told, copied, made_up
from gensyn_node.roles.materials import Materials, largest_state, write_durably
from gensyn_node.roles.native_values import NativeValues
from gensyn_node.roles.native_verifier import Drawn, NativeVerifier
from gensyn_node.roles.patience import fetch_patience, within
from gensyn_node.roles.reasons import NO_LONGER_OURS, STATE_UNAVAILABLE, VERDICT_LOST
from gensyn_node.roles.status import Activity
from gensyn_node.roles.worker_client import Worker
from ml.reasons import BAD_CHECKPOINT
from ml.worker.messages import Job, Train, Trained, Verified, Verify
from proofs.classes import NATIVE

log = structlog.get_logger()


class Verdict(Struct):
    """What was committed to, kept on disk until it is shown."""

    findings: tuple[Finding, ...]
    initial_root: bytes
    salt: bytes


def line_of(instalment: Instalment) -> str:
    """The folder of the states that this node fetched to check one attempt of a task.

    After a forced error the right roots have one of their own: the state before a step may be another there.
    """
    return f"check-{instalment.attempt}" + ("-right" if instalment.second_round else "")


def following(work: SegmentWork) -> SegmentWork:
    """One step from a segment's end on."""
    return SegmentWork(work.segment, work.first_step + work.steps, 1, work.end_root, work.end_blob, b"", b"")


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
        self.watched_s = 0.0
        """Time that drawn watches took, which are paid."""
        self._native = NativeVerifier(chain, account, materials, NativeValues(materials), worker)

    async def verify(self, duty: Duty) -> None:
        """Re-execute, write the verdict down, commit to it."""
        slot = self._slot(duty)
        path = self._verdict_path(duty, slot)
        if not path.exists():
            started_s = trio.current_time()
            made = self._made_up(duty) if self._cheats.idle_verifier else await self._examine(duty, slot)
            await trio.to_thread.run_sync(write_durably, path, encode(made))
            self.watched_s += (trio.current_time() - started_s) * slot.watch
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
        path = self._verdict_path(duty, self._slot(duty))
        if not path.exists():
            raise Rejection(VERDICT_LOST, f"{path} is gone: the verdict on task {duty.task_id.hex()[:12]} is lost")
        verdict = await _read_verdict(path)
        findings = self._copied(duty, verdict) if self._cheats.copying_verifier else verdict.findings
        message = VerdictReveal(
            duty.task_id, duty.instalment, duty.attempt, findings, verdict.initial_root, verdict.salt
        )
        await self._account.send(message)
        approved = sum(finding.verdict == APPROVED for finding in findings)
        log.info(
            "verdict_revealed",
            task=duty.task_id.hex(),
            instalment=duty.instalment,
            approved=approved,
            of=len(verdict.findings),
        )

    async def contest(self, duty: Duty) -> None:
        """What this node approved is said to be a forced error: insist, if it did re-execute the segment."""
        instalment = self._instalment(duty)
        own = await self.own_findings(instalment)
        approved = any((f.segment, f.verdict) == (instalment.forced_segment, APPROVED) for f in own)
        if instalment.attempt == duty.attempt and approved:
            await self._account.send(ContestForcedError(duty.task_id, duty.instalment))
            log.warning("forced_error_contested", task=duty.task_id.hex(), instalment=duty.instalment)

    def _instalment(self, duty: Duty) -> Instalment:
        return State(self._chain.view()).instalment(duty.task_id, duty.instalment)

    def _slot(self, duty: Duty) -> Verification:
        """This node's place among the instalment's verifiers."""
        instalment = self._instalment(duty)
        slot = slot_of(instalment, self._account.address)
        if slot is None or instalment.attempt != duty.attempt:
            raise Rejection(NO_LONGER_OURS, f"task {duty.task_id.hex()[:12]} has other verifiers now")
        return slot

    async def _examine(self, duty: Duty, slot: Verification) -> Verdict:
        task, line = queries.task(self._chain.view(), duty.task_id), line_of(self._instalment(duty))
        if task is None:
            raise InvariantViolation("a duty of a task that does not exist")
        patience = fetch_patience(slot.drawn_height, duty.due_height, task.fetch_blocks)
        found = await within(self._chain, patience, partial(self._materials.job, self._chain.view(), task))
        if found is None:
            log.warning("data_too_slow", task=duty.task_id.hex(), height=patience)
            unavailable = tuple(Finding(work.segment, UNAVAILABLE, b"") for work in duty.segments)
            return Verdict(unavailable, b"", secrets.token_bytes(32))
        job = as_told(found, self._cheats, solving=False)
        missing = await self._fetch_starts(task, duty, patience)
        own_initial = await self._initial_root(duty, job) if duty.check_initial else b""
        differs = own_initial != b"" and own_initial != task.initial_root
        findings: list[Finding] = []
        for number, work in enumerate(duty.segments):
            self._activity.now(
                f"verifying task {duty.task_id.hex()[:12]}: segment {number + 1} of {len(duty.segments)}", duty.task_id
            )
            if work in missing or (job.arithmetic == NATIVE and following(work) in missing):
                findings.append(Finding(work.segment, UNAVAILABLE, b""))
            elif job.arithmetic == NATIVE:
                findings.append(await self._examine_native(task, duty, slot, job, work))
            else:
                findings.append(await self.examine_segment(task, line, job, work))
        after = self._after(duty)
        if after in missing or await self._rerun(task, line, job, after) is None:
            findings = [Finding(one.segment, UNAVAILABLE, b"") if one.verdict == APPROVED else one for one in findings]
        self._native.judged(duty.task_id)
        return Verdict(tuple(findings), own_initial if differs else b"", secrets.token_bytes(32))

    def _after(self, duty: Duty) -> SegmentWork:
        """One step from the instalment's last state, so that it is fetched, its root checked, and it is held.

        The next solver or the client will ask for it, and the solver may be gone by then.
        """
        state = State(self._chain.view())
        instalment, spec = state.instalment(duty.task_id, duty.instalment), state.spec(duty.task_id)
        last = instalment.first_segment + len(instalment.segment_roots) - 1
        return following(segment_work(state, spec, instalment, last))

    async def _fetch_starts(self, task: Task, duty: Duty, patience: int) -> list[SegmentWork]:
        """Bring all states; those that did not come in time. Before `patience` is over, they are tried again:

        a solver is blamed for states that most verifiers do not get, and this node may be the one that is cut off.
        """
        ends = map(following, duty.segments) if _is_native(self._chain.view(), task) else ()
        works, missing = (*duty.segments, *ends, self._after(duty)), []
        line = line_of(self._instalment(duty))
        for work in works:
            if not await within(self._chain, patience, partial(self._fetch_start, task, line, work)):
                missing.append(work)
        if missing and self._chain.head_height() < patience:
            segments = [work.segment for work in missing]
            raise Rejection(STATE_UNAVAILABLE, f"segments {segments}; tried again until height {patience}")
        return missing

    async def _fetch_start(self, task: Task, line: str, work: SegmentWork) -> bool:
        """Bring one segment's start state; whether it is here."""
        if not work.first_step and not work.start_blob:
            return True
        states, most = self._materials.states(task.task_id, line), largest_state(self._chain.view(), task)
        try:
            await self._materials.fetch_state(task, work.start_root, work.start_blob, work.first_step, states, most)
        except Rejection as refusal:
            if refusal.reason is not STATE_UNAVAILABLE:
                raise
            log.warning("state_unavailable", task=task.task_id.hex(), segment=work.segment, error=refusal.message)
            return False
        return True

    async def _examine_native(self, task: Task, duty: Duty, slot: Verification, job: Job, work: SegmentWork) -> Finding:
        """Measure one segment's distance, and look at the solver's values if it is far off."""
        line = line_of(self._instalment(duty))
        for needed in (work, following(work)):
            if not await self._fetch_start(task, line, needed):
                return Finding(work.segment, UNAVAILABLE, b"")
        drawn = Drawn(duty.instalment, duty.attempt, line, slot.drawn_height, duty.due_height)
        return await self._native.examine(task, drawn, job, work)

    async def examine_segment(self, task: Task, line: str, job: Job, work: SegmentWork) -> Finding:
        """Fetch one segment's start, run it, compare its end."""
        found = await self._rerun(task, line, job, work)
        if found is None:
            return Finding(work.segment, UNAVAILABLE, b"")
        if found.agrees:
            return Finding(work.segment, APPROVED, found.evidence_root)
        log.warning("segment_disagreed", task=task.task_id.hex(), segment=work.segment, own=found.end_root.hex())
        return Finding(work.segment, DISAGREED, found.end_root)

    async def _rerun(self, task: Task, line: str, job: Job, work: SegmentWork) -> Verified | None:
        """What comes of a segment; None when nobody serves the committed state that it starts from."""
        if not await self._fetch_start(task, line, work):
            return None
        states = self._materials.states(task.task_id, line)
        segment = (work.first_step, work.steps, work.start_root, work.end_root)
        request = Verify(job, str(states), *segment, work.evidence_key)
        try:
            found = await self._worker.final(request)
        except Rejection as refusal:
            if not is_bad_checkpoint(refusal):
                raise
            # What was served under the committed name is not the committed state: as good as not served.
            self._materials.drop_state(work.first_step, states)
            log.warning("state_is_wrong", task=task.task_id.hex(), segment=work.segment, error=refusal.message)
            return None
        if not isinstance(found, Verified):
            raise InvariantViolation(f"the worker answered {type(found).__name__} to Verify")
        return found

    async def _initial_root(self, duty: Duty, job: Job) -> bytes:
        """The root of the state that the seed gives, in a folder of its own."""
        states = self._materials.states(duty.task_id, "initial")
        made = await self._worker.final(Train(job, str(states), 0, 0, 1, 1))
        if not isinstance(made, Trained):
            raise InvariantViolation(f"the worker answered {type(made).__name__} to Train")
        return made.initial_root

    def _made_up(self, duty: Duty) -> Verdict:
        return Verdict(made_up(duty.segments), b"", secrets.token_bytes(32))

    def _copied(self, duty: Duty, verdict: Verdict) -> tuple[Finding, ...]:
        """What others have shown, as a copying verifier would show it."""
        shown = copied(State(self._chain.view()).instalment(duty.task_id, duty.instalment), verdict.findings)
        if not shown:
            raise Rejection(VERDICT_LOST, "a copying verifier has none of its own, and no other one has shown any yet")
        return shown

    def _verdict_path(self, duty: Duty, slot: Verification) -> Path:
        """One file a draw: drawn again, the same node may get other segments, or find what was not served before."""
        folder = self._materials.states(duty.task_id, line_of(self._instalment(duty)))
        return folder / f"verdict-{duty.instalment}-{slot.drawn_height}"

    async def own_findings(self, instalment: Instalment) -> tuple[Finding, ...]:
        """This node's own findings of an instalment, where it verified it."""
        slot = slot_of(instalment, self._account.address)
        if slot is None or self._cheats.idle_verifier:
            return ()
        folder = self._materials.states(instalment.task_id, line_of(instalment))
        path = folder / f"verdict-{instalment.number}-{slot.drawn_height}"
        return (await _read_verdict(path)).findings if path.exists() else ()


def _is_native(view: Reader, task: Task) -> bool:
    return State(view).spec(task.task_id).arithmetic == NATIVE


def is_bad_checkpoint(refusal: Rejection) -> bool:
    """Whether the worker refused a state file."""
    return refusal.message.startswith(BAD_CHECKPOINT.code)


async def _read_verdict(path: Path) -> Verdict:
    verdict: Verdict = decode(Verdict, await trio.Path(path).read_bytes())
    return verdict
