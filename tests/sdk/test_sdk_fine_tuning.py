"""Tasks that start from given weights: from the task file to what is submitted, and back to an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from gensyn_node.config.home import Home
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons as sdk_reasons
from gensyn_node.sdk.evaluate import evaluate_model
from gensyn_node.sdk.task_build import build_task
from gensyn_node.sdk.task_file import parse_task_file
from ml import reasons
from ml.presets.lora import write_merged
from ml.worker.dry_run import MemoryNeed

TASK = """\
[model]
{model}
checkpoint = "base.safetensors"
{more}
[data]
train = "{data}"
validation = 0.2
{tokens}
[train]
steps = 20
batch_size = 4
{train}
[price]
max = "1 GSN"
"""
OPTIMIZER = 'optimizer = { name = "adamw", lr = 1e-2 }'
LORA = 'lora = { rank = 2, alpha = 4, targets = ["first"] }'
OWN = (
    "from torch import nn, optim\n\n\n"
    "def make():\n"
    "    model = nn.Sequential()\n"
    "    model.add_module('first', nn.Linear(6, 5))\n"
    "    model.add_module('second', nn.Linear(5, 3))\n"
)


@pytest.fixture(autouse=True)
def _memory_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dry run in a process of its own has tests of its own."""
    monkeypatch.setattr("ml.worker.dry_run.memory_need", lambda program, cache, arithmetic: MemoryNeed(1 << 30, ""))


def base(folder: Path) -> dict[str, torch.Tensor]:
    """The files of a task with a model of one's own; its weights."""
    random = np.random.default_rng(1)
    x = random.standard_normal((60, 6)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=np.argmax(x[:, :3], 1).astype(np.int64))
    (folder / "model.py").write_text(OWN + "    return model\n")
    torch.manual_seed(5)
    parts = {"first": nn.Linear(6, 5), "second": nn.Linear(5, 3)}
    weights = {f"{path}.{name}": v.detach() for path, part in parts.items() for name, v in part.named_parameters()}
    save_file(weights, folder / "base.safetensors")
    return weights


def task(
    more: str = "",
    train: str = OPTIMIZER,
    data: str = "data.npz",
    model: str = 'file = "model.py:make"',
    tokens: str = "",
) -> str:
    """The text of a task file."""
    return TASK.format(model=model, more=more, train=train, data=data, tokens=tokens)


MLP = 'preset = "mlp"\nwidths = [4]'


def test_weights_become_the_task_s_initial_checkpoint(tmp_path: Path) -> None:
    weights = base(tmp_path)
    built = build_task(Home(tmp_path / "home"), parse_task_file(task()), tmp_path, 1000)
    assert built.checkpoint is not None and built.spec.checkpoint_root
    held = load_file(built.checkpoint)
    assert {name.removeprefix("parameter."): value.tolist() for name, value in held.items()} == {
        name: value.tolist() for name, value in weights.items()
    }


def test_adapters_of_a_model_of_one_s_own_are_evaluated_and_merged(tmp_path: Path) -> None:
    weights = base(tmp_path)
    file, home = parse_task_file(task(LORA)), Home(tmp_path / "home")
    built = build_task(home, file, tmp_path, 1000)
    types = {entry.name: entry.type for entry in built.program.state}
    assert {name for name in types if name.startswith("parameter.")} == {
        "parameter.first.lora_down",
        "parameter.first.lora_up",
    }
    assert built.checkpoint is not None and all(name.startswith("constant.") for name in load_file(built.checkpoint))
    torch.manual_seed(2)
    state = {name: torch.rand(type_.shape) for name, type_ in types.items()}
    state |= {f"constant.{name}": value for name, value in weights.items()}
    state["buffer.first.lora_scale"] = torch.tensor(2.0)
    save_file(state, tmp_path / "model.safetensors")
    write_merged(tmp_path / "model.safetensors", tmp_path / "merged.safetensors")
    merged = load_file(tmp_path / "merged.safetensors")
    assert merged.keys() == weights.keys()
    up, down = state["parameter.first.lora_up"], state["parameter.first.lora_down"]
    assert torch.allclose(merged["first.weight"], weights["first.weight"] + 2 * up @ down)
    with_adapters = evaluate_model(home, file, tmp_path, tmp_path / "model.safetensors")
    (tmp_path / "base.safetensors").write_bytes((tmp_path / "merged.safetensors").read_bytes())
    plain = parse_task_file(task())
    built = build_task(home, plain, tmp_path, 1000)
    given = load_file(built.checkpoint) if built.checkpoint else {}
    whole = {entry.name: given.get(entry.name, torch.zeros(entry.type.shape)) for entry in built.program.state}
    save_file(whole, tmp_path / "plain.safetensors")
    assert abs(evaluate_model(home, plain, tmp_path, tmp_path / "plain.safetensors").loss - with_adapters.loss) < 1e-5


def test_a_file_s_own_optimizer_does_not_go_with_adapters(tmp_path: Path) -> None:
    base(tmp_path)
    (tmp_path / "model.py").write_text(OWN + "    return model, None, optim.SGD(model.parameters(), 0.1)\n")
    with pytest.raises(Rejection) as refusal:
        build_task(Home(tmp_path / "home"), parse_task_file(task(LORA, train="")), tmp_path, 1000)
    assert refusal.value.reason is reasons.BAD_MODEL_FILE and "optimizer under [train]" in refusal.value.message


def test_texts_of_other_characters_do_not_go_with_weights(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text of a few characters. " * 20)
    lstm = 'preset = "lstm"\nlayers = 1\nwidth = 4\ncontext = 4'
    with pytest.raises(Rejection) as refusal:
        build_task(Home(tmp_path / "home"), parse_task_file(task(data="text.txt", model=lstm)), tmp_path, 1000)
    assert refusal.value.reason is sdk_reasons.BAD_TASK_FILE and 'tokens = "bytes"' in refusal.value.message
    with pytest.raises(Rejection) as refusal:
        file = parse_task_file(task(data="text.txt", model=lstm, tokens='tokens = "bytes"'))
        build_task(Home(tmp_path / "home"), file, tmp_path, 1000)
    assert refusal.value.reason is reasons.BAD_WEIGHTS and "no file of this name" in refusal.value.message


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (task('initial = "seed"'), "model.initial"),
        (
            task(LORA, model='preset = "mlp"\nwidths = [4]').replace('checkpoint = "base.safetensors"\n', ""),
            "model.lora",
        ),
        (task("lora = { rank = 0, alpha = 4, targets = ['first'] }"), "model.lora.rank"),
        (task("lora = { rank = 2, alpha = 0, targets = ['first'] }"), "model.lora.alpha"),
        (task("lora = { rank = 2, alpha = 4, targets = [] }"), "model.lora.targets"),
        (task("lora = { rank = 2, alpha = 4 }"), "model.lora.targets"),
        (task("lora = { rank = 2, alpha = 4, targets = ['first'], dropout = 1 }"), "model.lora.dropout"),
    ],
)
def test_contradictions(text: str, field: str) -> None:
    with pytest.raises(Rejection) as refusal:
        parse_task_file(text)
    assert f", {field}: " in refusal.value.message
