"""From a built task to a model: publish, upload, submit, follow, download. Each part can be repeated alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.ledger.messages import CancelTask, PublishProgram, SubmitTask
from consensus.ledger.records import TASK_FINISHED
from gensyn_node.config.genesis import read_genesis
from gensyn_node.config.home import Home
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import blobs, datasets, reasons, transactions
from gensyn_node.sdk.certificate import read_certificate, unpack_certificate
from gensyn_node.sdk.client import NodeClient, Progress
from gensyn_node.sdk.quote import Quote, make_quote
from gensyn_node.sdk.transactions import Outcome
from gensyn_node.sdk.verify import Verified, verify_certificate
from proofs.program.types import ITEM_BYTES

if TYPE_CHECKING:
    from gensyn_node.sdk.task_build import BuiltTask

POLL_S = 0.5
CERTIFICATE_S = 60.0
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished task's files."""

    model: Path
    certificate: Path
    bytes: int


def quote_task(client: NodeClient, task: BuiltTask) -> Quote:
    """What the task would cost now."""
    entries = task.program.state
    state_bytes = sum(entry.type.elements * ITEM_BYTES[entry.type.dtype] for entry in entries)
    return make_quote(task.spec, task.gas_per_step, client.parameters(), client.call("providers"), state_bytes)


def submit_task(client: NodeClient, key: SecretKey, task: BuiltTask, progress: Progress | None = None) -> Outcome:
    """Upload data and initial weights, publish the program unless it is known, escrow and submit.

    The outcome's id is the task's.
    """
    datasets.upload_dataset(client, task.folder, task.manifest, progress)
    if task.checkpoint is not None:
        blobs.upload(client, task.checkpoint, progress)
    if client.find("program", program_id=task.spec.program_id.hex()) is None:
        transactions.send(client, key, PublishProgram(encode(task.program)))
    return transactions.send(client, key, SubmitTask(task.spec))


def cancel_task(client: NodeClient, key: SecretKey, task_id: bytes) -> Outcome:
    """Stop a task: what was committed is still verified and paid, the rest refunded."""
    return transactions.send(client, key, CancelTask(task_id))


def follow_task(client: NodeClient, task_id: bytes, poll_s: float = POLL_S) -> Iterator[Json]:
    """The task each time something changed, until it is over. A node that is away for a while is waited for."""
    before: Json | None = None
    for task in poll_task(client, task_id, poll_s=poll_s):
        if task != before:
            yield task
            before = task


def wait_task(client: NodeClient, task_id: bytes, timeout_s: float | None = None) -> Json:
    """The finished task; TASK_NOT_FINISHED when it ended otherwise, STILL_RUNNING when the time is over."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    for task in poll_task(client, task_id, end):
        if task["final"]:
            if task["state"] != TASK_FINISHED:
                raise Rejection(reasons.TASK_NOT_FINISHED, f"the task ended as {task['state']}")
            return task
    raise Rejection(reasons.STILL_RUNNING, f"the task {task_id.hex()} is not over after {timeout_s:g} s")


def download_task(client: NodeClient, task_id: bytes, folder: Path, progress: Progress | None = None) -> Downloaded:
    """`model.safetensors` and `model.cert` of a finished task, both written whole or not at all. Not verified yet."""
    task = client.call("task", task_id=task_id.hex())
    if task["model_blob"] is None:
        raise Rejection(reasons.NO_MODEL, f"the task is {task['state']} and has no settled model")
    data = fetch_certificate(client, task_id)
    unpack_certificate(data)
    folder.mkdir(parents=True, exist_ok=True)
    model, certificate = folder / "model.safetensors", folder / "model.cert"
    length = blobs.download(client, bytes.fromhex(task["model_blob"]), model, progress)
    certificate.write_bytes(data)
    return Downloaded(model, certificate, length)


def fetch_certificate(client: NodeClient, task_id: bytes) -> bytes:
    """The task's certificate; waits for the block after its end, whose header proves it."""
    end = time.monotonic() + CERTIFICATE_S
    while (found := client.find("certificate", task_id=task_id.hex())) is None:
        if time.monotonic() > end:
            raise Rejection(reasons.NO_MODEL, f"the task has no certificate after {CERTIFICATE_S:g} s")
        time.sleep(POLL_S)
    return bytes.fromhex(found)


def download_verified(
    client: NodeClient, task_id: bytes, folder: Path, home: Home, progress: Progress | None = None
) -> tuple[Downloaded, Verified]:
    """Like `download_task`, and checked: certificate against the home's genesis (when it has one), model against it."""
    found = download_task(client, task_id, folder, progress)
    trusted = read_genesis(home.genesis) if home.genesis.exists() else None
    return found, verify_certificate(read_certificate(found.certificate), trusted=trusted, model=found.model)


def poll_task(client: NodeClient, task_id: bytes, end: float | None = None, poll_s: float = POLL_S) -> Iterator[Json]:
    """The task again and again, changed or not, until it is over or time (monotonic) is `end`."""
    while end is None or time.monotonic() < end:
        task = _patient(lambda: client.call("task", task_id=task_id.hex()))
        yield task
        if task["final"]:
            return
        time.sleep(poll_s)


def _patient(ask: Callable[[], Json], attempts: int = 20) -> Json:
    """Ask again while the node does not answer: it may be restarting."""
    for _ in range(attempts - 1):
        try:
            return ask()
        except Rejection as error:
            if error.reason != reasons.NODE_UNREACHABLE:
                raise
        time.sleep(1.0)
    return ask()
