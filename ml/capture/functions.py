"""Lowering rules for elementwise functions that are compositions of the opset's, and for reductions of truth values."""

from __future__ import annotations

import math
from typing import Any

from ml.capture.lowering import axes_of, lowers, unsupported
from ml.capture.operations import Number, Operations, Value
from proofs.program.types import BOOL, F32, I64, TensorType

_WHOLE = 2.0**23
"""From here on every f32 is a whole number; adding it rounds to one, ties to even."""


@lowers("aten.exp2.default")
def _exp2(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.apply("exp", ops.mul(x, math.log(2)))


@lowers("aten.log2.default")
def _log2(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.mul(ops.apply("log", x), 1 / math.log(2))


@lowers("aten.log10.default")
def _log10(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.mul(ops.apply("log", x), 1 / math.log(10))


@lowers("aten.tan.default")
def _tan(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.div(ops.apply("sin", x), ops.apply("cos", x))


@lowers("aten.sinh.default")
def _sinh(ops: Operations, out: TensorType, x: Value) -> Value:
    # tanh keeps the precision near zero: sinh = tanh cosh.
    return ops.mul(ops.apply("tanh", x), _cosh(ops, out, x))


@lowers("aten.cosh.default")
def _cosh(ops: Operations, out: TensorType, x: Value) -> Value:
    growing = ops.apply("exp", ops.apply("abs", x))
    return ops.mul(ops.add(growing, ops.apply("reciprocal", growing)), 0.5)


@lowers("aten.pow.Scalar")
def _exponential(ops: Operations, out: TensorType, base: Number, x: Value) -> Value:
    if out.dtype != F32 or base <= 0:
        raise unsupported(f"{base} to the power of a tensor of {out.dtype}; the base is above 0 and the power float32")
    return ops.apply("exp", ops.mul(ops.as_dtype(x, F32), math.log(base)))


@lowers("aten.pow.Tensor_Tensor")
def _power(ops: Operations, out: TensorType, x: Value, y: Value) -> Value:
    if out.dtype != F32:
        raise unsupported("integer powers of tensors; multiply explicitly")
    return ops.apply("exp", ops.mul(ops.as_dtype(y, F32), ops.apply("log", ops.as_dtype(x, F32))))


@lowers("aten.ceil.default")
def _ceil(ops: Operations, out: TensorType, x: Value) -> Value:
    return x if out.dtype != F32 else ops.apply("neg", ops.apply("floor", ops.apply("neg", x)))


@lowers("aten.trunc.default")
def _trunc(ops: Operations, out: TensorType, x: Value) -> Value:
    down = ops.apply("floor", ops.apply("abs", x))
    return ops.where(ops.binary("lt", x, 0), ops.apply("neg", down), down, F32)


@lowers("aten.round.default")
def _round(ops: Operations, out: TensorType, x: Value) -> Value:
    size = ops.apply("abs", x)
    near = ops.sub(ops.add(size, _WHOLE), _WHOLE)
    whole = ops.where(ops.binary("lt", size, _WHOLE), near, size, F32)
    return ops.where(ops.binary("lt", x, 0), ops.apply("neg", whole), whole, F32)


@lowers("aten.clamp.Tensor")
def _clamp(ops: Operations, out: TensorType, x: Value, low: Value | None = None, high: Value | None = None) -> Value:
    if low is not None:
        x = ops.binary("maximum", x, low, out.dtype)
    return x if high is None else ops.binary("minimum", x, high, out.dtype)


@lowers("aten.any.dim", "aten.any.dims", "aten.any.default")
def _any(ops: Operations, out: TensorType, x: Value, dims: Any = None, keep: bool = False) -> Value:
    ones = ops.as_dtype(ops.as_dtype(x, BOOL), I64)
    return ops.as_dtype(ops.last_reduction("max_last", ones, axes_of(dims, len(x.shape)), keep), BOOL)


@lowers("aten.all.dim", "aten.all.dims", "aten.all.default")
def _all(ops: Operations, out: TensorType, x: Value, dims: Any = None, keep: bool = False) -> Value:
    wrong = ops.apply("logical_not", ops.as_dtype(x, BOOL))
    return ops.apply("logical_not", _any(ops, out, wrong, dims, keep))


@lowers("aten.max.default")
def _max(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.last_reduction("max_last", x, axes_of(None, len(x.shape)), keep=False)


@lowers("aten.min.default")
def _min(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.apply("neg", _max(ops, out, ops.apply("neg", x)))


@lowers("aten.min.dim")
def _min_with_index(ops: Operations, out: Any, x: Value, dim: int, keep: bool = False) -> tuple[Value, Value]:
    turned, axes = ops.apply("neg", x), axes_of(dim, len(x.shape))
    least = ops.apply("neg", ops.last_reduction("max_last", turned, axes, keep))
    return least, ops.last_reduction("argmax_last", turned, axes, keep)


@lowers("aten.argmin.default")
def _argmin(ops: Operations, out: TensorType, x: Value, dim: int | None = None, keep: bool = False) -> Value:
    return ops.last_reduction("argmax_last", ops.apply("neg", x), axes_of(dim, len(x.shape)), keep)


@lowers("aten.linalg_vector_norm.default")
def _norm(
    ops: Operations,
    out: TensorType,
    x: Value,
    ord: Number = 2,
    dim: Any = None,
    keepdim: bool = False,
) -> Value:
    axes = axes_of(dim, len(x.shape))
    if ord == 2:
        return ops.apply("sqrt", ops.sum(ops.mul(x, x), axes, keepdim))
    if ord == 1:
        return ops.sum(ops.apply("abs", x), axes, keepdim)
    if ord == math.inf:
        return ops.last_reduction("max_last", ops.apply("abs", x), axes, keepdim)
    raise unsupported(f"norm of order {ord}; orders 1, 2 and infinity exist")


@lowers("aten.softshrink_backward.default", "aten.hardshrink_backward.default")
def _shrink_backward(ops: Operations, out: TensorType, gradient: Value, x: Value, limit: Number) -> Value:
    return ops.where(ops.binary("gt", ops.apply("abs", x), limit), gradient, 0, F32)
