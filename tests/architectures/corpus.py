"""The corpus: every architecture with its loss, its optimizer and its data. None but the last two is a preset."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn, optim
from torch.optim import lr_scheduler

from ml.capture.optimizers import Optimizer
from ml.capture.step import LossFunction
from ml.capture.trace import capture
from ml.presets import Built, build
from ml.presets.own import initial_values, loss_of, optimizer_of
from tests.architectures import images, sequences, tables

Arrays = dict[str, NDArray[Any]]
RECORDS = 512


@dataclass(frozen=True)
class Architecture:
    """One entry."""

    make: Callable[[], Any]
    """What a user's function returns: module, or (module, loss, optimizer, schedule), or a dict."""
    data: Callable[[], Arrays]
    batch_size: int = 16
    preset: bool = False


def digits() -> Arrays:
    """8 × 8 images of handwritten digits, flat, and their classes."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return {"x": (x[:RECORDS] / 16).astype(np.float32), "y": y[:RECORDS].astype(np.int64)}


def pixels() -> Arrays:
    """The images alone."""
    return {"x": digits()["x"]}


def rows() -> Arrays:
    """Images as sequences of eight rows."""
    found = digits()
    return {"x": found["x"].reshape(-1, 8, 8), "y": found["y"]}


TEXT = (
    "the quick brown fox jumps over the lazy dog while five wizards quickly jump and pack my box with dozens of "
    "liquor jugs because how vexingly quick daft zebras jump when sphinxes of black quartz judge their vows "
) * 4


def text() -> Arrays:
    """Windows of a text: thirteen tokens each, 1 for a space, 2 to 27 for letters."""
    codes = np.array([1 if c == " " else ord(c) - 95 for c in re.sub("[^a-z ]", "", TEXT)], np.int64)
    starts = np.arange(RECORDS) * 7 % (len(codes) - sequences.LENGTH - 1)
    return {"tokens": codes[starts[:, None] + np.arange(sequences.LENGTH + 1)]}


def parity() -> Arrays:
    """Padded sequences, and whether the first token comes again."""
    random = np.random.default_rng(4)
    tokens = random.integers(1, 9, (RECORDS, sequences.LENGTH))
    tokens *= np.arange(sequences.LENGTH) < random.integers(4, sequences.LENGTH + 1, RECORDS)[:, None]
    return {"x": tokens, "y": (tokens[:, 1:] == tokens[:, :1]).any(1).astype(np.int64)}


def ratings() -> Arrays:
    """Users, items, numbers and clicks that depend on all of them."""
    random = np.random.default_rng(5)
    user, item = random.integers(0, 40, RECORDS), random.integers(0, 30, RECORDS)
    numbers = random.standard_normal((RECORDS, 5)).astype(np.float32)
    taste, quality = random.standard_normal((40, 3)), random.standard_normal((30, 3))
    score = (taste[user] * quality[item]).sum(1) + numbers[:, 0]
    return {"user": user, "item": item, "numbers": numbers, "y": (score > 0).astype(np.float32)}


def trained(module: nn.Module, loss: Any = None, lr: float = 3e-3, **settings: Any) -> Any:
    """AdamW as torch has it, and a cosine with a warm-up."""
    wanted = [value for value in module.parameters() if value.requires_grad]
    optimizer = optim.AdamW(wanted, lr, **settings)
    rise = lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 20)
    fall = lr_scheduler.CosineAnnealingLR(optimizer, 180)
    return module, loss, optimizer, lr_scheduler.SequentialLR(optimizer, [rise, fall], [20])


def descended(module: nn.Module, loss: Any = None, lr: float = 0.05, **settings: Any) -> Any:
    """SGD with momentum, and steps of the rate."""
    optimizer = optim.SGD(module.parameters(), lr, momentum=0.9, **settings)
    return module, loss, optimizer, lr_scheduler.StepLR(optimizer, 100, 0.3)


def clipped(made: Any, norm: float) -> dict[str, Any]:
    """The same with clipping by norm."""
    return {**dict(zip(("module", "loss", "optimizer", "schedule"), made, strict=True)), "clip_norm": norm}


MLP = {"name": "mlp", "inputs": 64, "classes": 10, "widths": [48], "activation": "relu"}
GPT = {"name": "gpt", "context": 12, "vocabulary": 28, "layers": 2, "width": 24, "heads": 2, "tokens": "i64"}

CORPUS: dict[str, Architecture] = {
    "autoencoder": Architecture(
        lambda: trained(tables.Autoencoder(), lambda m, b: (m(b["x"]) - b["x"]).square().mean()), pixels
    ),
    "variational autoencoder": Architecture(
        lambda: trained(tables.VariationalAutoencoder(), tables.evidence_bound), pixels
    ),
    "residual perceptron": Architecture(lambda: descended(tables.ResidualMlp(), nesterov=True), digits),
    "recommender": Architecture(lambda: trained(tables.Recommender(), nn.BCEWithLogitsLoss(), 1e-2), ratings),
    "siamese": Architecture(lambda: trained(tables.Siamese(), tables.contrastive), pixels),
    "lora": Architecture(lambda: trained(tables.adapted(), None, 1e-2), digits),
    "mixture of experts": Architecture(lambda: descended(tables.MixtureOfExperts()), digits),
    "lstm": Architecture(lambda: clipped(trained(sequences.CharacterLstm(), None, 1e-2), 1.0), text),
    "gru": Architecture(lambda: trained(sequences.GruClassifier(), None, 1e-2), rows),
    "llama": Architecture(lambda: clipped(trained(sequences.Llama()), 1.0), text),
    "encoder": Architecture(lambda: trained(sequences.MaskedEncoder()), parity),
    "sequence to sequence": Architecture(lambda: trained(sequences.SequenceToSequence(), sequences.backwards), text),
    "vit": Architecture(lambda: trained(images.Vit()), digits),
    "mixer": Architecture(lambda: trained(images.Mixer(), nn.CrossEntropyLoss(label_smoothing=0.1)), digits),
    "convolutional": Architecture(lambda: descended(images.Convolutional()), digits),
    "resnet": Architecture(lambda: descended(images.ResNet(), weight_decay=1e-4), digits),
    "mlp preset": Architecture(lambda: (MLP, {"name": "sgd", "lr": 0.05, "momentum": 0.9}), digits, preset=True),
    "gpt preset": Architecture(lambda: (GPT, {"name": "adamw", "lr": 3e-3}), text, preset=True),
}


@dataclass(frozen=True)
class Subject:
    """An architecture made ready, with its data."""

    built: Built
    theirs: optim.Optimizer
    """A torch optimizer of the same module."""
    schedule: Any
    arrays: Arrays


def prepare(name: str) -> Subject:
    """Make, capture; the module keeps the values that the program starts from."""
    architecture = CORPUS[name]
    torch.manual_seed(11)
    arrays = architecture.data()
    made = architecture.make()
    if architecture.preset:
        built = build(*made, architecture.batch_size)
        nets = list(built.module.parameters())
        for value in nets:
            nn.init.uniform_(value, -0.2, 0.2)
        settings = {key: value for key, value in made[1].items() if key != "name"}
        kind = {"sgd": optim.SGD, "adamw": optim.AdamW}[made[1]["name"]]
        return Subject(built, kind(nets, **settings), None, arrays)
    fields = (
        made if isinstance(made, dict) else dict(zip(("module", "loss", "optimizer", "schedule"), made, strict=True))
    )
    module = fields["module"]
    batch = {key: torch.from_numpy(value[: architecture.batch_size]) for key, value in arrays.items()}
    loss: LossFunction
    loss, logits = loss_of(fields["loss"] or "cross_entropy", module, tuple(batch))
    rule: Optimizer = optimizer_of(fields, module, None, 0)
    program = capture(module, loss, rule, batch, initial_values(module, "module"))
    return Subject(Built(program, module, loss, rule, batch, logits), fields["optimizer"], fields["schedule"], arrays)
