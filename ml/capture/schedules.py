"""Learning rates that change: a factor as a function of the step index, computed inside the program.

Every schedule is a formula over one i64 scalar, in the arithmetic of the opset: who has the program has the rate of
every step. Indices up to 2**24 are exact as f32; a task has at most 10,000,000 steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Linear:
    """From `start` to `end` over `steps` steps, then `end`."""

    steps: int
    start: float = 0.0
    end: float = 1.0

    def factor(self, step: torch.Tensor) -> torch.Tensor:
        """What the rate is multiplied by."""
        done = torch.clamp(step, max=self.steps).to(torch.float32) / float(max(1, self.steps))
        return done * (self.end - self.start) + self.start


@dataclass(frozen=True)
class Cosine:
    """From 1 to `end` over `steps` steps along half a wave, then `end`; with `repeats` the wave goes on."""

    steps: int
    end: float = 0.0
    repeats: bool = False

    def factor(self, step: torch.Tensor) -> torch.Tensor:
        """What the rate is multiplied by."""
        place = torch.remainder(step, 2 * self.steps) if self.repeats else torch.clamp(step, max=self.steps)
        wave = torch.cos(place.to(torch.float32) * (math.pi / self.steps))
        return (wave + 1.0) * (0.5 * (1.0 - self.end)) + self.end


@dataclass(frozen=True)
class StepDecay:
    """Times `decay` after every `every` steps."""

    every: int
    decay: float = 0.1

    def factor(self, step: torch.Tensor) -> torch.Tensor:
        """What the rate is multiplied by."""
        return _power(self.decay, torch.div(step, self.every, rounding_mode="floor"))


@dataclass(frozen=True)
class Milestones:
    """Times `decay` at each of these steps."""

    at: tuple[int, ...]
    decay: float = 0.1

    def factor(self, step: torch.Tensor) -> torch.Tensor:
        """What the rate is multiplied by."""
        passed = torch.zeros((), dtype=torch.int64)
        for milestone in self.at:
            passed = passed + (step >= milestone).to(torch.int64)
        return _power(self.decay, passed)


@dataclass(frozen=True)
class Piecewise:
    """Schedules one after another: part n from `starts[n - 1]` on, counting its steps from there."""

    parts: tuple[Schedule, ...]
    starts: tuple[int, ...]

    def factor(self, step: torch.Tensor) -> torch.Tensor:
        """What the rate is multiplied by."""
        value = self.parts[0].factor(step)
        for part, start in zip(self.parts[1:], self.starts, strict=True):
            value = torch.where(step >= start, part.factor(step - start), value)
        return value


@dataclass(frozen=True)
class Product:
    """Several schedules multiplied."""

    parts: tuple[Schedule, ...]

    def factor(self, step: torch.Tensor) -> torch.Tensor:
        """What the rate is multiplied by."""
        value = self.parts[0].factor(step)
        for part in self.parts[1:]:
            value = value * part.factor(step)
        return value


@dataclass(frozen=True)
class Formula:
    """A function of one's own: i64 scalar tensor → f32 scalar tensor, without branches on its value."""

    function: Callable[[torch.Tensor], torch.Tensor]

    def factor(self, step: torch.Tensor) -> torch.Tensor:
        """What the rate is multiplied by."""
        return self.function(step).to(torch.float32)


Schedule = Linear | Cosine | StepDecay | Milestones | Piecewise | Product | Formula


def warmed_up(steps: int, then: Schedule | None = None, start: float = 0.0) -> Schedule:
    """From `start` to 1 over `steps` steps, then constant or `then`."""
    rise = Linear(steps, start, 1.0)
    return rise if then is None else Piecewise((rise, then), (steps,))


def _power(base: float, exponent: torch.Tensor) -> torch.Tensor:
    """base**exponent for an i64 exponent ≥ 0; base above 0."""
    return torch.exp(exponent.to(torch.float32) * math.log(base))
