"""Convolutions of every form: captured, equal to eager PyTorch, and the same bits from kernels and definitions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ml_layers import Twice, captured, same_in_all_ways
from torch import nn

SHAPES_2D: list[dict[str, Any]] = [
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2, "bias": False},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 1, "groups": 4},
    {"kernel_size": 5, "stride": 3, "padding": 4, "dilation": 2},
    {"kernel_size": 4, "stride": 4},
    {"kernel_size": (7, 9)},
    {"kernel_size": 3, "padding": "same"},
]


@pytest.mark.parametrize("options", SHAPES_2D, ids=str)
def test_two_dimensions(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = Twice(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, **options))
    x = torch.randn(3, 3, 7, 9)
    same_in_all_ways(captured(module, x), module, [x])


@pytest.mark.parametrize("options", [{"kernel_size": 4, "stride": 2, "padding": 3, "groups": 2}, {"kernel_size": 3}])
def test_one_dimension(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module, x = Twice(nn.Conv1d(3, 4, 2), nn.Conv1d(4, 6, **options)), torch.randn(2, 3, 33)
    same_in_all_ways(captured(module, x), module, [x])


def test_three_dimensions() -> None:
    torch.manual_seed(0)
    module = Twice(nn.Conv3d(2, 4, 1), nn.Conv3d(4, 3, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1)))
    x = torch.randn(2, 2, 3, 5, 4)
    same_in_all_ways(captured(module, x), module, [x])


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 3, "output_padding": 2, "groups": 2},
        {"kernel_size": (2, 3), "stride": (2, 1), "dilation": (1, 2), "padding": (1, 0), "bias": False},
    ],
    ids=str,
)
def test_transposed(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = Twice(nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 6, **options))
    x = torch.randn(3, 2, 4, 5)
    same_in_all_ways(captured(module, x), module, [x])


def test_a_single_image() -> None:
    torch.manual_seed(0)

    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = torch.stack([self.convolution(image) for image in x.unbind(0)])
            return y

    captured(Single(), torch.randn(2, 2, 5, 5))


@pytest.mark.parametrize("special", [float("inf"), float("nan"), -0.0, 1e-45])
def test_special_weights(special: float) -> None:
    """A padded zero times infinity is NaN, as the chain of the definition has it."""
    torch.manual_seed(0)
    module = Twice(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 9, 3, stride=2, padding=1))
    x = torch.randn(2, 1, 6, 6)
    program = captured(module, x)
    with torch.no_grad():
        module.second.weight[1, 0, 0, 0] = special  # type: ignore[union-attr, index]
        module.second.weight[4] = special  # type: ignore[union-attr, index]
    same_in_all_ways(program, module, [x])
