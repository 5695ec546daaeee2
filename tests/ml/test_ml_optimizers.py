"""Optimizers and schedules do what torch.optim does, over many steps, eager and as a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.convert import from_torch, schedule_of
from ml.capture.optimizers import AdamW, Optimizer, Sgd
from ml.capture.schedules import Cosine, Formula, Linear, warmed_up
from ml.capture.step import make_step
from ml.capture.trace import capture
from ml.interpreter import Interpreter

Make = Callable[[nn.Module], optim.Optimizer]


def loss_of(model: Any, batch: Any) -> torch.Tensor:
    """Mean squared error."""
    return nn.functional.mse_loss(model(batch["x"]), batch["y"])


def net() -> nn.Module:
    """A small net with matrices and vectors."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def batches(count: int) -> list[dict[str, torch.Tensor]]:
    """Batches of a noisy linear relation."""
    generator = torch.Generator().manual_seed(6)
    mix = torch.randn(5, 3, generator=generator)
    xs = [torch.randn(16, 5, generator=generator) for _ in range(count)]
    return [{"x": x, "y": x @ mix + 0.1 * torch.randn(16, 3, generator=generator)} for x in xs]


def grouped(module: nn.Module) -> optim.Optimizer:
    """AdamW with a group that does not decay and has its own rate."""
    vectors = [value for value in module.parameters() if value.dim() < 2]
    matrices = [value for value in module.parameters() if value.dim() >= 2]
    return optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0, "lr": 3e-3}]
    )


OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda module: optim.SGD(module.parameters(), 0.05),
    "momentum": lambda module: optim.SGD(module.parameters(), 0.02, momentum=0.9, weight_decay=1e-2),
    "dampening": lambda module: optim.SGD(module.parameters(), 0.05, momentum=0.9, dampening=0.4, weight_decay=1e-2),
    "nesterov": lambda module: optim.SGD(module.parameters(), 0.02, momentum=0.9, nesterov=True),
    "adam": lambda module: optim.Adam(module.parameters(), 3e-3, betas=(0.8, 0.99), weight_decay=1e-2),
    "adamw": lambda module: optim.AdamW(module.parameters(), 3e-3, weight_decay=0.1),
    "grouped": grouped,
}

SCHEDULES: dict[str, Callable[[optim.Optimizer], lr_scheduler.LRScheduler]] = {
    "linear": lambda it: lr_scheduler.LinearLR(it, 0.1, 1.0, 20),
    "constant": lambda it: lr_scheduler.ConstantLR(it, 0.3, 15),
    "step": lambda it: lr_scheduler.StepLR(it, 15, 0.5),
    "milestones": lambda it: lr_scheduler.MultiStepLR(it, [10, 35], 0.3),
    "exponential": lambda it: lr_scheduler.ExponentialLR(it, 0.97),
    "cosine": lambda it: lr_scheduler.CosineAnnealingLR(it, 25, 1e-4),
    "warm-up and cosine": lambda it: lr_scheduler.SequentialLR(
        it, [lr_scheduler.LinearLR(it, 0.05, 1.0, 12), lr_scheduler.CosineAnnealingLR(it, 48)], [12]
    ),
    "chained": lambda it: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(it, 0.5, 1.0, 8), lr_scheduler.StepLR(it, 20, 0.5)], it
    ),
}


def apart(own: dict[str, torch.Tensor], module: nn.Module) -> float:
    """Largest difference of parameters, relative to the largest element."""
    pairs = [(own[f"parameter.{name}"], value.detach()) for name, value in module.named_parameters()]
    return max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in pairs)


def run_both(
    make: Make,
    schedule: Callable[[optim.Optimizer], lr_scheduler.LRScheduler] | None = None,
    clip: dict[str, float] | None = None,
    steps: int = 30,
) -> float:
    """Train by formulas and by torch; how far the parameters end apart."""
    from dataclasses import replace

    module = net()
    theirs = make(module)
    plan = None if schedule is None else schedule(theirs)
    own = from_torch(theirs, module, plan)
    own = replace(own, **(clip or {}))
    step = make_step(module, loss_of, own)
    state = {name: value.clone() for name, value in step.state.items()}
    for number, batch in enumerate(batches(steps)):
        state, _ = step.run(state, batch, torch.tensor(number))
        theirs.zero_grad()
        loss_of(module, batch).backward()
        if clip and "clip_value" in clip:
            nn.utils.clip_grad_value_(module.parameters(), clip["clip_value"])
        if clip and "clip_norm" in clip:
            nn.utils.clip_grad_norm_(module.parameters(), clip["clip_norm"])
        theirs.step()
        if plan is not None:
            plan.step()
    return apart(state, module)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_equal_torch_over_many_steps(name: str) -> None:
    assert run_both(OPTIMIZERS[name]) < 2e-5


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_equal_torch_at_every_step(name: str) -> None:
    optimizer = optim.SGD(net().parameters(), 0.05)
    plan = SCHEDULES[name](optimizer)
    own = schedule_of(plan)
    assert own is not None
    for number in range(70):
        rate = 0.05 * float(own.factor(torch.tensor(number)))
        assert rate == pytest.approx(plan.get_last_lr()[0], rel=2e-5, abs=1e-9), number
        optimizer.step()
        plan.step()


@pytest.mark.parametrize("optimizer", ["nesterov", "adamw", "grouped"])
def test_scheduled_training_equals_torch(optimizer: str) -> None:
    schedule = SCHEDULES["warm-up and cosine"] if optimizer != "grouped" else SCHEDULES["step"]
    assert run_both(OPTIMIZERS[optimizer], schedule) < 2e-5


@pytest.mark.parametrize("clip", [{"clip_norm": 0.3}, {"clip_value": 0.05, "clip_norm": 0.1}])
def test_clipping_equals_torch(clip: dict[str, float]) -> None:
    assert run_both(OPTIMIZERS["momentum"], None, clip) < 2e-5
    module = net()
    loss_of(module, batches(1)[0]).backward()
    assert float(nn.utils.clip_grad_norm_(module.parameters(), 1e9)) > 0.3, "the limit is never reached"


PROGRAMS: list[Optimizer] = [
    Sgd(0.05, 0.9, 1e-2, 0.4, schedule=warmed_up(3, Cosine(5, 0.1)), clip_norm=0.5),
    AdamW(3e-3, schedule=Linear(6, 1.0, 0.0), clip_value=0.1, decay_vectors=False),
    AdamW(3e-3, schedule=Formula(lambda step: torch.rsqrt(step + 1.0))),
    from_torch(optimizer := grouped(module := net()), module, lr_scheduler.StepLR(optimizer, 2, 0.3)),
]


@pytest.mark.parametrize("optimizer", PROGRAMS)
def test_the_program_s_rate_follows_the_step_index(optimizer: Optimizer) -> None:
    module = net()
    step = make_step(module, loss_of, optimizer)
    data = batches(8)
    program = capture(module, loss_of, optimizer, data[0])
    interpreter = Interpreter(program)
    eager = step.state
    # What no step reads (the key of random numbers) is no state of the program.
    exact = [eager[entry.name].clone() for entry in program.state]
    for number, batch in enumerate(data):
        eager, _ = step.run(eager, batch, torch.tensor(number))
        exact, _ = interpreter.step(exact, list(batch.values()), number)
    for entry, own in zip(program.state, exact, strict=True):
        assert torch.allclose(own, eager[entry.name], rtol=1e-4, atol=1e-6), entry.name


def test_what_is_no_formula_is_refused() -> None:
    module = net()
    stepped = optim.SGD(module.parameters(), 0.1, momentum=0.9)
    loss_of(module, batches(1)[0]).backward()
    stepped.step()
    adam = optim.Adam(module.parameters())
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: from_torch(optim.RMSprop(module.parameters()), module), "RMSprop"),
        (lambda: from_torch(stepped, module), "steps already"),
        (lambda: from_torch(optim.Adam(module.parameters(), amsgrad=True), module), "amsgrad"),
        (lambda: from_torch(optim.SGD(module[0].parameters(), 0.1), module), "2.weight"),
        (lambda: from_torch(optim.SGD(net().parameters(), 0.1), module), "not the module's"),
        (lambda: schedule_of(lr_scheduler.CyclicLR(optim.SGD(module.parameters(), 0.1), 0.01, 0.1)), "CyclicLR"),
        (lambda: schedule_of(lr_scheduler.LambdaLR(adam, lambda step: 1.0)), "LambdaLR"),
        (lambda: schedule_of(3), "int"),
    ]
    for make, word in cases:
        with pytest.raises(Rejection) as refusal:
            make()
        assert refusal.value.reason is reasons.BAD_OPTIMIZER
        assert word in refusal.value.message
