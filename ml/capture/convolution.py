"""Lowering rules for convolutions of any rank: windows of one operand, multiplied as a matrix.

A convolution relates a *big* tensor (batch, B, *S) and a *small* one (batch, A, *O) by weights (A, B / groups, *K):
place o of the small one and element k of the kernel meet place o · stride + k · dilation - padding of the big one.
Three products follow, each a chain in a fixed order and none of them a scatter: `_collect` (big → small: the
convolution), `_spread` (small → big: its input's gradient, the transposed convolution), `_correlate` (the weights'
gradient).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ml.capture.lowering import lowers
from ml.capture.operations import Operations, Value
from proofs.program.types import TensorType


@dataclass(frozen=True)
class Geometry:
    """How places of the small tensor, places of the big one and elements of the kernel meet, axis by axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def trivial(self) -> bool:
        """Whether the big and the small tensor meet place by place."""
        return set(self.kernel) | set(self.stride) == {1} and set(self.padding) == {0}

    def of_big(self, small: Sequence[int], bits: int = 0) -> tuple[int, ...]:
        """Attributes of `windows` over a big tensor: for each place of the small one the elements that it meets."""
        numbers = [bits]
        for k, o, s, p, d in zip(self.kernel, small, self.stride, self.padding, self.dilation, strict=True):
            numbers += [k, o, -p, s, d, 1]
        return tuple(numbers)

    def of_small(self, big: Sequence[int], bits: int = 0) -> tuple[int, ...]:
        """Attributes of `windows` over a small tensor: for each place of the big one the elements that it meets."""
        numbers = [bits]
        for k, i, s, p, d in zip(self.kernel, big, self.stride, self.padding, self.dilation, strict=True):
            numbers += [k, i, p, 1, -d, s]
        return tuple(numbers)


def each_axis(numbers: Sequence[int] | int, axes: int) -> tuple[int, ...]:
    """One number for every axis; a single one counts for all."""
    listed = (numbers,) if isinstance(numbers, int) else tuple(numbers)
    return listed * axes if len(listed) == 1 else listed


def _split(lead: int, groups: int, rest: int) -> tuple[int, ...]:
    """Leading dimensions of a product: the batch, and the groups if there are several."""
    return (lead, groups, rest) if groups > 1 else (lead, rest)


def _product(ops: Operations, weights: Value, seen: Value, shape: Sequence[int], geometry: Geometry) -> Value:
    """Weights (groups · M, terms) times windows (batch, groups · terms, *places): (batch, groups · M, *places)."""
    groups, (batch, rows) = geometry.groups, (seen.shape[0], weights.shape[0])
    places = math.prod(shape)
    terms = seen.type.elements // (batch * groups * places)
    right = ops.reshape(seen, (*_split(batch, groups, terms), places))
    left = ops.reshape(weights, (groups, rows // groups, terms) if groups > 1 else (rows, terms))
    return ops.reshape(ops.apply("matmul", left, right), (batch, rows, *shape))


def _collect(ops: Operations, big: Value, weights: Value, geometry: Geometry, shape: Sequence[int]) -> Value:
    """Small[a, o] = Σ weights[a, b, k] · big[b, place of (o, k)]; terms by (b, k) ascending."""
    flat = ops.reshape(weights, (weights.shape[0], weights.type.elements // weights.shape[0]))
    seen = big if geometry.trivial else ops.apply("windows", big, attributes=geometry.of_big(shape))
    return _product(ops, flat, seen, shape, geometry)


def _spread(ops: Operations, small: Value, weights: Value, geometry: Geometry, shape: Sequence[int]) -> Value:
    """Big[b, i] = Σ weights[a, b, k] · small[a, o] over the (o, k) whose place is i; terms by (a, k) ascending."""
    groups, size = geometry.groups, math.prod(geometry.kernel)
    a, b = weights.shape[0] // groups, weights.shape[1]
    split = ops.reshape(weights, (groups, a, b, size))
    flat = ops.reshape(ops.permute(split, (0, 2, 1, 3)), (groups * b, a * size))
    seen = small if geometry.trivial else ops.apply("windows", small, attributes=geometry.of_small(shape))
    return _product(ops, flat, seen, shape, geometry)


def _correlate(ops: Operations, small: Value, big: Value, geometry: Geometry, shape: Sequence[int]) -> Value:
    """Weights[a, b, k] = Σ small[a, o] · big[b, place of (o, k)]; terms by (batch, o) ascending."""
    groups, places = geometry.groups, math.prod(small.shape[2:])
    batch, terms = small.shape[0], small.shape[0] * places
    a, columns = small.shape[1] // groups, math.prod(shape[1:])
    seen = big if geometry.trivial else ops.apply("windows", big, attributes=geometry.of_big(small.shape[2:]))
    left = ops.reshape(small, (*_split(batch, groups, a), places))
    right = ops.reshape(seen, (*_split(batch, groups, columns), places))
    if groups > 1:
        left = ops.reshape(ops.permute(left, (1, 2, 0, 3)), (groups, a, terms))
        right = ops.reshape(ops.permute(right, (1, 0, 3, 2)), (groups, terms, columns))
    else:
        left = ops.reshape(ops.permute(left, (1, 0, 2)), (a, terms))
        right = ops.reshape(ops.permute(right, (0, 2, 1)), (terms, columns))
    return ops.reshape(ops.apply("matmul", left, right), tuple(shape))


@lowers("aten.convolution.default")
def _convolution(
    ops: Operations,
    out: TensorType,
    x: Value,
    weights: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    axes = len(weights.shape) - 2
    # A single image has no batch axis.
    batched = x if len(x.shape) == axes + 2 else ops.reshape(x, (1, *x.shape))
    geometry = Geometry(
        weights.shape[2:], each_axis(stride, axes), each_axis(padding, axes), each_axis(dilation, axes), groups
    )
    product = _spread if transposed else _collect
    y = product(ops, batched, weights, geometry, out.shape[len(out.shape) - axes :])
    if bias is not None:
        y = ops.add(y, ops.reshape(bias, (bias.shape[0], *[1] * axes)))
    return ops.reshape(y, out.shape)


@lowers("aten.convolution_backward.default")
def _convolution_backward(
    ops: Operations,
    out: object,
    gradient: Value,
    x: Value,
    weights: Value,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    mask: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    axes = len(weights.shape) - 2
    plain = x.shape
    if len(plain) != axes + 2:
        gradient, x = (ops.reshape(item, (1, *item.shape)) for item in (gradient, x))
    geometry = Geometry(
        weights.shape[2:], each_axis(stride, axes), each_axis(padding, axes), each_axis(dilation, axes), groups
    )
    small, big = (x, gradient) if transposed else (gradient, x)
    to_x = to_weights = to_bias = None
    if mask[0]:
        product = _collect if transposed else _spread
        to_x = ops.reshape(product(ops, gradient, weights, geometry, x.shape[2:]), plain)
    if mask[1]:
        to_weights = _correlate(ops, small, big, geometry, weights.shape)
    if mask[2]:
        to_bias = ops.sum(gradient, (0, *range(2, axes + 2)))
    return to_x, to_weights, to_bias
