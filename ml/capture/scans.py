"""Lowering rules for running sums and for reordering along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml.capture.lowering import lowers, unsupported
from ml.capture.operations import Operations, Value
from proofs.program.types import BOOL, F32, I64, U8, TensorType

WINDOW_MAX = 64
"""Elements of one window of `unfold`: each is a slice."""


def _shifted(ops: Operations, x: Value, axis: int, by: int) -> Value:
    """x moved towards larger indices, zeros coming in."""
    size = x.shape[axis]
    kept = ops.slice_axis(x, axis, 0, size - by, 1)
    attributes = [0] * (3 * len(x.shape))
    attributes[3 * axis] = by
    return ops.apply("pad", kept, attributes=tuple(attributes))


@lowers("aten.cumsum.default")
def _cumsum(ops: Operations, out: TensorType, x: Value, dim: int, **_: Any) -> Value:
    # W. D. Hillis and G. L. Steele, 1986: after step n every element holds the sum of the 2^n elements up to it.
    total = ops.as_dtype(x, out.dtype)
    if not x.shape:
        return total
    axis, reach = dim % len(x.shape), 1
    while reach < x.shape[axis]:
        total = ops.add(total, _shifted(ops, total, axis, reach))
        reach *= 2
    return total


@lowers("aten.roll.default")
def _roll(ops: Operations, out: TensorType, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    y = x if dims else ops.reshape(x, (x.type.elements,))
    for shift, dim in zip(shifts, dims or (0,), strict=True):
        axis = dim % len(y.shape)
        cut = -shift % y.shape[axis]
        if cut:
            head = ops.slice_axis(y, axis, 0, cut, 1)
            tail = ops.slice_axis(y, axis, cut, y.shape[axis], 1)
            y = ops.apply("concatenate", tail, head, attributes=(axis,))
    return ops.reshape(y, out.shape)


@lowers("aten.flip.default")
def _flip(ops: Operations, out: TensorType, x: Value, dims: Sequence[int]) -> Value:
    if x.type.dtype in (BOOL, U8):
        return ops.as_dtype(_flip(ops, out, ops.as_dtype(x, I64), dims), x.type.dtype)
    for dim in dims:
        axis, rank = dim % len(x.shape), len(x.shape)
        size = x.shape[axis]
        backwards = ops.sub(size - 1, ops.apply("iota", attributes=(0, size)))
        order = (axis, *(other for other in range(rank) if other != axis))
        front = ops.permute(x, order)
        rows = ops.reshape(front, (size, x.type.elements // size))
        turned = ops.reshape(ops.apply("embedding", rows, backwards), front.shape)
        x = ops.permute(turned, tuple(order.index(place) for place in range(rank)))
    return x


@lowers("aten.unfold.default")
def _unfold(ops: Operations, out: TensorType, x: Value, dim: int, size: int, step: int) -> Value:
    if size > WINDOW_MAX:
        raise unsupported(f"unfold with windows of {size}; at most {WINDOW_MAX}")
    axis = dim % len(x.shape)
    count = out.shape[axis]
    parts = [ops.slice_axis(x, axis, start, start + (count - 1) * step + 1, step) for start in range(size)]
    stacked = [ops.reshape(part, (*part.shape, 1)) for part in parts]
    return stacked[0] if size == 1 else ops.apply("concatenate", *stacked, attributes=(len(x.shape),))


@lowers("aten.unfold_backward.default")
def _unfold_backward(
    ops: Operations, out: TensorType, gradient: Value, sizes: Sequence[int], dim: int, size: int, step: int
) -> Value:
    if size > WINDOW_MAX:
        raise unsupported(f"unfold with windows of {size}; at most {WINDOW_MAX}")
    axis, rank = dim % len(sizes), len(sizes)
    total: Value | None = None
    for start in range(size):
        part = ops.reshape(ops.slice_axis(gradient, rank, start, start + 1, 1), gradient.shape[:-1])
        reach = (part.shape[axis] - 1) * step + 1
        attributes = [0] * (3 * rank)
        attributes[3 * axis : 3 * axis + 3] = [start, sizes[axis] - start - reach, step - 1]
        spread = ops.apply("pad", part, attributes=tuple(attributes)) if any(attributes) else part
        total = spread if total is None else ops.add(total, spread)
    return total if total is not None else ops.constant(F32, 0, out.shape)


@lowers("aten.diagonal.default", "aten.diagonal_copy.default")
def _diagonal(ops: Operations, out: TensorType, x: Value, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Value:
    rank = len(x.shape)
    first, second = dim1 % rank, dim2 % rank
    moved = ops.permute(x, (*(axis for axis in range(rank) if axis not in (first, second)), first, second))
    height, width = moved.shape[-2:]
    start = offset if offset >= 0 else -offset * width
    flat = ops.reshape(moved, (*moved.shape[:-2], height * width))
    return ops.slice_axis(flat, rank - 2, start, start + (out.shape[-1] - 1) * (width + 1) + 1, width + 1)


@lowers("aten.diagonal_scatter.default")
def _diagonal_scatter(
    ops: Operations, out: TensorType, x: Value, source: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    if ops.builder.constant_value(x.number) != 0:
        raise unsupported("writing a diagonal into a tensor that is not all zeros; add x * torch.eye(n) instead")
    rank = len(x.shape)
    first, second = dim1 % rank, dim2 % rank
    order = (*(axis for axis in range(rank) if axis not in (first, second)), first, second)
    height, width = x.shape[first], x.shape[second]
    start = offset if offset >= 0 else -offset * width
    reach = (source.shape[-1] - 1) * (width + 1) + 1
    attributes = [0] * (3 * len(source.shape))
    attributes[-3:] = [start, height * width - start - reach, width]
    flat = ops.apply("pad", source, attributes=tuple(attributes))
    whole = ops.reshape(flat, tuple(x.shape[axis] for axis in order))
    return ops.permute(whole, tuple(order.index(place) for place in range(rank)))
