"""The models whose training steps are timed: ordinary modules, losses, PyTorch optimizers, records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ml.capture.optimizers import AdamW, Optimizer, Sgd, Tensors
from ml.capture.step import LossFunction
from ml.presets.build import cross_entropy
from ml.presets.models import Gpt, Mlp

Logits = Callable[[nn.Module, Mapping[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Subject:
    """A module to train and how."""

    module: nn.Module
    logits: Logits
    optimizer: Optimizer
    eager: Callable[[nn.Module], torch.optim.Optimizer]
    """The same optimizer by PyTorch."""
    batch_size: int
    records: Tensors
    """Random records of the data set: `batch_size` of them and more."""
    what: str
    """Sizes, for people."""

    def loss(self) -> LossFunction:
        """Mean cross-entropy."""
        return lambda model, batch: cross_entropy(*self.logits(model, batch))

    def batch(self) -> Tensors:
        """The first batch."""
        return {name: value[: self.batch_size].clone() for name, value in self.records.items()}


class ConvolutionalNet(nn.Module):
    """f32 (batch, 1, 28, 28) → logits: two convolutions with batch norm and pooling, one linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 7 * 7, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


class RecurrentNet(nn.Module):
    """f32 (batch, steps, inputs) → logits of the last step of an LSTM."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(inputs, width, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.recurrent(x)
        logits: torch.Tensor = self.head(states[:, -1])
        return logits


def _sgd() -> tuple[Optimizer, Callable[[nn.Module], torch.optim.Optimizer]]:
    return Sgd(lr=0.05, momentum=0.9), lambda module: torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)


def _adamw() -> tuple[Optimizer, Callable[[nn.Module], torch.optim.Optimizer]]:
    return AdamW(lr=1e-3), lambda module: torch.optim.AdamW(module.parameters(), lr=1e-3)


def _labelled(module: nn.Module, shape: tuple[int, ...], batch_size: int, what: str, *, adamw: bool = False) -> Subject:
    generator = torch.Generator().manual_seed(1)
    count = 4 * batch_size
    records = {
        "x": torch.rand((count, *shape), generator=generator),
        "y": torch.randint(0, 10, (count,), generator=generator),
    }
    return Subject(
        module,
        lambda model, batch: (model(batch["x"]), batch["y"]),
        *(_adamw() if adamw else _sgd()),
        batch_size,
        records,
        what,
    )


def gpt(layers: int, width: int, heads: int, context: int, batch_size: int, vocabulary: int = 96) -> Subject:
    """A transformer over bytes, with AdamW."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, vocabulary, (4 * batch_size, context + 1), generator=generator)
    what = f"{layers} layers of {width}, {batch_size} x {context} tokens, AdamW"
    return Subject(
        Gpt(layers, width, heads, context, vocabulary), _next_token, *_adamw(), batch_size, {"tokens": tokens}, what
    )


def _next_token(model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = batch["tokens"]
    return model(tokens[:, :-1]), tokens[:, 1:]


def mlp(inputs: int = 784, width: int = 256, batch_size: int = 64) -> Subject:
    """A perceptron with one hidden layer, with SGD."""
    what = f"{inputs}-{width}-10, batch {batch_size}, SGD"
    return _labelled(Mlp(inputs, (width,), 10, "relu"), (inputs,), batch_size, what)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "mlp": mlp,
    "cnn": lambda: _labelled(ConvolutionalNet(10), (1, 28, 28), 64, "2 convolutions, 28 x 28, batch 64, SGD"),
    "lstm": lambda: _labelled(RecurrentNet(32, 64, 10), (8, 32), 64, "8 steps, 64 wide, batch 64, AdamW", adamw=True),
    "gpt-4x128": lambda: gpt(4, 128, 4, 64, 16),
    "gpt-6x384": lambda: gpt(6, 384, 6, 64, 8),
}
"""The models by name."""
