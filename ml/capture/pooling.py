"""Lowering rules for pooling and upsampling: windows again, reduced or multiplied by ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml.capture.convolution import Geometry, each_axis
from ml.capture.lowering import lowers, unsupported
from ml.capture.operations import Operations, Value
from proofs.program.types import F32, I64, TensorType

MINUS_INFINITY_BITS = 0xFF800000
NOTHING_BITS = (1 << 64) - 1
"""-1: a place that no window chose."""


@dataclass(frozen=True)
class Chosen(Value):
    """Indices of a max pooling: as the framework counts them, and as places within the window."""

    within: Value


def _geometry(kernel: Any, stride: Any, padding: Any, dilation: Any, axes: int) -> Geometry:
    sizes = each_axis(kernel, axes)
    steps = each_axis(stride, axes) if stride else sizes
    return Geometry(sizes, steps, each_axis(padding, axes), each_axis(dilation, axes))


def _places(geometry: Geometry, big: Sequence[int], ceil: bool) -> tuple[int, ...]:
    """Windows along each axis; rounded up, none begins beyond the input."""
    counts = []
    for k, s, p, d, size in zip(
        geometry.kernel, geometry.stride, geometry.padding, geometry.dilation, big, strict=True
    ):
        room = size + 2 * p - d * (k - 1) - 1
        count = (room + (s - 1 if ceil else 0)) // s + 1
        counts.append(count - 1 if ceil and (count - 1) * s >= size + p else count)
    return tuple(counts)


def _ones(ops: Operations, size: int) -> Value:
    return ops.constant(F32, 1.0, (1, size))


def _batched(ops: Operations, x: Value, axes: int) -> Value:
    """With a batch axis: a single image has none."""
    return x if len(x.shape) == axes + 2 else ops.reshape(x, (1, *x.shape))


@lowers("aten.max_pool2d_with_indices.default", "aten.max_pool3d_with_indices.default")
def _max_pool(
    ops: Operations,
    out: Any,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> tuple[Value, Value]:
    axes = len(kernel)
    single = len(x.shape) == axes + 1
    x = _batched(ops, x, axes)
    geometry, big = _geometry(kernel, stride, padding, dilation, axes), x.shape[2:]
    places = _places(geometry, big, ceil)
    seen = ops.apply("windows", x, attributes=geometry.of_big(places, MINUS_INFINITY_BITS))
    # (batch, channels, *kernel, *places) → (batch, channels, *places, kernel)
    seen = ops.permute(seen, (0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes)))
    rows = ops.reshape(seen, (*x.shape[:2], *places, math.prod(geometry.kernel)))
    shape = (*x.shape[int(single) : 2], *places)
    values = ops.reshape(ops.apply("max_last", rows), shape)
    within = ops.reshape(ops.apply("argmax_last", rows), shape)
    number = _element_numbers(ops, within, geometry, big)
    return values, Chosen(number.number, number.type, within)


def _element_numbers(ops: Operations, within: Value, geometry: Geometry, big: Sequence[int]) -> Value:
    """The row-major number, in the image, of the element at a place within its window."""
    numbers, rest = ops.constant(I64, 0), within
    axes, rank = len(big), len(within.shape)
    for axis in reversed(range(axes)):
        k = ops.binary("remainder", rest, geometry.kernel[axis])
        rest = ops.binary("floor_divide", rest, geometry.kernel[axis])
        at = rank - axes + axis
        o = ops.apply("iota", attributes=(at, *within.shape))
        start = ops.sub(ops.mul(o, geometry.stride[axis]), geometry.padding[axis])
        place = ops.add(start, ops.mul(k, geometry.dilation[axis]))
        numbers = ops.add(numbers, ops.mul(place, math.prod(big[axis + 1 :])))
    return numbers


@lowers("aten.max_pool2d_with_indices_backward.default", "aten.max_pool3d_with_indices_backward.default")
def _max_pool_backward(
    ops: Operations,
    out: TensorType,
    gradient: Value,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Any,
    dilation: Any,
    ceil: bool,
    indices: Value,
) -> Value:
    if not isinstance(indices, Chosen):
        raise unsupported("max pooling whose indices went through another operation; use them as they are")
    axes = len(kernel)
    geometry, size = _geometry(kernel, stride, padding, dilation, axes), math.prod(kernel)
    gradient, within, x = (_batched(ops, item, axes) for item in (gradient, indices.within, x))
    shape = (*x.shape[:2], size, math.prod(x.shape[2:]))
    flows = ops.reshape(ops.apply("windows", gradient, attributes=geometry.of_small(x.shape[2:])), shape)
    chosen = ops.apply("windows", within, attributes=geometry.of_small(x.shape[2:], NOTHING_BITS))
    here = ops.binary("eq", ops.reshape(chosen, shape), ops.apply("iota", attributes=(0, size, 1)))
    product = ops.apply("matmul", _ones(ops, size), ops.where(here, flows, 0.0, F32))
    return ops.reshape(product, out.shape)


@dataclass(frozen=True)
class _Average:
    geometry: Geometry
    counts: Value | float
    """What the sum of each window is divided by."""
    places: tuple[int, ...]


def _average(
    ops: Operations,
    shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Any,
    ceil: bool,
    include_padding: bool,
    divisor: int | None,
) -> _Average:
    axes = len(kernel)
    geometry, big = _geometry(kernel, stride, padding, 1, axes), tuple(shape[len(shape) - axes :])
    places, size = _places(geometry, big, ceil), math.prod(geometry.kernel)
    if divisor is not None:
        return _Average(geometry, float(divisor), places)
    if not ceil and (include_padding or not any(geometry.padding)):
        return _Average(geometry, float(size), places)
    if include_padding:
        wide = tuple(item + 2 * pad for item, pad in zip(big, geometry.padding, strict=True))
        counted = Geometry(geometry.kernel, geometry.stride, (0,) * axes, geometry.dilation)
    else:
        wide, counted = big, geometry
    ones = ops.constant(F32, 1.0, (1, 1, *wide))
    return _Average(geometry, ops.reshape(_window_sums(ops, ones, counted, places), places), places)


def _window_sums(ops: Operations, x: Value, geometry: Geometry, places: Sequence[int]) -> Value:
    """(batch, channels, *places): the sum of each window, by place within it ascending."""
    size = math.prod(geometry.kernel)
    seen = ops.apply("windows", x, attributes=geometry.of_big(places))
    product = ops.apply("matmul", _ones(ops, size), ops.reshape(seen, (*x.shape[:2], size, math.prod(places))))
    return ops.reshape(product, (*x.shape[:2], *places))


@lowers("aten.avg_pool2d.default", "aten.avg_pool3d.default")
def _average_pool(
    ops: Operations,
    out: TensorType,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Any = 0,
    ceil: bool = False,
    include_padding: bool = True,
    divisor: int | None = None,
) -> Value:
    rule = _average(ops, x.shape, kernel, stride, padding, ceil, include_padding, divisor)
    sums = _window_sums(ops, _batched(ops, x, len(kernel)), rule.geometry, rule.places)
    return ops.reshape(ops.div(sums, rule.counts), out.shape)


@lowers("aten.avg_pool2d_backward.default", "aten.avg_pool3d_backward.default")
def _average_pool_backward(
    ops: Operations,
    out: TensorType,
    gradient: Value,
    x: Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Any,
    ceil: bool,
    include_padding: bool,
    divisor: int | None,
) -> Value:
    rule = _average(ops, x.shape, kernel, stride, padding, ceil, include_padding, divisor)
    shares = _batched(ops, ops.div(gradient, rule.counts), len(kernel))
    big, size = x.shape[len(x.shape) - len(kernel) :], math.prod(rule.geometry.kernel)
    seen = ops.apply("windows", shares, attributes=rule.geometry.of_small(big))
    flat = ops.reshape(seen, (*shares.shape[:2], size, math.prod(big)))
    return ops.reshape(ops.apply("matmul", _ones(ops, size), flat), out.shape)


def _even(big: Sequence[int], small: Sequence[int]) -> tuple[int, ...]:
    """The kernel (and stride) that an adaptive pooling to `small` amounts to."""
    if any(size % count for size, count in zip(big, small, strict=True)):
        raise unsupported(
            f"adaptive pooling from {tuple(big)} to {tuple(small)}, which does not divide it; pool with a kernel"
        )
    return tuple(size // count for size, count in zip(big, small, strict=True))


@lowers("aten._adaptive_avg_pool2d.default", "aten._adaptive_avg_pool3d.default")
def _adaptive_average(ops: Operations, out: TensorType, x: Value, sizes: Sequence[int]) -> Value:
    axes = len(sizes)
    kernel = _even(x.shape[-axes:], out.shape[-axes:])
    pooled: Value = _average_pool(ops, out, x, kernel)
    return pooled


@lowers("aten._adaptive_avg_pool2d_backward.default", "aten._adaptive_avg_pool3d_backward.default")
def _adaptive_average_backward(ops: Operations, out: TensorType, gradient: Value, x: Value) -> Value:
    axes = 2 if len(x.shape) <= 4 else 3
    kernel = _even(x.shape[-axes:], gradient.shape[-axes:])
    spread: Value = _average_pool_backward(ops, out, gradient, x, kernel, kernel, 0, False, True, None)
    return spread


def _interleaved(big: Sequence[int], small: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes (o, 1)… and (o, times)… of an upsampling, axis by axis."""
    if any(size % count for size, count in zip(big, small, strict=True)):
        raise unsupported(f"upsampling from {tuple(small)} to {tuple(big)}; only by whole factors")
    times = [size // count for size, count in zip(big, small, strict=True)]
    return (
        tuple(part for count in small for part in (count, 1)),
        tuple(part for count, each in zip(small, times, strict=True) for part in (count, each)),
    )


@lowers("aten.upsample_nearest1d.default", "aten.upsample_nearest2d.default", "aten.upsample_nearest3d.default")
def _upsample(ops: Operations, out: TensorType, x: Value, *_: Any) -> Value:
    narrow, wide = _interleaved(out.shape[2:], x.shape[2:])
    spread = ops.broadcast_to(ops.reshape(x, (*x.shape[:2], *narrow)), (*x.shape[:2], *wide))
    return ops.reshape(spread, out.shape)


@lowers(
    "aten.upsample_nearest1d_backward.default",
    "aten.upsample_nearest2d_backward.default",
    "aten.upsample_nearest3d_backward.default",
)
def _upsample_backward(ops: Operations, out: TensorType, gradient: Value, *_: Any) -> Value:
    _, wide = _interleaved(gradient.shape[2:], out.shape[2:])
    split = ops.reshape(gradient, (*out.shape[:2], *wide))
    return ops.sum(split, tuple(range(3, len(split.shape), 2)))
