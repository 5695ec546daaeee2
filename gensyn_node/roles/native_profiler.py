"""The profiler of native tasks: measure this machine's noise on an own seed, bind oneself to it, then show it."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec
import structlog
import trio

from consensus.ledger import queries
from consensus.ledger.duties import Duty
from consensus.ledger.messages import ProfileCommit, ProfileReveal
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.materials import Materials, write_durably
from gensyn_node.roles.reasons import VERDICT_LOST
from gensyn_node.roles.status import Activity
from gensyn_node.roles.worker_client import Worker
from ml.worker.messages import ExamineNative, NativeExamined, Profile, Profiled
from proofs.native.profile import profile_commitment

LINE = "profile"

log = structlog.get_logger()


class Measured(Struct):
    """What was committed to, kept on disk until it is shown."""

    distances: tuple[int, ...]
    salt: bytes


class Profiler:
    """Drives one node's profiling."""

    def __init__(
        self, chain: ChainApi, account: NodeAccount, materials: Materials, worker: Worker, activity: Activity
    ) -> None:
        self._chain = chain
        self._account = account
        self._materials = materials
        self._worker = worker
        self._activity = activity

    async def measure(self, duty: Duty) -> None:
        """Run the first segment by vendor kernels and by `rep-v1`, write the distances down, commit to them."""
        path = self._path(duty)
        if not path.exists():
            self._activity.now(f"measuring the noise of task {duty.task_id.hex()[:12]}", duty.task_id)
            task = queries.task(self._chain.view(), duty.task_id)
            if task is None:
                raise InvariantViolation("a duty of a task that does not exist")
            job = await self._materials.job(self._chain.view(), task)
            found = await self._worker.final(Profile(msgspec.structs.replace(job, seed=duty.seed), duty.steps))
            if not isinstance(found, Profiled):
                raise InvariantViolation(f"the worker answered {type(found).__name__} to Profile")
            made = Measured(found.distances, secrets.token_bytes(32))
            await trio.to_thread.run_sync(write_durably, path, encode(made))
        measured = await _read(path)
        address, distances = self._account.address, measured.distances
        commitment = profile_commitment(duty.task_id, address, distances, measured.salt)
        await self._account.send(ProfileCommit(duty.task_id, commitment))
        log.info("profile_committed", task=duty.task_id.hex())

    async def reveal(self, duty: Duty) -> None:
        """Show the distances committed to."""
        path = self._path(duty)
        if not path.exists():
            raise Rejection(VERDICT_LOST, f"{path} is gone: the measurements of {duty.task_id.hex()[:12]} are lost")
        measured = await _read(path)
        await self._account.send(ProfileReveal(duty.task_id, measured.distances, measured.salt))

    def _path(self, duty: Duty) -> Path:
        """One file a draw: each has a seed of its own."""
        return self._materials.states(duty.task_id, LINE) / duty.seed.hex()


async def repeats_itself(worker: Worker, threads: int) -> bool:
    """Whether this machine may work on native tasks: its kernels repeat themselves and keep their bounds."""
    found = await worker.final(ExamineNative(threads))
    if not isinstance(found, NativeExamined):
        raise InvariantViolation(f"the worker answered {type(found).__name__} to ExamineNative")
    if found.failing:
        log.warning("native_not_offered", failing=found.failing)
    return not found.failing


async def _read(path: Path) -> Measured:
    measured: Measured = decode(Measured, await trio.Path(path).read_bytes())
    return measured
