"""Validation: what a valid program tells, every refusal, and that no mutation gets anything but a Rejection."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs_helpers import ONE_BITS, linear_regression

from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from proofs.program.operators import OPERATORS
from proofs.program.types import (
    BOOL,
    F32,
    I64,
    U8,
    BatchInput,
    Fill,
    Given,
    Node,
    Program,
    Seed,
    StateEntry,
    TensorType,
    Uniform,
)
from proofs.program.validate import BATCH_SIZE_MAX, MEMORY_BYTES_MAX, gas_of_step, validate_program

PROGRAM = linear_regression()


def changed(**fields: Any) -> Program:
    return msgspec.structs.replace(PROGRAM, **fields)


def with_entry(number: int, **fields: Any) -> Program:
    entry = msgspec.structs.replace(PROGRAM.state[number], **fields)
    return changed(state=(*PROGRAM.state[:number], entry, *PROGRAM.state[number + 1 :]))


def with_node(number: int, *nodes: Node) -> Program:
    return changed(nodes=(*PROGRAM.nodes[:number], *nodes, *PROGRAM.nodes[number + 1 :]))


def test_a_valid_program() -> None:
    info = validate_program(PROGRAM)
    assert len(info.types) == PROGRAM.value_count == 20
    assert info.types[4] == TensorType(F32, (8, 3))
    assert info.types[6] == TensorType(I64, ())
    assert info.types[PROGRAM.loss] == TensorType(F32, ())
    assert info.state_bytes == 12 + 4 + 16 + 4
    assert gas_of_step(PROGRAM) == info.gas_per_step == 2 * 24 + 4 * (8 * 3 + 2 * (8 + 1) + 1 + 24 + 4 * 1 + 2 * 2)
    assert decode(Program, encode(PROGRAM)) == PROGRAM


def test_memory_is_the_peak_of_live_values() -> None:
    # State, batch and step are 36 + 96 + 32 + 8 = 172. Most is live at node 14: the error (9, 32 bytes), the loss
    # (12, 4 bytes), x transposed (13, 96 bytes) and its own 12 bytes.
    assert validate_program(PROGRAM).memory_bytes == 172 + 32 + 4 + 96 + 12


BAD: dict[str, tuple[Program, str]] = {
    "opset": (changed(opset=2), "E1510"),
    "too many values": (changed(nodes=PROGRAM.nodes * 2000), "E1507"),
    "no state": (Program(1, (), 1, (), (), (), 0), "E1509"),
    "batch size 0": (changed(batch_size=0), "E1507"),
    "batch size": (changed(batch_size=BATCH_SIZE_MAX + 1), "E1507"),
    "empty name": (with_entry(0, name=""), "E1508"),
    "odd name": (with_entry(0, name="parameter.a b"), "E1508"),
    "newline after a name": (with_entry(0, name="parameter.a\n"), "E1508"),
    "long name": (with_entry(0, name="a" * 129), "E1508"),
    "repeated name": (with_entry(0, name="parameter.bias"), "E1508"),
    "repeated batch name": (changed(batch=(PROGRAM.batch[0], PROGRAM.batch[0])), "E1508"),
    "unknown dtype": (with_entry(0, type=TensorType("f16", (3, 1))), "E1504"),
    "dimension 0": (with_entry(0, type=TensorType(F32, (0, 1))), "E1505"),
    "negative dimension": (with_entry(0, type=TensorType(F32, (-3, -1))), "E1505"),
    "record too large": (changed(batch=(BatchInput("x", TensorType(F32, (1 << 33,))),)), "E1507"),
    "rank of a record": (changed(batch=(BatchInput("x", TensorType(F32, (1,) * 8)),)), "E1507"),
    "uniform i64": (with_entry(2, initial=Uniform(ONE_BITS)), "E1511"),
    "uniform bound 0": (with_entry(0, initial=Uniform(0)), "E1511"),
    "uniform bound infinite": (with_entry(0, initial=Uniform(0x7F800000)), "E1511"),
    "uniform bound negative": (with_entry(0, initial=Uniform(0xBF800000)), "E1511"),
    "fill too wide": (with_entry(0, initial=Fill(1 << 32)), "E1511"),
    "seed of another type": (with_entry(0, initial=Seed()), "E1511"),
    "forward reference": (with_node(0, Node("matmul", (4, 8), ())), "E1506"),
    "self reference": (with_node(0, Node("matmul", (4, 7), ())), "E1506"),
    "negative reference": (with_node(0, Node("matmul", (4, -1), ())), "E1506"),
    "unknown operator": (with_node(0, Node("conv", (4, 0), ())), "E1501"),
    "arity": (with_node(0, Node("matmul", (4,), ())), "E1502"),
    "attributes": (with_node(0, Node("matmul", (4, 0), (1,))), "E1503"),
    "many attributes": (with_node(0, Node("reshape", (4,), (1,) * 27)), "E1503"),
    "shape": (with_node(0, Node("matmul", (0, 4), ())), "E1505"),
    "dtype": (with_node(0, Node("exp", (6,), ())), "E1504"),
    "missing output": (changed(state_outputs=(16, 19, 2)), "E1509"),
    "output out of range": (changed(state_outputs=(16, 19, 2, 20)), "E1509"),
    "negative output": (changed(state_outputs=(16, 19, 2, -1)), "E1509"),
    "output of another shape": (changed(state_outputs=(19, 16, 2, 3)), "E1509"),
    "loss not a scalar": (changed(loss=11), "E1509"),
    "loss not f32": (changed(loss=6), "E1509"),
    "loss out of range": (changed(loss=20), "E1509"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_refusals(name: str) -> None:
    program, code = BAD[name]
    with pytest.raises(Rejection) as caught:
        validate_program(program)
    assert caught.value.reason.code == code


def program_of(*nodes: Node, state: tuple[StateEntry, ...] = ()) -> Program:
    """A program whose only purpose is its nodes; value 0 is an f32 scalar, value len(state) + 1 the step index."""
    scalar = StateEntry("constant.zero", TensorType(F32, ()), Fill(0))
    return Program(1, (scalar, *state), 1, (), nodes, tuple(range(1 + len(state))), 0)


def test_memory_bound() -> None:
    state = tuple(StateEntry(f"buffer.{n}", TensorType(F32, (1 << 34,)), Fill(0)) for n in range(16))
    assert MEMORY_BYTES_MAX == 16 * 4 << 34
    with pytest.raises(Rejection, match="memory"):
        validate_program(program_of(state=state))
    validate_program(program_of(state=state[:15]))


def test_gas_bound() -> None:
    left, right = Node("full", (), (0, 0, 1 << 17, 1 << 17)), Node("matmul", (2, 2), ())
    with pytest.raises(Rejection, match="gas"):
        validate_program(program_of(left, right))


def test_pieces_bound() -> None:
    ids = Node("full", (), (1, 0, 1 << 27))
    gradient = Node("full", (), (0, 0, 1 << 27, 1))
    with pytest.raises(Rejection, match="pieces"):
        validate_program(program_of(ids, gradient, Node("embedding_grad", (3, 2), (1,))))


def test_state_entries_bound() -> None:
    many = limits.STATE_ENTRIES_MAX
    state = tuple(StateEntry(f"buffer.{n}", TensorType(F32, ()), Fill(0)) for n in range(many))
    with pytest.raises(Rejection, match="entries"):
        validate_program(program_of(state=state))
    validate_program(program_of(state=state[1:]))


odd_numbers = st.one_of(
    st.integers(-2, 40), st.sampled_from([-(1 << 63), (1 << 64) - 1, 1 << 34, 1 << 35, 1 << 62, -1, 1 << 31])
)
names = st.sampled_from([*sorted(OPERATORS), "add2", "", "__class__", "Ä"])
types = st.builds(
    TensorType, st.sampled_from([F32, I64, BOOL, U8, "f64", ""]), st.lists(odd_numbers, max_size=9).map(tuple)
)
nodes = st.builds(
    Node, names, st.lists(odd_numbers, max_size=4).map(tuple), st.lists(odd_numbers, max_size=10).map(tuple)
)
initials = st.one_of(st.builds(Fill, odd_numbers), st.builds(Uniform, odd_numbers), st.just(Given()), st.just(Seed()))


@st.composite
def mutated(draw: st.DrawFn) -> Program:
    """The small program with one to three things replaced by something odd."""
    program = PROGRAM
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(program.nodes) - 1))
        node = program.nodes[number]
        field = draw(
            st.sampled_from(["node", "operator", "inputs", "attributes", "entry", "record", "outputs", "loss"])
        )
        match field:
            case "entry":
                entry = StateEntry(draw(st.text(max_size=4)), draw(types), draw(initials))
                program = msgspec.structs.replace(program, state=(entry, *program.state[1:]))
                continue
            case "record":
                batch = (BatchInput("x", draw(types)), program.batch[-1])
                program = msgspec.structs.replace(program, batch=batch, batch_size=draw(odd_numbers))
                continue
            case "outputs":
                outputs = tuple(draw(st.lists(odd_numbers, max_size=5)))
                program = msgspec.structs.replace(program, state_outputs=outputs)
                continue
            case "loss":
                program = msgspec.structs.replace(program, loss=draw(odd_numbers))
                continue
            case "node":
                node = draw(nodes)
            case "operator":
                node = msgspec.structs.replace(node, operator=draw(names))
            case "inputs":
                values = tuple(draw(st.lists(st.integers(0, 19), max_size=4)))
                node = msgspec.structs.replace(node, inputs=values)
            case "attributes":
                node = msgspec.structs.replace(node, attributes=tuple(draw(st.lists(odd_numbers, max_size=8))))
        program = msgspec.structs.replace(program, nodes=(*program.nodes[:number], node, *program.nodes[number + 1 :]))
    return program


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_a_mutated_program_is_accepted_or_rejected(program: Program) -> None:
    try:
        info = validate_program(program)
    except Rejection as rejection:
        assert rejection.reason.code.startswith("E15")
    else:
        assert len(info.types) == program.value_count
        assert info.memory_bytes <= MEMORY_BYTES_MAX
        assert all(type_.elements <= limits.TENSOR_ELEMENTS_MAX for type_ in info.types)
