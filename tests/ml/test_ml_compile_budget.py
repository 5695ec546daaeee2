"""Programs made to keep the compiler busy: the loops that one may have compiled are counted, its bits stay the same."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from ml import plan
from ml.interpreter import Interpreter, canonical
from ml.kernels import elementwise
from ml.kernels.budget import CompileBudget
from ml.kernels.elementwise import Loop, single
from proofs.program.types import OPSET, Fill, Node, Program, StateEntry, TensorType

SHAPE = (3, 35)
UNITS = 12
ONE_OPERATOR_LOOPS_MAX = 100
"""Every elementwise operator with every dtype that it takes."""


def bomb(groups: int) -> Program:
    """So many loops, each with its own constant, kept apart by sums; with inputs that repeat, and polynomials."""
    state = (StateEntry("parameter.w", TensorType("f32", SHAPE), Fill(0x3F000000)),)
    nodes: list[Node] = []
    value, row = 0, 0
    for number in range(groups):
        first = 2 + len(nodes)
        nodes += [
            Node("full", (), (0, 0x3F800000 + 97 * number, *SHAPE)),
            Node("mul", (value, first), ()),
            Node(("tanh", "erf", "exp", "neg")[number % 4], (first + 1,), ()),
            Node("minimum", (first + 2, row), ()),
            Node("sum_last", (first + 3,), ()),
        ]
        value, row = first + 3, first + 4
    nodes += [Node("sum_first", (row,), ()), Node("reshape", (2 + len(nodes),), ())]
    return Program(OPSET, state, 1, (), tuple(nodes), (value,), 1 + len(nodes))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> set[Loop]:
    """The loops for which machine code is asked."""
    made: set[Loop] = set()
    original = elementwise._compiled

    def note(loop: Loop) -> int:
        made.add(loop)
        return original(loop)

    monkeypatch.setattr(elementwise, "_compiled", note)
    monkeypatch.setattr(plan, "CompileBudget", partial(CompileBudget, UNITS))
    elementwise.group_call.cache_clear()
    return made


def test_a_bomb_of_loops_compiles_a_bounded_number_and_gives_the_same_bits(compiled: set[Loop]) -> None:
    weights = torch.from_numpy(np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32))
    interpreter = Interpreter(bomb(20))
    (state,), loss = interpreter.step([weights], [], 0)
    own = {loop for loop in compiled if loop.group.constants}
    assert UNITS // 2 <= len(own) <= UNITS
    assert len(compiled - own) <= ONE_OPERATOR_LOOPS_MAX
    before = len(compiled)
    Interpreter(bomb(200)).step([weights], [], 0)
    assert len(compiled) == before
    (plain,), plain_loss = interpreter.observed_step([weights], [], 0, lambda _, value: value)
    assert canonical(state).numpy().tobytes() == plain.numpy().tobytes()
    assert canonical(loss).numpy().tobytes() == plain_loss.numpy().tobytes()


def test_a_loop_is_charged_once_and_polynomials_weigh_more() -> None:
    budget = CompileBudget(3)
    cheap, long = (single(name, ("f32",), (), "f32", ()) for name in ("neg", "erf"))
    assert budget.admits("a", cheap)
    assert budget.admits("b", long)
    assert not budget.admits("c", cheap)
    assert budget.admits("a", cheap)
    assert budget.admits("b", long)
