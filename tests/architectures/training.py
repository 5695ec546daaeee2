"""Training one architecture: exactly, by the reference, and by PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ml.capture.randomness import Drawn
from ml.capture.step import make_step
from ml.checkpoint import root_of_state
from ml.interpreter import Interpreter, canonical
from proofs.program.initial import initial_tensor
from proofs.program.types import Given
from proofs.sampling import batch_indices
from tests.architectures.corpus import Subject

SEED = bytes(range(32))
WINDOW = 20
"""Steps over which a loss curve is smoothed before two are compared."""
Step = Callable[[list[torch.Tensor], list[torch.Tensor], int], tuple[list[torch.Tensor], torch.Tensor]]


@dataclass(frozen=True)
class Trained:
    """The end of an exact training."""

    root: str
    losses: list[float]


def batch_of(subject: Subject, step: int) -> dict[str, torch.Tensor]:
    """The batch of a step, as a task would draw it."""
    records = len(next(iter(subject.arrays.values())))
    numbers = batch_indices(SEED, step, subject.built.program.batch_size, records)
    return {item.name: torch.from_numpy(subject.arrays[item.name][numbers]) for item in subject.built.program.batch}


def start(subject: Subject) -> list[torch.Tensor]:
    """The state before the first step; parameters are the module's own."""
    own = make_step(subject.built.module, subject.built.loss, subject.built.optimizer).state
    return [
        own[entry.name].clone()
        if isinstance(entry.initial, Given) or entry.name.startswith("parameter.")
        else torch.from_numpy(initial_tensor(entry, number, SEED).copy())
        for number, entry in enumerate(subject.built.program.state)
    ]


def train_exactly(subject: Subject, steps: int, step: Step | None = None) -> Trained:
    """Train by the kernels, or by another way of running the program."""
    program = subject.built.program
    run = step or Interpreter(program).step
    state, losses = start(subject), []
    for number in range(steps):
        state, loss = run(state, list(batch_of(subject, number).values()), number)
        losses.append(float(loss))
    return Trained(root_of_state(program, steps, [canonical(item) for item in state]).hex(), losses)


def train_by_pytorch(subject: Subject, steps: int, nudge: int = 0) -> list[float]:
    """Train the module itself by torch.optim on the same batches, with the same random numbers; the losses.

    `nudge` above 0 multiplies the first weights by factors within 2⁻²² of one, another set for each number: what
    differs then is the noise of the arithmetic.
    """
    module, optimizer, schedule = subject.built.module, subject.theirs, subject.schedule
    entries = {entry.name: (number, entry) for number, entry in enumerate(subject.built.program.state)}
    key = torch.zeros(2, dtype=torch.int64)
    if "constant.random_key" in entries:
        number, entry = entries["constant.random_key"]
        key = torch.from_numpy(initial_tensor(entry, number, SEED).copy())
    clip = subject.built.optimizer.clip_norm
    if nudge:
        random = torch.Generator().manual_seed(nudge)
        with torch.no_grad():
            for value in module.parameters():
                value.mul_(1 + (torch.rand(value.shape, generator=random) * 2 - 1) * 2**-22)
    module.train()
    losses = []
    for number in range(steps):
        optimizer.zero_grad()
        with Drawn(key, torch.tensor(number)):
            loss = subject.built.loss(module, batch_of(subject, number))
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(float(loss))
    return losses


def apart(first: list[float], second: list[float]) -> float:
    """Largest difference of two smoothed loss curves, relative to the first curve's mean."""
    window = np.ones(min(WINDOW, len(first))) / min(WINDOW, len(first))
    smooth = [np.convolve(np.array(curve), window, "valid") for curve in (first, second)]
    difference = float(np.abs(smooth[0] - smooth[1]).max()) / float(np.mean(np.abs(first)))
    return difference if math.isfinite(difference) else math.inf
