"""Running a program, in one of two ways that give the same bits.

The *fused* way (`ml.plan`) joins elementwise operators into loops and never makes the values inside; the *plain* way
runs one kernel after the other in list order and makes every value, for hashing and for faults. NaN payloads are left
as the processor makes them and become canonical where values leave the plan; that equals canonical NaNs after every
operator, since no NaN enters with another payload: states, batches and constants have canonical ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ml.kernels.table import kernel
from ml.plan import Plan
from ml.samples import Collector
from proofs.program.operators import OPERATORS
from proofs.program.types import ITEM_BYTES, Node, Program
from proofs.program.validate import validate_program

NAN_BITS = 0x7FC00000
Observer = Callable[[int, torch.Tensor], torch.Tensor]
"""Sees each value of a plain run by its number; what it returns is used instead."""


@dataclass(frozen=True)
class Instruction:
    """One kernel of a plan."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    run: Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]
    frees: tuple[int, ...]
    """Values not needed after it."""


class Interpreter:
    """A validated program with its plans."""

    def __init__(self, program: Program) -> None:
        """Raises Rejection when the program is not valid."""
        self.program = program
        self.info = validate_program(program)
        self._fused: Plan | None = None
        self._plain: list[Instruction] | None = None

    def step(
        self, state: Sequence[torch.Tensor], batch: Sequence[torch.Tensor], step_index: int
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """One step, the fused way: (state', loss)."""
        return self._plan().step([*state, *batch, torch.tensor(step_index, dtype=torch.int64)])

    def sampled_step(
        self, state: Sequence[torch.Tensor], batch: Sequence[torch.Tensor], step_index: int, collector: Collector
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """A `step` of which drawn tiles are taken."""
        plan = self._plan()
        watched = collector.values - {*self.program.state_outputs, self.program.loss}
        if not all(plan.makes(value) for value in watched):
            return self._observed_sample(state, batch, step_index, collector)
        inputs = [*state, *batch, torch.tensor(step_index, dtype=torch.int64)]
        copied = {value for value in watched if plan.copies(value)}
        after, loss = plan.step(inputs, watched - copied, collector.whole, collector.takes(copied))
        collector.results(self.program, after, loss)
        return after, loss

    def _observed_sample(
        self, state: Sequence[torch.Tensor], batch: Sequence[torch.Tensor], step_index: int, collector: Collector
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The same of a value that the fused way does not write: value by value, with the same bits."""

        def observe(number: int, value: torch.Tensor) -> torch.Tensor:
            if number in collector.values:
                collector.whole(number, value)
            return value

        after, loss = self.observed_step(state, batch, step_index, observe)
        collector.results(self.program, after, loss)
        return after, loss

    def step_bytes(self) -> int:
        """What a fused step holds beside its inputs."""
        return self._plan().step_bytes

    def memory_bytes(self) -> int:
        """Bytes of memory that a step takes: what comes in, what goes out, what is between."""
        given = self.info.types[: self.program.first_node_value]
        return sum(type_.elements * ITEM_BYTES[type_.dtype] for type_ in given) + self._plan().memory_bytes

    def _plan(self) -> Plan:
        if self._fused is None:
            self._fused = Plan(self.program, self.info.types)
        return self._fused

    def observed_step(
        self,
        state: Sequence[torch.Tensor],
        batch: Sequence[torch.Tensor],
        step_index: int,
        observer: Observer,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """One step in which `observer` sees every batch value and node, canonical, in list order."""
        if self._plain is None:
            made = range(self.program.first_node_value, self.program.value_count)
            self._plain = _with_frees(self.program, [self._instruction(value) for value in made])
        values = self._inputs(state, batch, step_index)
        for number in range(len(state), len(state) + len(batch)):
            values[number] = observer(number, values[number])
        for instruction in self._plain:
            (number,) = instruction.outputs
            (result,) = instruction.run([values[item] for item in instruction.inputs])
            values[number] = observer(number, canonical(result))
            for freed in instruction.frees:
                del values[freed]
        return self._outputs(values)

    def _inputs(
        self, state: Sequence[torch.Tensor], batch: Sequence[torch.Tensor], step_index: int
    ) -> dict[int, torch.Tensor]:
        values = dict(enumerate([*state, *batch]))
        values[self.program.step_index_value] = torch.tensor(step_index, dtype=torch.int64)
        return values

    def _outputs(self, values: dict[int, torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
        return [values[number].contiguous() for number in self.program.state_outputs], values[self.program.loss]

    def _instruction(self, value: int) -> Instruction:
        types = self.info.types
        node: Node = self.program.nodes[value - self.program.first_node_value]
        run = kernel(node, tuple(types[number] for number in node.inputs), types[value])
        return Instruction(node.inputs, (value,), lambda inputs: (run(inputs),), ())


def makes_nan(node: Node) -> bool:
    """Whether the operator is arithmetic, so that its NaNs are canonical; data movement copies bits."""
    if node.operator in ("where", "cast"):
        return False
    return OPERATORS[node.operator].family in ("elementwise", "matmul", "sum", "maximum", "scatter")


def canonical(value: torch.Tensor) -> torch.Tensor:
    """The same values with every NaN of an f32 tensor replaced by 0x7fc00000; the tensor itself when it has none."""
    if value.dtype != torch.float32 or not bool(torch.isnan(value).any()):
        return value
    nan = torch.tensor(NAN_BITS, dtype=torch.int32).view(torch.float32)
    return torch.where(torch.isnan(value), nan, value)


def has_odd_nan(value: torch.Tensor) -> bool:
    """Whether an f32 tensor holds a NaN with other bits than the canonical ones."""
    if value.dtype != torch.float32:
        return False
    nans = value[torch.isnan(value)]
    return nans.numel() > 0 and bool((nans.view(torch.int32) != NAN_BITS).any())


def _with_frees(program: Program, instructions: list[Instruction]) -> list[Instruction]:
    """The instructions with, for each, the values that nothing needs afterwards."""
    kept = {*program.state_outputs, program.loss}
    last: dict[int, int] = {}
    for position, instruction in enumerate(instructions):
        for number in (*instruction.inputs, *instruction.outputs):
            last[number] = position
    frees: list[list[int]] = [[] for _ in instructions]
    for number, position in last.items():
        if number not in kept:
            frees[position].append(number)
    return [
        Instruction(item.inputs, item.outputs, item.run, tuple(freed))
        for item, freed in zip(instructions, frees, strict=True)
    ]
