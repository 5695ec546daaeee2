"""Optimizers written out as formulas over tensors, one operation each.

What they compute is what the program says; no fused library kernel hides a step. An optimizer's moments and scalars are
entries of the state, its rate is a function of the step index (`schedules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ml.capture.schedules import Schedule

Tensors = dict[str, torch.Tensor]

POWERS = ("optimizer.beta1_power", "optimizer.beta2_power")
"""Adam's β₁ᵗ and β₂ᵗ: scalars of the state that start at one."""
NORM_EPSILON = 1e-6
"""What clipping adds to the global norm, as torch.nn.utils.clip_grad_norm_ does."""


@dataclass(frozen=True)
class Group:
    """Parameters with settings of their own; what is None is the optimizer's."""

    names: frozenset[str]
    lr: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True, kw_only=True)
class Common:
    """What all optimizers have."""

    schedule: Schedule | None = None
    """Factor of every rate; None is constant."""
    clip_norm: float | None = None
    """Largest Euclidean norm of all gradients together."""
    clip_value: float | None = None
    """Largest absolute value of a gradient's element."""
    decay_vectors: bool = True
    """Whether parameters of rank 0 and 1 (biases, scales of norms) decay too."""
    groups: tuple[Group, ...] = ()

    def settings(self, name: str, weight: torch.Tensor, lr: float, weight_decay: float) -> tuple[float, float]:
        """Rate before the schedule and weight decay of a parameter."""
        if weight.dim() < 2 and not self.decay_vectors:
            weight_decay = 0.0
        for group in self.groups:
            if name in group.names:
                return (
                    lr if group.lr is None else group.lr,
                    weight_decay if group.weight_decay is None else group.weight_decay,
                )
        return lr, weight_decay

    def factor(self, step: torch.Tensor) -> torch.Tensor | None:
        """The schedule's factor at a step, None when the rate is constant."""
        return None if self.schedule is None else self.schedule.factor(step)

    def clipped(self, gradients: Mapping[str, torch.Tensor]) -> Tensors:
        """Gradients after clipping: by value first, then by norm."""
        clipped = dict(gradients)
        if self.clip_value is not None:
            limit = self.clip_value
            clipped = {name: torch.clamp(value, -limit, limit) for name, value in clipped.items()}
        if self.clip_norm is not None:
            squares = [(value * value).sum() for value in clipped.values()]
            total = squares[0]
            for square in squares[1:]:
                total = total + square
            share = torch.full((), self.clip_norm) / (torch.sqrt(total) + NORM_EPSILON)
            scale = torch.clamp(share, max=1.0)
            clipped = {name: value * scale for name, value in clipped.items()}
        return clipped


@dataclass(frozen=True)
class Sgd(Common):
    """w ← w − lr·d with m ← momentum·m + (1 − dampening)·(g + weight_decay·w) and d = m (nesterov: g + momentum·m).

    As in torch.optim.SGD the first step does not dampen.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def slots(self) -> tuple[str, ...]:
        """Moments that one parameter has."""
        return ("momentum",) if self.momentum else ()

    def scalars(self) -> tuple[str, ...]:
        """Scalars of the state; all start at one."""
        return ()

    def update(self, state: Tensors, gradients: Tensors, step: torch.Tensor) -> Tensors:
        """The entries of the state that change."""
        moved: Tensors = {}
        factor = self.factor(step)
        taken = None
        if self.momentum and self.dampening:
            taken = torch.where(step == 0, 1.0, 1.0 - self.dampening)
        for name, gradient in self.clipped(gradients).items():
            weight = state[f"parameter.{name}"]
            lr, decay = self.settings(name, weight, self.lr, self.weight_decay)
            if decay:
                gradient = gradient + weight * decay
            if self.momentum:
                fresh = gradient if taken is None else gradient * taken
                moment = state[f"optimizer.momentum.{name}"] * self.momentum + fresh
                moved[f"optimizer.momentum.{name}"] = moment
                gradient = gradient + moment * self.momentum if self.nesterov else moment
            moved[f"parameter.{name}"] = weight - gradient * (lr if factor is None else factor * lr)
        return moved


@dataclass(frozen=True)
class Adam(Common):
    """Moments corrected for their start (arXiv 1412.6980, Algorithm 1); weight decay is added to the gradient."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = field(default=False, init=False, repr=False)

    def slots(self) -> tuple[str, ...]:
        """Moments that one parameter has."""
        return ("first", "second")

    def scalars(self) -> tuple[str, ...]:
        """Scalars of the state; all start at one."""
        return POWERS

    def update(self, state: Tensors, gradients: Tensors, step: torch.Tensor) -> Tensors:
        """The entries of the state that change."""
        power1, power2 = state[POWERS[0]] * self.beta1, state[POWERS[1]] * self.beta2
        moved: Tensors = {POWERS[0]: power1, POWERS[1]: power2}
        factor = self.factor(step)
        correction = 1.0 - power2
        rates: dict[float, tuple[float | torch.Tensor, torch.Tensor]] = {}
        for name, gradient in self.clipped(gradients).items():
            weight = state[f"parameter.{name}"]
            lr, decay = self.settings(name, weight, self.lr, self.weight_decay)
            if lr not in rates:
                scheduled = torch.full((), lr) if factor is None else factor * lr
                rates[lr] = (lr if factor is None else scheduled, scheduled / (1.0 - power1))
            rate, corrected = rates[lr]
            if decay and not self.decoupled:
                gradient = gradient + weight * decay
            first = state[f"optimizer.first.{name}"] * self.beta1 + gradient * (1.0 - self.beta1)
            second = state[f"optimizer.second.{name}"] * self.beta2 + gradient * gradient * (1.0 - self.beta2)
            if decay and self.decoupled:
                weight = weight * (1.0 - rate * decay)
            moved[f"parameter.{name}"] = weight - corrected * first / (torch.sqrt(second / correction) + self.epsilon)
            moved[f"optimizer.first.{name}"] = first
            moved[f"optimizer.second.{name}"] = second
        return moved


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (arXiv 1711.05101, Algorithm 2)."""

    weight_decay: float = 0.01
    decoupled: bool = field(default=True, init=False, repr=False)


Optimizer = Sgd | Adam | AdamW
