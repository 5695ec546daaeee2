"""Low-rank adapters (arXiv 2106.09685): linear layers stay as they are, a product of two thin matrices is learnt.

y = x·Wᵀ + b + scale · (x·downᵀ)·upᵀ with scale = alpha / rank. W and b are constants of the program: they have no
moments, the step passes them on without touching them, and their roots are those of the task's initial checkpoint.
The scale is a buffer, so that a model's file says by itself how its adapters are added in (`merged`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.builder import bits_of
from ml.capture.trace import Initial
from ml.files import replace_atomically
from ml.tensor_file import read_tensor_file, tensor_types
from proofs.program.types import F32, Fill, Uniform

DOWN, UP, SCALE = "lora_down", "lora_up", "lora_scale"


@dataclass(frozen=True)
class LoraConfig:
    """Which layers, how wide."""

    rank: int
    alpha: float
    targets: tuple[str, ...]
    """Patterns of the paths of linear layers, such as `blocks.*.attention.query`; `*` is anything."""


def bad(message: str) -> Rejection:
    """The adapters do not fit the model."""
    return Rejection(reasons.BAD_ADAPTERS, message)


class LoraLinear(nn.Linear):
    """A linear layer with a frozen weight, and an adapter. Its parameters keep their names."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight = layer.weight
        self.bias = layer.bias
        bound = 1.0 / math.sqrt(layer.in_features)
        self.lora_down = nn.Parameter(torch.empty(rank, layer.in_features).uniform_(-bound, bound))
        self.lora_up = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.register_buffer(SCALE, torch.tensor(alpha / rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale: torch.Tensor = self.lora_scale  # type: ignore[assignment]
        adapted = functional.linear(functional.linear(x, self.lora_down), self.lora_up)
        return functional.linear(x, self.weight, self.bias) + adapted * scale


def adapt(module: nn.Module, config: LoraConfig) -> Initial:
    """Freeze the module, give the layers that the patterns name adapters, in place; how adapters start.

    Raises Rejection BAD_ADAPTERS for a pattern that names no linear layer, or a rank that is none.
    """
    layers = {path: part for path, part in module.named_modules() if type(part) is nn.Linear}
    if not layers:
        raise bad("the model has no torch.nn.Linear; adapters are for linear layers")
    chosen: dict[str, nn.Linear] = {}
    for pattern in config.targets:
        found = {path: part for path, part in layers.items() if fnmatchcase(path, pattern)}
        if not found:
            some = ", ".join(list(layers)[:12]) + (", …" if len(layers) > 12 else "")
            raise bad(f"targets: {pattern!r} names no linear layer; there are {some}")
        chosen |= found
    if not 1 <= config.rank <= min(min(part.in_features, part.out_features) for part in chosen.values()):
        raise bad(f"rank {config.rank}; it is at least 1 and at most the least width of the layers adapted")
    if not (math.isfinite(config.alpha) and config.alpha > 0):
        raise bad(f"alpha {config.alpha}; it is a number above 0")
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    start: dict[str, Fill | Uniform] = {}
    for path, layer in chosen.items():
        adapted = LoraLinear(layer, config.rank, config.alpha)
        parent, _, own = path.rpartition(".")
        if not path:
            raise bad("the model is one linear layer itself; put it into a module")
        setattr(module.get_submodule(parent), own, adapted)
        start[f"parameter.{path}.{DOWN}"] = Uniform(bits_of(F32, 1.0 / math.sqrt(layer.in_features)))
        start[f"parameter.{path}.{UP}"] = Fill(0)
        start[f"buffer.{path}.{SCALE}"] = Fill(bits_of(F32, config.alpha / config.rank))
    return start


def merged(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a task's model by the module's names, adapters added in; moments and adapters are left out.

    Raises Rejection BAD_WEIGHTS when the file is no such model.
    """
    try:
        values, _ = read_tensor_file(path, tensor_types(path))
    except (OSError, ValueError) as error:
        raise Rejection(reasons.BAD_WEIGHTS, f"{path.name}: {error}") from None
    plain: dict[str, torch.Tensor] = {}
    for name, value in values.items():
        kind, _, own = name.partition(".")
        if kind in ("parameter", "constant", "buffer") and own != "random_key":
            plain[own] = value
    for name in [name for name in plain if name.rpartition(".")[2] == DOWN]:
        layer = name.removesuffix(DOWN)
        taken = [plain.pop(layer + part, None) for part in (DOWN, UP, SCALE)]
        weight = plain.get(layer + "weight")
        if weight is None or not _fit(weight, taken):
            raise Rejection(reasons.BAD_WEIGHTS, f"{path.name}: the adapter of {layer[:-1]} is not whole")
        down, up, scale = (item for item in taken if item is not None)
        plain[layer + "weight"] = weight + (up @ down) * scale
    return plain


def _fit(weight: torch.Tensor, taken: Sequence[torch.Tensor | None]) -> bool:
    down, up, scale = taken
    if down is None or up is None or scale is None or weight.dim() != 2 or down.dim() != 2 or up.dim() != 2:
        return False
    rows, columns = weight.shape
    return down.shape[1] == columns and up.shape == (rows, down.shape[0]) and scale.shape == ()


def write_merged(model: Path, to: Path) -> int:
    """Write the merged weights of a model as .safetensors; how many tensors. Raises Rejection BAD_WEIGHTS."""
    values = {name: value.contiguous() for name, value in merged(model).items()}
    replace_atomically(to, lambda aside: save_file(values, aside))
    return len(values)
