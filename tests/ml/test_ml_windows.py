"""Convolutions and poolings on the images themselves: recognised, with the bits of the definitions, of any form."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.capture import convolution
from ml.capture.builder import Builder
from ml.capture.convolution import Geometry
from ml.capture.operations import Operations, Value
from ml.fusion import fuse
from ml.interpreter import Interpreter, canonical
from ml.kernels.threads import get_threads, set_threads
from ml.presets import build
from ml.window_fusion import WindowFusion
from proofs.arithmetic.whole import compute_value
from proofs.program.types import F32, Fill, Program, StateEntry, TensorType
from proofs.program.validate import validate_program

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-39, 3e38], np.float32)
Made = Callable[[Operations, Sequence[Value]], Sequence[Value]]


def program_of(shapes: Sequence[tuple[int, ...]], make: Made) -> Program:
    """state = (inputs, results) → (inputs, make(inputs)); the loss is a constant."""

    def built(results: Sequence[TensorType]) -> tuple[Builder, list[Value]]:
        entries = [StateEntry(f"parameter.x{n}", TensorType(F32, shape), Fill(0)) for n, shape in enumerate(shapes)]
        entries += [StateEntry(f"buffer.r{n}", type_, Fill(0)) for n, type_ in enumerate(results)]
        builder = Builder(tuple(entries), 1, ())
        ops = Operations(builder)
        return builder, list(make(ops, [ops.value(n) for n in range(len(shapes))]))

    _, probe = built(())
    builder, made = built([value.type for value in probe])
    loss = builder.constant(F32, 0.0)
    return builder.finish((*range(len(shapes)), *(value.number for value in made)), loss)


def defined(program: Program, state: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The new state by the definitions in numpy."""
    values: list[np.ndarray] = [*state, np.array(0)]
    for node in program.nodes:
        values.append(compute_value(node, [values[number] for number in node.inputs]))
    return [values[number] for number in program.state_outputs]


def matches_of(program: Program) -> int:
    """Graphs that are recognised."""
    users: dict[int, set[int]] = {}
    for value, node in enumerate(program.nodes, start=program.first_node_value):
        for item in node.inputs:
            users.setdefault(item, set()).add(value)
    found, _ = WindowFusion(program, validate_program(program).types, users).find()
    return len({id(match) for match in found.values()})


def check(program: Program, state: list[np.ndarray], matches: int | None = None, strided: bool = False) -> None:
    """As many matches as named, and the bits of the definitions."""
    assert matches in (None, matches_of(program))
    padded = [*state, *(np.zeros(entry.type.shape, np.float32) for entry in program.state[len(state) :])]
    tensors = [torch.from_numpy(item.copy()) for item in padded]
    if strided:
        tensors = [item.mT.contiguous().mT if item.ndim > 1 else item for item in tensors]
    moved, _ = Interpreter(program).step(tensors, [], 0)
    with np.errstate(all="ignore"):
        expected = defined(program, padded)
    for place, (got, want) in enumerate(zip(moved, expected, strict=True)):
        got = canonical(got) if got.dtype == torch.float32 else got
        assert got.numpy().tobytes() == np.ascontiguousarray(want).tobytes(), program.state[place].name


def numbers(generator: np.random.Generator, shape: tuple[int, ...], special: bool) -> np.ndarray:
    x = generator.standard_normal(shape).astype(np.float32)
    return np.where(generator.random(shape) < 0.02, generator.choice(SPECIAL, shape), x) if special else x


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    lines=st.booleans(),
    groups=st.sampled_from([1, 1, 2, 3]),
    depthwise=st.booleans(),
    special=st.booleans(),
)
def test_convolutions(seed: int, lines: bool, groups: int, depthwise: bool, special: bool) -> None:
    """Forward, both gradients and a bias, of random geometry."""
    g = np.random.default_rng(seed)
    axes = 1 if lines else 2
    kernel, stride, padding, dilation = (
        tuple(int(n) for n in g.integers(low, high, axes)) for low, high in ((1, 5), (1, 4), (0, 4), (1, 3))
    )
    a, b = (1, 1) if depthwise else (int(g.integers(1, 21)), int(g.integers(1, 5)))
    batch = int(g.integers(1, 4))
    big = tuple(
        int(g.integers(max(1, d * (k - 1) + 1 - 2 * p), 24)) if d * (k - 1) + 1 - 2 * p < 24 else 24
        for k, p, d in zip(kernel, padding, dilation, strict=True)
    )
    if any(size + 2 * p < d * (k - 1) + 1 for size, k, p, d in zip(big, kernel, padding, dilation, strict=True)):
        return
    small = tuple(
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(big, kernel, stride, padding, dilation, strict=True)
    )
    geometry = Geometry(kernel, stride, padding, dilation, groups)
    weights = (groups * a, b, *kernel)
    shapes = [(batch, groups * b, *big), (batch, groups * a, *small), weights, (groups * a,)]

    def make(ops: Operations, given_: Sequence[Value]) -> Sequence[Value]:
        image, flow, weight, bias = given_
        y = convolution._collect(ops, image, weight, geometry, small)
        return [
            ops.add(y, ops.reshape(bias, (groups * a, *[1] * axes))),
            convolution._spread(ops, flow, weight, geometry, big),
            convolution._correlate(ops, flow, image, geometry, weights),
        ]

    # Where sizes are 1, graphs have fewer nodes and may not be recognised: they run operator by operator.
    check(program_of(shapes, make), [numbers(g, shape, special) for shape in shapes], strided=bool(seed % 2))


def test_threads_change_no_bit() -> None:
    generator, before = np.random.default_rng(0), get_threads()
    geometry = Geometry((3, 3), (1, 1), (1, 1), (1, 1))
    shapes = [(9, 16, 14, 14), (9, 24, 14, 14), (24, 16, 3, 3)]

    def make(ops: Operations, given_: Sequence[Value]) -> Sequence[Value]:
        image, flow, weight = given_
        return [
            convolution._collect(ops, image, weight, geometry, (14, 14)),
            convolution._spread(ops, flow, weight, geometry, (14, 14)),
            convolution._correlate(ops, flow, image, geometry, (24, 16, 3, 3)),
        ]

    program, state = program_of(shapes, make), [numbers(generator, shape, False) for shape in shapes]
    try:
        for threads in (1, 2, 3):
            set_threads(threads)
            check(program, state, 3)
    finally:
        set_threads(before)


def test_the_steps_of_the_presets_hold_no_windows() -> None:
    """Every convolution and pooling of them is recognised: no matrix of windows is ever made."""
    image = {"channels": 1, "height": 8, "width": 8, "classes": 3}
    for name in ("cnn", "resnet"):
        preset = {"name": name, **image, "widths": [4, 5]}
        program = build(preset, {"name": "sgd", "lr": 0.1}, 4).program
        made = {value for piece in fuse(program) for value in piece.values}
        assert any(node.operator == "windows" for node in program.nodes)
        for value in made:
            assert program.nodes[value - program.first_node_value].operator != "windows"


def test_windows_that_others_read_are_made_as_well() -> None:
    generator = np.random.default_rng(1)
    geometry = Geometry((2, 2), (1, 1), (0, 0), (1, 1))

    def make(ops: Operations, given_: Sequence[Value]) -> Sequence[Value]:
        image, weight = given_
        seen = ops.apply("windows", image, attributes=geometry.of_big((3, 4)))
        return [convolution._collect(ops, image, weight, geometry, (3, 4)), ops.add(seen, 1.0)]

    shapes = [(2, 3, 4, 5), (6, 3, 2, 2)]
    check(program_of(shapes, make), [numbers(generator, shape, True) for shape in shapes], 1)


@pytest.mark.parametrize(
    "windows", [((1, 1, 3, 1, 1, 1), (2, 9, -1, 1, 1, 2)), ((3, 2, -2, 4, -2, 3), (1, 5, 7, 1, 1, 1))]
)
def test_windows_of_any_numbers(windows: tuple[tuple[int, ...], ...]) -> None:
    """Also such as no convolution has: gaps, steps and offsets together."""
    generator = np.random.default_rng(2)
    first, second = windows
    attributes = (0, *first, *second)
    terms, places = 3 * first[0] * second[0], first[1] * second[1]

    def make(ops: Operations, given_: Sequence[Value]) -> Sequence[Value]:
        image, weight = given_
        seen = ops.reshape(ops.apply("windows", image, attributes=attributes), (2, terms, places))
        return [ops.apply("matmul", weight, seen)]

    shapes = [(2, 3, 6, 7), (5, terms)]
    check(program_of(shapes, make), [numbers(generator, shape, True) for shape in shapes], 1)
