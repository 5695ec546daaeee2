"""Training that begins with given weights, and with adapters on frozen ones (docs/adr/0029)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ml_jobs import run_of
from safetensors.torch import load_file, save_file
from torch import nn

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.check import check_against_eager
from ml.checkpoint import StateRoots, load_state, root_of_state, save_state
from ml.data.manifest import write_dataset
from ml.presets import Built, build
from ml.presets.build import cross_entropy, module_of
from ml.presets.configuration import parse_preset
from ml.presets.lora import LoraConfig, adapt, merged, write_merged
from ml.presets.own import given_state
from ml.presets.tuning import Tuning
from ml.presets.weights import load_weights, same_bits
from ml.trainer import train
from ml.worker.messages import Fault
from proofs.program.types import Given, Program
from tests.disputes.architectures import FIRST_STEP, SEGMENT_STEPS, world_of
from tests.disputes.faults import Figures, disputed

GPT: dict[str, Any] = {"name": "gpt", "context": 12, "vocabulary": 32, "layers": 1, "width": 32, "heads": 2}
ADAMW = {"name": "adamw", "lr": 1e-2}
LORA = LoraConfig(4, 8.0, ("blocks.*.attention.query", "*.value", "blocks.0.up"))


def text(stride: int) -> np.ndarray[Any, Any]:
    """Records of 13 tokens, each the one before and a stride more."""
    starts = np.random.default_rng(stride).integers(0, 32, (96, 1))
    return ((starts + stride * np.arange(13)) % 32).astype(np.uint8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A model that a task gave, trained on text of one stride, and its last loss."""
    folder = tmp_path_factory.mktemp("base")
    write_dataset(folder / "data", {"tokens": text(3)})
    built = build(GPT, ADAMW, 8)
    (*_, last) = train(run_of(built, folder / "data"), folder, 0, 80, 80, lambda *_: None)
    return last.path, last.loss


def tuned(path: Path) -> Built:
    return build(GPT, ADAMW, 8, tuning=Tuning(path, LORA))


def start_file(built: Built, path: Path) -> str:
    """The initial checkpoint of a program."""
    values = given_state(built)
    entries = [entry for entry in built.program.state if isinstance(entry.initial, Given)]
    save_state(path, entries, [values[entry.name] for entry in entries], float("nan"))
    return str(path)


def test_a_preset_goes_on_from_a_model_that_a_task_gave(base: tuple[Path, float], tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", {"tokens": text(3)})
    built = build(GPT, ADAMW, 8, tuning=Tuning(base[0]))
    run = run_of(built, tmp_path / "data", initial_path=start_file(built, tmp_path / "start"))
    first = next(iter(losses(run, tmp_path / "states", 1)))
    assert base[1] < 1.0 and abs(first - base[1]) < 0.3


def losses(run: Any, folder: Path, steps: int) -> list[float]:
    found: list[float] = []
    list(train(run, folder, 0, steps, steps, lambda step, loss, seconds: found.append(loss)))
    return found


def test_adapters_learn_other_text_and_equal_eager_pytorch(base: tuple[Path, float], tmp_path: Path) -> None:
    built = tuned(base[0])
    names = [entry.name for entry in built.program.state]
    trained = [name for name in names if name.startswith("parameter.")]
    assert {name.rpartition(".")[2] for name in trained} == {"lora_down", "lora_up"} and len(trained) == 6
    assert sum(name.startswith("optimizer.first.") for name in names) == 6, "frozen weights have no moments"
    write_dataset(tmp_path / "data", {"tokens": text(5)})
    run = run_of(built, tmp_path / "data", initial_path=start_file(built, tmp_path / "start"))
    own = losses(run, tmp_path / "states", 60)
    assert np.mean(own[-5:]) < np.mean(own[:5]) / 2

    last, _ = load_state(tmp_path / "states/state-0000000060.safetensors", built.program.state)
    after = dict(zip(names, last, strict=True))
    before = load_file(base[0])
    frozen = [name for name in names if name.startswith("constant.")]
    assert frozen and all(same_bits(after[f"{n}"], before[n.replace("constant", "parameter")]) for n in frozen)

    eager = module_of(parse_preset(GPT))
    load_weights(eager, base[0])
    begin, _ = load_state(tmp_path / "states/state-0000000000.safetensors", built.program.state)
    assert np.allclose(own, by_hand(eager, dict(zip(names, begin, strict=True)), run, 60), rtol=2e-3)


def by_hand(module: nn.Module, begin: dict[str, torch.Tensor], run: Any, steps: int) -> list[float]:
    """Losses of the same training by PyTorch alone: adapters are hooks, the optimizer is torch's."""
    module.requires_grad_(False)
    adapters: list[torch.Tensor] = []
    for path, layer in module.named_modules():
        if f"parameter.{path}.lora_down" in begin:
            pair = [begin[f"parameter.{path}.{part}"].clone().requires_grad_() for part in ("lora_down", "lora_up")]
            layer.register_forward_hook(lambda _, x, y, pair=pair: y + x[0] @ pair[0].T @ pair[1].T * 2.0)
            adapters += pair
    rule = torch.optim.AdamW(adapters, lr=1e-2)
    found = []
    for step in range(steps):
        (tokens,) = run.dataset.batch(run.program, run.seed, step)
        tokens = tokens.long()
        loss = cross_entropy(module(tokens[:, :-1]), tokens[:, 1:])
        rule.zero_grad()
        loss.backward()
        rule.step()
        found.append(loss.item())
    return found


def test_the_merged_weights_are_a_plain_model(base: tuple[Path, float], tmp_path: Path) -> None:
    built = tuned(base[0])
    torch.manual_seed(1)
    for name, parameter in built.module.named_parameters():
        if name.endswith("lora_up"):
            nn.init.uniform_(parameter, -0.3, 0.3)
    batch = {"tokens": torch.from_numpy(text(5)[:8])}
    assert check_against_eager(built.program, built.module, built.loss, built.optimizer, batch).worst_ratio <= 1
    state = {f"parameter.{name}": value for name, value in built.module.named_parameters() if value.requires_grad}
    state |= {f"constant.{name}": value for name, value in built.module.named_parameters() if not value.requires_grad}
    state |= {f"buffer.{name}": value for name, value in built.module.named_buffers()}
    save_file({name: value.detach().clone() for name, value in state.items()}, tmp_path / "model")
    assert write_merged(tmp_path / "model", tmp_path / "merged") == len(merged(base[0]))
    plain = module_of(parse_preset(GPT))
    load_weights(plain, tmp_path / "merged")
    tokens = batch["tokens"][:, :-1].long()
    assert torch.allclose(plain(tokens), built.module(tokens), atol=1e-5)
    assert not torch.allclose(plain.blocks[0].up.weight, load_file(base[0])["parameter.blocks.0.up.weight"], atol=1e-3)


def test_what_a_step_passes_on_is_hashed_once(base: tuple[Path, float], monkeypatch: pytest.MonkeyPatch) -> None:
    import ml.checkpoint as checkpoint

    built, hashed = tuned(base[0]), list[int]()
    program = built.program
    state = [torch.zeros(entry.type.shape) for entry in program.state]
    theirs = checkpoint.roots_of_tensors
    monkeypatch.setattr(
        checkpoint, "roots_of_tensors", lambda values, *rest: hashed.extend([1] * len(values)) or theirs(values, *rest)
    )
    roots = StateRoots(program)
    roots.of(0, state)
    passed = sum(number == value for number, value in enumerate(program.state_outputs))
    del hashed[:]
    moved = [
        item if number == value else item + 1
        for number, (item, value) in enumerate(zip(state, program.state_outputs, strict=True))
    ]
    second = roots.of(1, moved)
    assert passed > 15 and len(hashed) == len(state) - passed
    assert second == root_of_state(program, 1, moved)
    changed = [item.clone() for item in moved]
    changed[next(number for number, value in enumerate(program.state_outputs) if number == value)] += 1
    assert roots.of(1, changed) == root_of_state(program, 1, changed) != second


def frozen_product(program: Program) -> int:
    """The value of a product with a frozen weight."""
    constants = {
        n for n, entry in enumerate(program.state) if entry.name.endswith("down.weight") and "lora" not in entry.name
    }
    return _product(program, constants)


def adapter_product(program: Program) -> int:
    """The value of a product with an adapter."""
    return _product(program, {n for n, entry in enumerate(program.state) if entry.name.startswith("parameter.")})


def _product(program: Program, sources: set[int]) -> int:
    reached = set(sources)
    for value, node in enumerate(program.nodes, program.first_node_value):
        if node.operator in ("permute", "reshape") and node.inputs[0] in reached:
            reached.add(value)
        if node.operator == "matmul" and reached & set(node.inputs):
            return value
    raise LookupError("no such product")


@pytest.mark.parametrize("product", [frozen_product, adapter_product])
def test_a_lie_about_a_frozen_or_an_adapted_product_is_found(
    base: tuple[Path, float], tmp_path: Path, product: Any
) -> None:
    built = tuned(base[0])
    values = given_state(built)
    given = [values[entry.name] for entry in built.program.state if isinstance(entry.initial, Given)]
    assert any(entry.name.startswith("constant.") for entry in built.program.state if isinstance(entry.initial, Given))
    world = world_of(built.program, {"tokens": text(5)}, tmp_path, given)
    fault = Fault(FIRST_STEP + 1, product(built.program), 37, 29)
    liar = world.oracle(replace(world.run, fault=fault))
    wrong = liar.state_roots(FIRST_STEP, SEGMENT_STEPS)[-1]
    assert wrong != world.roots[-1]
    for solver_lies in (True, False):
        disputed(world, liar, wrong, fault, solver_lies, Figures())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"rank": 0}, "rank 0"),
        ({"rank": 33}, "rank 33"),
        ({"alpha": float("nan")}, "alpha nan"),
        ({"targets": ("*.query", "*.kex")}, "'*.kex' names no linear layer; there are blocks.0.attention.query"),
        ({"targets": ("tokens",)}, "'tokens' names no linear layer"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(Rejection) as refusal:
        adapt(module_of(parse_preset(GPT)), replace(LORA, **changed))
    assert refusal.value.reason is reasons.BAD_ADAPTERS and says in refusal.value.message


class Tied(nn.Module):
    """Two names of one tensor, a buffer that is saved and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("saved", torch.zeros(2))
        self.register_buffer("made", torch.zeros(2), persistent=False)


WHOLE = {"first.weight": torch.arange(9.0).reshape(3, 3), "saved": torch.ones(2)}


@pytest.mark.parametrize(
    "names",
    [
        WHOLE,
        {"second.weight": WHOLE["first.weight"], "saved": WHOLE["saved"]},
        {**WHOLE, "second.weight": WHOLE["first.weight"].clone()},
        {
            "parameter.first.weight": WHOLE["first.weight"],
            "buffer.saved": torch.ones(2),
            "buffer.made": torch.ones(2),
            "optimizer.first.first.weight": torch.zeros(3, 3),
            "optimizer.beta1_power": torch.zeros(()),
        },
    ],
    ids=["names", "another name", "both names", "a task's"],
)
def test_weights_by_their_names(names: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(names, tmp_path / "weights")
    module = Tied()
    load_weights(module, tmp_path / "weights")
    assert torch.equal(module.second.weight, WHOLE["first.weight"]) and torch.equal(module.saved, torch.ones(2))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"first.weight": torch.zeros(3, 3)}, "it lacks saved"),
        ({**WHOLE, "third.weight": torch.zeros(2)}, "the model has no third.weight"),
        ({**WHOLE, "first.weight": torch.zeros(3, 4)}, "first.weight is f32[3, 4], the model has f32[3, 3]"),
        ({**WHOLE, "saved": torch.zeros(2, dtype=torch.int64)}, "saved is i64[2], the model has f32[2]"),
        ({**WHOLE, "saved": torch.zeros(2, dtype=torch.bfloat16)}, "saved is BF16; a task has"),
        ({**WHOLE, "second.weight": torch.zeros(3, 3)}, "are one tensor of the model and differ"),
    ],
)
def test_weights_that_do_not_follow_from_the_model_are_refused(names: Any, says: str, tmp_path: Path) -> None:
    save_file(names, tmp_path / "weights")
    module = Tied()
    before = module.first.weight.detach().clone()
    with pytest.raises(Rejection) as refusal:
        load_weights(module, tmp_path / "weights")
    assert refusal.value.reason is reasons.BAD_WEIGHTS and says in refusal.value.message
    assert torch.equal(module.first.weight, before)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        *(
            len(text).to_bytes(8, "little") + text + bytes(8)
            for text in (
                b'{"saved":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}}',
                b'{"saved":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}',
                b'{"saved":{"dtype":"F32","shape":{},"data_offsets":[0,8]}}',
                b'{"saved":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"saved":{}}',
                b'{"saved":3}',
            )
        ),
        (1 << 40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (60).to_bytes(8, "little") + b'{"saved":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  ',
        (62).to_bytes(8, "little") + b'{"saved":{"dtype":"F32","shape":[1e9],"data_offsets":[0,8]}}  ',
        (67).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[99999999999999],"data_offsets":[0,8]}}',
    ],
)
def test_files_that_are_no_weights_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(content)
    for path in (tmp_path / "weights", tmp_path / "none", tmp_path):
        with pytest.raises(Rejection) as refusal:
            load_weights(Tied(), path)
        assert refusal.value.reason is reasons.BAD_WEIGHTS
        with pytest.raises(Rejection):
            merged(path)
