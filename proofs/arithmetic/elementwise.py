"""Elementwise operators on arrays of equal shape (the caller broadcasts or gathers). One IEEE-754 operation each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gensyn_node.primitives.errors import InvariantViolation
from proofs.arithmetic import elementary
from proofs.arithmetic.elementary import NAN, F32Array, I64Array, canonical
from proofs.program.shapes import DTYPES
from proofs.program.types import BOOL, F32, I64

Array = npt.NDArray[Any]

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def sign(x: Array) -> Array:
    """-1, 0 or 1 in x's dtype; NaN stays NaN."""
    one = x.dtype.type(1)
    y = np.where(x > 0, one, np.where(x < 0, -one, x.dtype.type(0)))
    return np.where(np.isnan(x), NAN, y) if x.dtype == np.float32 else y


def maximum(x: Array, y: Array) -> Array:
    """x if x > y else y; NaN if one is NaN. So maximum(+0, -0) is -0."""
    return _with_nan(x, y, np.where(x > y, x, y))


def minimum(x: Array, y: Array) -> Array:
    """x if x < y else y; NaN if one is NaN."""
    return _with_nan(x, y, np.where(x < y, x, y))


def round_bf16(x: F32Array) -> F32Array:
    """The nearest bfloat16 as an f32: the upper 16 bits after half of the last of them was added, ties to even."""
    bits = x.view(np.uint32)
    last = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + (np.uint32(0x7FFF) + last)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), NAN, rounded.view(np.float32))


def _with_nan(x: Array, y: Array, result: Array) -> Array:
    return np.where(np.isnan(x) | np.isnan(y), NAN, result) if x.dtype == np.float32 else result


def floor_divide(x: I64Array, y: I64Array) -> I64Array:
    """floor(x / y), 0 when y is 0; the lowest number divided by -1 wraps to itself."""
    plain = np.floor_divide(x, np.where((y == 0) | (y == -1), np.int64(1), y))
    return np.where(y == 0, np.int64(0), np.where(y == -1, -x, plain))


def remainder(x: I64Array, y: I64Array) -> I64Array:
    """x - y * floor(x / y), with y's sign; 0 when y is 0."""
    trivial = (y == 0) | (y == -1)
    plain = np.remainder(x, np.where(trivial, np.int64(1), y))
    return np.where(trivial, np.int64(0), plain)


def cast(x: Array, dtype: str) -> Array:
    """To bool: x != 0. To f32: nearest even. f32 to integer: towards zero, saturating, NaN 0. i64 to u8: saturating."""
    if x.dtype == NUMPY[dtype]:
        return x.copy()
    if dtype == BOOL:
        return np.asarray(x != 0)
    if dtype == F32:
        return x.astype(np.float32)
    if x.dtype == np.float32:
        return _integer_of(x, dtype)
    if dtype == I64:
        return x.astype(np.int64)
    return np.clip(x.astype(np.int64), 0, 255).astype(np.uint8)


def _integer_of(x: F32Array, dtype: str) -> Array:
    lowest, highest = (INT64_MIN, INT64_MAX) if dtype == I64 else (0, 255)
    above, below = x >= np.float32(highest), x <= np.float32(lowest)
    inside = np.where(above | below | np.isnan(x), np.float32(0), x).astype(np.int64)
    return np.where(above, np.int64(highest), np.where(below, np.int64(lowest), inside)).astype(NUMPY[dtype])


NUMPY: dict[str, Any] = {"f32": np.float32, "i64": np.int64, "bool": np.bool_, "u8": np.uint8}
"""The numpy scalar type of each dtype."""

FUNCTIONS: dict[str, Callable[..., Array]] = {
    "neg": np.negative,
    "abs": np.abs,
    "sign": sign,
    "floor": np.floor,
    "sqrt": elementary.sqrt,
    "round_bf16": round_bf16,
    "reciprocal": lambda x: np.divide(np.float32(1), x),
    "exp": elementary.exp,
    "log": elementary.log,
    "tanh": elementary.tanh,
    "erf": elementary.erf,
    "sin": elementary.sin,
    "cos": elementary.cos,
    "logical_not": np.logical_not,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": maximum,
    "minimum": minimum,
    "remainder": remainder,
    "floor_divide": floor_divide,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
"""Operator -> function of arrays; `where` and `cast` are special."""
OPERATORS = (*FUNCTIONS, "where", "cast")
"""Every elementwise operator."""


def apply(operator: str, inputs: Sequence[Array], attributes: tuple[int, ...]) -> Array:
    """The operator on arrays of equal shape and rank ≥ 1. f32 results of arithmetic have canonical NaNs only."""
    with np.errstate(all="ignore"):
        if operator == "where":
            return np.where(inputs[0], inputs[1], inputs[2])
        if operator == "cast":
            return cast(inputs[0], DTYPES[attributes[0]])
        function = FUNCTIONS.get(operator)
        if function is None:
            raise InvariantViolation(f"no elementwise function {operator}")
        result = function(*inputs)
        return canonical(result) if result.dtype == np.float32 else result
