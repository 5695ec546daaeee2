"""Kernels, torch reference and numpy definitions give the same bits: shapes, strides, special values, threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.interpreter import canonical, makes_nan
from ml.kernels.matmul import matmul
from ml.kernels.table import kernel
from ml.kernels.threads import get_threads, set_threads
from ml.reference.operators import compute
from proofs.arithmetic.whole import compute_value
from proofs.program.operators import OPERATORS, infer
from proofs.program.shapes import DTYPES
from proofs.program.types import Node, TensorType
from proofs.tensors import type_of

SPECIAL = np.array(
    [0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-39, 3e38, -3e38, 88.7, 89, -87.5, -104, 0.625, 0.93],
    np.float32,
)
LANDMARKS = np.array([4, 4.001, 0.5, 1.5, -2.5, 255, 256, 9.3e18, -1e19, 1.1754944e-38, 3.1415927, 7e12], np.float32)


def values(dtype: str, shape: tuple[int, ...], generator: np.random.Generator) -> Any:
    """Random elements of all magnitudes with special ones among them."""
    count = int(np.prod(shape))
    array: Any
    if dtype == "f32":
        array = (generator.standard_normal(count) * 10.0 ** generator.integers(-8, 8, count)).astype(np.float32)
        odd = np.concatenate([SPECIAL, LANDMARKS])
        places = generator.permutation(count)[: min(count, len(odd))]
        array[places] = generator.permutation(odd)[: len(places)]
    elif dtype == "i64":
        array = generator.integers(-(1 << 63), (1 << 63) - 1, count)
        array = np.where(generator.random(count) < 0.5, generator.integers(-300, 300, count), array)
        array[:1] = -(1 << 63)
    else:
        array = generator.integers(0, 2 if dtype == "bool" else 256, count).astype(
            bool if dtype == "bool" else np.uint8
        )
    return array.reshape(shape)


def check(operator: str, inputs: list[np.ndarray], attributes: tuple[int, ...] = (), strided: bool = False) -> None:
    """Kernel and reference against the definition."""
    node = Node(operator, tuple(range(len(inputs))), attributes)
    types = tuple(type_of(array) for array in inputs)
    output = infer(operator, types, attributes)
    expected = compute_value(node, inputs)
    tensors = [torch.from_numpy(array.copy(order="C")) for array in inputs]
    if strided:
        tensors = [item.mT.contiguous().mT if item.ndim > 1 else item for item in tensors]
    made = kernel(node, types, output)(tensors)
    made = canonical(made) if makes_nan(node) else made
    reference = compute(node, tensors, output.shape, torch.device("cpu"))
    for name, result in (("kernel", made), ("reference", reference)):
        array = result.contiguous().numpy()
        assert array.dtype == expected.dtype and array.shape == expected.shape, name
        different = np.flatnonzero(array.reshape(-1).view(np.uint8) != expected.reshape(-1).view(np.uint8))
        assert not len(different), f"{name} of {operator}{types}: first at byte {different[0]}"


SHAPES = (((300,),) * 3, ((40, 70), (70,), (40, 1)), ((7, 1, 33), (5, 1), (7, 5, 33)), ((), (), ()))
UNARY = [(n, d) for n, o in OPERATORS.items() for d in DTYPES if o.family == "elementwise" and o.inputs == (1, 1)]
BINARY = [(n, d) for n, o in OPERATORS.items() for d in DTYPES if o.family == "elementwise" and o.inputs == (2, 2)]


def defined(operator: str, dtype: str) -> bool:
    """Whether the operator takes this dtype."""
    number = OPERATORS[operator].inputs[0]
    try:
        infer(operator, (TensorType(dtype, (2,)),) * number, ())
    except Exception:  # noqa: BLE001  (any refusal means: not defined)
        return False
    return True


@pytest.mark.parametrize(("operator", "dtype"), [case for case in UNARY + BINARY if defined(*case)])
def test_elementwise(operator: str, dtype: str) -> None:
    generator = np.random.default_rng(len(operator))
    for number, shapes in enumerate(SHAPES):
        inputs = [values(dtype, shape, generator) for shape in shapes[: OPERATORS[operator].inputs[0]]]
        check(operator, inputs, strided=number % 2 == 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_and_cast(dtype: str) -> None:
    generator = np.random.default_rng(3)
    for shapes in SHAPES:
        inputs = [values(kind, shape, generator) for kind, shape in zip(("bool", dtype, dtype), shapes, strict=True)]
        check("where", inputs)
        for target in range(len(DTYPES)):
            check("cast", inputs[1:2], (target,))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 3), max_size=2), st.integers(1, 70), st.integers(1, 600), st.integers(1, 70), st.booleans()
)
def test_matmul(leading: list[int], m: int, k: int, n: int, flat_right: bool) -> None:
    generator = np.random.default_rng(m * k + n)
    left = values("f32", (*leading, m, k), generator)
    right = values("f32", ((k, n) if flat_right else (*leading, k, n)), generator)
    # Products of huge numbers make NaNs almost everywhere; most cases should be ordinary.
    if (m + n) % 4:
        left, right = np.clip(left, -1e3, 1e3), np.clip(right, -1e3, 1e3)
    check("matmul", [left, right], strided=bool(k % 2))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(1, 40), st.integers(1, 70))
def test_matmul_with_a_left_operand_that_repeats(batch: int, groups: int, own: int, m: int, n: int) -> None:
    generator = np.random.default_rng(m * n)
    left = np.clip(values("f32", (*(batch, groups)[2 - own :], m, 37), generator), -1e3, 1e3)
    check("matmul", [left, np.clip(values("f32", (batch, groups, 37, n), generator), -1e3, 1e3)], strided=bool(n % 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(0, 1 << 30), st.sampled_from(DTYPES))
def test_windows(shape: list[int], seed: int, dtype: str) -> None:
    generator = np.random.default_rng(seed)
    attributes = [int(generator.integers(0, 2))]
    for _ in range(int(generator.integers(1, len(shape) + 1))):
        low, high = [1, 1, -5, 1, -4, 1], [5, 9, 6, 4, 5, 5]
        attributes += [int(generator.integers(a, b)) for a, b in zip(low, high, strict=True)]
    check("windows", [values(dtype, tuple(shape), generator)], tuple(attributes), strided=bool(seed % 2))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(0, 1000), st.sampled_from(["f32", "i64"]))
def test_sums_and_maxima(shape: list[int], seed: int, dtype: str) -> None:
    array = values(dtype, tuple(shape), np.random.default_rng(seed))
    if dtype == "f32" and seed % 3:
        array = np.clip(np.nan_to_num(array), -1e3, 1e3)
    if dtype == "f32" and seed % 5 == 0:
        array = np.where(array > 0, np.float32(-0.0), np.minimum(array, np.float32(0)))
    for operator in ("sum_last", "max_last", "argmax_last") + (("sum_first",) if array.ndim > 1 else ()):
        check(operator, [array], strided=bool(seed % 2))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(0, 1000))
def test_lookups(rows: int, count: int, columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    table = values("f32", (rows, columns), generator)
    ids = generator.integers(-2, rows + 2, count)
    check("embedding", [table, ids])
    check("embedding", [values("u8", (rows, columns), generator), ids.reshape(1, -1)])
    check("embedding_grad", [np.clip(values("f32", (count, columns), generator), -9, 9), ids], (rows,))
    columns_ids = generator.integers(-2, columns + 2, (count, 1))
    check("take_last", [values("f32", (count, columns), generator), columns_ids])
    check("scatter_last", [values("f32", (count, 1), generator), columns_ids], (columns,))


@pytest.mark.parametrize("dtype", DTYPES)
def test_movement_and_generators(dtype: str) -> None:
    generator = np.random.default_rng(5)
    x = values(dtype, (4, 6, 10), generator)
    check("reshape", [x], (24, 10), strided=True)
    check("permute", [x], (2, 0, 1))
    check("broadcast_to", [values(dtype, (6, 1), generator)], (4, 6, 10))
    check("slice", [x], (1, 4, 2, 0, 6, 5, 3, 9, 1))
    check("concatenate", [x, values(dtype, (4, 1, 10), generator)], (1,))
    check("pad", [x], (1, 2, 0, 0, 0, 3, 2, 0, 1))
    check("full", [], (DTYPES.index(dtype), 1, 3, 5))
    check("iota", [], (1, 3, 5))
    check("uniform", [np.array([7, -9]), np.array(1 << 40)], (3, 5, 7))


def test_full_keeps_every_bit() -> None:
    check("full", [], (0, 0x807FFFFF, 3))
    check("full", [], (1, (1 << 64) - 5, 3))


@pytest.mark.parametrize("threads", [1, 3])
def test_products_of_many_blocks(threads: int) -> None:
    """More rows, terms and columns than one block has, in all four orders of strides, and batches with two strides."""
    generator = np.random.default_rng(8)
    before = get_threads()
    try:
        set_threads(threads)
        for m, k, n in ((301, 521, 530), (1, 700, 257), (260, 1, 3), (130, 257, 17)):
            left, right = (generator.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
            left[0, 0], right[-1, -1] = np.float32(1e-42), np.float32(-3e38)
            expected = compute_value(Node("matmul", (0, 1), ()), [left, right])
            lefts = [torch.from_numpy(left), torch.from_numpy(left).mT.contiguous().mT]
            rights = [torch.from_numpy(right), torch.from_numpy(right).mT.contiguous().mT]
            lefts.append(torch.from_numpy(np.repeat(left, 2, 1))[:, ::2])
            rights.append(torch.from_numpy(np.repeat(right, 2, 1))[:, ::2])
            for a in lefts:
                for b in rights:
                    assert matmul(a, b).numpy().tobytes() == expected.tobytes()
        heads = torch.from_numpy(generator.standard_normal((5, 33, 3, 20)).astype(np.float32)).permute(0, 2, 1, 3)
        node, inputs = Node("matmul", (0, 1), ()), [heads.contiguous().numpy(), heads.mT.contiguous().numpy()]
        assert matmul(heads, heads.mT).numpy().tobytes() == compute_value(node, inputs).tobytes()
    finally:
        set_threads(before)


def test_threads_keep_denormals_whatever_mode_their_creator_was_in() -> None:
    before = get_threads()
    try:
        set_threads(1)
        torch.set_flush_denormal(True)
        set_threads(3)
        check("mul", [np.full((4000, 300), 1e-30, np.float32), np.full((300,), 1e-10, np.float32)])
        check("sum_first", [np.full((4000, 300), 1e-42, np.float32)])
    finally:
        torch.set_flush_denormal(False)
        set_threads(before)


def test_threads_change_no_bit() -> None:
    generator = np.random.default_rng(6)
    before = get_threads()
    try:
        set_threads(3)
        check("matmul", [values("f32", (130, 200), generator), values("f32", (200, 170), generator)])
        check("add", [values("f32", (300, 700), generator), values("f32", (700,), generator)])
        check("sum_last", [np.clip(values("f32", (300, 700), generator), -9, 9)])
        check("sum_first", [np.clip(values("f32", (300, 700), generator), -9, 9)])
        gradient, ids = np.clip(values("f32", (400, 300), generator), -9, 9), generator.integers(0, 9, 400)
        check("embedding_grad", [gradient, ids], (9,))
    finally:
        set_threads(before)
