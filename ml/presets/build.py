"""From a preset's configuration to a program, and from states back to modules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ml.capture.builder import bits_of
from ml.capture.optimizers import Optimizer, Tensors
from ml.capture.precision import FULL
from ml.capture.step import LossFunction
from ml.capture.trace import Initial, capture
from ml.presets.configuration import (
    CnnConfig,
    GptConfig,
    LstmConfig,
    MlpConfig,
    Preset,
    ResnetConfig,
    VitConfig,
    bad,
    parse_optimizer,
    parse_preset,
)
from ml.presets.models import Gpt, Lstm, Mlp
from ml.presets.tuning import Tuning
from ml.presets.vision import Cnn, Resnet, Vit
from proofs.program.types import F32, Fill, Given, Program, Uniform

EMBEDDING_DEVIATION = 0.02
"""Standard deviation of the initial embeddings of a GPT."""


Logits = Callable[[Any, Mapping[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]
"""(logits (…, classes), targets (…)) of a module on a batch."""


@dataclass(frozen=True)
class Built:
    """A model made ready: a preset, or a user's own."""

    program: Program
    module: nn.Module
    loss: LossFunction
    optimizer: Optimizer
    batch: Tensors
    """An example batch of the right shapes (zeros)."""
    logits: Logits | None
    """What accuracy is computed from; None where outputs are no scores of classes."""
    precision: str = FULL


def build(
    preset: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    batch_size: int,
    steps: int = 0,
    tuning: Tuning | None = None,
    precision: str = FULL,
) -> Built:
    """Capture the training step of a preset. Raises Rejection BAD_PRESET, or E15 of the program's own bounds.

    `preset`: `name` (mlp, cnn, resnet, vit, lstm, gpt) and the fields of its configuration; `optimizer`: `name` (sgd,
    adam, adamw) and its fields; `steps`: the length of the training, which a schedule without steps of its own spans;
    `tuning`: weights to start from and adapters (then also BAD_WEIGHTS, BAD_ADAPTERS); `precision`: see
    `ml.capture.precision`.
    """
    model, rule = parse_preset(preset), parse_optimizer(optimizer, steps)
    if not 1 <= batch_size <= 1 << 20:
        raise bad(f"batch size {batch_size}; it is between 1 and {1 << 20}")
    module = module_of(model)
    batch, logits = _batch(model, batch_size)

    def loss(call: Callable[..., torch.Tensor], items: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return cross_entropy(*logits(call, items))

    start = initial_rules(module, model) if tuning is None else tuning.prepare(module, initial_rules(module, model))
    program = capture(module, loss, rule, batch, start, precision)
    return Built(program, module, loss, rule, batch, logits, precision)


def module_of(model: Preset) -> nn.Module:
    """The module of a configuration, with the weights that torch's generator gives."""
    match model:
        case MlpConfig():
            return Mlp(model.inputs, model.widths, model.classes, model.activation)
        case CnnConfig():
            return Cnn(model.channels, model.height, model.width, model.widths, model.classes)
        case ResnetConfig():
            return Resnet(model.channels, model.widths, model.blocks, model.classes)
        case VitConfig():
            shape = (model.channels, model.height, model.width)
            return Vit(shape, model.patch, model.layers, model.embedding, model.heads, model.classes)
        case LstmConfig():
            return Lstm(model.layers, model.width, model.vocabulary)
        case GptConfig():
            return Gpt(model.layers, model.width, model.heads, model.context, model.vocabulary)


def _batch(model: Preset, batch_size: int) -> tuple[Tensors, Logits]:
    """An example batch, and what gives (scores, targets) of one."""
    if isinstance(model, GptConfig | LstmConfig):
        dtype = torch.uint8 if model.tokens == "u8" else torch.int64
        return {"tokens": torch.zeros(batch_size, model.context + 1, dtype=dtype)}, _next_token
    if isinstance(model, MlpConfig):
        x = torch.zeros(batch_size, model.inputs)
    else:
        pixels = torch.uint8 if model.pixels == "u8" else torch.float32
        x = torch.zeros(batch_size, model.channels, model.height, model.width, dtype=pixels)
    return {"x": x, "y": torch.zeros(batch_size, dtype=torch.int64)}, _labelled


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of -log softmax(logits)[target]; targets i64 inside the classes."""
    chosen = torch.log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1))
    return -chosen.mean()


def _labelled(
    call: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    return call(batch["x"]), batch["y"]


def _next_token(
    call: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = batch["tokens"].to(torch.int64)
    return call(tokens[:, :-1]), tokens[:, 1:]


def initial_rules(module: nn.Module, model: Preset | None = None) -> Initial:
    """How a seed gives each parameter: weights uniform by fan-in, embeddings small, norms one, biases zero.

    Parameters of other modules are `Given` by the task's initial checkpoint.
    """
    rules: dict[str, Fill | Uniform | Given] = {}
    for path, part in module.named_modules():
        prefix = f"parameter.{path}." if path else "parameter."
        if isinstance(part, nn.Linear):
            rules[prefix + "weight"] = _uniform(1.0 / math.sqrt(part.in_features))
            rules[prefix + "bias"] = Fill(0)
        elif isinstance(part, nn.Conv2d):
            # Keeps the level through a ReLU (arXiv 1502.01852, section 2.2).
            rules[prefix + "weight"] = _uniform(math.sqrt(6.0 / math.prod(part.weight.shape[1:])))
            rules[prefix + "bias"] = Fill(0)
        elif isinstance(part, nn.BatchNorm2d):
            rules |= {prefix + "weight": Fill(bits_of(F32, 1.0)), prefix + "bias": Fill(0)}
            held = f"buffer.{path}."
            rules |= {held + "running_mean": Fill(0), held + "running_var": Fill(bits_of(F32, 1.0))}
            rules[held + "num_batches_tracked"] = Fill(0)
        elif isinstance(part, nn.LayerNorm):
            rules[prefix + "weight"] = Fill(bits_of(F32, 1.0))
            rules[prefix + "bias"] = Fill(0)
        elif isinstance(part, nn.RNNBase):
            # As the library begins: every weight and bias by the width.
            bound = 1.0 / math.sqrt(part.hidden_size)
            rules |= {prefix + name: _uniform(bound) for name, _ in part.named_parameters()}
        elif isinstance(part, nn.Embedding):
            rules[prefix + "weight"] = _uniform(EMBEDDING_DEVIATION * math.sqrt(3))
    if isinstance(model, GptConfig | VitConfig):
        rules["parameter.positions"] = _uniform(EMBEDDING_DEVIATION * math.sqrt(3))
        width = model.width if isinstance(model, GptConfig) else model.embedding
        # Each block adds twice to the residual stream: keep its variance level at the start.
        for layer in range(model.layers):
            for name in ("attention.out", "down"):
                fan_in = width * (4 if name == "down" else 1)
                bound = 1.0 / math.sqrt(fan_in) / math.sqrt(2 * model.layers)
                rules[f"parameter.blocks.{layer}.{name}.weight"] = _uniform(bound)
    return rules


def _uniform(bound: float) -> Uniform:
    return Uniform(bits_of(F32, bound))


def load_parameters(module: nn.Module, program: Program, state: Sequence[torch.Tensor]) -> None:
    """Put the parameters and buffers of a state into the module they were captured from, in place."""
    values = {entry.name: value for entry, value in zip(program.state, state, strict=True)}
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(values[f"{'parameter' if parameter.requires_grad else 'constant'}.{name}"])
        for name, buffer in module.named_buffers():
            buffer.copy_(values[f"buffer.{name}"])


def accuracy(built: Built, state: Sequence[torch.Tensor], batch: Tensors) -> float:
    """Fraction of targets that a state's logits rank first, by eager torch; NaN where there are no logits."""
    if built.logits is None:
        return math.nan
    load_parameters(built.module, built.program, state)
    built.module.eval()
    with torch.no_grad():
        logits, targets = built.logits(built.module, batch)
    return float((logits.argmax(-1) == targets).float().mean())
