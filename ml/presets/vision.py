"""Classifiers of images: a convolutional net, a residual net and a transformer over patches.

Records are u8 or f32 of (channels, height, width).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ml.presets.models import Block

PIXEL_SCALE = 1.0 / 255.0
"""u8 pixels become numbers from 0 to 1, inside the program."""


def scaled(x: torch.Tensor) -> torch.Tensor:
    """f32 pixels: u8 scaled, f32 as they are."""
    return x.to(torch.float32) * PIXEL_SCALE if x.dtype == torch.uint8 else x


class Cnn(nn.Module):
    """For each width 3×3 convolution, batch norm, ReLU and 2×2 max pooling; then a linear classifier."""

    def __init__(self, channels: int, height: int, width: int, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((channels, *widths), widths, strict=False):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        places = (height >> len(widths)) * (width >> len(widths))
        self.head = nn.Linear(widths[-1] * places, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(scaled(x)).flatten(1))
        return logits


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norms around a way past them (arXiv 1512.03385, figure 2)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.past: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.past = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.past(x))


class Resnet(nn.Module):
    """A 3×3 convolution, a stage of residual blocks for each width, the mean over places, a linear classifier.

    From the second on, a stage halves the image.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        stages: list[nn.Module] = []
        before = widths[0]
        for stage, after in enumerate(widths):
            for block in range(blocks):
                stages.append(Residual(before, after, 2 if stage and not block else 1))
                before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.stem_norm(self.stem(scaled(x))))
        logits: torch.Tensor = self.head(self.stages(x).mean((2, 3)))
        return logits


class Vit(nn.Module):
    """Square patches as tokens through transformer blocks, their mean, a linear classifier.

    As arXiv 2010.11929 with the mean over places for the class token (arXiv 2205.01580).
    """

    def __init__(
        self, shape: tuple[int, int, int], patch: int, layers: int, width: int, heads: int, classes: int
    ) -> None:
        super().__init__()
        channels, rows, columns = shape
        self.patch = patch
        self.embed = nn.Linear(channels * patch * patch, width)
        self.positions = nn.Parameter(torch.randn((rows // patch) * (columns // patch), width))
        self.blocks = nn.ModuleList([Block(width, heads, causal=False) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, rows, columns = x.shape
        cut = scaled(x).reshape(batch, channels, rows // self.patch, self.patch, columns // self.patch, self.patch)
        patches = cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * self.patch * self.patch)
        y = self.embed(patches) + self.positions
        for block in self.blocks:
            y = block(y)
        logits: torch.Tensor = self.head(self.norm(y).mean(1))
        return logits
