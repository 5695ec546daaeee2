"""Training one architecture: exactly, by the reference, and by PyTorch.

What is trained exactly is what a submitter hands over: the program, the state before the first step and the data.
PyTorch's own initialisation differs in its last bit from one instruction set to the next, so it happens once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.limits import PROGRAM_BYTES_MAX
from ml.checkpoint import root_of_state
from ml.interpreter import Interpreter, canonical
from proofs.program.initial import initial_tensor
from proofs.program.types import Given, Program
from proofs.sampling import batch_indices

if TYPE_CHECKING:
    from tests.architectures.corpus import Arrays, Subject

SEED = bytes(range(32))
WINDOW = 20
"""Steps over which a loss curve is smoothed before two are compared."""
Step = Callable[[list[torch.Tensor], list[torch.Tensor], int], tuple[list[torch.Tensor], torch.Tensor]]


@dataclass(frozen=True)
class Trained:
    """The end of an exact training."""

    root: str
    losses: list[float]


@dataclass(frozen=True)
class Handed:
    """What a submitter hands over."""

    program: Program
    state: list[torch.Tensor]
    arrays: Arrays


def handed(subject: Subject) -> Handed:
    """The program, the state before the first step (parameters are the module's own) and the data."""
    from ml.capture.step import make_step

    own = make_step(subject.built.module, subject.built.loss, subject.built.optimizer).state
    state = [
        own[entry.name].clone()
        if isinstance(entry.initial, Given) or entry.name.startswith("parameter.")
        else torch.from_numpy(initial_tensor(entry, number, SEED).copy())
        for number, entry in enumerate(subject.built.program.state)
    ]
    return Handed(subject.built.program, state, subject.arrays)


def save(given: Handed, folder: Path) -> None:
    """Write it for other processes, and other machines."""
    folder.mkdir(parents=True)
    (folder / "program").write_bytes(encode(given.program))
    np.savez(folder / "arrays.npz", **given.arrays)  # type: ignore[arg-type]
    np.savez(folder / "state.npz", *(item.detach().numpy() for item in given.state))


def load(folder: Path) -> Handed:
    """Read what was written."""
    program: Program = decode(Program, (folder / "program").read_bytes(), max_bytes=PROGRAM_BYTES_MAX)
    with np.load(folder / "state.npz", allow_pickle=False) as found:
        state = [torch.from_numpy(found[f"arr_{number}"]) for number in range(len(program.state))]
    with np.load(folder / "arrays.npz", allow_pickle=False) as found:
        return Handed(program, state, dict(found))


def batch_of(given: Handed | Subject, step: int) -> dict[str, torch.Tensor]:
    """The batch of a step, as a task would draw it."""
    program = given.program if isinstance(given, Handed) else given.built.program
    records = len(next(iter(given.arrays.values())))
    numbers = batch_indices(SEED, step, program.batch_size, records)
    return {item.name: torch.from_numpy(given.arrays[item.name][numbers]) for item in program.batch}


def train_exactly(given: Handed, steps: int, step: Step | None = None) -> Trained:
    """Train by the kernels, or by another way of running the program."""
    run = step or Interpreter(given.program).step
    state, losses = [item.clone() for item in given.state], []
    for number in range(steps):
        state, loss = run(state, list(batch_of(given, number).values()), number)
        losses.append(float(loss))
    return Trained(root_of_state(given.program, steps, [canonical(item) for item in state]).hex(), losses)


def train_by_pytorch(subject: Subject, steps: int, nudge: int = 0) -> list[float]:
    """Train the module itself by torch.optim on the same batches, with the same random numbers; the losses.

    `nudge` above 0 multiplies the first weights by factors within 2⁻²² of one, another set for each number: what
    differs then is the noise of the arithmetic.
    """
    from ml.capture.randomness import Drawn

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
