"""From ATen to opset 1: one rule per ATen operator, all refused that have none.

A rule takes the operations at hand, the type of the traced result and the traced arguments (values for tensors, Python
numbers and lists for the rest). Decompositions of the framework are used where they are formulas already; softmax,
layer norm and embedding gradients have rules here because the library's own forms are opaque or wasteful.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.operations import Number, Operations, Value
from proofs.program.types import BOOL, F32, I64, TensorType

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
"""Lowering rules by ATen name: rule(operations, result type, *arguments, **keywords)."""


def lowers(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule under ATen names."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def unsupported(what: str) -> Rejection:
    """The rejection for a form of an operation that has no rule."""
    return Rejection(reasons.NOT_LOWERABLE, what)


def axes_of(dims: Sequence[int] | int | None, rank: int) -> tuple[int, ...]:
    """Axes counted from the front; none means all."""
    if dims is None:
        return tuple(range(rank))
    listed = (dims,) if isinstance(dims, int) else tuple(dims)
    return tuple(sorted(axis % rank for axis in listed)) if listed and rank else tuple(range(rank))


def _simple(names: dict[str, str]) -> None:
    for aten, operator in names.items():
        RULES[aten] = lambda ops, out, x, operator=operator, **_: ops.apply(operator, ops.as_dtype(x, out.dtype))


_simple(
    {
        "aten.neg.default": "neg",
        "aten.abs.default": "abs",
        "aten.sign.default": "sign",
        "aten.floor.default": "floor",
        "aten.sqrt.default": "sqrt",
        "aten.reciprocal.default": "reciprocal",
        "aten.exp.default": "exp",
        "aten.log.default": "log",
        "aten.tanh.default": "tanh",
        "aten.erf.default": "erf",
        "aten.sin.default": "sin",
        "aten.cos.default": "cos",
    }
)


_OF_BOOL = {"mul": "logical_and", "maximum": "logical_or", "minimum": "logical_and", "add": "logical_or"}


def _binary_rules(names: dict[str, str]) -> None:
    for aten, operator in names.items():

        def rule(ops: Operations, out: TensorType, x: Any, y: Any, operator: str = operator, **_: Any) -> Value:
            return ops.binary(_OF_BOOL.get(operator, operator) if out.dtype == BOOL else operator, x, y, out.dtype)

        RULES[aten] = rule


_binary_rules(
    {
        "aten.mul.Tensor": "mul",
        "aten.mul.Scalar": "mul",
        "aten.div.Tensor": "div",
        "aten.div.Scalar": "div",
        "prims.div.default": "div",
        "prims.mul.default": "mul",
        "aten.maximum.default": "maximum",
        "aten.minimum.default": "minimum",
        "aten.remainder.Tensor": "remainder",
        "aten.remainder.Scalar": "remainder",
    }
)


@lowers("aten.add.Tensor", "aten.add.Scalar")
def _add(ops: Operations, out: TensorType, x: Any, y: Any, alpha: Number = 1) -> Value:
    scaled = y if alpha == 1 else ops.binary("mul", y, alpha, out.dtype)
    return ops.binary("logical_or" if out.dtype == BOOL else "add", x, scaled, out.dtype)


@lowers("aten.sub.Tensor", "aten.sub.Scalar")
def _sub(ops: Operations, out: TensorType, x: Any, y: Any, alpha: Number = 1) -> Value:
    scaled = y if alpha == 1 else ops.binary("mul", y, alpha, out.dtype)
    return ops.binary("sub", x, scaled, out.dtype)


@lowers("aten.div.Tensor_mode", "aten.div.Scalar_mode", "aten.floor_divide.default")
def _rounded_division(ops: Operations, out: TensorType, x: Value, y: Any, rounding_mode: str | None = "floor") -> Value:
    if out.dtype == I64 and rounding_mode == "floor":
        return ops.binary("floor_divide", x, y, I64)
    if out.dtype != F32 or rounding_mode == "trunc":
        raise unsupported(f"division rounded by {rounding_mode} to {out.dtype}; use floor, on float32 or int64")
    quotient = ops.binary("div", x, y, F32)
    return ops.apply("floor", quotient) if rounding_mode else quotient


@lowers("aten.rsqrt.default")
def _rsqrt(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.apply("reciprocal", ops.apply("sqrt", x))


@lowers("aten.log1p.default")
def _log1p(ops: Operations, out: TensorType, x: Value) -> Value:
    # log(u) x / (u - 1) with u = 1 + x is accurate where log(1 + x) is not (D. Goldberg, 1991, theorem 4).
    u = ops.add(1.0, x)
    plain = ops.div(ops.mul(ops.apply("log", u), x), ops.sub(u, 1.0))
    return ops.where(ops.binary("eq", u, 1.0), x, plain, F32)


@lowers("aten.expm1.default")
def _expm1(ops: Operations, out: TensorType, x: Value) -> Value:
    # (u - 1) x / log(u) with u = exp(x), the counterpart (W. Kahan); far from 0 the plain form is exact enough.
    u = ops.apply("exp", x)
    less = ops.sub(u, 1.0)
    near = ops.where(ops.binary("eq", u, 1.0), x, ops.div(ops.mul(less, x), ops.apply("log", u)), F32)
    return ops.where(ops.binary("lt", ops.apply("abs", x), 1.0), near, less, F32)


@lowers("aten.sigmoid.default")
def _sigmoid(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.apply("reciprocal", ops.add(1.0, ops.apply("exp", ops.apply("neg", x))))


@lowers("aten.relu.default")
def _relu(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.binary("maximum", x, 0)


@lowers("aten.leaky_relu.default")
def _leaky_relu(ops: Operations, out: TensorType, x: Value, slope: Number = 0.01) -> Value:
    return ops.where(ops.binary("gt", x, 0), x, ops.mul(x, slope), out.dtype)


@lowers("aten.clamp.default")
def _clamp(ops: Operations, out: TensorType, x: Value, low: Number | None = None, high: Number | None = None) -> Value:
    if low is not None:
        x = ops.binary("maximum", x, low)
    return x if high is None else ops.binary("minimum", x, high)


@lowers("aten.pow.Tensor_Scalar")
def _power(ops: Operations, out: TensorType, x: Value, exponent: Number) -> Value:
    if abs(exponent) == 0.5:
        root = ops.apply("sqrt", x)
        return root if exponent > 0 else ops.apply("reciprocal", root)
    if exponent == 0:
        return ops.constant(out.dtype, 1, out.shape)
    if exponent == 1.5:
        return ops.mul(x, ops.apply("sqrt", x))
    if exponent != int(exponent) or abs(exponent) > 8:
        if out.dtype != F32:
            raise unsupported(f"power {exponent} of integers; multiply explicitly")
        return ops.apply("exp", ops.mul(ops.apply("log", x), float(exponent)))
    result = x
    for _ in range(int(abs(exponent)) - 1):
        result = ops.mul(result, x)
    return result if exponent > 0 else ops.apply("reciprocal", result)


def _comparison_rules() -> None:
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):

        def rule(ops: Operations, out: TensorType, x: Value, y: Any, operator: str = name) -> Value:
            kinds = {item.type.dtype for item in (x, y) if isinstance(item, Value)}
            wide = F32 if F32 in kinds or isinstance(y, float) else BOOL if kinds == {BOOL} else I64
            return ops.binary(operator, x, y, wide)

        RULES[f"aten.{name}.Tensor"] = RULES[f"aten.{name}.Scalar"] = rule


_comparison_rules()


def _logic_rules() -> None:
    for name in ("and", "or", "xor"):

        def rule(ops: Operations, out: TensorType, x: Value, y: Any, operator: str = f"logical_{name}") -> Value:
            if out.dtype != BOOL:
                raise unsupported("bitwise logic on integers; only on bool")
            return ops.binary(operator, x, y, BOOL)

        for aten in (f"aten.bitwise_{name}.Tensor", f"aten.logical_{name}.default"):
            RULES[aten] = rule


_logic_rules()


@lowers("aten.logical_not.default", "aten.bitwise_not.default")
def _not(ops: Operations, out: TensorType, x: Value) -> Value:
    if out.dtype != BOOL:
        raise unsupported("bitwise not on integers; only on bool")
    return ops.apply("logical_not", ops.as_dtype(x, BOOL))


@lowers("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def _where(ops: Operations, out: TensorType, condition: Value, x: Any, y: Any) -> Value:
    return ops.where(condition, x, y, out.dtype)


@lowers("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def _masked_fill(ops: Operations, out: TensorType, x: Value, mask: Value, value: Any) -> Value:
    return ops.where(mask, value, x, out.dtype)


@lowers("aten._to_copy.default", "prims.convert_element_type.default")
def _cast(ops: Operations, out: TensorType, x: Value, *_: Any, **__: Any) -> Value:
    return ops.as_dtype(x, out.dtype)


@lowers("aten.clone.default", "aten.alias.default", "aten.detach.default", "aten.lift_fresh_copy.default")
def _same(ops: Operations, out: TensorType, x: Value, **_: Any) -> Value:
    return x


@lowers("aten.full.default", "aten.full_like.default", "aten.new_full.default")
def _full(ops: Operations, out: TensorType, _: Any, value: Number, *__: Any, **___: Any) -> Value:
    return ops.constant(out.dtype, value, out.shape)


@lowers("aten.scalar_tensor.default")
def _scalar(ops: Operations, out: TensorType, value: Number, **_: Any) -> Value:
    return ops.constant(out.dtype, value)


@lowers("aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default")
def _zeros(ops: Operations, out: TensorType, *_: Any, **__: Any) -> Value:
    return ops.constant(out.dtype, 0, out.shape)


_EMPTY = ("aten.new_empty.default", "aten.new_empty_strided.default", "aten.empty_strided.default")


@lowers("aten.empty.memory_format", "aten.empty_like.default", "aten.empty_permuted.default", *_EMPTY)
def _empty(ops: Operations, out: TensorType, *_: Any, **__: Any) -> Value:
    # Whatever an uninitialised tensor holds may be zero; decompositions fill it at once.
    return ops.constant(out.dtype, 0, out.shape)


@lowers("aten.fill.Scalar")
def _fill(ops: Operations, out: TensorType, x: Value, value: Number) -> Value:
    return ops.constant(out.dtype, value, out.shape)


@lowers("aten.isnan.default")
def _isnan(ops: Operations, out: TensorType, x: Value) -> Value:
    return ops.apply("ne", x, x)


@lowers("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default")
def _ones(ops: Operations, out: TensorType, *_: Any, **__: Any) -> Value:
    return ops.constant(out.dtype, 1, out.shape)


@lowers("aten.arange.default", "aten.arange.start", "aten.arange.start_step", "prims.iota.default")
def _arange(ops: Operations, out: TensorType, *bounds: Any, step: int = 1, start: int = 0, **_: Any) -> Value:
    if len(bounds) > 1:
        start, step = bounds[0], bounds[2] if len(bounds) > 2 else step
    index = ops.apply("iota", attributes=(0, *out.shape))
    return ops.as_dtype(ops.add(ops.mul(index, step) if step != 1 else index, start) if start else index, out.dtype)


@lowers("aten.mm.default", "aten.bmm.default")
def _matmul(ops: Operations, out: TensorType, x: Value, y: Value) -> Value:
    return ops.apply("matmul", x, y)


@lowers("aten.addmm.default", "aten.baddbmm.default")
def _addmm(
    ops: Operations, out: TensorType, bias: Value, x: Value, y: Value, beta: Number = 1, alpha: Number = 1
) -> Value:
    product = ops.mul(ops.apply("matmul", x, y), alpha)
    return ops.add(product, ops.mul(bias, beta))


@lowers("aten.sum.dim_IntList", "aten.sum.default", "prims.sum.default")
def _sum(ops: Operations, out: TensorType, x: Value, dims: Any = None, keep: bool = False, **_: Any) -> Value:
    return ops.as_dtype(ops.sum(x, axes_of(dims, len(x.shape)), keep), out.dtype)


@lowers("aten.mean.dim", "aten.mean.default")
def _mean(ops: Operations, out: TensorType, x: Value, dims: Any = None, keep: bool = False, **_: Any) -> Value:
    return ops.mean(x, axes_of(dims, len(x.shape)), keep)


@lowers("aten.var.correction", "prims.var.default")
def _variance(
    ops: Operations, out: TensorType, x: Value, dims: Any = None, correction: Number | None = 1, keepdim: bool = False
) -> Value:
    axes = axes_of(dims, len(x.shape))
    apart = ops.sub(x, ops.mean(x, axes, keep=True))
    total = ops.sum(ops.mul(apart, apart), axes, keepdim)
    count = x.type.elements // total.type.elements
    return ops.div(total, float(count - (1 if correction is None else correction)))


@lowers("aten.amax.default")
def _amax(ops: Operations, out: TensorType, x: Value, dims: Any = None, keep: bool = False) -> Value:
    return ops.last_reduction("max_last", x, axes_of(dims, len(x.shape)), keep)


@lowers("aten.amin.default")
def _amin(ops: Operations, out: TensorType, x: Value, dims: Any = None, keep: bool = False) -> Value:
    largest = ops.last_reduction("max_last", ops.apply("neg", x), axes_of(dims, len(x.shape)), keep)
    return ops.apply("neg", largest)


@lowers("aten.argmax.default")
def _argmax(ops: Operations, out: TensorType, x: Value, dim: int | None = None, keep: bool = False) -> Value:
    return ops.last_reduction("argmax_last", x, axes_of(dim, len(x.shape)), keep)


@lowers("aten.max.dim")
def _max_with_index(ops: Operations, out: Any, x: Value, dim: int, keep: bool = False) -> tuple[Value, Value]:
    axes = axes_of(dim, len(x.shape))
    return ops.last_reduction("max_last", x, axes, keep), ops.last_reduction("argmax_last", x, axes, keep)


@lowers("aten._softmax.default")
def _softmax(ops: Operations, out: TensorType, x: Value, dim: int, half: bool) -> Value:
    axes = axes_of(dim, len(x.shape))
    powers = ops.apply("exp", ops.sub(x, ops.last_reduction("max_last", x, axes, keep=True)))
    return ops.div(powers, ops.sum(powers, axes, keep=True))


@lowers("aten._log_softmax.default")
def _log_softmax(ops: Operations, out: TensorType, x: Value, dim: int, half: bool) -> Value:
    axes = axes_of(dim, len(x.shape))
    moved = ops.sub(x, ops.last_reduction("max_last", x, axes, keep=True))
    return ops.sub(moved, ops.apply("log", ops.sum(ops.apply("exp", moved), axes, keep=True)))


@lowers("aten._softmax_backward_data.default")
def _softmax_backward(ops: Operations, out: TensorType, gradient: Value, y: Value, dim: int, dtype: Any) -> Value:
    scaled = ops.mul(gradient, y)
    return ops.sub(scaled, ops.mul(y, ops.sum(scaled, axes_of(dim, len(y.shape)), keep=True)))


@lowers("aten._log_softmax_backward_data.default")
def _log_softmax_backward(ops: Operations, out: TensorType, gradient: Value, y: Value, dim: int, dtype: Any) -> Value:
    total = ops.sum(gradient, axes_of(dim, len(y.shape)), keep=True)
    return ops.sub(gradient, ops.mul(ops.apply("exp", y), total))


@lowers("aten.native_layer_norm.default")
def _layer_norm(
    ops: Operations, out: Any, x: Value, shape: Sequence[int], weight: Value | None, bias: Value | None, epsilon: float
) -> tuple[Value, Value, Value]:
    axes = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    mean = ops.mean(x, axes, keep=True)
    apart = ops.sub(x, mean)
    variance = ops.mean(ops.mul(apart, apart), axes, keep=True)
    scale = ops.apply("reciprocal", ops.apply("sqrt", ops.add(variance, epsilon)))
    y = ops.mul(apart, scale)
    if weight is not None:
        y = ops.mul(y, weight)
    return (y if bias is None else ops.add(y, bias)), mean, scale


@lowers("aten.native_layer_norm_backward.default")
def _layer_norm_backward(
    ops: Operations,
    out: Any,
    gradient: Value,
    x: Value,
    shape: Sequence[int],
    mean: Value,
    scale: Value,
    weight: Value | None,
    bias: Value | None,
    mask: Sequence[bool],
) -> tuple[Value | None, Value | None, Value | None]:
    rank, inner = len(x.shape), len(shape)
    axes, outer = tuple(range(rank - inner, rank)), tuple(range(rank - inner))
    normal = ops.mul(ops.sub(x, mean), scale)
    weighted = gradient if weight is None else ops.mul(gradient, weight)
    to_x = ops.sub(weighted, ops.mean(weighted, axes, keep=True))
    to_x = ops.sub(to_x, ops.mul(normal, ops.mean(ops.mul(weighted, normal), axes, keep=True)))
    to_weight = ops.sum(ops.mul(gradient, normal), outer) if mask[1] else None
    to_bias = ops.sum(gradient, outer) if mask[2] else None
    return (ops.mul(to_x, scale) if mask[0] else None), to_weight, to_bias


@lowers("aten.embedding.default")
def _embedding(ops: Operations, out: TensorType, table: Value, ids: Value, *_: Any) -> Value:
    return ops.apply("embedding", table, ops.as_dtype(ids, I64))


@lowers("aten.embedding_dense_backward.default")
def _embedding_backward(
    ops: Operations, out: TensorType, gradient: Value, ids: Value, rows: int, padding: int, scale: bool
) -> Value:
    if scale:
        raise unsupported("embedding with scale_grad_by_freq; leave it unset")
    ids = ops.as_dtype(ids, I64)
    if padding >= 0:
        # An id outside the table contributes to no row.
        ids = ops.where(ops.binary("eq", ids, padding), -1, ids, I64)
    return ops.apply("embedding_grad", gradient, ids, attributes=(rows,))


@lowers("aten.scatter.value", "aten.scatter.src")
def _scatter(ops: Operations, out: TensorType, x: Value, dim: int, ids: Value, source: Any) -> Value:
    _last_column(x.shape, dim, ids)
    if ops.builder.constant_value(x.number) != 0:
        raise unsupported("scatter into a tensor that is not all zeros; add the scattered zeros to it instead")
    values = ops.as_dtype(source, out.dtype)
    return ops.apply("scatter_last", ops.broadcast_to(values, ids.shape), ids, attributes=(x.shape[-1],))


def _last_column(shape: tuple[int, ...], dim: int, ids: Value) -> None:
    if dim % len(shape) != len(shape) - 1 or ids.shape != (*shape[:-1], 1):
        raise unsupported("gather and scatter work on the last axis with one index per row; reshape the operands")
