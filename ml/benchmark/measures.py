"""Timing: whole steps beside eager PyTorch, what commits to a segment, what verifying one costs, memory.

What is compared runs in turns, so that a busy machine hits both; figures are the fastest of many rounds, since whatever
else the machine does can only add.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import InvariantViolation
from ml.benchmark.models import SUBJECTS, Subject
from ml.capture.trace import capture
from ml.checkpoint import State, root_of_state, save_state
from ml.data.manifest import write_dataset
from ml.interpreter import Interpreter
from ml.kernels.processor import processor
from ml.kernels.threads import get_threads, set_threads
from ml.memory import predict_memory
from ml.presets.build import initial_rules
from ml.segment import verify_segment
from ml.trainer import Run, Stepper, initial_state, open_run
from ml.worker.messages import Job, state_path
from proofs.program.initial import initial_tensor
from proofs.program.types import Given, Program

SEED = bytes(range(32))
ROUNDS_MIN, ROUNDS_MAX = 5, 200
SECONDS = 8.0
"""Spent on the rounds of one comparison, about."""
REST_S, REPEATS, LONG_S = 0.005, 3, 0.2
"""Rest before a turn, steps of a turn, and how long a step is of which one is enough."""
SEGMENT_STEPS = 50
SEGMENTS = ("mlp", "gpt-4x128")
"""Models whose segments are committed to and verified."""
SEGMENT_ROUNDS = 5
Progress = Callable[[str], None]


def program_of(subject: Subject) -> Program:
    """The captured step of a subject; what its seed does not give starts as the module has it."""
    return capture(subject.module, subject.loss(), subject.optimizer, subject.batch(), initial_rules(subject.module))


def _given(program: Program, subject: Subject) -> dict[str, torch.Tensor]:
    named = {f"parameter.{name}": value.detach() for name, value in subject.module.named_parameters()}
    named |= {f"buffer.{name}": value.detach() for name, value in subject.module.named_buffers()}
    return {entry.name: named[entry.name].clone() for entry in program.state if isinstance(entry.initial, Given)}


def state_of(program: Program, subject: Subject) -> State:
    """The state before step 0."""
    given = _given(program, subject)
    return [
        given[entry.name] if entry.name in given else torch.from_numpy(initial_tensor(entry, number, SEED).copy())
        for number, entry in enumerate(program.state)
    ]


def eager_step(subject: Subject, batch: Mapping[str, torch.Tensor]) -> Callable[[], None]:
    """One step by PyTorch itself."""
    optimizer, loss = subject.eager(subject.module), subject.loss()

    def step() -> None:
        optimizer.zero_grad()
        loss(subject.module, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def fastest(*actions: Callable[[], object]) -> list[float]:
    """Seconds of each action, the fastest of many rounds in which all take their turn."""
    for action in actions:
        action()
    best = [float("inf")] * len(actions)
    started = time.perf_counter()
    for done in range(ROUNDS_MAX):
        if done >= ROUNDS_MIN and time.perf_counter() - started > SECONDS:
            break
        for place, action in enumerate(actions):
            # Threads of the one before may spin for a while after their work; a training's steps follow each other.
            time.sleep(REST_S)
            for _ in range(REPEATS if best[place] < LONG_S else 1):
                best[place] = min(best[place], _seconds(action))
    return best


def step_figures(subject: Subject) -> dict[str, Any]:
    """Milliseconds of an exact and of an eager step, their ratio, and the exact step's memory in bytes."""
    program = program_of(subject)
    interpreter, batch = Interpreter(program), subject.batch()
    state, values = state_of(program, subject), list(batch.values())

    def exact() -> None:
        nonlocal state
        state, _ = interpreter.step(state, values, 0)

    exact_s, eager_s = fastest(exact, eager_step(subject, batch))
    memory = predict_memory(interpreter)
    return {
        "what": subject.what,
        "operators": len(program.nodes),
        "exact_ms": round(exact_s * 1e3, 3),
        "eager_ms": round(eager_s * 1e3, 3),
        "ratio": round(exact_s / eager_s, 3),
        "state_bytes": memory.state_bytes,
        "step_bytes": interpreter.step_bytes(),
        "process_bytes": memory.process_bytes,
    }


def _open(subject: Subject, folder: Path) -> Run:
    program = program_of(subject)
    write_dataset(folder / "data", {name: value.numpy() for name, value in subject.records.items()})
    given, initial = _given(program, subject), ""
    if given:
        initial = str(folder / "initial")
        entries = [entry for entry in program.state if entry.name in given]
        save_state(Path(initial), entries, [given[entry.name] for entry in entries], float("nan"))
    return open_run(Job(encode(program), str(folder / "data"), SEED, initial, get_threads()))


def segment_figures(subject: Subject, steps: int = SEGMENT_STEPS) -> dict[str, Any]:
    """Seconds of a segment: its steps, the root and the file at its end, its verification; with the two ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = _open(subject, folder)
        start = initial_state(run)
        root = root_of_state(run.program, 0, start)
        save_state(state_path(folder, 0), run.program.state, start, float("nan"))
        stepper = Stepper(run, start, 0)
        stepper.advance()
        end: State = []

        def train() -> None:
            nonlocal end
            going = Stepper(run, start, 0)
            for _ in range(steps):
                going.advance()
            end = going.state

        def verify() -> None:
            found = verify_segment(run, folder, 0, steps, root, lambda *_: None, SEED)
            if found.end_root != root_of_state(run.program, steps, end):
                raise InvariantViolation("verification came to another state than training")

        times: list[tuple[float, ...]] = []
        for _ in range(SEGMENT_ROUNDS):
            training = _seconds(train)
            rooting = _seconds(lambda: root_of_state(run.program, steps, end))
            saving = _seconds(lambda: save_state(state_path(folder, steps), run.program.state, end, 0.0))
            times.append((training, rooting, saving, _seconds(verify)))
        training, rooting, saving, verifying = (min(column) for column in zip(*times, strict=True))
        return {
            "steps": steps,
            "train_s": round(training, 4),
            "root_s": round(rooting, 4),
            "save_s": round(saving, 4),
            "verify_s": round(verifying, 4),
            "commitment_overhead": round((rooting + saving) / training, 4),
            "verification_ratio": round(verifying / training, 3),
        }


def device_figures() -> dict[str, Any]:
    """What the figures were measured on."""
    name, _ = processor()
    return {
        "machine": platform.machine(),
        "processor": name,
        "cores": os.cpu_count(),
        "threads": get_threads(),
        "torch": str(torch.__version__),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def measure(threads: int, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Every table: steps of all subjects, segments of some, the device."""
    before, torch_before = get_threads(), torch.get_num_threads()
    set_threads(threads)
    try:
        steps: dict[str, Any] = {}
        for name, make in SUBJECTS.items():
            progress(f"steps of {name}")
            steps[name] = step_figures(make())
        segments = {}
        for name in SEGMENTS:
            progress(f"a segment of {name}")
            segments[name] = segment_figures(SUBJECTS[name]())
        return {
            "device": device_figures(),
            "step_ratio": {name: figures["ratio"] for name, figures in steps.items()},
            "steps": steps,
            "segments": segments,
        }
    finally:
        set_threads(before)
        torch.set_num_threads(torch_before)
