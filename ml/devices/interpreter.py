"""A step of a program on a device: fused groups and fixed kernels, the reference's torch formulas for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch

from ml.devices import fixed
from ml.devices.backend import Backend, Launch
from ml.devices.source import EMITTED, KernelSource, group_numbers, group_source, walks_of
from ml.fusion import fuse
from ml.interpreter import Interpreter, Observer
from ml.kernels.budget import CompileBudget
from ml.kernels.elementwise import TORCH_DTYPES, Group, single
from ml.reference.operators import REFERENCE, Call
from ml.samples import Collector
from proofs.program.operators import OPERATORS
from proofs.program.types import Node, Program, TensorType

Tensors = Sequence[torch.Tensor]
Run = Callable[[Tensors], list[torch.Tensor]]
"""Inputs of any strides → outputs, on the device."""
INDEX_MAX = 1 << 32
"""Work items of one launch: Metal counts them in 32 bits."""


@dataclass(frozen=True)
class _Instruction:
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    run: Run
    frees: tuple[int, ...]


class DeviceInterpreter:
    """A validated program on a device; what is observed value by value runs on the CPU, whose bits are the same."""

    def __init__(self, program: Program, backend: Backend) -> None:
        """Raises Rejection when the program is not valid."""
        self._host = Interpreter(program)
        self.program = program
        self.info = self._host.info
        self._backend = backend
        self._instructions: list[_Instruction] | None = None

    def step(self, state: Tensors, batch: Tensors, step_index: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """One step: (state', loss) on the device. See `Interpreter.step`."""
        return self._run(state, batch, step_index, None)

    def sampled_step(
        self, state: Tensors, batch: Tensors, step_index: int, collector: Collector
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """See `Interpreter.sampled_step`."""
        if self._instructions is None:
            self._instructions = self._planned()
        made = {number for instruction in self._instructions for number in instruction.outputs}
        results = {*self.program.state_outputs, self.program.loss}
        if not collector.values <= made | results:
            return self._host.sampled_step(_on_host(state), _on_host(batch), step_index, collector)
        after, loss = self._run(state, batch, step_index, collector)
        collector.results(self.program, after, loss)
        return after, loss

    def _run(
        self, state: Tensors, batch: Tensors, step_index: int, collector: Collector | None
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        if self._instructions is None:
            self._instructions = self._planned()
        device = self._backend.device
        index = torch.tensor(step_index, dtype=torch.int64)
        values = {number: item.to(device) for number, item in enumerate([*state, *batch, index])}
        for instruction in self._instructions:
            results = instruction.run([values[number] for number in instruction.inputs])
            for number, result in zip(instruction.outputs, results, strict=True):
                values[number] = result
                if collector is not None and number in collector.values:
                    collector.whole(number, result)
            for number in instruction.frees:
                del values[number]
        return [values[number].contiguous() for number in self.program.state_outputs], values[self.program.loss]

    def observed_step(
        self, state: Tensors, batch: Tensors, step_index: int, observer: Observer
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """See `Interpreter.observed_step`."""
        return self._host.observed_step(_on_host(state), _on_host(batch), step_index, observer)

    def _planned(self) -> list[_Instruction]:
        """The pieces of the program, each with the values that nothing needs after it."""
        types, budget = self.info.types, CompileBudget()
        made: list[tuple[tuple[int, ...], tuple[int, ...], Run]] = []
        for piece in fuse(self.program, recipes=False):
            if piece.group is not None:
                group = piece.group(types)
                fits = len(piece.inputs) + len(piece.outputs) <= self._backend.arrays_max and _is_emitted(group)
                # How inputs lie in memory is not known yet; it follows from their shapes.
                if fits and budget.admits((group, *(types[number].shape for number in piece.inputs)), group):
                    made.append((piece.inputs, piece.outputs, group_run(group, self._backend)))
                    continue
            for value in piece.values:
                node = self.program.nodes[value - self.program.first_node_value]
                inputs = tuple(types[number] for number in node.inputs)
                alone = _alone(node, inputs, types[value])
                if alone is not None and not budget.admits((alone, inputs), alone):
                    run = _by_reference(node, types[value], self._backend)
                else:
                    run = node_run(node, inputs, types[value], self._backend)
                made.append((node.inputs, (value,), run))
        self._add_constants(made)
        kept = {*self.program.state_outputs, self.program.loss}
        last = {number: at for at, (inputs, outputs, _) in enumerate(made) for number in (*inputs, *outputs)}
        frees: list[list[int]] = [[] for _ in made]
        for number, at in last.items():
            if number not in kept:
                frees[at].append(number)
        return [_Instruction(*item, tuple(sorted(freed))) for item, freed in zip(made, frees, strict=True)]

    def _add_constants(self, made: list[tuple[tuple[int, ...], tuple[int, ...], Run]]) -> None:
        """Constants that disappeared into groups are needed again where a group was taken apart."""
        there = set(range(self.program.first_node_value)).union(*(outputs for _, outputs, _ in made))
        missing = {number for inputs, _, _ in made for number in inputs} - there
        for value in sorted(missing):
            node = self.program.nodes[value - self.program.first_node_value]
            made.insert(0, ((), (value,), node_run(node, (), self.info.types[value], self._backend)))


def node_run(node: Node, inputs: tuple[TensorType, ...], output: TensorType, backend: Backend) -> Run:
    """One operator on a device."""
    alone = _alone(node, inputs, output)
    if alone is not None:
        return group_run(alone, backend)
    fitting = _FIXED.get(node.operator)
    if fitting is not None and inputs[0].dtype == "f32":
        return fitting(node, backend)
    return _by_reference(node, output, backend)


def _alone(node: Node, inputs: tuple[TensorType, ...], output: TensorType) -> Group | None:
    """The group of one elementwise operator; None for others."""
    dtypes = tuple(item.dtype for item in inputs)
    return (
        single(node.operator, dtypes, node.attributes, output.dtype, output.shape) if node.operator in EMITTED else None
    )


def _by_reference(node: Node, output: TensorType, backend: Backend) -> Run:
    """One operator by torch's own kernels."""
    formula, view = REFERENCE[node.operator], OPERATORS[node.operator].family == "movement"

    def run(values: Tensors) -> list[torch.Tensor]:
        made = formula(Call(node, values, output.shape, backend.device)).reshape(output.shape)
        return [made if view else made.contiguous()]

    return run


def group_run(group: Group, backend: Backend) -> Run:
    """A group of elementwise operators as one launch; compiled for each way that its inputs lie in memory."""
    ready: dict[tuple[tuple[int, ...], ...], tuple[Launch, tuple[int, ...]]] = {}
    dtypes = [TORCH_DTYPES[group.slot_dtypes()[slot]] for slot in group.outputs]
    count = prod(group.shape)
    bare = Group(group.inputs, group.constants, group.operations, group.outputs, ())

    def run(values: Tensors) -> list[torch.Tensor]:
        key = tuple(item.stride() for item in values)
        found = ready.get(key)
        if found is None:
            sizes, walks = walks_of(group.shape, [item.expand(group.shape).stride() for item in values])
            source = group_source(bare, tuple(walk.kind for walk in walks), len(sizes))
            found = ready[key] = (backend.compile(source), (count, *group_numbers(sizes, walks)))
        launch, numbers = found
        outputs = [torch.empty(group.shape, dtype=dtype, device=backend.device) for dtype in dtypes]
        launch(numbers, [*values, *outputs])
        return outputs

    return run


def _is_emitted(group: Group) -> bool:
    return prod(group.shape) < INDEX_MAX and all(item.operator in EMITTED for item in group.operations)


def _matmul(_: Node, backend: Backend) -> Run:
    launch = backend.compile(fixed.MATMUL)

    def run(values: Tensors) -> list[torch.Tensor]:
        left, right = values
        if left.ndim < right.ndim:
            left = left.expand(*right.shape[:-2], *left.shape[-2:])
        left, right = left.contiguous(), right.contiguous()
        rows, terms, columns = left.shape[-2], left.shape[-1], right.shape[-1]
        batch = prod(left.shape[:-2])
        if right.ndim == 2:
            rows, batch = rows * batch, 1
        blocks = -(-rows // fixed.BLOCK), -(-columns // fixed.BLOCK)
        out = torch.empty((*left.shape[:-1], columns), dtype=torch.float32, device=backend.device)
        sizes = (rows, terms, columns, rows * terms, terms * columns, *blocks)
        launch((batch * blocks[0] * blocks[1], *sizes), [left, right, out])
        return [out]

    return run


def _along_last(kernel: KernelSource, dtype: torch.dtype) -> Callable[[Node, Backend], Run]:
    def fitting(_: Node, backend: Backend) -> Run:
        launch = backend.compile(kernel)

        def run(values: Tensors) -> list[torch.Tensor]:
            x = values[0].contiguous()
            columns = x.shape[-1] if x.ndim else 1
            out = torch.empty((*x.shape[:-1], 1), dtype=dtype, device=backend.device)
            launch((x.numel() // columns, columns), [x, out])
            return [out]

        return run

    return fitting


def _sum_first(_: Node, backend: Backend) -> Run:
    launch = backend.compile(fixed.SUM_FIRST)

    def run(values: Tensors) -> list[torch.Tensor]:
        x = values[0].contiguous()
        columns = x.shape[-1] if x.ndim else 1
        out = torch.empty((1, columns), dtype=torch.float32, device=backend.device)
        launch((columns, x.numel() // columns), [x, out])
        return [out]

    return run


def _embedding_grad(node: Node, backend: Backend) -> Run:
    launch, rows = backend.compile(fixed.EMBEDDING_GRAD), node.attributes[0]

    def run(values: Tensors) -> list[torch.Tensor]:
        gradient, ids = values[0].contiguous(), values[1].contiguous()
        columns = gradient.shape[-1]
        out = torch.zeros((rows, columns), dtype=torch.float32, device=backend.device)
        launch((columns, ids.numel(), rows), [gradient, ids, out])
        return [out]

    return run


_FIXED: dict[str, Callable[[Node, Backend], Run]] = {
    "matmul": _matmul,
    "sum_last": _along_last(fixed.SUM_LAST, torch.float32),
    "sum_first": _sum_first,
    "max_last": _along_last(fixed.MAX_LAST, torch.float32),
    "argmax_last": _along_last(fixed.ARGMAX_LAST, torch.int64),
    "embedding_grad": _embedding_grad,
}


def _on_host(values: Tensors) -> list[torch.Tensor]:
    return [item.cpu() for item in values]
