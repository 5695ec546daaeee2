"""The models of the campaign with their data: small, of every kind that makes noise of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gensyn_node.primitives.errors import Rejection
from ml.capture.optimizers import AdamW, Optimizer, Sgd
from ml.capture.step import LossFunction, make_step
from ml.capture.trace import capture
from ml.data.manifest import write_dataset
from ml.presets.build import cross_entropy
from ml.presets.models import Gpt, Mlp
from proofs.program.types import Program

CLASSES, RECORDS = 10, 512


class Recurrent(nn.Module):
    """A long short-term memory over a sequence, its cell written out."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + width, 4 * width)
        self.out = nn.Linear(width, CLASSES)
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = cell = x[:, 0, :1] * 0.0 + torch.zeros(x.shape[0], self.width)
        for time in range(x.shape[1]):
            gates = self.gates(torch.cat([x[:, time], hidden], 1))
            enter, keep, give, new = gates.split(self.width, 1)
            cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(new)
            hidden = torch.sigmoid(give) * torch.tanh(cell)
        out: torch.Tensor = self.out(hidden)
        return out


class Convolutional(nn.Module):
    """Two convolutions with batch norm (their biases have no gradient), ReLU and pooling over maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(16)])
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Linear(16 * 9, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.norms[0](self.first(x))))
        x = self.pool(torch.relu(self.norms[1](self.second(x))))
        out: torch.Tensor = self.out(x.flatten(1))
        return out


@dataclass(frozen=True)
class Model:
    """One kind of model: its program, its data, its initial state."""

    name: str
    module: Callable[[], nn.Module]
    optimizer: Optimizer
    data: Callable[[np.random.Generator], dict[str, np.ndarray]]
    batch_size: int = 32

    def program(self) -> Program:
        """The captured step. Rejection when the opset lacks something that it needs."""
        data = self.data(np.random.default_rng(0))
        batch = {name: torch.from_numpy(array[: self.batch_size].copy()) for name, array in data.items()}
        return capture(self.module(), self.loss(), self.optimizer, batch)

    def loss(self) -> LossFunction:
        """Cross-entropy of the next token, or of the class."""

        def loss(call: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            if "tokens" in batch:
                tokens = batch["tokens"].to(torch.int64)
                return cross_entropy(call(tokens[:, :-1]), tokens[:, 1:])
            return cross_entropy(call(batch["x"]), batch["y"])

        return loss

    def write(self, folder: Path) -> None:
        """Write the data set."""
        write_dataset(folder, self.data(np.random.default_rng(0)))

    def initial(self, seed: int, program: Program) -> list[torch.Tensor]:
        """An initial state, in the program's order."""
        torch.manual_seed(seed)
        state = make_step(self.module(), self.loss(), self.optimizer).state
        return [state[entry.name].detach().clone().contiguous() for entry in program.state]


def _table(*shape: int) -> Callable[[np.random.Generator], dict[str, np.ndarray]]:
    def make(generator: np.random.Generator) -> dict[str, np.ndarray]:
        centres = generator.standard_normal((CLASSES, *shape))
        y = generator.integers(0, CLASSES, RECORDS)
        x = centres[y] + 1.5 * generator.standard_normal((RECORDS, *shape))
        return {"x": x.astype(np.float32), "y": y.astype(np.int64)}

    return make


def _tokens(generator: np.random.Generator) -> dict[str, np.ndarray]:
    steps = generator.choice([1, 1, 1, 2, 5], (RECORDS, 33))
    return {"tokens": (np.cumsum(steps, axis=1) % 48).astype(np.uint8)}


_SGD, _ADAMW = Sgd(lr=0.05, momentum=0.9, weight_decay=1e-4), AdamW(lr=1e-3)

MODELS = (
    Model("mlp-sgd", lambda: Mlp(100, (256, 64), CLASSES, "relu"), _SGD, _table(100)),
    Model("mlp-adamw", lambda: Mlp(100, (256, 64), CLASSES, "relu"), _ADAMW, _table(100)),
    Model("cnn-sgd", Convolutional, _SGD, _table(1, 12, 12)),
    Model("lstm-adamw", lambda: Recurrent(12, 48), _ADAMW, _table(8, 12)),
    Model("gpt-adamw", lambda: Gpt(2, 64, 4, 32, 48), _ADAMW, _tokens, 8),
)


def captured(names: tuple[str, ...] = ()) -> tuple[dict[str, tuple[Model, Program]], dict[str, str]]:
    """The models that the opset can express, and why it cannot express the others."""
    found: dict[str, tuple[Model, Program]] = {}
    refused: dict[str, str] = {}
    for model in MODELS:
        if names and model.name not in names:
            continue
        try:
            found[model.name] = (model, model.program())
        except Rejection as refusal:
            refused[model.name] = refusal.message[:160]
    return found, refused
