"""Presets the whole way, without a network: task file, ledger, worker, verification, evaluation."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledger_world import World

from consensus.ledger.messages import PublishProgram, SubmitTask
from gensyn_node.config.home import Home
from gensyn_node.primitives.codec import encode
from gensyn_node.sdk.evaluate import evaluate_model
from gensyn_node.sdk.task_build import build_task
from gensyn_node.sdk.task_file import parse_task_file
from ml.worker.dry_run import MemoryNeed
from ml.worker.messages import (
    Job,
    MemoryPredicted,
    PredictMemory,
    SegmentDone,
    Train,
    Trained,
    Verified,
    Verify,
    state_path,
)
from ml.worker.service import answer

TASK = """\
[model]
preset = "{preset}"
{sizes}
[data]
train = "{data}"
validation = 0.25
[train]
steps = 4
batch_size = 4
precision = "{precision}"
optimizer = {{ name = "adamw", lr = 1e-3 }}
[verify]
segment = 2
samples = 1
[price]
max = "10 GSN"
"""
PRESETS = {
    "cnn": ("widths = [4]", "images.npz", "f32"),
    "resnet": ("widths = [4, 6]\nblocks = 1", "images.npz", "f32"),
    "vit": ("patch = 4\nlayers = 1\nwidth = 8\nheads = 2", "images.npz", "bf16"),
    "lstm": ("layers = 1\nwidth = 8\ncontext = 4", "text.txt", "f32"),
}


def data(folder: Path) -> None:
    """Images of three classes, and a text."""
    random = np.random.default_rng(3)
    np.savez(folder / "images.npz", x=random.integers(0, 256, (32, 1, 8, 8), np.uint8), y=np.arange(32) % 3)
    (folder / "text.txt").write_text("a few words over and over. " * 20)


@pytest.mark.parametrize("preset", PRESETS)
def test_from_the_task_file_to_a_verified_model(preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml.worker.dry_run.memory_need", lambda program, cache, arithmetic: MemoryNeed(1 << 26, ""))
    data(tmp_path)
    sizes, file, precision = PRESETS[preset]
    task = parse_task_file(TASK.format(preset=preset, sizes=sizes, data=file, precision=precision))
    built = build_task(Home(tmp_path / "home"), task, tmp_path, 1000)
    world = World()
    world.do("submitter", PublishProgram(encode(built.program)))
    assert world.do("submitter", SubmitTask(built.spec)).transaction_id

    def ask(request: Any, kind: Any) -> Any:
        reply = answer(request, said.append, threading.Event())
        assert isinstance(reply, kind), reply
        return reply

    said: list[Any] = []
    program = encode(built.program)
    assert ask(PredictMemory(program, 1), MemoryPredicted)
    job, states = Job(program, str(built.folder), bytes(range(32)), str(built.checkpoint or ""), 1), tmp_path / "states"
    ask(Train(job, str(states), 0, 4, 2, 1), Trained)
    roots = [one.state_root for one in said if isinstance(one, SegmentDone)]
    assert len(set(roots)) == 3
    for segment in range(2):
        start = (roots[segment], roots[segment + 1])
        assert ask(Verify(job, str(states), 2 * segment, 2, *start), Verified).agrees
        assert not ask(Verify(job, str(states), 2 * segment, 2, roots[segment], roots[segment]), Verified).agrees
    found = evaluate_model(Home(tmp_path / "home"), task, tmp_path, state_path(states, 4))
    assert found.records > 0 and found.loss > 0 and found.accuracy is not None
