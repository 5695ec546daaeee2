"""The programs that faults are put into: presets, models of several kinds, one step with every operator."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from gensyn_node.primitives.codec import encode
from ml.checkpoint import save_state
from ml.data.manifest import write_dataset
from ml.oracle import Reexecution, dispute_context
from ml.presets import build
from ml.trainer import Run, open_run, start_of
from ml.worker.messages import Job, state_path
from proofs.pinpoint.context import Context
from proofs.pinpoint.oracle import ArrayOracle
from proofs.program.operators import infer
from proofs.program.types import F32, BatchInput, Fill, Given, Node, Program, StateEntry, TensorType
from proofs.tensors import Array, type_of
from tests.native.models import MODELS, Model
from tests.programs.programs_samples import ODD_NANS, SAMPLES, sample

SEGMENT_STEPS = 4
FIRST_STEP = 3
SEED = bytes(range(32))
Data = Mapping[str, Array]


class _Remembered:
    """An execution whose steps are run once."""

    def __init__(self, execution: Reexecution) -> None:
        self.state_roots = lru_cache(maxsize=1)(execution.state_roots)
        self.values = lru_cache(maxsize=1)(execution.values)
        self.evidence = lru_cache(maxsize=1)(execution.evidence)
        self.dataset = execution.dataset


@dataclass(frozen=True)
class World:
    """A program with its data, trained honestly up to the disputed segment and through it."""

    run: Run
    states: Path
    steps: range
    """Steps in which a fault may reach the segment's end."""

    @cached_property
    def roots(self) -> Sequence[bytes]:
        """The honest state roots of the segment."""
        return self.honest.state_roots(FIRST_STEP, SEGMENT_STEPS)

    @cached_property
    def honest(self) -> ArrayOracle:
        """What the honest party knows."""
        return self.oracle(self.run)

    def oracle(self, run: Run) -> ArrayOracle:
        """What a party with this run knows."""
        return ArrayOracle(run.program, _Remembered(Reexecution(run, self.states)))

    @cached_property
    def context(self) -> Context:
        """What the chain knows."""
        return dispute_context(self.run)

    @cached_property
    def listed(self) -> dict[str, list[int]]:
        """Batch values and nodes by operator."""
        program, found = self.run.program, dict[str, list[int]]()
        for value in range(len(program.state), program.step_index_value):
            found.setdefault("batch", []).append(value)
        for value, node in enumerate(program.nodes, program.first_node_value):
            found.setdefault(node.operator, []).append(value)
        return found


def world_of(
    program: Program, data: Data, folder: Path, given: Sequence[torch.Tensor] = (), every_step: bool = True
) -> World:
    """The world of a program, its `Given` entries in order, trained to the segment's start."""
    write_dataset(folder / "data", dict(data), shard_bytes=8192)
    initial = ""
    entries = [entry for entry in program.state if isinstance(entry.initial, Given)]
    if entries:
        initial = str(folder / "initial")
        save_state(Path(initial), entries, list(given), 0.0)
    run = open_run(Job(encode(program), str(folder / "data"), SEED, initial, 1))
    stepper = start_of(run, folder, FIRST_STEP)
    save_state(state_path(folder, FIRST_STEP), program.state, stepper.state, 0.0)
    last = FIRST_STEP + SEGMENT_STEPS
    return World(run, folder, range(FIRST_STEP if every_step else last - 1, last))


SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
ADAMW = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01}
MLP = {"name": "mlp", "inputs": 70, "classes": 10}
GPT = {"name": "gpt", "context": 12, "vocabulary": 50, "heads": 2}
PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "mlp-sgd": (MLP | {"inputs": 300, "widths": [64, 40]}, SGD, 48),
    "mlp-adamw": (MLP | {"widths": [64], "activation": "gelu"}, ADAMW, 40),
    "gpt-sgd": (GPT | {"layers": 1, "width": 32}, SGD, 6),
    "gpt-adamw": (GPT | {"layers": 2, "width": 24}, ADAMW, 4),
}


def _preset(name: str, folder: Path) -> World:
    preset, optimizer, batch_size = PRESETS[name]
    generator = np.random.default_rng(7)
    data: Data
    if preset["name"] == "mlp":
        x = generator.standard_normal((200, preset["inputs"])).astype(np.float32)
        data = {"x": x, "y": generator.integers(0, 10, 200)}
    else:
        data = {"tokens": generator.integers(0, 50, (80, 13)).astype(np.uint8)}
    return world_of(build(preset, optimizer, batch_size).program, data, folder)


def _model(model: Model, folder: Path) -> World:
    program = model.program()
    state = zip(program.state, model.initial(1, program), strict=True)
    given = [value for entry, value in state if isinstance(entry.initial, Given)]
    return world_of(program, model.data(np.random.default_rng(0)), folder, given)


def every_operator() -> tuple[Program, list[Array]]:
    """One step that applies every operator to given samples with special values, each result a state entry."""
    state, given, results = list[StateEntry](), list[Array](), list[tuple[Node, list[Array]]]()
    for name in sorted(SAMPLES):
        results += [sample(name, number, tame=number % 2 == 0) for number in range(len(SAMPLES[name]))]
    for number, (_, inputs) in enumerate(results):
        for position, array in enumerate(inputs):
            state.append(StateEntry(f"constant.sample{number}.{position}", type_of(array), Given()))
            given.append(array)
    carried, taken, nodes = len(state), 0, list[Node]()
    for number, (node, inputs) in enumerate(results):
        nodes.append(Node(node.operator, tuple(range(taken, taken + len(inputs))), node.attributes))
        output = infer(node.operator, tuple(type_of(array) for array in inputs), node.attributes)
        state.append(StateEntry(f"buffer.result{number}", output, Fill(0)))
        taken += len(inputs)
    state.append(StateEntry("buffer.batch", TensorType(F32, (5, 3)), Fill(0)))
    nodes.append(Node("full", (), (0, 0)))
    batch = (BatchInput("x", TensorType(F32, (3,))),)
    first = len(state) + len(batch) + 1
    outputs = (*range(carried), *range(first, first + len(results)), len(state))
    return Program(1, tuple(state), 5, batch, tuple(nodes), outputs, first + len(results)), given


def _every_operator(folder: Path) -> World:
    program, given = every_operator()
    x = np.random.default_rng(7).standard_normal((40, 3)).astype(np.float32)
    x[::3, 1] = ODD_NANS[1]
    # Each step makes its results anew: only a fault in the last one reaches the end.
    return world_of(program, {"x": x}, folder, [torch.from_numpy(array) for array in given], every_step=False)


ARCHITECTURES: dict[str, Callable[[Path], World]] = {
    "every-operator": _every_operator,
    **{f"preset-{name}": (lambda folder, name=name: _preset(name, folder)) for name in PRESETS},
    **{model.name: (lambda folder, model=model: _model(model, folder)) for model in MODELS},
}
"""Name -> (an empty folder) -> its world."""
