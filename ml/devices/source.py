"""Kernels as source that CUDA, Metal and C share: macros for every rounding operation, never a bare `+`, `*` or `/`.

A kernel is the body of one work item `i`, out of `n[0]`. `n` holds its numbers (sizes, strides), the other parameters
are arrays. Bodies name no address space and no library function; `dialects` gives the macros their meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ml.kernels.elementwise import Group, Operation
from proofs.arithmetic import constants
from proofs.program.shapes import DTYPES
from proofs.program.types import BOOL, F32, I64, U8

IN_MEMORY = {F32: "float", I64: "LONG", BOOL: "BYTE", U8: "BYTE"}
IN_REGISTER = {F32: "float", I64: "LONG", BOOL: "int", U8: "BYTE"}
FLOAT_UNARY = {name: f"rep_{name}" for name in ("exp", "log", "tanh", "erf")} | {"sqrt": "SQRT", "floor": "FLOOR"}
FLOAT_BINARY = {"add": "ADD", "sub": "SUB", "mul": "MUL", "div": "DIV"}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
LOGIC = {"logical_and": "&", "logical_or": "|", "logical_xor": "^"}
EMITTED = frozenset(
    (*FLOAT_UNARY, *FLOAT_BINARY, *COMPARISONS, *LOGIC, "neg", "abs", "sign", "reciprocal", "maximum", "minimum")
) | {"logical_not", "where", "cast", "round_bf16"}
"""Operators that `group_source` knows."""


@dataclass(frozen=True)
class KernelSource:
    """One kernel."""

    name: str
    parameters: tuple[tuple[str, str], ...]
    """(C type, name) of each array after `n`; an array without `const` is written."""
    body: str
    """Statements over `i`, `n` and the arrays."""


@dataclass(frozen=True)
class Walk:
    """How one input of a group is read: `flat` (element i), `one` (the same for all), or by strides."""

    kind: str
    strides: tuple[int, ...] = ()
    """In elements, one an axis that is left after joining axes."""


def constant(dtype: str, bits: int) -> str:
    """The element with these bits."""
    if dtype == F32:
        return f"CONSTANT(0x{bits:08x})"
    return f"((LONG)0x{bits:x}UL)" if dtype == I64 else str(bits)


def horner(x: str, coefficients: Sequence[int]) -> str:
    """((c0 * x + c1) * x + …) + cn as one expression."""
    y = constant(F32, coefficients[0])
    for bits in coefficients[1:]:
        y = f"ADD(MUL({y}, {x}), {constant(F32, bits)})"
    return y


def walks_of(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], tuple[Walk, ...]]:
    """Axes that all inputs walk alike are joined: the sizes left, and how each input is walked over them."""
    kept = [axis for axis, size in enumerate(shape) if size > 1]
    sizes = [shape[axis] for axis in kept] or [1]
    steps = [[item[axis] for axis in kept] or [0] for item in strides]
    for axis in range(len(sizes) - 2, -1, -1):
        if all(step[axis] == step[axis + 1] * sizes[axis + 1] for step in steps):
            sizes[axis : axis + 2] = [sizes[axis] * sizes[axis + 1]]
            for step in steps:
                del step[axis]
    whole = [1] * len(sizes)
    for axis in range(len(sizes) - 2, -1, -1):
        whole[axis] = whole[axis + 1] * sizes[axis + 1]
    walks = []
    for step in steps:
        if not any(step):
            walks.append(Walk("one"))
        elif step == whole:
            walks.append(Walk("flat"))
        else:
            walks.append(Walk("strided", tuple(step)))
    return tuple(sizes), tuple(walks)


def group_numbers(sizes: Sequence[int], walks: Sequence[Walk]) -> tuple[int, ...]:
    """The numbers of a group's kernel, after the count: inner axes' sizes, then strides of each strided input."""
    strides = [step for walk in walks if walk.kind == "strided" for step in walk.strides]
    return (*sizes[1:], *strides)


def group_source(group: Group, kinds: tuple[str, ...], rank: int) -> KernelSource:
    """The kernel of a group for inputs walked in these ways over `rank` axes."""
    dtypes = group.slot_dtypes()
    parameters = [(f"const {IN_MEMORY[dtype]}", f"x{place}") for place, dtype in enumerate(group.inputs)]
    parameters += [(IN_MEMORY[dtypes[slot]], f"y{place}") for place, slot in enumerate(group.outputs)]
    lines = []
    if "strided" in kinds:
        lines.append("LONG rest = i;")
        for axis in range(rank - 1, 0, -1):
            lines += [f"LONG k{axis} = rest % n[{axis}];", f"rest /= n[{axis}];"]
        lines.append("LONG k0 = rest;")
    stride = rank
    for place, (dtype, kind) in enumerate(zip(group.inputs, kinds, strict=True)):
        index = {"flat": "i", "one": "0"}.get(kind)
        if index is None:
            index = " + ".join(f"k{axis} * n[{stride + axis}]" for axis in range(rank))
            stride += rank
        lines.append(f"{IN_REGISTER[dtype]} v{place} = x{place}[{index}];")
    for slot, (dtype, bits) in enumerate(group.constants, start=len(group.inputs)):
        lines.append(f"{IN_REGISTER[dtype]} v{slot} = {constant(dtype, bits)};")
    first = len(group.inputs) + len(group.constants)
    for slot, item in enumerate(group.operations, start=first):
        lines.append(f"{IN_REGISTER[item.dtype]} v{slot} = {_expression(item, dtypes)};")
    lines += [f"y{place}[i] = v{slot};" for place, slot in enumerate(group.outputs)]
    return KernelSource("group", tuple(parameters), "\n".join(lines))


def _expression(item: Operation, dtypes: tuple[str, ...]) -> str:
    taken = [f"v{slot}" for slot in item.inputs]
    kinds = [dtypes[slot] for slot in item.inputs]
    if item.operator == "where":
        return f"{taken[0]} ? {taken[1]} : {taken[2]}"
    if item.operator == "cast":
        return _cast(taken[0], kinds[0], DTYPES[item.attributes[0]])
    if item.operator in COMPARISONS:
        return f"{taken[0]} {COMPARISONS[item.operator]} {taken[1]}"
    if item.operator in LOGIC:
        return f"{taken[0]} {LOGIC[item.operator]} {taken[1]}"
    if item.operator == "logical_not":
        return f"{taken[0]} ^ 1"
    return _float(item.operator, taken) if kinds[0] == F32 else _integer(item.operator, taken)


def _float(operator: str, taken: list[str]) -> str:
    x, y = taken[0], taken[-1]
    if operator in FLOAT_BINARY:
        return f"{FLOAT_BINARY[operator]}({x}, {y})"
    if operator in FLOAT_UNARY:
        return f"{FLOAT_UNARY[operator]}({x})"
    nan, word = constant(F32, constants.NAN), f"(unsigned int)BITS({x})"
    return {
        "neg": f"FLOAT(BITS({x}) ^ (int)0x80000000u)",
        "abs": f"FLOAT(BITS({x}) & 0x7fffffff)",
        "round_bf16": f"{x} != {x} ? {x} : FLOAT((int)(({word} + 0x7fffu + ({word} >> 16 & 1u)) & 0xffff0000u))",
        "reciprocal": f"DIV(1.0f, {x})",
        "sign": f"{x} != {x} ? {x} : {x} > 0.0f ? 1.0f : {x} < 0.0f ? -1.0f : 0.0f",
        "maximum": f"{x} != {x} || {y} != {y} ? {nan} : {x} > {y} ? {x} : {y}",
        "minimum": f"{x} != {x} || {y} != {y} ? {nan} : {x} < {y} ? {x} : {y}",
    }[operator]


def _integer(operator: str, taken: list[str]) -> str:
    """i64 wraps: signed overflow has no meaning in C, so sums and products are unsigned."""
    x, y = taken[0], taken[-1]
    negative = f"(LONG)(0 - (ULONG){x})"
    signs = {"add": "+", "sub": "-", "mul": "*"}
    if operator in signs:
        return f"(LONG)((ULONG){x} {signs[operator]} (ULONG){y})"
    return {
        "neg": negative,
        "abs": f"{x} < 0 ? {negative} : {x}",
        "sign": f"(LONG)({x} > 0) - (LONG)({x} < 0)",
        "maximum": f"{x} > {y} ? {x} : {y}",
        "minimum": f"{x} < {y} ? {x} : {y}",
    }[operator]


def _cast(x: str, source: str, target: str) -> str:
    if source == target:
        return x
    if target == BOOL:
        return f"{x} != 0"
    if target == F32:
        return f"FROM_LONG((LONG){x})"
    if source != F32:
        clamped = f"{x} < 0 ? (BYTE)0 : {x} > 255 ? (BYTE)255 : (BYTE){x}"
        return clamped if target == U8 and source == I64 else f"({IN_REGISTER[target]}){x}"
    if target == U8:
        return f"{x} >= 255.0f ? (BYTE)255 : {x} > 0.0f ? (BYTE)TO_INT({x}) : (BYTE)0"
    top, low = "9223372036854775808.0f", "-9223372036854775808.0f"
    limits = "(LONG)0x7fffffffffffffffUL", "(LONG)0x8000000000000000UL"
    return f"{x} != {x} ? (LONG)0 : {x} >= {top} ? {limits[0]} : {x} <= {low} ? {limits[1]} : TO_LONG({x})"


def functions() -> str:
    """exp, log, tanh and erf, operation for operation as `proofs.arithmetic.elementary` defines them."""
    bits = {name: constant(F32, value) for name, value in vars(constants).items() if isinstance(value, int)}
    r = constant(F32, constants.ERF_LARGE_HIGH[0])
    large = f"ADD(MUL({r}, t), {constant(F32, constants.ERF_LARGE_HIGH[1])})"
    middle = horner("t", constants.ERF_LARGE_MIDDLE)
    lower = "\n".join(f"  r = ADD(MUL(r, t), {constant(F32, item)});" for item in constants.ERF_LARGE_LOW)
    return f"""
FUNCTION float rep_power(int n) {{ return FLOAT((n + 127) << 23); }}
FUNCTION float rep_abs(float x) {{ return FLOAT(BITS(x) & 0x7fffffff); }}
FUNCTION float rep_signed(float x, float s) {{ return FLOAT((BITS(x) & 0x7fffffff) | (BITS(s) & (int)0x80000000u)); }}

FUNCTION float rep_exp(float x) {{
  float c = x != x ? 0.0f : x;
  c = c < {bits["EXP_LOWEST"]} ? {bits["EXP_LOWEST"]} : c;
  c = c > {bits["EXP_HIGHEST"]} ? {bits["EXP_HIGHEST"]} : c;
  float q = NEAREST(MUL(c, {bits["LOG2_E"]}));
  float r = SUB(c, MUL(q, {bits["LN2_HIGH"]}));
  r = SUB(r, MUL(q, {bits["LN2_LOW"]}));
  float y = {horner("r", constants.EXP)};
  y = ADD(MUL(y, MUL(r, r)), r);
  y = ADD(y, 1.0f);
  int e = TO_INT(q);
  int half_e = e >> 1;
  y = MUL(y, rep_power(half_e));
  y = MUL(y, rep_power(e - half_e));
  return x != x ? x : y;
}}

FUNCTION float rep_log(float x) {{
  int small = x < CONSTANT(0x00800000);
  int word = BITS(small ? MUL(x, 16777216.0f) : x);
  int e = (word >> 23) - (small ? 150 : 126);
  float m = FLOAT((word & 0x7fffff) | 0x3f000000);
  int low = m < {bits["SQRT_HALF"]};
  m = SUB(low ? ADD(m, m) : m, 1.0f);
  float k = FROM_LONG((LONG)(low ? e - 1 : e));
  float z = MUL(m, m);
  float y = MUL(MUL({horner("m", constants.LOG)}, m), z);
  y = ADD(y, MUL(k, {bits["LN2_LOW"]}));
  y = SUB(y, MUL(z, 0.5f));
  y = ADD(ADD(m, y), MUL(k, {bits["LN2_HIGH"]}));
  y = x == CONSTANT(0x7f800000) ? x : y;
  y = x == 0.0f ? CONSTANT(0xff800000) : y;
  return x < 0.0f || x != x ? {bits["NAN"]} : y;
}}

FUNCTION float rep_tanh(float x) {{
  float a = rep_abs(x);
  float large = SUB(1.0f, DIV(2.0f, ADD(rep_exp(ADD(a, a)), 1.0f)));
  float z = MUL(a, a);
  float small = ADD(MUL(MUL({horner("z", constants.TANH)}, z), a), a);
  return rep_signed(a < {bits["TANH_SPLIT"]} ? small : large, x);
}}

FUNCTION float rep_erf(float x) {{
  float t = rep_abs(x);
  float s = MUL(x, x);
  float small = ADD(MUL({horner("s", constants.ERF_SMALL)}, x), x);
  float r = ADD(MUL({large}, s), {middle});
{lower}
  r = SUB(MUL(r, t), t);
  float large = t > {bits["ERF_ONE"]} ? 1.0f : SUB(1.0f, rep_exp(r));
  return t > {bits["ERF_SPLIT"]} ? rep_signed(large, x) : small;
}}
"""
