"""Where a training starts: from weights in a file, with adapters, or from the module's present values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ml.capture.trace import Initial
from ml.presets.lora import LoraConfig, adapt
from ml.presets.weights import load_weights
from proofs.program.types import Fill, Given, Seed, Uniform


@dataclass(frozen=True)
class Tuning:
    """What a model is made of before it is trained."""

    weights: Path | None = None
    """A .safetensors file with the module's tensors."""
    lora: LoraConfig | None = None

    def prepare(self, module: nn.Module, start: Initial) -> Initial:
        """Load and adapt the module, in place; how its state starts: as `start` says where nothing was loaded.

        Raises Rejection BAD_WEIGHTS, BAD_ADAPTERS.
        """
        if self.weights is not None:
            load_weights(module, self.weights)
            start = module_values(module)
        if self.lora is None:
            return start
        adapters = adapt(module, self.lora)
        # What was a parameter is a constant now.
        held = {f"constant.{name.removeprefix('parameter.')}": rule for name, rule in start.items()}
        return {**start, **held, **adapters}


def module_values(module: nn.Module) -> Initial:
    """How the state starts as the module's tensors are now.

    Tensors whose elements are all the same are filled and need no checkpoint.
    """
    rules: dict[str, Fill | Uniform | Given | Seed] = {}
    for name, parameter in module.named_parameters():
        kind_of = "parameter" if parameter.requires_grad else "constant"
        rules[f"{kind_of}.{name}"] = _start(parameter)
    for name, buffer in module.named_buffers():
        rules[f"buffer.{name}"] = _start(buffer)
    return rules


def _start(value: torch.Tensor) -> Fill | Given:
    raw = value.detach().contiguous().reshape(-1, 1).numpy().view("u1")
    same = raw.size > 0 and bool((raw == raw[0]).all())
    return Fill(int.from_bytes(raw[0].tobytes(), "little")) if same else Given()
