"""A task with a model of one's own: from `file.py:function` to what is submitted, and back to an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gensyn_node.config.home import Home
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons as sdk_reasons
from gensyn_node.sdk.evaluate import evaluate_model
from gensyn_node.sdk.task_build import BuiltTask, build_task
from gensyn_node.sdk.task_file import parse_task_file
from ml import reasons
from ml.checkpoint import root_of_given, save_state
from ml.interpreter import Interpreter
from ml.trainer import given_entries
from ml.worker.dry_run import MemoryNeed
from proofs.program.types import Fill, Given, Uniform

TASK = """\
[model]
file = "model.py:make"
{model}
[data]
train = "data.npz"
validation = 0.2
[train]
steps = 40
batch_size = 8
{train}
[price]
max = "1 GSN"
"""
OPTIMIZER = 'optimizer = { name = "adam", lr = 1e-2, clip_norm = 1.0, schedule = { name = "cosine", warmup = 5 } }'
HEAD = "import torch\nfrom torch import nn, optim\nfrom torch.nn import functional as F\n\n\n"
PLAIN = HEAD + "def make():\n    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.LayerNorm(5), nn.Linear(5, 3))\n"


@pytest.fixture(autouse=True)
def _memory_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dry run in a process of its own has tests of its own."""
    monkeypatch.setattr("ml.worker.dry_run.memory_need", lambda program, cache, arithmetic: MemoryNeed(1 << 30, ""))


def build(folder: Path, source: str, train: str = OPTIMIZER, model: str = "", **arrays: Any) -> BuiltTask:
    """Write the files of a task and build it."""
    random = np.random.default_rng(1)
    x = random.standard_normal((60, 6)).astype(np.float32)
    arrays = arrays or {"x": x, "y": np.argmax(x[:, :3], 1).astype(np.int64)}
    np.savez(folder / "data.npz", **arrays)
    (folder / "model.py").write_text(source)
    return build_task(Home(folder / "home"), parse_task_file(TASK.format(train=train, model=model)), folder, 1000)


def test_a_module_alone_starts_from_its_own_weights(tmp_path: Path) -> None:
    built = build(tmp_path, PLAIN)
    given = [entry.name for entry in built.program.state if isinstance(entry.initial, Given)]
    assert given == [f"parameter.{name}" for name in ("0.weight", "0.bias", "3.weight", "3.bias")]
    start = {entry.name: entry.initial for entry in built.program.state}
    assert start["parameter.2.weight"] == Fill(0x3F800000), "what is all the same needs no checkpoint"
    assert built.checkpoint is not None and built.spec.checkpoint_blob
    values = given_entries(built.program, str(built.checkpoint))
    torch.manual_seed(0)
    assert torch.equal(values["parameter.0.weight"], torch.nn.Linear(6, 5).weight)
    state = [values.get(entry.name, torch.zeros(())) for entry in built.program.state]
    assert root_of_given(built.program, state) == built.spec.checkpoint_root
    again = build(tmp_path, PLAIN)
    assert again.spec == built.spec, "the same file gives the same task"


def test_a_module_may_start_from_the_task_s_seed(tmp_path: Path) -> None:
    built = build(tmp_path, PLAIN, model='initial = "seed"')
    assert built.checkpoint is None and not built.spec.checkpoint_root
    assert isinstance(built.program.state[0].initial, Uniform)


def test_loss_and_optimizer_come_from_the_file(tmp_path: Path) -> None:
    source = HEAD + (
        "class Twin(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.encoder = nn.Linear(6, 4)\n"
        "    def embed(self, x):\n"
        "        return F.normalize(self.encoder(x), dim=-1)\n"
        "def loss(model, batch):\n"
        "    return (model.embed(batch['x']) - model.embed(batch['x'] * 1.1)).square().sum(-1).mean()\n"
        "def make(data):\n"
        "    assert data.records == 48 and data.shapes['x'] == (6,) and data.dtypes['y'] is torch.int64\n"
        "    model = Twin()\n"
        "    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)\n"
        "    return model, loss, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 10)\n"
    )
    built = build(tmp_path, source, train="")
    assert any(entry.name == "optimizer.momentum.encoder.weight" for entry in built.program.state)
    assert [tensor.name for tensor in built.spec.dataset] == ["x", "y"]


def test_inputs_go_by_name_and_targets_take_the_output_s_shape(tmp_path: Path) -> None:
    source = HEAD + (
        "class Rating(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.user, self.item = nn.Embedding(9, 4), nn.Embedding(7, 4)\n"
        "    def forward(self, item, user):\n"
        "        return (self.user(user) * self.item(item)).sum(-1, keepdim=True)\n"
        "def make():\n"
        "    return {'module': Rating(), 'loss': nn.BCEWithLogitsLoss(), 'clip_value': 0.5}\n"
    )
    random = np.random.default_rng(2)
    arrays = {name: random.integers(0, high, 40) for name, high in (("user", 9), ("item", 7), ("y", 2))}
    built = build(tmp_path, source, **arrays)
    assert [item.name for item in built.program.batch] == ["item", "user", "y"]


def test_a_trained_model_is_evaluated_with_the_user_s_module(tmp_path: Path) -> None:
    built = build(tmp_path, PLAIN)
    interpreter = Interpreter(built.program)
    values = given_entries(built.program, str(built.checkpoint))
    from ml.data.dataset import open_dataset
    from proofs.program.initial import initial_tensor

    state = [
        values[entry.name]
        if entry.name in values
        else torch.from_numpy(initial_tensor(entry, number, bytes(32)).copy())
        for number, entry in enumerate(built.program.state)
    ]
    data = open_dataset(built.folder)
    for step in range(40):
        state, _ = interpreter.step(state, data.batch(built.program, bytes(32), step), step)
    model = tmp_path / "model.safetensors"
    save_state(model, built.program.state, state, 0.0)
    task = parse_task_file(TASK.format(train=OPTIMIZER, model=""))
    found = evaluate_model(Home(tmp_path / "home"), task, tmp_path, model)
    assert found.records == 12 and found.accuracy is not None and found.loss < 1.2
    given = evaluate_model(
        Home(tmp_path / "home"), task, tmp_path, model, {"x": np.zeros((3, 6), np.float32), "y": np.zeros(3, np.int64)}
    )
    assert given.records == 3
    with pytest.raises(Rejection) as refusal:
        evaluate_model(Home(tmp_path / "home"), task, tmp_path, model, {"x": np.zeros((3, 6), np.float32)})
    assert refusal.value.reason is sdk_reasons.BAD_DATA_FILE


BROKEN = {
    "def make():\n    return 3\n": "int",
    "def make():\n    return nn.Linear(6, 3), None, 3, None, 5\n": "tuple of 5",
    "def make():\n    return {'modul': nn.Linear(6, 3)}\n": "modul",
    "def other():\n    return 3\n": "no function make",
    "def make():\n    return nn.Linear(6)\n": "model.py:7: return nn.Linear(6)",
    "def make(:\n": "SyntaxError",
    "def make():\n    return nn.Linear(6, 3), 'hinge'\n": "hinge",
    "def make():\n    return nn.Linear(6, 3), 3\n": "loss is a int",
    "def make():\n    m = nn.Linear(6, 3)\n    return m, None, optim.SGD(m.parameters(), 1)\n": "in the task file",
    "def make():\n    return {'module': nn.Linear(6, 3), 'clip_norm': 0}\n": "clip_norm is 0",
    "def make():\n    return {'module': nn.Linear(6, 3), 'initial': 'zeros'}\n": "initial is 'zeros'",
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_file_that_is_no_model_is_refused_with_its_line(tmp_path: Path, source: str) -> None:
    with pytest.raises(Rejection) as refusal:
        build(tmp_path, HEAD + source)
    assert refusal.value.reason is reasons.BAD_MODEL_FILE
    assert BROKEN[source] in refusal.value.message


def test_there_must_be_an_optimizer_and_a_target(tmp_path: Path) -> None:
    with pytest.raises(Rejection) as refusal:
        build(tmp_path, PLAIN, train="")
    assert "no optimizer" in refusal.value.message
    with pytest.raises(Rejection) as refusal:
        build(tmp_path, PLAIN, x=np.zeros((60, 6), np.float32))
    assert "no y" in refusal.value.message


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ('preset = "mlp"\nwidths = [4]', "model.file"),
        ("widths = [4]", "model.widths"),
        ('initial = "zeros"', "model.initial"),
    ],
)
def test_a_task_file_has_a_preset_or_a_file(model: str, field: str) -> None:
    with pytest.raises(Rejection) as refusal:
        parse_task_file(TASK.format(model=model, train=OPTIMIZER))
    assert field in refusal.value.message
