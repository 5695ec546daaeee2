"""Lowering rules for batch, instance and group normalisation: explicit formulas over sums.

A training batch norm also moves the running statistics. The library's operator writes them in place and says so
nowhere; its rule here returns their new values last, and the capture (`MUTATES`) puts them in the place of the old.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml.capture.lowering import lowers
from ml.capture.operations import Operations, Value

MUTATES = {
    "aten.native_batch_norm.default": (3, 4),
    "aten._native_batch_norm_legit.default": (3, 4),
}
"""Arguments that an operation overwrites; its rule returns their new values last."""


def _statistics_axes(x: Value) -> tuple[int, ...]:
    """All axes but the channels."""
    return (0, *range(2, len(x.shape)))


def _channels(ops: Operations, item: Value, x: Value) -> Value:
    """One number per channel, in the shape that broadcasts over x."""
    return ops.reshape(item, (item.type.elements, *[1] * (len(x.shape) - 2)))


def _inverse_deviation(ops: Operations, variance: Value, epsilon: float) -> Value:
    return ops.apply("reciprocal", ops.apply("sqrt", ops.add(variance, epsilon)))


def _affine(ops: Operations, apart: Value, scale: Value, weight: Value | None, bias: Value | None) -> Value:
    """apart · (scale · weight) + bias, all but the first per channel."""
    factor = scale if weight is None else ops.mul(scale, weight)
    y = ops.mul(apart, _channels(ops, factor, apart))
    return y if bias is None else ops.add(y, _channels(ops, bias, apart))


@lowers("aten.native_batch_norm.default", "aten._native_batch_norm_legit.default")
def _batch_norm(
    ops: Operations,
    out: Any,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_variance: Value | None,
    training: bool,
    momentum: float,
    epsilon: float,
) -> tuple[Value | None, ...]:
    if not training and running_mean is not None and running_variance is not None:
        apart = ops.sub(x, _channels(ops, running_mean, x))
        scale = _inverse_deviation(ops, running_variance, epsilon)
        y = _affine(ops, apart, scale, weight, bias)
        return y, None, None, running_mean, running_variance
    axes = _statistics_axes(x)
    mean = ops.mean(x, axes)
    apart = ops.sub(x, _channels(ops, mean, x))
    variance = ops.mean(ops.mul(apart, apart), axes)
    scale = _inverse_deviation(ops, variance, epsilon)
    y = _affine(ops, apart, scale, weight, bias)
    if running_mean is None or running_variance is None:
        return y, mean, scale
    count = x.type.elements // x.shape[1]

    def moved(old: Value, new: Value) -> Value:
        return ops.add(ops.mul(old, 1.0 - momentum), ops.mul(new, momentum))

    unbiased = ops.mul(variance, count / (count - 1)) if count > 1 else variance
    return y, mean, scale, moved(running_mean, mean), moved(running_variance, unbiased)


@lowers("aten._native_batch_norm_legit.no_stats")
def _batch_norm_without_statistics(
    ops: Operations, out: Any, x: Value, weight: Value | None, bias: Value | None, *rest: Any
) -> tuple[Value | None, ...]:
    return _batch_norm(ops, out, x, weight, bias, None, None, *rest)  # type: ignore[no-any-return]


@lowers("aten.native_batch_norm_backward.default")
def _batch_norm_backward(
    ops: Operations,
    out: Any,
    gradient: Value,
    x: Value,
    weight: Value | None,
    running_mean: Value | None,
    running_variance: Value | None,
    mean: Value | None,
    scale: Value | None,
    training: bool,
    epsilon: float,
    mask: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    fixed = not training and running_mean is not None and running_variance is not None
    if fixed:
        mean, scale = running_mean, _inverse_deviation(ops, running_variance, epsilon)  # type: ignore[arg-type]
    axes, count = _statistics_axes(x), float(x.type.elements // x.shape[1])
    apart = ops.sub(x, _channels(ops, mean, x))  # type: ignore[arg-type]
    total = ops.sum(gradient, axes)
    along = ops.sum(ops.mul(gradient, apart), axes)
    to_x = gradient
    if not fixed:
        slope = ops.mul(ops.div(along, count), ops.mul(scale, scale))  # type: ignore[arg-type]
        to_x = ops.sub(to_x, _channels(ops, ops.div(total, count), x))
        to_x = ops.sub(to_x, ops.mul(apart, _channels(ops, slope, x)))
    factor = scale if weight is None else ops.mul(scale, weight)  # type: ignore[arg-type]
    to_x = ops.mul(to_x, _channels(ops, factor, x))  # type: ignore[arg-type]
    return (
        to_x if mask[0] else None,
        ops.mul(along, scale) if mask[1] else None,  # type: ignore[arg-type]
        total if mask[2] else None,
    )


def _grouped(ops: Operations, x: Value, groups: int) -> Value:
    """(batch · groups, elements of a group)."""
    rows = x.shape[0] * groups
    return ops.reshape(x, (rows, x.type.elements // rows))


@lowers("aten.native_group_norm.default")
def _group_norm(
    ops: Operations,
    out: Any,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    batch: int,
    channels: int,
    places: int,
    groups: int,
    epsilon: float,
) -> tuple[Value, Value, Value]:
    rows = _grouped(ops, x, groups)
    mean = ops.mean(rows, (1,), keep=True)
    apart = ops.sub(rows, mean)
    scale = _inverse_deviation(ops, ops.mean(ops.mul(apart, apart), (1,), keep=True), epsilon)
    y = ops.reshape(ops.mul(apart, scale), x.shape)
    if weight is not None:
        y = ops.mul(y, _channels(ops, weight, x))
    if bias is not None:
        y = ops.add(y, _channels(ops, bias, x))
    return y, ops.reshape(mean, (batch, groups)), ops.reshape(scale, (batch, groups))


@lowers("aten.native_group_norm_backward.default")
def _group_norm_backward(
    ops: Operations,
    out: Any,
    gradient: Value,
    x: Value,
    mean: Value,
    scale: Value,
    weight: Value | None,
    batch: int,
    channels: int,
    places: int,
    groups: int,
    mask: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    column = (batch * groups, 1)
    apart = ops.sub(_grouped(ops, x, groups), ops.reshape(mean, column))
    normal = ops.mul(apart, ops.reshape(scale, column))
    weighted = gradient if weight is None else ops.mul(gradient, _channels(ops, weight, x))
    weighted = _grouped(ops, weighted, groups)
    to_x = ops.sub(weighted, ops.mean(weighted, (1,), keep=True))
    to_x = ops.sub(to_x, ops.mul(normal, ops.mean(ops.mul(weighted, normal), (1,), keep=True)))
    to_x = ops.reshape(ops.mul(to_x, ops.reshape(scale, column)), x.shape)
    axes = _statistics_axes(x)
    return (
        to_x if mask[0] else None,
        ops.sum(ops.mul(gradient, ops.reshape(normal, x.shape)), axes) if mask[1] else None,
        ops.sum(gradient, axes) if mask[2] else None,
    )
