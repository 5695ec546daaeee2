"""Training a program on a data set from a seed: steps, states at segment ends, resumed to the same bits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from gensyn_node.primitives.codec import decode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import PROGRAM_BYTES_MAX
from ml import reasons
from ml.checkpoint import State, StateRoots, load_state, root_of_given, root_of_state, save_state
from ml.data.dataset import Dataset, open_dataset
from ml.devices.interpreter import DeviceInterpreter
from ml.devices.select import CPU, interpreter_on
from ml.interpreter import Interpreter, canonical
from ml.kernels.threads import set_threads
from ml.microbatch.parts import interpreter_of
from ml.native.interpreter import NativeInterpreter
from ml.samples import Collector
from ml.worker.messages import Fault, Job, state_path
from proofs.classes import NATIVE, REP_V1
from proofs.program.initial import initial_tensor
from proofs.program.types import Given, Program
from proofs.samples import points, sample_of, sampled_values

AnyInterpreter = Interpreter | NativeInterpreter | DeviceInterpreter

INITIAL_STEP = -1
"""The step of a fault in the initial state."""


class Cancelled(Exception):  # noqa: N818  (it names the event)
    """The work was stopped on request."""


@dataclass(frozen=True)
class Run:
    """Everything that decides the bits of every state of a training."""

    interpreter: AnyInterpreter
    dataset: Dataset
    seed: bytes
    given: dict[str, torch.Tensor]
    """The entries that the task's initial checkpoint gives, by name."""
    fault: Fault | None = None

    @property
    def program(self) -> Program:
        """The program."""
        return self.interpreter.program

    @cached_property
    def sampled_values(self) -> tuple[int, ...]:
        """The values of which an evidence's key draws tiles."""
        return sampled_values(self.program)


@dataclass(frozen=True)
class Segment:
    """A state that was reached."""

    step: int
    """Steps done."""
    root: bytes
    path: Path
    loss: float


def open_run(job: Job) -> Run:
    """Check and open what a job names. Raises Rejection."""
    set_threads(job.threads)
    program: Program = decode(Program, job.program, max_bytes=PROGRAM_BYTES_MAX)
    if job.arithmetic not in (REP_V1, NATIVE):
        raise Rejection(reasons.BAD_REQUEST, f"arithmetic {job.arithmetic[:20]!r} is neither {REP_V1} nor {NATIVE}")
    interpreter = _interpreter(program, job)
    if len(job.seed) != 32:
        raise Rejection(reasons.BAD_REQUEST, f"a seed of {len(job.seed)} bytes, it has 32")
    dataset = open_dataset(job.dataset_directory)
    dataset.check_fits(program)
    return Run(interpreter, dataset, job.seed, given_entries(program, job.initial_path), job.fault)


def _interpreter(program: Program, job: Job) -> AnyInterpreter:
    if job.arithmetic == NATIVE:
        return NativeInterpreter(program)
    return interpreter_of(program, job.records) if job.device == CPU else interpreter_on(program, job.device)


def given_entries(program: Program, path: str) -> dict[str, torch.Tensor]:
    """The `Given` entries out of an initial checkpoint (a file with exactly these). Raises Rejection BAD_CHECKPOINT."""
    entries = [entry for entry in program.state if isinstance(entry.initial, Given)]
    if not entries:
        return {}
    if not path:
        raise Rejection(reasons.BAD_CHECKPOINT, f"{entries[0].name} needs an initial checkpoint")
    values, _ = load_state(Path(path), entries)
    return {entry.name: value for entry, value in zip(entries, values, strict=True)}


def initial_state(run: Run) -> State:
    """The state before step 0."""
    state: State = []
    for number, entry in enumerate(run.program.state):
        given = run.given.get(entry.name)
        state.append(given if given is not None else torch.from_numpy(initial_tensor(entry, number, run.seed).copy()))
    fault = run.fault
    if fault is not None and fault.step == INITIAL_STEP:
        state[fault.value] = flipped(state[fault.value], fault)
    return state


def checkpoint_of(run: Run) -> bytes:
    """The root of the given entries; empty when there are none."""
    return root_of_given(run.program, initial_state(run)) if run.given else b""


def flipped(value: torch.Tensor, fault: Fault) -> torch.Tensor:
    """A copy with one bit flipped, NaNs canonical; a bool is negated."""
    array = value.contiguous().numpy().copy()
    if array.dtype == np.bool_:
        array.reshape(-1)[fault.element % array.size] ^= True
        return torch.from_numpy(array)
    raw = array.reshape(-1).view(f"u{array.itemsize}")
    raw[fault.element % array.size] ^= raw.dtype.type(1 << fault.bit % (8 * array.itemsize))
    return canonical(torch.from_numpy(array))


class Stepper:
    """Runs the steps of a run, one after the other."""

    def __init__(self, run: Run, state: State, step: int) -> None:
        self.run = run
        self.state = state
        self.step = step
        """Steps done."""

    def advance(self) -> float:
        """One step; its loss."""
        batch = self.run.dataset.batch(self.run.program, self.run.seed, self.step)
        interpreter, fault = self.run.interpreter, self.run.fault
        if fault is not None and fault.step == self.step and fault.skip:
            self.step += 1
            return math.nan
        if fault is not None and fault.step == self.step:

            def observe(number: int, value: torch.Tensor) -> torch.Tensor:
                return flipped(value, fault) if number == fault.value else value

            self.state, loss = interpreter.observed_step(self.state, batch, self.step, observe)
        else:
            self.state, loss = interpreter.step(self.state, batch, self.step)
        self.step += 1
        return float(loss)

    def advance_sampled(self, key: bytes) -> tuple[float, bytes]:
        """One step; its loss and the sample that the key draws in it. A step left out has none: that of no tiles.

        Raises Rejection BAD_REQUEST for vendor kernels, whose values no two machines share.
        """
        interpreter, fault, step = self.run.interpreter, self.run.fault, self.step
        if isinstance(interpreter, NativeInterpreter):
            raise Rejection(reasons.BAD_REQUEST, "evidence of a native task has no samples")
        if fault is not None and fault.step == step and fault.skip:
            return self.advance(), sample_of(key, step, ())
        drawn = points(key, step, self.run.sampled_values, interpreter.info.types)
        collector = Collector(drawn, interpreter.info.types)
        batch = self.run.dataset.batch(self.run.program, self.run.seed, step)
        if fault is not None and fault.step == step:

            def observe(number: int, value: torch.Tensor) -> torch.Tensor:
                value = flipped(value, fault) if number == fault.value else value
                if number in collector.values:
                    collector.whole(number, value)
                return value

            self.state, loss = interpreter.observed_step(self.state, batch, step, observe)
            collector.results(self.run.program, self.state, loss)
        else:
            self.state, loss = interpreter.sampled_step(self.state, batch, step, collector)
        self.step += 1
        return float(loss), sample_of(key, step, collector.tiles())

    def observed(self) -> list[torch.Tensor]:
        """One step; every value of it by value number, canonical."""
        made, fault = self.values(), self.run.fault
        if fault is None or fault.step != self.step or not fault.skip:
            self.state = [made[number] for number in self.run.program.state_outputs]
        self.step += 1
        return made

    def values(self) -> list[torch.Tensor]:
        """Every value of the next step by value number, canonical; the step is not done."""
        batch = self.run.dataset.batch(self.run.program, self.run.seed, self.step)
        # What fused arithmetic left in the state may be NaNs of any bits.
        state = [canonical(item) for item in self.state]
        made: dict[int, torch.Tensor] = {}
        fault = self.run.fault

        def observe(number: int, value: torch.Tensor) -> torch.Tensor:
            if fault is not None and (fault.step, fault.value, fault.skip) == (self.step, number, False):
                value = flipped(value, fault)
            made[number] = value
            return value

        self.run.interpreter.observed_step(state, batch, self.step, observe)
        made |= dict(enumerate(state))
        made[self.run.program.step_index_value] = torch.tensor(self.step, dtype=torch.int64)
        return [made[number] for number in range(self.run.program.value_count)]


def train(
    run: Run,
    directory: Path,
    first_step: int,
    steps: int,
    segment_steps: int,
    on_step: Callable[[int, float, float], None],
) -> Iterator[Segment]:
    """Yield the initial state of the stretch, then every segment's end, as they are on disk.

    Continues after the last state of this stretch that is in `directory` already. `on_step(step, loss, seconds)` after
    each step; it may raise `Cancelled`. Raises Rejection.
    """
    if first_step < 0 or steps < 0 or segment_steps < 1 or first_step % segment_steps:
        raise Rejection(reasons.BAD_REQUEST, f"steps {first_step} + {steps} in segments of {segment_steps}")
    program, last = run.program, first_step + steps
    ends = [*range(first_step, last, segment_steps), last] if steps else [first_step]
    if first_step == 0 and not state_path(directory, 0).is_file():
        directory.mkdir(parents=True, exist_ok=True)
        save_state(state_path(directory, 0), program.state, initial_state(run), float("nan"))
    state: State = []
    done = 0
    for position, end in enumerate(ends):
        path = state_path(directory, end)
        if position and not path.is_file():
            break
        state, loss = load_state(path, program.state)
        done = position
        yield Segment(end, root_of_state(program, end, state), path, loss)
    stepper, state_roots = Stepper(run, state, ends[done]), StateRoots(program)
    state = []  # The stepper has it: a second name would keep it for the whole training.
    for end in ends[done + 1 :]:
        loss = float("nan")
        while stepper.step < end:
            started = time.perf_counter()
            loss = stepper.advance()
            on_step(stepper.step - 1, loss, time.perf_counter() - started)
        stepper.state = [canonical(item) for item in stepper.state]
        path = state_path(directory, end)
        save_state(path, program.state, stepper.state, loss)
        yield Segment(end, state_roots.of(end, stepper.state), path, loss)


def start_of(run: Run, directory: Path, step: int) -> Stepper:
    """A stepper at `step`, from the nearest state at or before it in `directory`, or from the start.

    Raises Rejection BAD_CHECKPOINT when there is none to start from.
    """
    for candidate in range(step, -1, -1):
        path = state_path(directory, candidate)
        if path.is_file():
            stepper = Stepper(run, load_state(path, run.program.state)[0], candidate)
            break
        if candidate == 0:
            stepper = Stepper(run, initial_state(run), 0)
    while stepper.step < step:
        stepper.advance()
    return stepper


def mean_loss(run: Run, state: State, first_step: int, steps: int) -> float:
    """Mean loss of a state over the batches of these steps; the state stays as it is."""
    total = 0.0
    for step in range(first_step, first_step + steps):
        batch = run.dataset.batch(run.program, run.seed, step)
        total += float(run.interpreter.step(state, batch, step)[1])
    return total / max(1, steps)
