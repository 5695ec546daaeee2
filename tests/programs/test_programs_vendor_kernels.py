"""The library's own kernels keep the forward-error bound of every operator; a fault of twice the bound does not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from programs_helpers import Array, node
from programs_samples import SAMPLES, sample

from ml.native.operators import kernel
from proofs.arithmetic.whole import compute_value
from proofs.native.bounds import bound_of, limits, within
from proofs.program.operators import OPERATORS
from proofs.program.types import Node
from proofs.tensors import type_of

UNIT = 2.0**-24


def judged(operation: Node, inputs: list[Array], claimed: Array) -> Array:
    """Which elements keep their bound."""
    reference, magnitudes = referenced(operation, inputs)
    return within(bound_of(operation, tuple(map(type_of, inputs)), type_of(reference)), reference, magnitudes, claimed)


def referenced(operation: Node, inputs: list[Array]) -> tuple[Array, Array]:
    """The value of `rep-v1` and, of its chains, the sums of magnitudes."""
    absolute = [np.abs(item) if item.dtype == np.float32 else item for item in inputs]
    return compute_value(operation, inputs), compute_value(operation, absolute)


def vendor(operation: Node, inputs: list[Array]) -> Iterator[Array]:
    """The library's kernel with one and two threads, on contiguous inputs and on transposed views of them."""
    output = type_of(compute_value(operation, inputs))
    run = kernel(operation, output)
    straight = [torch.from_numpy(array.copy()) for array in inputs]
    turned = [item.mT.contiguous().mT if item.ndim > 1 else item for item in straight]
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for tensors in (straight, turned):
                yield run(tensors).contiguous().numpy().reshape(output.shape)
    finally:
        torch.set_num_threads(before)


def test_every_operator_has_samples() -> None:
    assert set(SAMPLES) == set(OPERATORS)


@pytest.mark.parametrize("tame", [True, False])
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_the_library_s_kernels_keep_the_bound(name: str, tame: bool) -> None:
    for number in range(len(SAMPLES[name])):
        operation, inputs = sample(name, number, tame)
        assert judged(operation, inputs, compute_value(operation, inputs)).all()
        for claimed in vendor(operation, inputs):
            kept = judged(operation, inputs, claimed)
            assert kept.all(), (name, number, claimed[~kept][:3], compute_value(operation, inputs)[~kept][:3])


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_what_is_off_by_twice_the_bound_is_refused(name: str) -> None:
    for number in range(len(SAMPLES[name])):
        operation, inputs = sample(name, number, True)
        reference, magnitudes = referenced(operation, inputs)
        if reference.dtype != np.float32:
            wrong = ~reference if reference.dtype == np.bool_ else reference + 1
            assert not judged(operation, inputs, wrong.astype(reference.dtype)).any()
            continue
        bound = bound_of(operation, tuple(map(type_of, inputs)), type_of(reference))
        most = limits(bound, reference, magnitudes)
        for sign in (-1.0, 1.0):
            claimed = (reference + sign * np.maximum(2 * most, np.abs(reference) * UNIT * 4 + 1e-38)).astype(np.float32)
            finite = np.isfinite(reference)
            assert not judged(operation, inputs, claimed)[finite].any(), name


@settings(max_examples=20, deadline=None)
@given(m=st.integers(1, 70), k=st.integers(1, 600), n=st.integers(1, 70), seed=st.integers(0, 1 << 32))
def test_every_order_of_a_product_keeps_the_bound_about_the_exact_value(m: int, k: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scale = 10.0 ** generator.integers(-30 if seed % 3 == 0 else -3, 4)
    left, right = (np.asarray(generator.standard_normal(shape) * scale, np.float32) for shape in ((m, k), (k, n)))
    operation = node("matmul", inputs=(0, 1))
    exact = left.astype(np.float64) @ right.astype(np.float64)
    flipped = compute_value(operation, [left[:, ::-1].copy(), right[::-1].copy()])
    cut = k // 2
    halves = [(left[:, :cut], right[:cut]), (left[:, cut:], right[cut:])]
    blocks = sum((a.copy() @ b.copy() for a, b in halves if a.shape[1]), np.zeros((m, n), np.float32))
    size = np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64)
    higham = k * UNIT / (1 - k * UNIT) * size + k * 2.0**-126
    for claimed in (*vendor(operation, [left, right]), exact.astype(np.float32), flipped, blocks):
        assert judged(operation, [left, right], claimed).all()
        # The reference's own distance and the kernel's are each within Higham's bound about the exact value.
        assert (np.abs(claimed - exact) <= higham * (1 + 2.0**-20)).all()
    assert not judged(operation, [left, right], (exact + 5 * higham).astype(np.float32)).any()
