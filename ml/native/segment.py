"""What is done about one native segment: measured from an own seed, compared, disclosed, and looked at step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gensyn_node.primitives.errors import Rejection
from ml.checkpoint import State, load_verified_state, root_of_state, roots_of_tensors
from ml.interpreter import Interpreter
from ml.native.audit import audit_step, first_fault
from ml.native.distance import distances
from ml.native.values_file import load_values, save_values
from ml.segment import Verification, start_state
from ml.trainer import Run, Stepper, initial_state, start_of
from ml.worker.messages import state_path, values_path
from proofs.native.game import values_root
from proofs.native.strategy import AN_OUTPUT, Accusation
from proofs.program.types import Program

OnStep = Callable[[int, float], None]


def profile(run: Run, steps: int, on_step: OnStep) -> tuple[int, ...]:
    """How far this machine's vendor kernels are from `rep-v1` after the first steps from the run's seed, by entry."""
    start = initial_state(run)
    native, exact = Stepper(run, start, 0), Interpreter(run.program)
    right: State = start
    for step in range(steps):
        on_step(step, native.advance())
        right, _ = exact.step(right, run.dataset.batch(run.program, run.seed, step), step)
    return distances(start, right, native.state)


@dataclass(frozen=True)
class Compared:
    """An own execution of a segment beside the claimed one."""

    own: Verification
    distances: tuple[int, ...]
    """Of the claimed end from the own one, entry by entry; see `ml.native.distance`."""


def compare(
    run: Run, directory: Path, first_step: int, steps: int, start_root: bytes, end_root: bytes, on_step: OnStep
) -> Compared:
    """Re-execute a segment from the agreed start in `directory` and measure how far the claimed end there is off.

    Raises Rejection BAD_CHECKPOINT when one of the two states is not the committed one.
    """
    start = start_state(run, directory, first_step, start_root)
    claimed = load_verified_state(state_path(directory, first_step + steps), run.program, first_step + steps, end_root)
    stepper, roots = Stepper(run, start, first_step), [start_root]
    for _ in range(steps):
        loss = stepper.advance()
        roots.append(root_of_state(run.program, stepper.step, stepper.state))
        on_step(stepper.step - 1, loss)
    return Compared(Verification(tuple(roots)), distances(start, stepper.state, claimed))


@dataclass(frozen=True)
class Disclosed:
    """What a solver stands for in a segment."""

    state_roots: tuple[bytes, ...]
    """R_0 … R_k."""
    values_roots: tuple[bytes, ...]
    """One a step."""


def disclose(run: Run, states: Path, values: Path, first_step: int, steps: int, on_step: OnStep) -> Disclosed:
    """Run the own segment again from its start in `states`, and write every value of every step into `values`.

    The same machine with the same number of threads makes the same bits again: the roots lead to the committed end.
    """
    stepper = start_of(run, states, first_step)
    values.mkdir(parents=True, exist_ok=True)
    program = run.program
    roots, listed = [root_of_state(program, first_step, stepper.state)], list[bytes]()
    for step in range(first_step, first_step + steps):
        made = stepper.observed()
        save_values(values_path(values, step), program, made)
        listed.append(root_of_values(program, made))
        roots.append(root_of_state(program, stepper.step, stepper.state))
        on_step(step, float(made[program.loss]))
    return Disclosed(tuple(roots), tuple(listed))


def root_of_values(program: Program, values: Sequence[torch.Tensor]) -> bytes:
    """The root over a step's batch values and nodes."""
    skipped = program.step_index_value
    listed = [values[number] for number in range(len(program.state), program.value_count) if number != skipped]
    return values_root(roots_of_tensors(listed))


@dataclass(frozen=True)
class Looked:
    """What there is to say of one disclosed step."""

    served: bool
    """Whether the file holds what was disclosed."""
    accusation: Accusation | None
    """What does not follow from its inputs; None: everything keeps its bound."""


def look(run: Run, path: Path, step: int, start_root: bytes, end_root: bytes, listed_root: bytes) -> Looked:
    """Hold every value of a disclosed step against its bound, and its outputs against the next state's root."""
    program = run.program
    try:
        values = load_values(path, program, step)
    except Rejection:
        return Looked(served=False, accusation=None)
    roots = (root_of_state(program, step, values[: len(program.state)]), root_of_values(program, values))
    if roots != (start_root, listed_root):
        return Looked(served=False, accusation=None)
    fault = first_fault(audit_step(program, values, run.dataset.batch(program, run.seed, step)))
    if fault is not None:
        return Looked(served=True, accusation=Accusation(step, *fault))
    outputs = [values[number] for number in program.state_outputs]
    if root_of_state(program, step + 1, outputs) != end_root:
        return Looked(served=True, accusation=Accusation(step, AN_OUTPUT, 0, is_output=True))
    return Looked(served=True, accusation=None)
