"""The planned step gives the plain one's bits: random programs, strides, outputs that are views, threads, reuse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from ml.arena import assign
from ml.interpreter import Interpreter, canonical
from ml.kernels.call import run
from ml.kernels.strided import copy_call
from ml.kernels.threads import get_threads, set_threads
from proofs.program.operators import infer
from proofs.program.shapes import DTYPES
from proofs.program.types import OPSET, Fill, Node, Program, StateEntry, TensorType

SHAPES = ((4, 33), (33,), (2, 4, 33), (33, 4), (2, 33, 5), (1,), (4, 1), (70, 40))
SIMPLE = ("add", "mul", "sub", "maximum", "neg", "exp", "tanh", "sum_last", "sum_first", "max_last", "matmul", "lt")
F32 = DTYPES.index("f32")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = get_threads()
    yield
    set_threads(before)


def attributes_of(operator: str, type_: TensorType, random: np.random.Generator) -> tuple[int, ...]:
    """Attributes that fit an input of this type."""
    shape = type_.shape
    match operator:
        case "reshape":
            return tuple(int(size) for size in random.permutation(shape)) if shape else (1, 1)
        case "permute":
            return tuple(int(axis) for axis in random.permutation(len(shape)))
        case "broadcast_to":
            return (int(random.integers(1, 4)), *shape)
        case "slice":
            return tuple(n for size in shape for n in (int(random.integers(0, size)), size, int(random.integers(1, 3))))
        case "pad":
            return tuple(int(n) for _ in shape for n in random.integers(0, 3, 3))
        case "concatenate":
            return (int(random.integers(0, max(1, len(shape)))),)
        case "cast":
            return (int(random.integers(0, len(DTYPES))),)
    return ()


def random_program(seed: int, length: int) -> Program:
    """Nodes of all kinds over a few tensors; every state entry becomes the last value of its type."""
    random = np.random.default_rng(seed)
    state = tuple(StateEntry(f"parameter.p{n}", TensorType("f32", shape), Fill(0)) for n, shape in enumerate(SHAPES))
    types = [*(entry.type for entry in state), TensorType("i64", ())]
    nodes: list[Node] = []
    others = ("reshape", "permute", "broadcast_to", "slice", "pad", "concatenate", "cast", "where", "iota", "full")
    while len(nodes) < length:
        operator = str(random.choice([*SIMPLE, *others, "remainder", "argmax_last"]))
        count = {"where": 3, "concatenate": 2}.get(operator, 2 if operator in ("add", "mul", "sub", "maximum") else 1)
        count = 2 if operator in ("matmul", "lt", "remainder") else 0 if operator in ("iota", "full") else count
        inputs = tuple(int(n) for n in random.integers(0, len(types), count))
        if operator == "concatenate":
            inputs = (inputs[0], inputs[0])
        attributes = attributes_of(operator, types[inputs[0]], random) if inputs else ()
        if operator in ("iota", "full"):
            attributes = (1, 4, 33) if operator == "iota" else (F32, 0x40490FDB, 4, 33)
        try:
            made = infer(operator, tuple(types[n] for n in inputs), attributes)
        except Rejection:
            continue
        if made.elements > 20_000:
            continue
        nodes.append(Node(operator, inputs, attributes))
        types.append(made)
    outputs = []
    for number, entry in enumerate(state):
        same = [value for value, type_ in enumerate(types) if type_ == entry.type and value >= len(state)]
        outputs.append(same[-1] if same and number != 1 else number)
    flat = len(types)
    nodes += [Node("reshape", (outputs[0],), (132,)), Node("sum_last", (flat,), ()), Node("reshape", (flat + 1,), ())]
    return Program(OPSET, state, 1, (), tuple(nodes), tuple(outputs), flat + 2)


def state_of(program: Program, seed: int) -> list[torch.Tensor]:
    """Random values with a few that are special."""
    random = np.random.default_rng(seed)
    state = []
    for entry in program.state:
        array = random.standard_normal(entry.type.shape).astype(np.float32)
        array.reshape(-1)[:: max(1, array.size // 3)] = random.choice([0.0, -0.0, np.inf, 1e-42, -3e38], 1)
        state.append(torch.from_numpy(array))
    return state


def plain(interpreter: Interpreter, state: list[torch.Tensor], step: int) -> list[bytes]:
    """The bytes of (state', loss) by the plain way."""
    made, loss = interpreter.observed_step(state, [], step, lambda _, value: value)
    return [canonical(item).contiguous().numpy().tobytes() for item in (*made, loss)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 60), st.sampled_from([1, 3]))
def test_random_programs(seed: int, length: int, threads: int) -> None:
    set_threads(threads)
    interpreter = Interpreter(random_program(seed, length))
    state = state_of(interpreter.program, seed)
    for step in range(3):
        expected = plain(interpreter, state, step)
        made, loss = interpreter.step(state, [], step)
        assert [canonical(item).numpy().tobytes() for item in (*made, loss)] == expected
        strided = [item.mT.contiguous().mT if item.ndim > 1 else item for item in state]
        again, _ = interpreter.step(strided, [], step)
        assert [canonical(item).numpy().tobytes() for item in again] == expected[:-1]
        state = [canonical(item) for item in made]


def test_a_state_that_somebody_holds_is_not_written_again() -> None:
    interpreter = Interpreter(random_program(5, 30))
    state = state_of(interpreter.program, 5)
    held = []
    for step in range(8):
        state, _ = interpreter.step(state, [], step)
        held.append(([item[:1] if item.ndim else item for item in state], [item[:1].clone() for item in state]))
        if step == 4:
            held[1] = held[0]
    for views, copies in held:
        for view, copy in zip(views, copies, strict=True):
            assert view.numpy().tobytes() == copy.numpy().tobytes()


def test_tensors_of_another_type_are_refused() -> None:
    interpreter = Interpreter(random_program(6, 10))
    state = state_of(interpreter.program, 6)
    for wrong in (state[0].double(), torch.zeros(4, 32), torch.zeros(0)):
        with pytest.raises(InvariantViolation):
            interpreter.step([wrong, *state[1:]], [], 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20_000), st.integers(0, 30), st.integers(0, 9)), max_size=60))
def test_buffers_that_live_at_once_lie_apart(lives: list[tuple[int, int, int]]) -> None:
    buffers = [(size, first, first + length) for size, first, length in lives]
    offsets, total = assign(buffers)
    for number, ((size, first, last), offset) in enumerate(zip(buffers, offsets, strict=True)):
        assert offset % 64 == 0 and offset + size <= total
        for (other_size, other_first, other_last), other in zip(buffers[:number], offsets[:number], strict=True):
            apart = offset + size <= other or other + other_size <= offset
            assert apart or last < other_first or other_last < first


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 5, 17, 64]), max_size=5), st.integers(0, 999), st.sampled_from([1, 3]))
def test_copies_of_any_strides(shape: list[int], seed: int, threads: int) -> None:
    set_threads(threads)
    random = np.random.default_rng(seed)
    dtype = [torch.float32, torch.int64, torch.uint8][seed % 3]
    source = (torch.rand(shape) * 250).to(dtype).permute(tuple(random.permutation(len(shape))))
    if source.ndim and seed % 2:
        source = source[::2] if seed % 4 == 1 else source[..., 1:]
    if not 0 < source.numel() < 60_000:
        return
    wide = torch.zeros([2 * size + 1 for size in source.shape] if source.numel() < 3_000 else source.shape, dtype=dtype)
    target = wide[tuple(slice(1, 1 + 2 * size, 2) for size in source.shape)] if source.numel() < 3_000 else wide
    call = copy_call(tuple(source.shape), source.stride(), target.stride(), source.element_size())
    run(call, (source, target))
    assert torch.equal(source, target)
