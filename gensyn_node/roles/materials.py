"""Program, data and states of a task on this disk: fetched from peers, checked, laid out for the worker.

`work/<task>/data/` holds the manifest and links to its shards, `work/<task>/<line>/` the states of one line of work (a
solver's own training, or what a verifier fetched and re-ran). Nothing is used before its root was checked: shards by
their blob ids, the data set by its root, states by the worker against the root it is given.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import trio

from consensus.ledger import queries
from consensus.ledger.block import Reader
from consensus.ledger.messages import TaskSpec
from consensus.ledger.records import Task
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.limits import MESSAGE_BYTES_MAX, MIB
from gensyn_node.roles.reasons import BLOB_TOO_LARGE, DATA_MISMATCH, DISK_FULL, STATE_UNAVAILABLE
from ml.data.manifest import Manifest, manifest_path, read_manifest, shard_path
from ml.worker.messages import Fault, Job, state_path
from p2p.api import BlobProgress, Blobs, BlobUnavailable
from proofs.classes import NATIVE
from proofs.dataset import dataset_root

CPU = "cpu"
"""Where vendor kernels run."""
OWN = "own"
"""Line of work of this node as solver; verifiers use a line an attempt."""
_TASK_FOLDER = re.compile(r"^[0-9a-f]{64}$")

DISK_RESERVE_BYTES = 1 << 30
"""Never taken for others' tasks: a node that cannot write its chain any more stops voting."""


def largest_state(view: Reader, task: Task) -> int:
    """Most bytes of a state file of this task: its tensors, and their names in the header."""
    record = queries.program(view, task.program_id)
    if record is None:
        raise InvariantViolation(f"task {task.task_id.hex()} has no program")
    return 2 * record.state_bytes + MIB


class Materials:
    """The work folder of a node."""

    def __init__(self, folder: Path, blobs: Blobs, threads: int, device: str = "cpu") -> None:
        self._folder = folder
        self._blobs = blobs
        self._threads = threads
        self._device = device

    def task_folder(self, task_id: bytes) -> Path:
        """Everything this node keeps of a task."""
        return self._folder / task_id.hex()

    def states(self, task_id: bytes, line: str) -> Path:
        """The folder of a line of work's states."""
        folder = self.task_folder(task_id) / line
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def job(self, view: Reader, task: Task, fault: Fault | None = None) -> Job:
        """What the worker needs to train or re-run the task; fetches what is not here.

        Raises `Rejection` DATA_MISMATCH or STATE_UNAVAILABLE.
        """
        spec, record = queries.spec(view, task.task_id), queries.program(view, task.program_id)
        if spec is None or record is None:
            raise InvariantViolation(f"task {task.task_id.hex()} has no spec or no program")
        directory = await self._dataset(task.task_id, spec)
        initial = ""
        if spec.checkpoint_blob:
            blob = await self._blob(spec.checkpoint_blob, "the initial checkpoint", largest_state(view, task))
            initial = str(self.task_folder(task.task_id) / "initial.safetensors")
            _link(blob, Path(initial))
        native = spec.arithmetic == NATIVE
        threads = self._first_threads(task.task_id) if native else self._threads
        return Job(
            record.program,
            str(directory),
            task.seed,
            initial,
            threads,
            fault,
            arithmetic=spec.arithmetic,
            device=CPU if native else self._device,
        )

    def _first_threads(self, task_id: bytes) -> int:
        """Threads that this node began a native task with: other numbers give other bits, and it stands by its own."""
        path = self.task_folder(task_id) / "threads"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, str(self._threads).encode())
        return int(path.read_text())

    async def _dataset(self, task_id: bytes, spec: TaskSpec) -> Path:
        directory = self.task_folder(task_id) / "data"
        if manifest_path(directory).exists():
            return directory
        directory.mkdir(parents=True, exist_ok=True)
        source = await self._blob(spec.dataset_manifest, "the data set's manifest", MESSAGE_BYTES_MAX)
        data = await trio.Path(source).read_bytes()
        manifest: Manifest = read_manifest(data)
        if dataset_root(manifest.dataset) != dataset_root(spec.dataset):
            raise Rejection(DATA_MISMATCH, "the manifest describes another data set than the task")
        if any(len(shard.blob_id) != 32 for shard in manifest.blobs):
            raise Rejection(DATA_MISMATCH, "the manifest names a shard by what is no blob id")
        for shard in manifest.blobs:
            file = await self._blob(shard.blob_id, "a shard of the data set", shard.size)
            _link(file, shard_path(directory, shard.blob_id))
        # The manifest comes last: its presence says that the folder is whole. Another duty may be doing the same.
        aside = directory / f"manifest.{secrets.token_hex(8)}.new"
        await trio.Path(aside).write_bytes(data)
        os.replace(aside, manifest_path(directory))
        return directory

    async def fetch_state(
        self, task: Task, root: bytes, blob_id: bytes, step: int, states: Path, bytes_max: int
    ) -> None:
        """Bring the state before `step` into a folder of states; the worker checks its root when it reads it."""
        target = state_path(states, step)
        if target.exists():
            return
        name = blob_id or self._blobs.resolve(root)
        if not name:
            found = await self._blobs.lookup(root)
            name = next(iter(found), b"")
        if not name:
            raise Rejection(STATE_UNAVAILABLE, f"no peer has the state before step {step} of task {task.task_id.hex()}")
        _link(await self._blob(name, f"the state before step {step}", bytes_max), target)

    def drop_state(self, step: int, states: Path) -> None:
        """Delete a fetched state that turned out to be another one."""
        with suppress(FileNotFoundError):
            state_path(states, step).unlink()

    async def publish_state(self, root: bytes, path: Path) -> bytes:
        """Serve a state to whoever verifies; its blob id. Raises Rejection STATE_UNAVAILABLE if it is no plain file.

        `root`: under which it is asked for as well; empty: it is not.
        """
        if not stat.S_ISREG((await trio.Path(path).lstat()).st_mode):
            raise Rejection(STATE_UNAVAILABLE, f"{path.name} is not the file that the worker should have written")
        blob_id = await self._blobs.add_file(path)
        if root:
            self._blobs.add_alias(root, blob_id)
        return blob_id

    async def fetch_file(self, blob_id: bytes, what: str, bytes_max: int, target: Path) -> None:
        """Bring a blob into the work folder. Raises Rejection STATE_UNAVAILABLE, BLOB_TOO_LARGE or DISK_FULL."""
        _link(await self._blob(blob_id, what, bytes_max), target)

    async def remove_blob(self, blob_id: bytes) -> None:
        """Serve a blob no longer."""
        await self._blobs.remove(blob_id)

    async def _blob(self, blob_id: bytes, what: str, bytes_max: int) -> Path:
        """Download a blob of at most so many bytes: what strangers name in a task may be of any size.

        Raises `Rejection` STATE_UNAVAILABLE, BLOB_TOO_LARGE or DISK_FULL.
        """
        if not self._blobs.has(blob_id):
            free = shutil.disk_usage(self._folder).free
            if free - bytes_max < DISK_RESERVE_BYTES:
                raise Rejection(DISK_FULL, f"{what}: up to {bytes_max} bytes, {free} are free")
        sizes: list[int] = []
        with trio.CancelScope() as too_large:

            def watch(progress: BlobProgress) -> None:
                sizes.append(progress.bytes_total)
                if progress.bytes_total > bytes_max:
                    too_large.cancel()

            try:
                path = await self._blobs.fetch(blob_id, progress=watch)
            except BlobUnavailable as error:
                raise Rejection(STATE_UNAVAILABLE, f"{what} cannot be fetched: {error}") from None
        if too_large.cancel_called:
            raise Rejection(BLOB_TOO_LARGE, f"{what} has {max(sizes)} bytes, at most {bytes_max} are right")
        return path

    def forget(self, task_id: bytes) -> None:
        """Delete the working files of a task that is over; published blobs stay. What cannot be deleted now stays."""
        with suppress(OSError):
            shutil.rmtree(self.task_folder(task_id))

    def tasks(self) -> Sequence[bytes]:
        """Tasks of which something is kept here."""
        if not self._folder.exists():
            return []
        return sorted(bytes.fromhex(entry.name) for entry in self._folder.iterdir() if _TASK_FOLDER.match(entry.name))


def _link(source: Path, target: Path) -> None:
    """Give a blob a second name; a copy where the file system has no hard links.

    Both become read-only: the worker may replace its name, never change what is served under the other.
    """
    aside = target.with_name(target.name + ".new")
    with suppress(FileNotFoundError):
        aside.unlink()
    try:
        os.link(source, aside)
    except OSError:
        shutil.copyfile(source, aside)
    aside.chmod(0o444)
    os.replace(aside, target)
    with suppress(
        FileNotFoundError
    ):  # Where both are names of one file already, the call above leaves them as they are.
        aside.unlink()


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that must survive a crash: what was committed to and not shown yet costs a bond when it is lost."""
    aside = path.with_name(path.name + ".new")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
