"""One training step as an explicit function: (state, batch) → (state', loss), forward, loss, backward and optimizer.

The optimizers are written out as formulas over tensors, one operation each: what they compute is what the program says,
and no fused library kernel hides a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call, grad_and_value

Tensors = dict[str, torch.Tensor]
LossFunction = Callable[[Callable[..., torch.Tensor], Mapping[str, torch.Tensor]], torch.Tensor]
"""loss(call, batch): `call(*inputs)` runs the module, the result is a scalar."""


@dataclass(frozen=True)
class Sgd:
    """w ← w − lr·m with m ← momentum·m + (g + weight_decay·w)."""

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def slots(self) -> tuple[str, ...]:
        """Moments that one parameter has."""
        return ("momentum",) if self.momentum else ()


@dataclass(frozen=True)
class AdamW:
    """Decoupled weight decay, moments corrected for their start (arXiv 1711.05101, Algorithm 2)."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def slots(self) -> tuple[str, ...]:
        """Moments that one parameter has."""
        return ("first", "second")


Optimizer = Sgd | AdamW

POWERS = ("optimizer.beta1_power", "optimizer.beta2_power")
"""AdamW's β₁ᵗ and β₂ᵗ: scalars of the state that start at one."""


@dataclass(frozen=True)
class Step:
    """A step function with the state that it takes, in order."""

    names: tuple[str, ...]
    state: Tensors
    """A state of the right shapes and dtypes; its values are the module's present ones."""
    run: Callable[[Tensors, Tensors], tuple[Tensors, torch.Tensor]]


def make_step(module: nn.Module, loss: LossFunction, optimizer: Optimizer) -> Step:
    """The training step of `module` under `loss` and `optimizer`.

    State order: parameters, buffers, then the optimizer's slots; names as `StateEntry` says. A buffer that the module
    changes in its forward pass (running statistics, counters) has its new value after the step.
    """
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    buffers = {name: value.detach() for name, value in module.named_buffers()}
    state = {f"parameter.{name}": value for name, value in parameters.items()}
    state |= {f"buffer.{name}": value for name, value in buffers.items()}
    for slot in optimizer.slots():
        state |= {f"optimizer.{slot}.{name}": torch.zeros_like(value) for name, value in parameters.items()}
    if isinstance(optimizer, AdamW):
        state |= {name: torch.ones(()) for name in POWERS}

    def run(state: Tensors, batch: Tensors) -> tuple[Tensors, torch.Tensor]:
        def objective(weights: Tensors) -> tuple[torch.Tensor, Tensors]:
            # Copies, made inside: what the module writes stays in this call. `functional_call` puts new tensors, too,
            # into the dict that it is given.
            held = {**weights, **{name: state[f"buffer.{name}"].clone() for name in buffers}}
            value = loss(lambda *inputs: functional_call(module, held, inputs), batch)
            return value, {f"buffer.{name}": held[name] for name in buffers}

        weights = {name: state[f"parameter.{name}"] for name in parameters}
        gradients, (value, changed) = grad_and_value(objective, has_aux=True)(weights)
        moved = _sgd(optimizer, state, gradients) if isinstance(optimizer, Sgd) else _adamw(optimizer, state, gradients)
        moved |= {name: item.detach() for name, item in changed.items()}
        return {name: moved.get(name, state[name]) for name in state}, value

    return Step(tuple(state), state, run)


def _sgd(optimizer: Sgd, state: Tensors, gradients: Tensors) -> Tensors:
    moved: Tensors = {}
    for name, gradient in gradients.items():
        weight = state[f"parameter.{name}"]
        if optimizer.weight_decay:
            gradient = gradient + weight * optimizer.weight_decay
        if optimizer.momentum:
            gradient = state[f"optimizer.momentum.{name}"] * optimizer.momentum + gradient
            moved[f"optimizer.momentum.{name}"] = gradient
        moved[f"parameter.{name}"] = weight - gradient * optimizer.lr
    return moved


def _adamw(optimizer: AdamW, state: Tensors, gradients: Tensors) -> Tensors:
    power1, power2 = state[POWERS[0]] * optimizer.beta1, state[POWERS[1]] * optimizer.beta2
    moved: Tensors = {POWERS[0]: power1, POWERS[1]: power2}
    rate = torch.full((), optimizer.lr) / (1.0 - power1)
    correction = 1.0 - power2
    for name, gradient in gradients.items():
        weight = state[f"parameter.{name}"]
        first = state[f"optimizer.first.{name}"] * optimizer.beta1 + gradient * (1.0 - optimizer.beta1)
        second = state[f"optimizer.second.{name}"] * optimizer.beta2 + gradient * gradient * (1.0 - optimizer.beta2)
        if optimizer.weight_decay:
            weight = weight * (1.0 - optimizer.lr * optimizer.weight_decay)
        moved[f"parameter.{name}"] = weight - rate * first / (torch.sqrt(second / correction) + optimizer.epsilon)
        moved[f"optimizer.first.{name}"] = first
        moved[f"optimizer.second.{name}"] = second
    return moved
