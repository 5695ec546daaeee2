"""Running a program by vendor kernels: operator after operator in list order, values freed at their last use.

Nothing is fused and every operator's output exists: it is what a solver stands for in a dispute. The same machine with
the same settings and number of threads gives the same bits again, so a solver can replay its own step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ml.interpreter import Observer, canonical
from ml.native.operators import kernel
from ml.native.settings import deterministic_settings
from proofs.program.types import ITEM_BYTES, Program
from proofs.program.validate import validate_program

ALIGNMENT_BYTES = 64
"""Of every tensor that torch allocates."""


class NativeInterpreter:
    """A validated program with its vendor kernels; steps as `ml.interpreter.Interpreter` does them."""

    def __init__(self, program: Program) -> None:
        """Raises Rejection when the program is not valid."""
        self.program = program
        self.info = validate_program(program)
        deterministic_settings()
        first = program.first_node_value
        self._kernels = [kernel(node, self.info.types[first + number]) for number, node in enumerate(program.nodes)]
        self._frees = _frees(program)

    def step(
        self, state: Sequence[torch.Tensor], batch: Sequence[torch.Tensor], step_index: int
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """One step: (state', loss)."""
        return self._run(state, batch, step_index, lambda _, value: value)

    def memory_bytes(self) -> int:
        """Bytes of memory that a step takes whose values are all kept and written, as whoever is suspected must."""
        types = self.info.types
        return 2 * sum(type_.elements * ITEM_BYTES[type_.dtype] for type_ in types)

    def observed_step(
        self,
        state: Sequence[torch.Tensor],
        batch: Sequence[torch.Tensor],
        step_index: int,
        observer: Observer,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """One step in which `observer` sees every batch value and node, canonical, in list order."""
        return self._run(state, batch, step_index, lambda number, value: observer(number, canonical(value)))

    def _run(
        self,
        state: Sequence[torch.Tensor],
        batch: Sequence[torch.Tensor],
        step_index: int,
        see: Callable[[int, torch.Tensor], torch.Tensor],
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        program = self.program
        device = state[0].device
        values = {number: _aligned(value) for number, value in enumerate([*state, *batch])}
        values[program.step_index_value] = torch.tensor(step_index, dtype=torch.int64, device=device)
        for number in range(len(state), len(state) + len(batch)):
            values[number] = see(number, values[number])
        for position, (node, run) in enumerate(zip(program.nodes, self._kernels, strict=True)):
            number = program.first_node_value + position
            values[number] = see(number, run([values[item] for item in node.inputs]))
            for freed in self._frees[position]:
                del values[freed]
        return [values[number] for number in program.state_outputs], values[program.loss]


def _aligned(value: torch.Tensor) -> torch.Tensor:
    """Contiguous and where the allocator would put it: a library may add up in another order at odd addresses.

    What is computed may not depend on whether a state came out of a file or out of the step before.
    """
    value = value.contiguous()
    return value.clone() if value.data_ptr() % ALIGNMENT_BYTES else value


def _frees(program: Program) -> list[tuple[int, ...]]:
    """For each node, the values that nothing needs after it."""
    kept = {*program.state_outputs, program.loss}
    last: dict[int, int] = {}
    for position, node in enumerate(program.nodes):
        for number in (*node.inputs, program.first_node_value + position):
            last[number] = position
    frees: list[list[int]] = [[] for _ in program.nodes]
    for number, position in last.items():
        if number not in kept:
            frees[position].append(number)
    return [tuple(freed) for freed in frees]
