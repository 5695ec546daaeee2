"""The worker process: requests and replies over pipes, killed and resumed, never crashed by what it is sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from ml_jobs import job_of, run_of

from gensyn_node.primitives.codec import encode
from ml.presets import Built
from ml.trainer import train
from ml.worker.frames import decode_reply, frame, read_frame
from ml.worker.messages import (
    Cancel,
    Evaluate,
    Evaluated,
    Failed,
    Job,
    MemoryPredicted,
    PredictMemory,
    Progress,
    Ready,
    Reply,
    Request,
    Respond,
    SegmentDone,
    Train,
    Trained,
    Verified,
    Verify,
    state_path,
)
from ml.worker.process import worker_command, worker_environment
from ml.worker.service import versions


class Worker:
    """A worker process under test."""

    def __init__(self, *arguments: str) -> None:
        folder = Path(tempfile.gettempdir())
        environment = {**worker_environment(folder=folder), **({"NUMBA_CACHE_DIR": CACHE} if CACHE else {})}
        folders = [folder, Path(CACHE)] if CACHE else [folder]
        command = [*worker_command(1 << 30, 600, folders, file_bytes=1 << 30), *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )

    @property
    def stdin(self) -> BinaryIO:
        """Where requests go."""
        assert self.process.stdin is not None
        return cast(BinaryIO, self.process.stdin)

    def send(self, request: Request | bytes) -> None:
        """Send a request, or raw bytes."""
        self.stdin.write(request if isinstance(request, bytes) else frame(request))
        self.stdin.flush()

    def replies(self) -> Iterator[Reply]:
        """Replies up to and including a final one."""
        assert self.process.stdout is not None
        while (data := read_frame(cast(BinaryIO, self.process.stdout))) is not None:
            reply = decode_reply(data)
            yield reply
            if not isinstance(reply, Progress | SegmentDone):
                return

    def final(self) -> Reply | None:
        """The next final reply."""
        return next((item for item in self.replies() if not isinstance(item, Progress | SegmentDone)), None)

    def close(self) -> int:
        """End it by ending its input; its exit code."""
        self.stdin.close()
        code = self.process.wait(60)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


CACHE = os.environ.get("NUMBA_CACHE_DIR", "")
LINUX = sys.platform.startswith("linux")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One worker for the tests that leave it alive."""
    made = Worker()
    ready = made.final()
    assert (isinstance(ready, Ready) and all(measure.active for measure in ready.sandbox)) or not LINUX
    yield made
    assert made.close() == 0


def ask(worker: Worker, request: Request | bytes) -> Reply | None:
    """Send and wait for the final reply."""
    worker.send(request)
    return worker.final()


def test_train_verify_evaluate(worker: Worker, mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    job = job_of(mlp_sgd, table_data)
    worker.send(Train(job, str(tmp_path), 0, 40, 10, 5))
    replies = list(worker.replies())
    segments = [item for item in replies if isinstance(item, SegmentDone)]
    progress = [item for item in replies if isinstance(item, Progress)]
    trained = replies[-1]
    assert isinstance(trained, Trained)
    assert [item.step for item in progress] == list(range(4, 40, 5))
    assert [item.step for item in segments] == [0, 10, 20, 30, 40]
    assert trained.initial_root == segments[0].state_root and trained.end_root == segments[-1].state_root
    assert trained.losses == tuple(item.loss for item in segments[1:])
    own = [item.root for item in train(run_of(mlp_sgd, table_data), tmp_path / "own", 0, 40, 10, lambda *_: None)]
    assert [item.state_root for item in segments] == own
    found = ask(worker, Verify(job, str(tmp_path), 20, 10, own[2], own[3]))
    assert isinstance(found, Verified) and found.agrees and found.end_root == own[3]
    lied = ask(worker, Verify(job, str(tmp_path), 20, 10, own[2], bytes(32)))
    assert isinstance(lied, Verified) and not lied.agrees and lied.evidence_root == found.evidence_root
    keyed = ask(worker, Verify(job, str(tmp_path), 20, 10, own[2], own[3], bytes(32)))
    assert isinstance(keyed, Verified) and keyed.agrees and keyed.step_roots == found.step_roots
    assert keyed.evidence_root != found.evidence_root, "it shows what the key draws, too"
    before = ask(worker, Evaluate(job, str(state_path(tmp_path, 0)), 0, 3))
    after = ask(worker, Evaluate(job, str(state_path(tmp_path, 40)), 0, 3))
    assert isinstance(before, Evaluated) and isinstance(after, Evaluated) and after.loss < before.loss


def test_it_outlives_the_thread_that_started_it() -> None:
    """A node starts it from a thread of a pool, which ends after a while without work; the node does not."""
    started: list[tuple[Worker, Reply | None]] = []

    def start() -> None:
        made = Worker()
        started.append((made, made.final()))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    [(made, ready)] = started
    assert isinstance(ready, Ready)
    try:
        assert isinstance(ask(made, PredictMemory(b"", 1)), Failed)
    finally:
        made.process.kill()
        made.close()


def test_memory(worker: Worker, gpt_adamw: Built) -> None:
    predicted = ask(worker, PredictMemory(encode(gpt_adamw.program), 1))
    assert isinstance(predicted, MemoryPredicted) and predicted.state_bytes < predicted.process_bytes


def test_bad_requests_are_answered(worker: Worker, mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    job = job_of(mlp_sgd, table_data)

    def changed(**fields: object) -> Job:
        return job_of(mlp_sgd, table_data, **fields)

    cases: list[tuple[Request | bytes, str]] = [
        (b"\0\0\0\x04abcd", "E1002"),
        (b"\0\0\0\0", "E1002"),
        (frame((99, 1)), "E1002"),
        (PredictMemory(b"", 1), "E1002"),
        (Train(changed(seed=b"short"), str(tmp_path), 0, 4, 2, 1), "E1903"),
        (Train(changed(dataset_directory=str(tmp_path)), str(tmp_path), 0, 4, 2, 1), "E1901"),
        (Train(job, str(tmp_path), 3, 4, 2, 1), "E1903"),
        (Train(job, str(tmp_path), 4, 4, 2, 1), "E1902"),
        (Train(job, "/proc/nowhere/states", 0, 4, 2, 1), "E1903"),
        (Verify(job, str(tmp_path), 0, 2, bytes(32), bytes(32)), "E1902"),
        (Verify(job, str(tmp_path), 0, 0, bytes(32), bytes(32)), "E1903"),
        (Verify(job, str(tmp_path), 0, 2, bytes(32), bytes(32), bytes(31)), "E1903"),
        (Respond(job, str(tmp_path), b"\x90"), "E1002"),
        (Evaluate(job, str(tmp_path / "none"), 0, 1), "E1902"),
    ]
    for request, code in cases:
        reply = ask(worker, request)
        assert isinstance(reply, Failed) and reply.code == code, (request, reply)


def test_cancelled_between_two_steps(worker: Worker, mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    worker.send(Train(job_of(mlp_sgd, table_data), str(tmp_path), 0, 1_000_000, 10, 1_000_000))
    for reply in worker.replies():
        if isinstance(reply, SegmentDone) and reply.step == 20:
            worker.send(Cancel())
    assert isinstance(reply, Failed) and reply.code == "E1904"
    worker.send(Cancel())
    assert isinstance(ask(worker, PredictMemory(encode(mlp_sgd.program), 1)), MemoryPredicted)


def test_killed_and_resumed(mlp_adamw: Built, table_data: Path, tmp_path: Path) -> None:
    run = run_of(mlp_adamw, table_data)
    through = [item.root for item in train(run, tmp_path / "own", 0, 60, 10, lambda *_: None)]
    request = Train(job_of(mlp_adamw, table_data), str(tmp_path / "states"), 0, 60, 10, 1)
    first = Worker()
    assert isinstance(first.final(), Ready)
    first.send(request)
    for reply in first.replies():
        if isinstance(reply, Progress) and reply.step == 33:
            first.process.send_signal(signal.SIGKILL)
            break
    first.process.wait(60)
    first.close()
    second = Worker()
    assert isinstance(second.final(), Ready)
    second.send(request)
    replies = list(second.replies())
    # SIGTERM ends an idle worker at once, cleanly.
    second.process.terminate()
    assert second.process.wait(60) == 0
    second.close()
    assert [item.state_root for item in replies if isinstance(item, SegmentDone)] == through
    redone = [item.step for item in replies if isinstance(item, Progress)]
    assert redone[-1] == 59 and redone[0] >= 30
    left = {path.name for path in (tmp_path / "states").iterdir()}
    assert {state_path("", step).name for step in range(0, 61, 10)} <= left


def test_a_folder_without_readable_metadata_is_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: None)
    assert versions()[0] == "source"
