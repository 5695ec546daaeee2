"""What the tests of layers share: capture checked against eager PyTorch, bits checked in every way of running."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from ml.capture.check import check_against_eager
from ml.capture.optimizers import Sgd
from ml.capture.trace import capture
from ml.interpreter import Interpreter, canonical
from ml.reference.operators import run
from proofs.program.types import Program


def cube_loss(call: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Uneven in every output, so that each gradient counts."""
    y = call(batch["x"])
    return (y * torch.linspace(0.5, 1.5, y.shape[-1]) + 0.1 * y * y * y).sum() / y.shape[0]


def captured(module: nn.Module, x: torch.Tensor) -> Program:
    """The program, checked against eager PyTorch."""
    program = capture(module, cube_loss, Sgd(0.01, 0.9), {"x": x})
    check_against_eager(program, module, cube_loss, Sgd(0.01, 0.9), {"x": x})
    return program


def same_in_all_ways(program: Program, module: nn.Module, batch: list[torch.Tensor]) -> None:
    """Fused plan, plain plan and the reference give the same bits."""
    values = dict(module.state_dict())
    state = [
        values[entry.name.partition(".")[2]].clone() if entry.name in _own(module) else torch.zeros(entry.type.shape)
        for entry in program.state
    ]
    interpreter = Interpreter(program)
    moved, loss = interpreter.step(state, batch, 0)
    results = [
        ([canonical(item) for item in moved], canonical(loss)),
        interpreter.observed_step(state, batch, 0, lambda _, value: value),
        run(program, state, batch, 0),
    ]
    (first, loss), *others = results
    for moved, other_loss in others:
        assert loss.numpy().tobytes() == other_loss.numpy().tobytes()
        for entry, left, right in zip(program.state, first, moved, strict=True):
            assert left.numpy().tobytes() == right.contiguous().numpy().tobytes(), entry.name


def _own(module: nn.Module) -> set[str]:
    return {f"parameter.{name}" for name, _ in module.named_parameters()} | {
        f"buffer.{name}" for name, _ in module.named_buffers()
    }


class Twice(nn.Module):
    """A layer before the one under test, so that its input has a gradient."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(torch.tanh(self.first(x)))
        return y
