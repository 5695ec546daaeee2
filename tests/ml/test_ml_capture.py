"""Capture: the program computes what PyTorch computes, has one encoding everywhere, and refuses what it cannot say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from gensyn_node.primitives.errors import Reason, Rejection
from ml import reasons
from ml.capture.check import check_against_eager
from ml.capture.optimizers import Adam, AdamW, Sgd
from ml.capture.schedules import Cosine, warmed_up
from ml.capture.trace import capture
from ml.interpreter import Interpreter
from ml.presets import Built, build
from ml.presets.configuration import parse_optimizer, parse_preset
from proofs.program.types import Program
from proofs.program.validate import validate_program


def real_batch(built: Built) -> dict[str, torch.Tensor]:
    """A batch of plausible values."""
    generator = torch.Generator().manual_seed(3)
    batch = {}
    for name, value in built.batch.items():
        if value.dtype == torch.float32:
            batch[name] = torch.randn(value.shape, generator=generator)
        else:
            batch[name] = torch.randint(0, 5, value.shape, generator=generator).to(value.dtype)
    return batch


@pytest.mark.parametrize("fixture", ["mlp_sgd", "mlp_adamw", "gpt_adamw"])
def test_presets_equal_eager(fixture: str, request: pytest.FixtureRequest) -> None:
    built: Built = request.getfixturevalue(fixture)
    torch.manual_seed(0)
    for parameter in built.module.parameters():
        nn.init.uniform_(parameter, -0.2, 0.2)
    comparison = check_against_eager(built.program, built.module, built.loss, built.optimizer, real_batch(built))
    assert comparison.worst_ratio <= 1
    info = validate_program(built.program)
    assert info.gas_per_step > 0


def test_a_wrong_program_is_noticed(mlp_sgd: Built) -> None:
    torch.manual_seed(0)
    for parameter in mlp_sgd.module.parameters():
        nn.init.uniform_(parameter, -0.2, 0.2)
    batch = real_batch(mlp_sgd)
    for wrong in (Sgd(0.1, 0.8, 1e-4), Sgd(0.101, 0.9, 1e-4), Sgd(0.1, 0.9, 1e-3)):
        with pytest.raises(Rejection) as refusal:
            check_against_eager(mlp_sgd.program, mlp_sgd.module, mlp_sgd.loss, wrong, batch)
        assert refusal.value.reason is reasons.NOT_EAGER


def square_loss(call: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean square of the module's output."""
    return call(batch["x"]).square().mean()


def captured(module: nn.Module, shape: tuple[int, ...] = (4, 6)) -> Program:
    """The program of a module on random input, checked against eager."""
    torch.manual_seed(1)
    batch = {"x": torch.randn(shape)}
    program = capture(module, square_loss, Sgd(0.1), batch)
    check_against_eager(program, module, square_loss, Sgd(0.1), batch)
    return program


class Many(nn.Module):
    """Uses many operations of the lowering."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 8)
        self.norm = nn.LayerNorm(8)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(self.linear(x)) * self.scale
        a, b = h.chunk(2, -1)
        h = torch.cat([torch.sigmoid(a), torch.nn.functional.silu(b)], -1)
        h = torch.where(h > 0.3, h, torch.nn.functional.leaky_relu(h, 0.1)).clamp(-2, 2)
        h = nn.functional.pad(h, (1, 1)).transpose(0, 1)[1:-1].mean(1, keepdim=True) + h.amax(0).unsqueeze(1)
        h = h.abs().sqrt() + h.pow(3) - h.sin() * h.cos() + torch.softmax(h, 0) + h.var(0)
        return h.max(-h).unbind(0)[0].expand(3, 1) + h[::2].sum()


def test_many_operations_equal_eager() -> None:
    program = captured(Many())
    assert any(entry.name == "buffer.scale" for entry in program.state)


def test_library_cross_entropy_and_ignored_labels() -> None:
    def loss(call: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(call(batch["x"]), batch["y"])

    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(6, 7), nn.Softplus(), nn.Linear(7, 3))
    batch = {"x": torch.randn(8, 6), "y": torch.tensor([0, 1, 2, -100, 1, 0, -100, 2])}
    program = capture(module, loss, AdamW(1e-3), batch)
    check_against_eager(program, module, loss, AdamW(1e-3), batch)


class Sorted(nn.Module):
    """Uses an operation without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ordered: torch.Tensor = self.inner(x).sort(-1).values
        return ordered


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (nn.Sequential(nn.Linear(6, 6), Sorted()), "1 (Sorted)"),
        (nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (1, 6)), nn.AdaptiveMaxPool1d(2)), "2 (AdaptiveMaxPool1d)"),
    ],
)
def test_refusals_name_the_operation_and_the_module(module: nn.Module, word: str) -> None:
    with pytest.raises(Rejection) as refusal:
        capture(module, square_loss, Sgd(0.1), {"x": torch.zeros(4, 6)})
    assert refusal.value.reason is reasons.NOT_LOWERABLE
    assert word in refusal.value.message


class Branching(nn.Module):
    """Branches on a tensor's value."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        return y if y.sum() > 0 else -y


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Branching(), reasons.DATA_DEPENDENT),
        (nn.Linear(6, 6).double(), reasons.FOREIGN_DTYPE),
        (nn.Flatten(), reasons.NOT_TRACEABLE),
    ],
)
def test_what_is_no_step_of_the_opset_is_refused(module: nn.Module, reason: Reason) -> None:
    with pytest.raises(Rejection) as refusal:
        capture(module, square_loss, Sgd(0.1), {"x": torch.zeros(4, 6)})
    assert refusal.value.reason is reason


def test_uneven_batches_are_refused() -> None:
    with pytest.raises(Rejection):
        capture(nn.Linear(6, 6), square_loss, Sgd(0.1), {"x": torch.zeros(4, 6), "y": torch.zeros(5)})


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"name": "cnn"},
        {"name": "mlp", "inputs": 4},
        {"name": "mlp", "inputs": 4, "classes": 2, "depth": 3},
        {"name": "mlp", "inputs": 0, "classes": 2},
        {"name": "mlp", "inputs": True, "classes": 2},
        {"name": "mlp", "inputs": 4, "classes": 2, "widths": [8, -1]},
        {"name": "mlp", "inputs": 4, "classes": 2, "activation": "swish"},
        {"name": "gpt", "context": 8, "vocabulary": 300},
        {"name": "gpt", "context": 8, "vocabulary": 30, "width": 30, "heads": 4},
        {"name": "gpt", "context": 8, "vocabulary": 30, "tokens": "f32"},
        {"name": "lstm", "context": 8, "vocabulary": 300},
        {"name": "lstm", "context": 8, "vocabulary": 30, "heads": 4},
        {"name": "lstm", "context": 8, "vocabulary": 30, "layers": 0},
    ],
)
def test_bad_presets(config: dict[str, object]) -> None:
    with pytest.raises(Rejection) as refusal:
        parse_preset(config)
    assert refusal.value.reason is reasons.BAD_PRESET


@pytest.mark.parametrize(
    "config",
    [
        {"name": "rmsprop", "lr": 1.0},
        {"name": "adam"},
        {"name": "sgd", "lr": 0.1, "nesterov": True},
        {"name": "sgd", "lr": 0.1, "nesterov": 1},
        {"name": "sgd", "lr": 0.1, "clip_norm": 0},
        {"name": "sgd", "lr": 0.1, "schedule": {"name": "step"}},
        {"name": "sgd", "lr": 0.1, "schedule": {"name": "cyclic"}},
        {"name": "sgd", "lr": 0.1, "schedule": {"name": "cosine", "warmup": -1}},
        {"name": "sgd", "lr": 0.1, "schedule": {"name": "cosine", "end": -1.0}},
        {"name": "sgd", "lr": 0.1, "schedule": {}},
        {"name": "sgd"},
        {"name": "sgd", "lr": 0},
        {"name": "sgd", "lr": -1.0},
        {"name": "sgd", "lr": float("nan")},
        {"name": "sgd", "lr": 0.1, "momentum": 1.0},
        {"name": "adamw", "lr": "0.1"},
        {"name": "adamw", "lr": 0.1, "amsgrad": True},
    ],
)
def test_bad_optimizers(config: dict[str, object]) -> None:
    with pytest.raises(Rejection) as refusal:
        parse_optimizer(config)
    assert refusal.value.reason is reasons.BAD_PRESET


def test_optimizers_take_integers_for_rates() -> None:
    assert parse_optimizer({"name": "sgd", "lr": 1}) == Sgd(1.0)


def test_a_schedule_without_steps_lasts_as_long_as_the_training() -> None:
    config = {"name": "adam", "lr": 1e-3, "clip_norm": 1, "schedule": {"name": "cosine", "warmup": 10, "end": 0.1}}
    expected = Adam(1e-3, clip_norm=1.0, schedule=warmed_up(10, Cosine(90, 0.1)))
    assert parse_optimizer(config, 100) == expected


@pytest.mark.parametrize(
    "preset",
    [
        {"name": "mlp", "inputs": 3, "widths": [4], "classes": 2},
        {"name": "gpt", "layers": 1, "width": 8, "heads": 2, "context": 4, "vocabulary": 5},
    ],
)
def test_a_preset_leaves_no_memory_as_it_found_it(preset: dict[str, object]) -> None:
    """The comparison with PyTorch starts from the module's own values: what was in memory before may be NaN."""
    torch.use_deterministic_algorithms(True)  # fills what is not initialised with NaN
    try:
        module = build(preset, {"name": "sgd", "lr": 0.1}, 2).module
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(bool(torch.isfinite(value).all()) for value in module.parameters())


class Counting(nn.Module):
    """Writes its buffers: one in place, one by assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.register_buffer("average", torch.zeros(3))
        self.register_buffer("calls", torch.tensor(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        self.average.mul_(0.9).add_(y.detach().mean(0) * 0.1)
        self.calls = self.calls + 1
        return y - self.average


def test_buffers_that_a_module_changes_are_state() -> None:
    torch.manual_seed(1)
    module, batch = Counting(), {"x": torch.randn(4, 6)}
    program = capture(module, square_loss, Sgd(0.1), batch)
    check_against_eager(program, module, square_loss, Sgd(0.1), batch)
    state = [*module.state_dict().values()]
    names = [entry.name for entry in program.state]
    assert names == ["parameter.linear.weight", "parameter.linear.bias", "buffer.average", "buffer.calls"]
    ordered = dict(zip(module.state_dict(), state, strict=True))
    values = [ordered[name.partition(".")[2]] for name in names]
    moved, _ = Interpreter(program).step(values, [batch["x"]], 0)
    assert int(module.calls) == 7, "capture and check leave the module as it was"
    module(batch["x"])
    assert int(moved[3]) == int(module.calls) == 8
    assert torch.allclose(moved[2], module.average, atol=1e-6) and bool(moved[2].abs().sum() > 0)
