"""One training step as an explicit function: (state, batch, step index) → (state', loss).

Forward, loss, backward and optimizer in one: what `trace` records and what the program is compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

from ml.capture.optimizers import Optimizer, Tensors
from ml.capture.randomness import KEY, Drawn

LossFunction = Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor]
"""loss(model, batch): a scalar. `model` is the module, whose call and whose other methods it may use."""


@dataclass(frozen=True)
class Step:
    """A step function with the state that it takes, in order."""

    names: tuple[str, ...]
    state: Tensors
    """A state of the right shapes and dtypes; its values are the module's present ones."""
    formula: Callable[[Tensors, Tensors, torch.Tensor], tuple[Tensors, torch.Tensor]]
    """(state, batch, step index as an i64 scalar) → (state', loss)."""

    def run(self, state: Tensors, batch: Tensors, step: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        """The step by PyTorch, its random numbers drawn as the program draws them."""
        with Drawn(state[KEY], step):
            return self.formula(state, batch, step)


class _Objective(nn.Module):
    """A module's loss as a module, so that weights can be swapped whatever method the loss calls."""

    def __init__(self, module: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.module = module
        self.loss = loss

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.loss(self.module, batch)


def make_step(module: nn.Module, loss: LossFunction, optimizer: Optimizer) -> Step:
    """The training step of `module` under `loss` and `optimizer`.

    State order: parameters, constants (parameters that take no gradient), buffers, the optimizer's slots and scalars,
    the key of random numbers; names as `StateEntry` says. A parameter with several names is one entry, under its first.
    A buffer that the module changes in its forward pass (running statistics, counters) has its new value after it.
    """
    objective = _Objective(module, loss)
    parameters = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
    constants = {name: value.detach() for name, value in module.named_parameters() if not value.requires_grad}
    buffers = {name: value.detach() for name, value in module.named_buffers()}
    state = {f"parameter.{name}": value for name, value in parameters.items()}
    state |= {f"constant.{name}": value for name, value in constants.items()}
    state |= {f"buffer.{name}": value for name, value in buffers.items()}
    for slot in optimizer.slots():
        state |= {f"optimizer.{slot}.{name}": torch.zeros_like(value) for name, value in parameters.items()}
    state |= {name: torch.ones(()) for name in optimizer.scalars()}
    state[KEY] = torch.tensor([1, 2])

    def formula(state: Tensors, batch: Tensors, step: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
        def value_of(weights: Tensors) -> tuple[torch.Tensor, Tensors]:
            # Copies, made inside: what the module writes stays in this call. `functional_call` puts new tensors, too,
            # into the dict that it is given.
            held = {f"module.{name}": value for name, value in weights.items()}
            held |= {f"module.{name}": state[f"constant.{name}"] for name in constants}
            held |= {f"module.{name}": state[f"buffer.{name}"].clone() for name in buffers}
            value = functional_call(objective, held, (batch,))
            return value, {f"buffer.{name}": held[f"module.{name}"] for name in buffers}

        weights = {name: state[f"parameter.{name}"] for name in parameters}
        gradients, (value, changed) = grad_and_value(value_of, has_aux=True)(weights)
        moved = optimizer.update(state, gradients, step)
        moved |= {name: item.detach() for name, item in changed.items()}
        return {name: moved.get(name, state[name]) for name in state}, value

    return Step(tuple(state), state, formula)
