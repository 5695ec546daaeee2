"""Auditing one's own job: re-execute random segments of a task on this machine and compare, bit for bit.

What is needed comes from the network by content: the program and all roots from the ledger (as a node tells it, or
proven by a light client), data and states by their blob ids, every one checked. Which segments are looked at is drawn
here and now; nobody could prepare for it.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from secrets import SystemRandom
from typing import TYPE_CHECKING, Protocol

import psutil

from consensus.ledger import queries
from consensus.ledger.block import Reader
from consensus.ledger.challenges import CHALLENGEABLE
from consensus.ledger.duties import SegmentWork, segment_work
from consensus.ledger.evidence_keys import comparable
from consensus.ledger.guarantee import caught
from consensus.ledger.messages import APPROVED, ARITHMETIC_REP_V1, TaskSpec
from consensus.ledger.records import INSTALMENT_INVALID, VERIFICATION_REVEALED, Instalment, ProgramRecord, Task
from consensus.ledger.schedule import instalment_segments
from consensus.ledger.view import State
from gensyn_node.config.home import Home
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import MIB
from gensyn_node.sdk import blobs, reasons
from gensyn_node.sdk.client import NodeClient
from gensyn_node.sdk.ledger_reader import LedgerReader
from ml.worker.kernels import kernel_store
from proofs.dataset import dataset_root

if TYPE_CHECKING:
    from ml.worker.messages import Final, Job, Request

FOLDER = "audits"
AGREES, DIFFERS, INITIAL_DIFFERS, EVIDENCE_DIFFERS, UNAVAILABLE = (
    "agrees",
    "differs",
    "initial state differs",
    "evidence differs",
    "unavailable",
)
CERTAIN = Fraction(95, 100)


class Asks(Protocol):
    """A worker, as an audit needs it."""

    def ask(self, request: Request) -> Final:
        """The final reply."""


class Look(Reader, Protocol):
    """Reads the ledger as of one moment, until it is told to forget."""

    def forget(self) -> None:
        """Ask again for everything from now on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One segment, looked at."""

    segment: int
    instalment: int
    attempt: int
    phase: str
    """The instalment's."""
    first_step: int
    steps: int
    result: str
    """AGREES, DIFFERS, INITIAL_DIFFERS, EVIDENCE_DIFFERS or UNAVAILABLE."""
    claimed_root: bytes
    own_root: bytes
    """What this machine came to; of the evidence where that differs; empty when nothing could be computed."""
    verifier: bytes
    """Whose evidence differs; empty otherwise."""
    seconds: float
    note: str

    @property
    def wrong(self) -> bool:
        """Whether something was proven wrong here."""
        return self.result in (DIFFERS, INITIAL_DIFFERS, EVIDENCE_DIFFERS)

    @property
    def open(self) -> bool:
        """Whether it may still be challenged."""
        return self.phase in CHALLENGEABLE


@dataclass(frozen=True, slots=True)
class Chances:
    """What an audit of so many segments says about the others."""

    committed: int
    audited: int
    one_bps: int
    """Chance that one wrong segment among those committed would have been met, in basis points."""
    certain_segments: int
    """Least number of wrong segments of which one would have been met with 95 %."""


def chances(committed: int, audited: int) -> Chances:
    """By the hypergeometric distribution: segments are drawn without repetition."""
    wrong = committed
    for wrong in range(1, committed + 1):
        if caught(committed, audited, wrong, 1) >= CERTAIN:
            break
    return Chances(committed, audited, 10_000 * audited // max(1, committed), wrong)


def sample_size(committed: int, fraction: float, segments: int | None) -> int:
    """How many segments are looked at: `segments` when given, else a fraction, at least one, at most all."""
    wanted = math.ceil(committed * fraction) if segments is None else segments
    return max(1, min(committed, wanted))


class Audit:
    """One audit of a task."""

    def __init__(self, client: NodeClient, home: Home, task_id: bytes, reader: Look | None = None) -> None:
        """`client` fetches blobs and sends; `reader` reads the ledger, as the same node tells it when None."""
        self._client = client
        self.folder = home.path / FOLDER / task_id.hex()
        self._kernels = kernel_store(home.kernels)
        self.reader: Look = reader or LedgerReader(client)
        task, spec = queries.task(self.reader, task_id), queries.spec(self.reader, task_id)
        if task is None or spec is None:
            raise Rejection(reasons.NOTHING_TO_AUDIT, f"there is no task {task_id.hex()}")
        record = queries.program(self.reader, task.program_id)
        if record is None:
            raise Rejection(reasons.NODE_ERROR, f"the node has no program of the task {task_id.hex()}")
        if spec.arithmetic != ARITHMETIC_REP_V1:
            raise Rejection(reasons.NOT_EXACT, f"the task's arithmetic is {spec.arithmetic}")
        self.task: Task = task
        self.spec: TaskSpec = spec
        self._record: ProgramRecord = record
        self.state_bytes_max = 2 * record.state_bytes + MIB

    def committed(self) -> list[tuple[Instalment, int]]:
        """(instalment, segment) of everything that is committed and stands. Raises Rejection NOTHING_TO_AUDIT."""
        found = [
            (instalment, segment)
            for instalment in queries.instalments(self.reader, self.task.task_id)
            if instalment.state != INSTALMENT_INVALID and instalment.segment_roots  # none while they are sealed
            for segment in instalment_segments(self.spec, instalment.number)
        ]
        if not found:
            raise Rejection(reasons.NOTHING_TO_AUDIT, f"the task is {self.task.state}; no instalment is committed yet")
        return found

    def drawn(self, fraction: float, segments: int | None) -> list[tuple[Instalment, int]]:
        """Random segments, those that may still be challenged first, then in the order of their steps."""
        committed = self.committed()
        count = sample_size(len(committed), fraction, segments)
        chosen = SystemRandom().sample(committed, count)
        return sorted(chosen, key=lambda one: (one[0].state not in CHALLENGEABLE, one[1]))

    def job(self, threads: int) -> Job:
        """Fetch data and initial weights; what a worker needs. Raises Rejection when they are not the task's."""
        from ml.worker.messages import Job

        self._check_room()
        initial = ""
        if self.spec.checkpoint_blob:
            path = self.folder / "initial.safetensors"
            self._fetch(self.spec.checkpoint_blob, path)
            initial = str(path)
        return Job(self._record.program, str(self._dataset()), self.task.seed, initial, threads)

    def examine(self, worker: Asks, job: Job, instalment: Instalment, segment: int) -> Finding:
        """Re-execute one segment and compare its end, and the evidence of whoever approved it."""
        started = time.monotonic()
        work = segment_work(State(self.reader), self.spec, instalment, segment)
        states = self.folder / f"states-{segment}"
        states.mkdir(parents=True, exist_ok=True)
        result, root, verifier, note = self._compared(worker, job, instalment, work, states)
        if result not in (DIFFERS, INITIAL_DIFFERS, EVIDENCE_DIFFERS):
            shutil.rmtree(states)  # A dispute starts from it.
        return Finding(
            segment=segment,
            instalment=instalment.number,
            attempt=instalment.attempt,
            phase=instalment.state,
            first_step=work.first_step,
            steps=work.steps,
            result=result,
            claimed_root=work.end_root,
            own_root=root,
            verifier=verifier,
            seconds=round(time.monotonic() - started, 3),
            note=note,
        )

    def _compared(
        self, worker: Asks, job: Job, instalment: Instalment, work: SegmentWork, states: Path
    ) -> tuple[str, bytes, bytes, str]:
        """(result, own root, verifier, note)."""
        from ml.worker.messages import Failed, Train, Trained, Verified, Verify, state_path

        if work.first_step:
            try:
                self._fetch(work.start_blob, state_path(states, work.first_step))
            except Rejection as refusal:
                return UNAVAILABLE, b"", b"", refusal.message
        else:
            made = worker.ask(Train(job, str(states), 0, 0, 1, 1))
            if isinstance(made, Trained) and made.initial_root != self.task.initial_root:
                return INITIAL_DIFFERS, made.initial_root, b"", "the seed gives another initial state"
        place = (work.first_step, work.steps, work.start_root, work.end_root)
        found = worker.ask(Verify(job, str(states), *place, work.evidence_key))
        if isinstance(found, Failed):
            return UNAVAILABLE, b"", b"", f"{found.code} {found.message}"
        if not isinstance(found, Verified):
            raise Rejection(reasons.NODE_ERROR, f"the worker answered {type(found).__name__} to Verify")
        if not found.agrees:
            return DIFFERS, found.end_root, b"", ""
        for slot in (one for one in instalment.verifications if comparable(instalment, one)):
            roots = {one.segment: one.root for one in slot.findings if one.verdict == APPROVED}
            shown = roots.get(work.segment, found.evidence_root)
            if slot.state == VERIFICATION_REVEALED and shown != found.evidence_root:
                return EVIDENCE_DIFFERS, found.evidence_root, slot.verifier, "an approval without the work"
        return AGREES, found.end_root, b"", ""

    def _dataset(self) -> Path:
        from ml.data.manifest import Manifest, manifest_path, read_manifest, shard_path

        directory = self.folder / "data"
        directory.mkdir(parents=True, exist_ok=True)
        aside = self.folder / "manifest"
        self._fetch(self.spec.dataset_manifest, aside)
        manifest: Manifest = read_manifest(aside.read_bytes())
        if dataset_root(manifest.dataset) != dataset_root(self.spec.dataset):
            raise Rejection(reasons.BAD_DATA_FILE, "the manifest that is served describes another data set")
        for shard in manifest.blobs:
            self._fetch(shard.blob_id, shard_path(directory, shard.blob_id))
        os.replace(aside, manifest_path(directory))
        return directory

    def _fetch(self, blob_id: bytes, target: Path) -> None:
        if not blob_id:
            raise Rejection(reasons.NOTHING_TO_AUDIT, "the solver named no file to fetch it by")
        if not target.exists():
            blobs.download(self._client, blob_id, target)

    def _check_room(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        free = psutil.virtual_memory().available
        if free < self.task.memory_bytes:
            need = -(-self.task.memory_bytes // MIB)
            raise Rejection(
                reasons.AUDIT_TOO_LARGE, f"the task needs {need} MiB of memory, {free // MIB} are free on this machine"
            )

    @contextmanager
    def worker(self, threads: int) -> Iterator[Asks]:
        """A confined worker of this machine."""
        from ml.worker.session import worker_session

        bound = psutil.virtual_memory().available
        with worker_session(self.folder, self._kernels, bound, threads) as session:
            yield session

    def clean(self) -> None:
        """Delete what was downloaded, unless a challenge rests on it."""
        if not any(self.folder.glob("challenge-*")):
            shutil.rmtree(self.folder, ignore_errors=True)


OnFinding = Callable[[Finding], None]


def run_audit(
    audit: Audit, worker: Asks, chosen: list[tuple[Instalment, int]], job: Job, on_finding: OnFinding | None = None
) -> list[Finding]:
    """Look at the chosen segments one after the other; it stops at the first that is wrong and may be challenged."""
    found: list[Finding] = []
    for instalment, segment in chosen:
        found.append(audit.examine(worker, job, instalment, segment))
        if on_finding is not None:
            on_finding(found[-1])
        if found[-1].wrong and found[-1].open:
            break
    return found
