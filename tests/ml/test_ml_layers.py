"""Pooling, upsampling and normalisation: captured, equal to eager PyTorch, the same bits in every way of running."""

from __future__ import annotations

import pytest
import torch
from ml_layers import Twice, captured, cube_loss, same_in_all_ways
from torch import nn
from torch.nn import functional

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.optimizers import Sgd
from ml.capture.trace import capture
from ml.interpreter import Interpreter

POOLS_2D = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.MaxPool2d((2, 3), stride=(1, 2), dilation=(2, 1)),
    nn.MaxPool2d(3, stride=2, ceil_mode=True),
    nn.AvgPool2d(2),
    nn.AvgPool2d(3, stride=2, padding=1),
    nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    nn.AvgPool2d((3, 2), stride=2, ceil_mode=True),
    nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
    nn.AvgPool2d(2, divisor_override=3),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((4, 2)),
    nn.Upsample(scale_factor=2),
    nn.Upsample(size=(24, 20)),
]


@pytest.mark.parametrize("pool", POOLS_2D, ids=str)
def test_pooling(pool: nn.Module) -> None:
    torch.manual_seed(0)
    module, x = Twice(nn.Conv2d(2, 3, 3, padding=1), pool), torch.randn(2, 2, 8, 10)
    same_in_all_ways(captured(module, x), module, [x])


@pytest.mark.parametrize(
    "pool", [nn.MaxPool1d(3, 2), nn.AvgPool1d(3, 2, 1), nn.AdaptiveAvgPool1d(3), nn.Upsample(scale_factor=3)], ids=str
)
def test_pooling_of_lines(pool: nn.Module) -> None:
    torch.manual_seed(0)
    module, x = Twice(nn.Conv1d(2, 3, 3, padding=1), pool), torch.randn(2, 2, 12)
    same_in_all_ways(captured(module, x), module, [x])


@pytest.mark.parametrize("pool", [nn.MaxPool3d(2), nn.AvgPool3d(2), nn.AdaptiveAvgPool3d(1)], ids=str)
def test_pooling_of_volumes(pool: nn.Module) -> None:
    torch.manual_seed(0)
    module, x = Twice(nn.Conv3d(2, 3, 1), pool), torch.randn(2, 2, 4, 4, 6)
    same_in_all_ways(captured(module, x), module, [x])


class Indices(nn.Module):
    """Uses the indices of a max pooling as numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, where = functional.max_pool2d(x, 3, 2, 1, return_indices=True)
        return y * where.to(torch.float32)


def test_indices_count_elements_of_the_image() -> None:
    torch.manual_seed(0)
    captured(Twice(nn.Conv2d(1, 2, 1), Indices()), torch.randn(2, 1, 7, 6))


def test_the_gradient_goes_to_the_first_greatest_and_to_the_first_nan() -> None:
    """Ties are everywhere after a ReLU."""

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Parameter(torch.zeros(1, 1, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = functional.max_pool1d(self.line, 4, 2, 1) + x
            return y

    # The first momentum is the gradient.
    program = capture(Line(), lambda call, batch: call(batch["x"]).sum(), Sgd(1.0, 0.5), {"x": torch.zeros(4)})
    interpreter = Interpreter(program)
    infinity, nan = float("inf"), float("nan")
    for line, gradient in [
        ([0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 1, 0, 0]),
        ([1, 3, 3, 2, 3, 1, 0, 5], [0, 2, 0, 0, 1, 0, 0, 1]),
        ([1, nan, 3, nan, infinity, 1, 0, 5], [0, 2, 0, 1, 0, 0, 0, 1]),
        ([-infinity] * 4 + [1, 2, 3, 4], [0, 0, 0, 0, 1, 0, 1, 1]),
    ]:
        state = [torch.tensor(line, dtype=torch.float32).reshape(1, 1, 8), torch.zeros(1, 1, 8)]
        batch = [torch.zeros(4)]
        plain = interpreter.observed_step(state, batch, 0, lambda _, value: value)
        for moved, _ in (interpreter.step(state, batch, 0), plain):
            assert moved[1].reshape(8).tolist() == gradient


NORMS_2D = [
    nn.BatchNorm2d(4),
    nn.BatchNorm2d(4, affine=False),
    nn.BatchNorm2d(4, momentum=0.3, eps=1e-2),
    nn.BatchNorm2d(4, track_running_stats=False),
    nn.BatchNorm2d(4).eval(),
    nn.GroupNorm(2, 4),
    nn.GroupNorm(4, 4, affine=False),
    nn.InstanceNorm2d(4),
    nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    nn.LayerNorm((4, 5, 6)),
    nn.LayerNorm(6, bias=False),
    nn.LayerNorm(6, elementwise_affine=False),
    nn.RMSNorm(6),
    nn.RMSNorm((5, 6), eps=1e-3),
]


@pytest.mark.parametrize("norm", NORMS_2D, ids=lambda norm: f"{norm}{norm.training}")
def test_normalisation(norm: nn.Module) -> None:
    torch.manual_seed(0)
    for name, value in norm.named_parameters():
        nn.init.uniform_(value, 0.5, 1.5)
        assert name
    module, x = Twice(nn.Conv2d(2, 4, 1), norm), torch.randn(3, 2, 5, 6)
    program = captured(module, x)
    same_in_all_ways(program, module, [x])


@pytest.mark.parametrize("shape", [(8, 2), (8, 2, 5), (4, 2, 3, 2, 2)])
def test_batch_norm_of_any_rank(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 5: nn.BatchNorm3d}[len(shape)]
    x = torch.randn(shape)
    module = nn.Sequential(kind(2), nn.Tanh(), kind(2))
    same_in_all_ways(captured(module, x), module, [x])


def test_running_statistics_follow_pytorch() -> None:
    """Ten steps with a learning rate too small to matter: statistics and counter are PyTorch's."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
    batches = [torch.randn(4, 1, 6, 6) + step for step in range(10)]
    program = capture(module, cube_loss, Sgd(1e-30), {"x": batches[0]})
    names = [entry.name.partition(".")[2] for entry in program.state]
    state = [dict(module.state_dict())[name].clone() for name in names]
    interpreter = Interpreter(program)
    for step, batch in enumerate(batches):
        state, _ = interpreter.step(state, [batch], step)
        module(batch)
    final = dict(zip(names, state, strict=True))
    assert int(final["1.num_batches_tracked"]) == 10
    for name in ("1.running_mean", "1.running_var"):
        assert torch.allclose(final[name], module.state_dict()[name], rtol=1e-5)


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (nn.AdaptiveAvgPool2d(3), "does not divide"),
        (nn.Upsample(size=(9, 9)), "whole factors"),
        (nn.BatchNorm2d(4, momentum=None), "second"),
    ],
)
def test_refusals(module: nn.Module, word: str) -> None:
    with pytest.raises(Rejection) as refusal:
        capture(Twice(nn.Conv2d(2, 4, 1), module), cube_loss, Sgd(0.1), {"x": torch.zeros(2, 2, 5, 6)})
    assert refusal.value.reason in (reasons.NOT_LOWERABLE, reasons.DATA_DEPENDENT)
    assert word in refusal.value.message
