"""Lowering rules for operations that only move elements: views, slices, joins, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml.capture.lowering import lowers, unsupported
from ml.capture.operations import Number, Operations, Value
from proofs.program.operators import INPUTS_MAX
from proofs.program.types import BOOL, I64, TensorType

END = (1 << 63) - 1


@lowers(
    "aten.view.default",
    "aten._unsafe_view.default",
    "aten.reshape.default",
    "aten.unsqueeze.default",
    "aten.squeeze.dims",
    "aten.squeeze.dim",
    "aten.squeeze.default",
)
def _reshape(ops: Operations, out: TensorType, x: Value, *_: Any) -> Value:
    return ops.reshape(x, out.shape)


@lowers("aten.permute.default")
def _permute(ops: Operations, out: TensorType, x: Value, axes: Sequence[int]) -> Value:
    return ops.permute(x, tuple(axis % len(axes) for axis in axes))


@lowers("aten.transpose.int")
def _transpose(ops: Operations, out: TensorType, x: Value, first: int, second: int) -> Value:
    axes = list(range(len(x.shape)))
    axes[first], axes[second] = axes[second], axes[first]
    return ops.permute(x, tuple(axes))


@lowers("aten.t.default")
def _t(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.permute(x, tuple(reversed(range(len(x.shape)))))


@lowers("aten.expand.default")
def _expand(ops: Operations, out: TensorType, x: Value, *_: Any, **__: Any) -> Value:
    return ops.broadcast_to(x, out.shape)


@lowers("prims.broadcast_in_dim.default")
def _broadcast_in_dim(ops: Operations, out: TensorType, x: Value, shape: Any, axes: Sequence[int]) -> Value:
    spread = [1] * len(out.shape)
    for size, axis in zip(x.shape, axes, strict=True):
        spread[axis] = size
    return ops.broadcast_to(ops.reshape(x, tuple(spread)), out.shape)


@lowers("aten.repeat.default")
def _repeat(ops: Operations, out: TensorType, x: Value, times: Sequence[int]) -> Value:
    sizes = (*([1] * (len(times) - len(x.shape))), *x.shape)
    spread = tuple(part for size in sizes for part in (1, size))
    full = tuple(part for count, size in zip(times, sizes, strict=True) for part in (count, size))
    return ops.reshape(ops.broadcast_to(ops.reshape(x, spread), full), out.shape)


def _bounds(size: int, start: int | None, stop: int | None) -> tuple[int, int]:
    low, high, _ = slice(start, None if stop is None or stop >= END else stop).indices(size)
    if high <= low:
        raise unsupported("an empty slice; every dimension has at least one element")
    return low, high


@lowers("aten.slice.Tensor")
def _slice(
    ops: Operations, out: TensorType, x: Value, dim: int = 0, start: Any = None, stop: Any = None, step: int = 1
) -> Value:
    axis = dim % len(x.shape)
    low, high = _bounds(x.shape[axis], start, stop)
    return ops.slice_axis(x, axis, low, high, step)


@lowers("aten.select.int")
def _select(ops: Operations, out: TensorType, x: Value, dim: int, index: int) -> Value:
    axis = dim % len(x.shape)
    at = index % x.shape[axis]
    return ops.reshape(ops.slice_axis(x, axis, at, at + 1, 1), out.shape)


@lowers("aten.split_with_sizes.default")
def _split(ops: Operations, out: Any, x: Value, sizes: Sequence[int], dim: int = 0) -> list[Value]:
    axis, start, parts = dim % len(x.shape), 0, []
    for size in sizes:
        parts.append(ops.slice_axis(x, axis, start, start + size, 1))
        start += size
    return parts


@lowers("aten.slice_scatter.default")
def _slice_scatter(
    ops: Operations,
    out: TensorType,
    x: Value,
    source: Value,
    dim: int = 0,
    start: Any = None,
    stop: Any = None,
    step: int = 1,
) -> Value:
    axis = dim % len(x.shape)
    low, high = _bounds(x.shape[axis], start, stop)
    if (low, high, step) == (0, x.shape[axis], 1):
        return source
    if ops.builder.constant_value(x.number) != 0:
        if step != 1:
            raise unsupported("writing every n-th element of a tensor that is not all zeros; use torch.where")
        return _replaced(ops, x, source, axis, low, high)
    covered = low + (source.shape[axis] - 1) * step + 1
    return _padded(ops, source, axis, low, x.shape[axis] - covered, step - 1)


@lowers("aten.select_scatter.default")
def _select_scatter(ops: Operations, out: TensorType, x: Value, source: Value, dim: int, index: int) -> Value:
    axis = dim % len(x.shape)
    at = index % x.shape[axis]
    row = ops.reshape(source, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
    if ops.builder.constant_value(x.number) != 0:
        return _replaced(ops, x, row, axis, at, at + 1)
    return _padded(ops, row, axis, at, x.shape[axis] - at - 1, 0)


def _replaced(ops: Operations, x: Value, source: Value, axis: int, low: int, high: int) -> Value:
    """x with the places low … high - 1 of an axis taken from source."""
    size = x.shape[axis]
    before = [ops.slice_axis(x, axis, 0, low, 1)] if low else []
    after = [ops.slice_axis(x, axis, high, size, 1)] if high < size else []
    parts = (*before, ops.as_dtype(source, x.type.dtype), *after)
    return ops.apply("concatenate", *parts, attributes=(axis,)) if len(parts) > 1 else parts[0]


@lowers("aten.constant_pad_nd.default")
def _pad(ops: Operations, out: TensorType, x: Value, amounts: Sequence[int], value: Number = 0) -> Value:
    if value != 0:
        inside = _pad(ops, out, ops.constant(I64, 1, x.shape), amounts)
        return ops.where(ops.as_dtype(inside, BOOL), _pad(ops, out, x, amounts), value, out.dtype)
    rank = len(x.shape)
    attributes = [0] * (3 * rank)
    for pair in range(len(amounts) // 2):
        axis = rank - 1 - pair
        low, high = amounts[2 * pair], amounts[2 * pair + 1]
        # Negative amounts cut; the gradient of a padding is one.
        x = ops.slice_axis(x, axis, max(0, -low), x.shape[axis] - max(0, -high), 1)
        attributes[3 * axis], attributes[3 * axis + 1] = max(0, low), max(0, high)
    return ops.apply("pad", x, attributes=tuple(attributes)) if any(attributes) else x


def _padded(ops: Operations, x: Value, axis: int, low: int, high: int, gap: int) -> Value:
    attributes = [0] * (3 * len(x.shape))
    attributes[3 * axis : 3 * axis + 3] = [low, high, gap]
    return ops.apply("pad", x, attributes=tuple(attributes)) if any(attributes) else x


@lowers("aten.cat.default")
def _concatenate(ops: Operations, out: TensorType, parts: Sequence[Value], dim: int = 0) -> Value:
    axis = dim % len(out.shape)
    joined = [ops.as_dtype(part, out.dtype) for part in parts]
    while len(joined) > 1:
        groups = [joined[start : start + INPUTS_MAX] for start in range(0, len(joined), INPUTS_MAX)]
        joined = [ops.apply("concatenate", *one, attributes=(axis,)) if len(one) > 1 else one[0] for one in groups]
    return joined[0]


@lowers("aten.copy.default")
def _copy(ops: Operations, out: TensorType, target: Value, source: Value, *_: Any) -> Value:
    return ops.broadcast_to(ops.as_dtype(source, out.dtype), out.shape)
