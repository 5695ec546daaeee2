"""Models of images, written as a user would. Images are 8 × 8 digits with one channel, flat."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Vit(nn.Module):
    """Patches of 2 × 2 through a linear layer, a class token, the library's attention."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.patches = nn.Linear(4, width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(4)])
        self.attentions = nn.ModuleList([nn.MultiheadAttention(width, 3, batch_first=True) for _ in range(2)])
        self.units = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(2)]
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        patches = x.view(batch, 4, 2, 4, 2).permute(0, 1, 3, 2, 4).reshape(batch, 16, 4)
        x = torch.cat([self.token.expand(batch, -1, -1), self.patches(patches)], dim=1) + self.positions
        for layer in range(2):
            y = self.norms[2 * layer](x)
            x = x + self.attentions[layer](y, y, y, need_weights=False)[0]
            x = x + self.units[layer](self.norms[2 * layer + 1](x))
        return self.head(x[:, 0])


class Mixer(nn.Module):
    """Perceptrons over places and over channels, in turns."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Linear(4, width)
        self.places = nn.ModuleList([nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(2)])
        self.channels = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width)) for _ in range(2)]
        )
        self.norm = nn.GroupNorm(4, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.unfold(1, 4, 4))
        for places, channels in zip(self.places, self.channels, strict=True):
            x = x + places(x.transpose(1, 2)).transpose(1, 2)
            x = x + channels(x)
        return self.head(self.norm(x.transpose(1, 2)).mean(-1))


class Convolutional(nn.Module):
    """Convolutions, batch norm, pooling, dropout of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.second_norm = nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.drop = nn.Dropout2d(0.1)
        self.head = nn.Linear(16 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 1, 8, 8)
        x = F.max_pool2d(F.relu(self.first_norm(self.first(x))), 2)
        x = F.avg_pool2d(F.relu(self.second_norm(self.second(x))), 2)
        return self.head(self.drop(x).flatten(1))


class Residual(nn.Module):
    """Two convolutions around a shortcut, strided where the channels grow."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.second, self.second_norm = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A small residual net with a global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(Residual(8, 8, 1), Residual(8, 16, 2))
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.stem(x.view(-1, 1, 8, 8))).mean((2, 3)))
