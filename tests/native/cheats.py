"""Solvers that save work or change the result, and what each would have to stand for in a dispute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ml.native.audit import audit_step
from ml.native.interpreter import NativeInterpreter
from proofs.program.types import F32, Program
from tests.native.solver import Case, State, task_seed, values_of

CHEATS = (
    "skipped step",
    "wrong batch",
    "wrong label",
    "lr x 0.99",
    "lr x 0.9999",
    "bf16 products",
    "weights of 16 bits",
    "weights of 10 bits",
    "stale weights",
)
IN_ONE_STEP = CHEATS[:3]
"""Done in the middle step of the segment; the others in each."""


@dataclass(frozen=True)
class Cheated:
    """One step as the cheater states it."""

    claimed: State
    values: State


@dataclass(frozen=True)
class Caught:
    """What an audit of the step finds."""

    operator: str
    """The first operator outside its bound; `output` when the next state is not what the values say; empty: nothing."""


class Bf16Products(NativeInterpreter):
    """Products of operands rounded to bf16, as automatic mixed precision makes them."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        for position, node in enumerate(program.nodes):
            if node.operator == "matmul":
                self._kernels[position] = _bf16(self._kernels[position])


def _bf16(run: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda inputs: run([item.bfloat16().float() for item in inputs])


def rounded(value: torch.Tensor, bits: int) -> torch.Tensor:
    """The value with so many bits of fraction."""
    drop = 23 - bits
    raw = value.view(torch.int32)
    return ((raw + (1 << (drop - 1))) & -(1 << drop)).view(torch.float32)


class Cheater:
    """Trains a segment while doing one thing wrong."""

    def __init__(self, case: Case, cheat: str) -> None:
        self.case, self.cheat = case, cheat
        make = Bf16Products if cheat == "bf16 products" else NativeInterpreter
        self.interpreter = make(case.program)

    def segment(self, seed: int, step: int, length: int) -> State:
        """The end state that it claims."""
        state = before = self.case.start(seed, step)
        for done in range(length):
            lies = self.cheat not in IN_ONE_STEP or done == length // 2
            after = self.step(state, before, seed, step + done, lies).claimed
            before, state = state, after
        return state

    def step(self, state: State, before: State, seed: int, step: int, lies: bool = True) -> Cheated:
        """One step from `state` (`before`: the state one step earlier)."""
        case, key = self.case, task_seed(seed)
        batch = case.batch(key, step + (self.cheat == "wrong batch" and lies))
        start = before if self.cheat == "stale weights" else state
        if self.cheat == "wrong label" and lies:
            batch = [item.clone() for item in batch]
            last = batch[-1].reshape(batch[-1].shape[0], -1)
            last[0, -1] = (last[0, -1] + 1) % 10
        after, values = values_of(self.interpreter, case.program, start, batch, step)
        if not lies:
            return Cheated(after, values)
        if self.cheat == "stale weights":
            values[: len(state)] = state
        return Cheated(self._claimed(state, start, after), values)

    def _claimed(self, state: State, start: State, after: State) -> State:
        cheat = self.cheat
        if cheat == "skipped step":
            return state
        found = []
        for entry, old, began, new in zip(self.case.program.state, state, start, after, strict=True):
            weights = entry.type.dtype == F32 and entry.name.startswith("parameter.")
            if cheat.startswith("lr x") and weights:
                new = old + float(cheat.split()[-1]) * (new - old)
            elif cheat.startswith("weights of") and weights:
                new = rounded(new, int(cheat.split()[2]))
            elif cheat == "stale weights" and weights:
                new = old + (new - began)
            found.append(new)
        return found

    def caught(self, seed: int, step: int) -> Caught:
        """Audit the second step of a segment, where every cheat is at work."""
        state = before = self.case.start(seed, step)
        if self.cheat not in IN_ONE_STEP:
            state = self.step(state, before, seed, step).claimed
            step += 1
        lied = self.step(state, before, seed, step)
        batch = self.case.batch(task_seed(seed), step)
        wrong = [item for item in audit_step(self.case.program, lied.values, batch) if item.outside]
        if wrong:
            return Caught(wrong[0].operator)
        outputs = [lied.values[number] for number in self.case.program.state_outputs]
        same = all(torch.equal(one, other) for one, other in zip(outputs, lied.claimed, strict=True))
        return Caught("" if same else "output")
