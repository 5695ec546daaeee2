"""Forward-error bounds: any order of adding keeps them, one wrong element does not, overflow is held to nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.arithmetic.whole import compute_value
from proofs.native.bounds import CHAIN, EXACT, ROUNDED, Bound, bound_of, within
from proofs.program.types import Node, TensorType
from proofs.tensors import Array, type_of


def node_of(operator: str, *attributes: int) -> Node:
    return Node(operator, (0, 1), attributes)


def types(*arrays: Array) -> tuple[TensorType, ...]:
    return tuple(type_of(array) for array in arrays)


def judged(operator: str, inputs: list[Array], claimed: Array, *attributes: int) -> Array:
    """Which elements keep the bound of the operator on these inputs."""
    node = node_of(operator, *attributes)
    reference = compute_value(node, inputs)
    bound = bound_of(node, types(*inputs), type_of(reference))
    absolute = [np.abs(item) if item.dtype == np.float32 else item for item in inputs]
    magnitudes = compute_value(node, absolute) if bound.needs_magnitudes else None
    return within(bound, reference, magnitudes, claimed)


def test_every_operator_has_its_kind_of_bound() -> None:
    wide, square = TensorType("f32", (4, 9)), TensorType("f32", (9, 9))
    ids = TensorType("i64", (4,))
    assert bound_of(node_of("matmul"), (wide, square), wide) == Bound(CHAIN, 9)
    assert bound_of(node_of("sum_last"), (wide,), TensorType("f32", (4, 1))) == Bound(CHAIN, 9)
    assert bound_of(node_of("sum_first"), (wide,), TensorType("f32", (1, 9))) == Bound(CHAIN, 4)
    assert bound_of(node_of("embedding_grad", 9), (wide, ids), square) == Bound(CHAIN, 4)
    assert bound_of(node_of("exp"), (wide,), wide).kind == ROUNDED
    for operator in ("permute", "where", "max_last", "neg", "embedding", "maximum"):
        assert bound_of(node_of(operator), (wide, wide), wide) == Bound(EXACT)
    assert bound_of(node_of("add"), (ids, ids), ids) == Bound(EXACT)
    assert bound_of(node_of("sum_last"), (ids,), TensorType("i64", (1,))) == Bound(EXACT)
    assert bound_of(None, (wide,), wide) == Bound(EXACT)


floats = st.floats(-1e3, 1e3, width=32)


@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=40), st.integers(0, 1 << 16))
def test_a_product_in_any_order_and_with_wider_sums_keeps_its_bound(
    terms: list[tuple[float, float]], seed: int
) -> None:
    left = np.array([[one for one, _ in terms]], np.float32)
    right = np.array([[other] for _, other in terms], np.float32)
    places = np.random.default_rng(seed).permutation(len(terms)).tolist()
    backwards, fused = np.float32(0), 0.0
    for place in places:
        backwards = np.float32(backwards + left[0, place] * right[place, 0])
        fused = float(np.float32(fused + float(left[0, place]) * float(right[place, 0])))
    for value in (float(backwards), fused, float(left.astype(np.float64)[0] @ right.astype(np.float64)[:, 0])):
        assert judged("matmul", [left, right], np.array([[value]], np.float32)).all()


def test_a_product_of_fewer_bits_or_with_a_term_left_out_does_not() -> None:
    generator = np.random.default_rng(3)
    left = generator.standard_normal((8, 64)).astype(np.float32)
    right = generator.standard_normal((64, 8)).astype(np.float32)
    half = (left.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert not judged("matmul", [left, right], half @ right).all()
    assert not judged("matmul", [left, right], left[:, 1:] @ right[1:]).any()
    claimed = left @ right
    claimed[3, 5] *= np.float32(1 + 2.0**-12)
    kept = judged("matmul", [left, right], claimed)
    assert not kept[3, 5] and kept.sum() == 63


def test_rounded_results_may_be_a_few_units_off_and_no_more() -> None:
    x = np.array([0.5, 3.0, -7.0], np.float32)
    exact = compute_value(node_of("exp"), [x])
    for units, kept in ((0, True), (6, True), (40, False)):
        assert judged("exp", [x], (exact.view(np.int32) + units).view(np.float32)).all() == kept
    for operator in ("add", "mul", "div"):
        right = compute_value(node_of(operator), [x, x[::-1].copy()])
        assert judged(operator, [x, x[::-1].copy()], right).all()
        assert not judged(operator, [x, x[::-1].copy()], right + np.float32(1e-5)).any()


def test_infinities_nans_and_zeros_of_rounded_results() -> None:
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    x = np.array([-inf, 100.0, nan, -200.0], np.float32)
    assert judged("exp", [x], np.array([0.0, inf, nan, 0.0], np.float32)).all()
    assert judged("exp", [x], np.array([-0.0, 3e38, nan, 1e-40], np.float32)).all()
    assert not judged("exp", [x], np.array([1.0, 1.0, 1.0, 1.0], np.float32)).any()
    mask = np.array([-inf, -inf], np.float32)
    assert list(judged("add", [mask, np.zeros(2, np.float32)], np.array([-inf, 5.0], np.float32))) == [True, False]
    assert not judged("add", [mask, mask], np.array([inf, nan], np.float32)).any()


def test_exact_results_have_no_freedom_but_the_sign_of_zero_and_the_payload_of_nan() -> None:
    x = np.array([[0.0, np.nan, 2.0]], np.float32)
    other = np.array([[-0.0, np.nan, 2.0]], np.float32)
    other.view(np.uint32)[0, 1] ^= 5
    assert judged("neg", [x], -other).all()
    near = np.array([[0.0, 1.0, np.nextafter(np.float32(-2), np.float32(0))]], np.float32)
    assert list(judged("neg", [x], near)[0]) == [True, False, False]


def test_a_chain_that_may_overflow_is_held_to_nothing() -> None:
    left, right = np.full((1, 4), 3e38, np.float32), np.full((4, 1), 1.0, np.float32)
    assert judged("matmul", [left, right], np.array([[7.0]], np.float32)).all()
    assert not judged("matmul", [left / np.float32(1e6), right], np.array([[7.0]], np.float32)).any()


@pytest.mark.parametrize("terms", [1 << 22, 1 << 25])
def test_a_chain_too_long_for_a_bound_is_held_to_nothing(terms: int) -> None:
    one = np.ones((1, 1), np.float32)
    assert within(Bound(CHAIN, terms), one, one, one * 9).all()
    assert not within(Bound(CHAIN, 1 << 20), one, one, one * 9).any()
