"""Forward-error bounds: how far a vendor's f32 operator may be from the operator of `rep-v1` on the same inputs.

Both compute the same exact function and each keeps a bound of its own, so they differ by at most the sum. With
u = 2^-24 and g(n) = n u / (1 - n u):

- exact: movement, generators, look-ups, comparisons, maxima, everything that gives no f32, and neg, abs, sign, floor,
  maximum, minimum, where, cast. No rounding, no freedom; zeros have no sign here and NaNs no payload.
- rounded: one function of its operands. `rep-v1` is within 1/2 unit in the last place (arithmetic) or 2 (elementary
  functions); a vendor may be within 3 1/2 or 6: twice what CUDA, SLEEF and MKL document for their f32 functions.
- chain: n products or terms added in any order, with or without fused multiply-add, in any blocks: each of the two is
  within g(n) of Σ|terms| (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., §3.1 and §4.2). The sum of
  magnitudes is `rep-v1`'s own and itself within g(n) of the exact one.

Results below the normal range may be flushed: 2^-126 is allowed for each term. Where magnitudes come near the largest
f32, an order may overflow and another not: there a chain's output is not held to anything, and a rounded result only to
its sign and to being large. A vendor that multiplies fast (Strassen, Winograd) or with fewer bits does not keep these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.program.types import F32, Node, TensorType

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

EXACT, ROUNDED, CHAIN = "exact", "rounded", "chain"
"""Kinds of bounds."""
UNIT = 2.0**-24
"""Unit roundoff of f32."""
LEAST = 2.0**-126
"""Smallest normal f32."""
LARGE = 2.0**126
"""From here on an intermediate result may overflow."""
TERMS_MAX = 1 << 22
"""Longer chains have no useful bound: g(n) comes near 1."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How far one operator of given types may be off."""

    kind: str
    """EXACT, ROUNDED or CHAIN."""
    size: int = 0
    """ROUNDED: units in the last place. CHAIN: terms of the longest chain."""

    @property
    def needs_magnitudes(self) -> bool:
        """Whether the sums of magnitudes are part of it."""
        return self.kind == CHAIN


Types = tuple[TensorType, ...]
BoundRule = Callable[[Types], Bound]
"""Input types -> the bound of an f32 output."""


def _exact(inputs: Types) -> Bound:
    return Bound(EXACT)


def _rounded(ulps: int) -> BoundRule:
    return lambda inputs: Bound(ROUNDED, ulps)


ARITHMETIC_ULPS, ELEMENTARY_ULPS = 4, 8
"""1/2 of `rep-v1` and 3 1/2 of the vendor; 2 of `rep-v1` and 6 of the vendor."""
_ARITHMETIC = ("add", "sub", "mul", "div", "sqrt", "reciprocal")
_ELEMENTARY = ("exp", "log", "tanh", "erf", "sin", "cos")
_CHOOSING = ("maximum", "minimum", "where")
_NO_FREEDOM = ("neg", "abs", "sign", "floor", "round_bf16", "remainder", "floor_divide", "cast", *_CHOOSING)
_TRUTHS = ("eq", "ne", "lt", "le", "gt", "ge", "logical_not", "logical_and", "logical_or", "logical_xor")
_MOVED = ("reshape", "permute", "broadcast_to", "slice", "concatenate", "pad", "windows")
_CHOSEN = ("full", "iota", "uniform", "embedding", "take_last", "scatter_last", "max_last", "argmax_last")

BOUNDS: dict[str, BoundRule] = {
    **dict.fromkeys((*_NO_FREEDOM, *_TRUTHS, *_MOVED, *_CHOSEN), _exact),
    **dict.fromkeys(_ARITHMETIC, _rounded(ARITHMETIC_ULPS)),
    **dict.fromkeys(_ELEMENTARY, _rounded(ELEMENTARY_ULPS)),
    "matmul": lambda inputs: Bound(CHAIN, inputs[0].shape[-1]),
    "sum_last": lambda inputs: Bound(CHAIN, inputs[0].matrix[1]),
    "sum_first": lambda inputs: Bound(CHAIN, inputs[0].matrix[0]),
    "embedding_grad": lambda inputs: Bound(CHAIN, inputs[1].elements),
}
"""Operator -> its bound on f32; every other output is exact."""


def bound_of(node: Node | None, inputs: Types, output: TensorType) -> Bound:
    """The bound of a node, or (None) of a batch value, which is gathered from the dataset."""
    if node is None or output.dtype != F32:
        return Bound(EXACT)
    return BOUNDS[node.operator](inputs)


def limits(bound: Bound, reference: Array, magnitudes: Array | None) -> Array:
    """The largest distance allowed for each element, fp64; infinite where nothing is held."""
    exact = np.abs(reference.astype(np.float64)) if reference.dtype == np.float32 else np.zeros(reference.shape)
    if bound.kind == ROUNDED:
        return bound.size * 2 * UNIT * exact + LEAST
    if bound.kind == EXACT or magnitudes is None:
        return np.zeros(reference.shape)
    if bound.size >= TERMS_MAX:
        return np.full(reference.shape, np.inf)
    growth = bound.size * UNIT / (1.0 - bound.size * UNIT)
    sums = magnitudes.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(sums < LARGE, 2.0 * growth / (1.0 - growth) * sums + bound.size * LEAST, np.inf)


def within(bound: Bound, reference: Array, magnitudes: Array | None, claimed: Array) -> BoolArray:
    """Which elements of `claimed` keep the bound around `reference` (same shape and dtype)."""
    with np.errstate(invalid="ignore", over="ignore"):
        same = (claimed == reference) | ((claimed != claimed) & (reference != reference))
        if bound.kind == EXACT:
            return np.asarray(same)
        most = limits(bound, reference, magnitudes)
        distance = np.abs(claimed.astype(np.float64) - reference.astype(np.float64))
        near = (distance <= most) | (most == np.inf)
        if bound.kind == ROUNDED:
            # Infinite limits are those of infinite references: there only sign and size count.
            near = np.where(np.abs(reference) >= 2.0 * LARGE, claimed * np.sign(reference) >= LARGE, near)
        return np.asarray(same | near)
