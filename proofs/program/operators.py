"""Opset 1: every operator with its inputs, attributes, types, gas and meaning. The exact arithmetic is `rep-v1`.

General rules, for every row:
- attributes are integers; a dtype is its code in `shapes.DTYPES` (f32 0, i64 1, bool 2, u8 3); constants are bits;
- elementwise operators broadcast like numpy;
- f32 arithmetic is IEEE-754 single, round to nearest even, denormals kept, no fused multiply-add; an arithmetic result
  that is NaN is the quiet NaN 0x7fc00000, and constants, batches and initial states have no other; data movement
  copies bits; i64 arithmetic wraps (two's complement);
- ids outside their range select nothing: a zero element or row, and no contribution to a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

from gensyn_node.primitives.errors import Rejection
from proofs.program import reasons, shapes
from proofs.program.shapes import Attributes, Rule, Types
from proofs.program.types import BOOL, F32, I64, TensorType

INPUTS_MAX = 64
"""Inputs of one concatenate."""

NUMBERS = (F32, I64)


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the opset."""

    name: str
    inputs: tuple[int, int]
    """Fewest and most inputs."""
    attributes: str
    """Meaning of the attributes in order; empty when there are none."""
    rule: Rule
    """(input types, attributes) -> output type; raises Rejection."""
    family: str
    """Which tile rule computes it: elementwise, movement, generator, matmul, sum, maximum, lookup, scatter."""
    weight: int
    """Gas per unit of work; one multiply-add of a matmul is 1."""
    work: str
    """Unit of work: `output` element, `input` element (of the largest input), or `multiply_add`."""
    meaning: str


def _unary(name: str, dtypes: tuple[str, ...], weight: int, meaning: str) -> Operator:
    return Operator(name, (1, 1), "", shapes.elementwise(dtypes), "elementwise", weight, "output", meaning)


def _binary(name: str, dtypes: tuple[str, ...], meaning: str, output: str | None = None) -> Operator:
    weight = 8 if name in ("div", "remainder", "floor_divide") else 4
    return Operator(name, (2, 2), "", shapes.elementwise(dtypes, output), "elementwise", weight, "output", meaning)


def _movement(name: str, attributes: str, rule: Rule, meaning: str, inputs: tuple[int, int] = (1, 1)) -> Operator:
    return Operator(name, inputs, attributes, rule, "movement", 4, "output", meaning)


_ROWS = (
    _unary("neg", NUMBERS, 4, "-x"),
    _unary("abs", NUMBERS, 4, "|x|"),
    _unary("sign", NUMBERS, 4, "-1, 0 or 1; f32: ±0 gives +0, NaN gives NaN"),
    _unary("floor", (F32,), 4, "greatest integer not above x (-0 stays -0)"),
    _unary("sqrt", (F32,), 8, "correctly rounded square root: the fp64 root rounded to fp32"),
    _unary(
        "round_bf16",
        (F32,),
        4,
        "to the nearest number with 8 bits of significand (bfloat16), ties to even; beyond the greatest: infinity",
    ),
    _unary("reciprocal", (F32,), 8, "1 / x, one rounding"),
    _unary("exp", (F32,), 24, "arithmetic.elementary.exp"),
    _unary("log", (F32,), 24, "natural logarithm, arithmetic.elementary.log"),
    _unary("tanh", (F32,), 32, "arithmetic.elementary.tanh"),
    _unary("erf", (F32,), 40, "arithmetic.elementary.erf"),
    _unary("sin", (F32,), 40, "arithmetic.elementary.sin"),
    _unary("cos", (F32,), 40, "arithmetic.elementary.cos"),
    _unary("logical_not", (BOOL,), 4, "not x"),
    _binary("add", NUMBERS, "x + y"),
    _binary("sub", NUMBERS, "x - y"),
    _binary("mul", NUMBERS, "x * y"),
    _binary("div", (F32,), "x / y"),
    _binary("maximum", NUMBERS, "NaN if one is NaN, else x if x > y else y"),
    _binary("minimum", NUMBERS, "NaN if one is NaN, else x if x < y else y"),
    _binary("remainder", (I64,), "x - y * floor(x / y); 0 when y is 0"),
    _binary("floor_divide", (I64,), "floor(x / y); 0 when y is 0"),
    _binary("eq", (F32, I64, BOOL), "x == y (NaN equals nothing, -0 equals +0)", BOOL),
    _binary("ne", (F32, I64, BOOL), "not (x == y)", BOOL),
    _binary("lt", NUMBERS, "x < y", BOOL),
    _binary("le", NUMBERS, "x <= y", BOOL),
    _binary("gt", NUMBERS, "x > y", BOOL),
    _binary("ge", NUMBERS, "x >= y", BOOL),
    _binary("logical_and", (BOOL,), "x and y"),
    _binary("logical_or", (BOOL,), "x or y"),
    _binary("logical_xor", (BOOL,), "x != y"),
    Operator(
        "where", (3, 3), "", shapes.where, "elementwise", 4, "output", "x (bits copied) if the bool holds, else y"
    ),
    Operator(
        "cast",
        (1, 1),
        "dtype",
        shapes.cast,
        "elementwise",
        4,
        "output",
        "to bool: x != 0 (NaN is true); to f32: nearest even; f32 to integer: towards zero, saturating, NaN is 0; "
        "i64 to u8: saturating; same dtype: a copy",
    ),
    Operator(
        "full", (0, 0), "dtype, bits, *shape", shapes.full, "generator", 2, "output", "every element has these bits"
    ),
    Operator("iota", (0, 0), "axis, *shape", shapes.iota, "generator", 2, "output", "i64 index along the axis"),
    Operator(
        "uniform",
        (2, 2),
        "stream, *shape",
        shapes.uniform,
        "generator",
        16,
        "output",
        "f32 in [0, 1), multiples of 2**-24, Philox4x32-10: key input i64 (2,), counter input i64 scalar (the step "
        "index): arithmetic.generators.uniform",
    ),
    _movement("reshape", "*shape", shapes.reshape, "same elements in row-major order"),
    _movement("permute", "*axes", shapes.permute, "output axis i is input axis axes[i]"),
    _movement("broadcast_to", "*shape", shapes.broadcast_to, "repeat along new axes and axes of size 1"),
    _movement("slice", "start, stop, step per axis", shapes.slice_, "x[start:stop:step] on every axis"),
    _movement("concatenate", "axis", shapes.concatenate, "inputs one after another along the axis", (1, INPUTS_MAX)),
    _movement(
        "pad", "low, high, interior per axis", shapes.pad, "zeros before, after and between neighbours along every axis"
    ),
    _movement(
        "windows",
        "bits, then size, count, start, step, dilation, interior for each of the last axes",
        shapes.windows,
        "element (…, k, o) is x[…, i] with i * interior = start + step * o + dilation * k on every such axis, and the "
        "bits where there is no such i",
    ),
    Operator(
        "matmul",
        (2, 2),
        "",
        shapes.matmul,
        "matmul",
        1,
        "multiply_add",
        "every element starts at +0 and for k ascending becomes fl(acc + fl(a * b)); a left operand with fewer leading "
        "dimensions repeats",
    ),
    Operator(
        "sum_last",
        (1, 1),
        "",
        shapes.reduce_last(),
        "sum",
        4,
        "input",
        "32 lanes from +0: lane[i % 32] += x[i] for i ascending; then lanes[:h] += lanes[h:2h] for h = 16, 8, 4, 2, 1",
    ),
    Operator("sum_first", (1, 1), "", shapes.sum_first, "sum", 4, "input", "the same over all rows of the 2-D view"),
    Operator(
        "max_last",
        (1, 1),
        "",
        shapes.reduce_last(),
        "maximum",
        4,
        "input",
        "the element at argmax_last (NaN: canonical)",
    ),
    Operator(
        "argmax_last",
        (1, 1),
        "",
        shapes.reduce_last(I64),
        "maximum",
        4,
        "input",
        "first NaN, else first greatest element",
    ),
    Operator("embedding", (2, 2), "", shapes.embedding, "lookup", 4, "output", "row ids[n] of the table for each n"),
    Operator(
        "embedding_grad",
        (2, 2),
        "rows",
        shapes.embedding_grad,
        "scatter",
        8,
        "input",
        "every element starts at +0; for n ascending row ids[n] += gradient[n]",
    ),
    Operator("take_last", (2, 2), "", shapes.take_last, "lookup", 4, "output", "x[…, ids[…]]"),
    Operator(
        "scatter_last",
        (2, 2),
        "columns",
        shapes.scatter_last,
        "generator",
        4,
        "output",
        "zeros, except the value at column ids[…] of its row",
    ),
)

OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}
"""Opset 1 by name."""


def operator_of(name: str) -> Operator:
    """The row of an operator; Rejection with UNKNOWN_OPERATOR."""
    row = OPERATORS.get(name)
    if row is None:
        raise Rejection(reasons.UNKNOWN_OPERATOR, f"{name[:40]!a} is not an operator of opset 1")
    return row


def infer(name: str, inputs: Types, attributes: Attributes) -> TensorType:
    """The output type of an operator on these input types; Rejection (E1501 to E1507) when it is not defined there."""
    row = operator_of(name)
    fewest, most = row.inputs
    if not fewest <= len(inputs) <= most:
        raise Rejection(reasons.BAD_ARITY, f"{name} with {len(inputs)} inputs")
    return shapes.checked(row.rule(inputs, attributes))


def gas_of(name: str, inputs: Types, output: TensorType) -> int:
    """Gas of one application: weight × units of work, plus the output elements that a scatter has to clear."""
    row = OPERATORS[name]
    if row.work == "multiply_add":
        return row.weight * output.elements * inputs[0].shape[-1]
    if row.work == "input":
        return row.weight * (max(type_.elements for type_ in inputs) + output.elements)
    return row.weight * output.elements
