"""LLVM IR for one element of every elementwise operator, operation for operation as `proofs.arithmetic` defines it.

No fast-math flag is ever set: LLVM may vectorise across elements, but neither reorder nor fuse within one. NaNs keep
their payload here; since no operator's other results depend on a payload, making NaNs canonical where a value is
looked at (hashed, saved) is the same as doing it after every operator (`ml.interpreter` says when that is not so).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from proofs.arithmetic import constants
from proofs.program.shapes import DTYPES
from proofs.program.types import BOOL, F32, I64, U8

FLOAT, WORD, INT, BYTE, BIT = ir.FloatType(), ir.IntType(64), ir.IntType(32), ir.IntType(8), ir.IntType(1)
IN_REGISTER = {F32: FLOAT, I64: WORD, BOOL: BIT, U8: BYTE}
IN_MEMORY = {F32: FLOAT, I64: WORD, BOOL: BYTE, U8: BYTE}

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNARY = ("neg", "abs", "sign", "floor", "sqrt", "round_bf16", "reciprocal", "exp", "log", "tanh", "erf", "logical_not")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "logical_and", "logical_or", "logical_xor")
FUSIBLE = frozenset((*UNARY, *BINARY, *COMPARISONS, "where", "cast"))
"""Operators that `Emitter.apply` knows; the others (sin, cos, integer division) run unfused."""


class Emitter:
    """Emits scalar operations at the end of a block."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.b = builder

    def constant(self, dtype: str, bits: int) -> Any:
        """The element with these bits."""
        if dtype == F32:
            return ir.Constant(INT, bits).bitcast(FLOAT)
        return ir.Constant(IN_REGISTER[dtype], bits if dtype != I64 or bits < 1 << 63 else bits - (1 << 64))

    def apply(self, operator: str, dtypes: tuple[str, ...], inputs: list[Any], attributes: tuple[int, ...]) -> Any:
        """The operator's result for one element, in a register."""
        if operator == "where":
            return self.b.select(*inputs)
        if operator == "cast":
            return self._cast(inputs[0], dtypes[0], DTYPES[attributes[0]])
        if operator in COMPARISONS:
            return self._compare(COMPARISONS[operator], dtypes[0], *inputs)
        if operator.startswith("logical_"):
            return self._logic(operator, *inputs)
        if dtypes[0] == I64:
            return self._integer(operator, *inputs)
        return self._float(operator, *inputs)

    def _compare(self, sign: str, dtype: str, x: Any, y: Any) -> Any:
        if dtype != F32:
            return self.b.icmp_signed(sign, x, y) if dtype == I64 else self.b.icmp_unsigned(sign, x, y)
        return self.b.fcmp_unordered(sign, x, y) if sign == "!=" else self.b.fcmp_ordered(sign, x, y)

    def _logic(self, operator: str, *inputs: Any) -> Any:
        if operator == "logical_not":
            return self.b.xor(inputs[0], ir.Constant(BIT, 1))
        emit = {"logical_and": self.b.and_, "logical_or": self.b.or_, "logical_xor": self.b.xor}
        return emit[operator](*inputs)

    def _integer(self, operator: str, *inputs: Any) -> Any:
        zero, one = ir.Constant(WORD, 0), ir.Constant(WORD, 1)
        x = inputs[0]
        match operator:
            case "add":
                return self.b.add(*inputs)
            case "sub":
                return self.b.sub(*inputs)
            case "mul":
                return self.b.mul(*inputs)
            case "neg":
                return self.b.sub(zero, x)
            case "abs":
                return self.b.select(self.b.icmp_signed("<", x, zero), self.b.sub(zero, x), x)
            case "sign":
                below = self.b.select(self.b.icmp_signed("<", x, zero), self.b.neg(one), zero)
                return self.b.select(self.b.icmp_signed(">", x, zero), one, below)
            case "maximum":
                return self.b.select(self.b.icmp_signed(">", *inputs), *inputs)
            case _:
                return self.b.select(self.b.icmp_signed("<", *inputs), *inputs)

    def _float(self, operator: str, *inputs: Any) -> Any:
        simple = {"add": self.b.fadd, "sub": self.b.fsub, "mul": self.b.fmul, "div": self.b.fdiv}
        if operator in simple:
            return simple[operator](*inputs)
        x = inputs[0]
        match operator:
            case "neg":
                return self.b.fneg(x)
            case "abs":
                return self.intrinsic("fabs", x)
            case "floor" | "sqrt":
                return self.intrinsic(operator, x)
            case "round_bf16":
                return self._round_bf16(x)
            case "reciprocal":
                return self.b.fdiv(self.number(1.0), x)
            case "sign":
                below = self.b.select(self.less(x, self.number(0.0)), self.number(-1.0), self.number(0.0))
                signed = self.b.select(self.less(self.number(0.0), x), self.number(1.0), below)
                return self.b.select(self.is_nan(x), x, signed)
            case "maximum":
                return self._extreme(self.less(inputs[1], x), *inputs)
            case "minimum":
                return self._extreme(self.less(x, inputs[1]), *inputs)
            case "exp":
                return self.exp(x)
            case "log":
                return self.log(x)
            case "tanh":
                return self.tanh(x)
            case _:
                return self.erf(x)

    def _round_bf16(self, x: Any) -> Any:
        b = self.b
        word = b.bitcast(x, INT)
        last = b.and_(b.lshr(word, ir.Constant(INT, 16)), ir.Constant(INT, 1))
        word = b.add(word, b.add(last, ir.Constant(INT, 0x7FFF)))
        rounded = b.bitcast(b.and_(word, ir.Constant(INT, 0xFFFF0000)), FLOAT)
        return b.select(self.is_nan(x), x, rounded)

    def _extreme(self, first: Any, x: Any, y: Any) -> Any:
        either = self.b.fcmp_unordered("uno", x, y)
        return self.b.select(either, self.bits(constants.NAN), self.b.select(first, x, y))

    def _cast(self, x: Any, source: str, target: str) -> Any:
        if source == target:
            return x
        if target == BOOL:
            zero = ir.Constant(IN_REGISTER[source], 0)
            return self.b.fcmp_unordered("!=", x, zero) if source == F32 else self.b.icmp_unsigned("!=", x, zero)
        if target == F32:
            return self.b.sitofp(x, FLOAT) if source == I64 else self.b.uitofp(x, FLOAT)
        if source == F32:
            name, kind = ("fptosi", WORD) if target == I64 else ("fptoui", BYTE)
            return self._call(f"llvm.{name}.sat.{kind}.f32", kind, x)
        if target == I64 or source == BOOL:
            return self.b.zext(x, IN_REGISTER[target])
        zero, top = ir.Constant(WORD, 0), ir.Constant(WORD, 255)
        x = self.b.select(self.b.icmp_signed("<", x, zero), zero, x)
        return self.b.trunc(self.b.select(self.b.icmp_signed(">", x, top), top, x), BYTE)

    def bits(self, bits: int) -> Any:
        """The f32 constant with these bits."""
        return ir.Constant(INT, bits).bitcast(FLOAT)

    def number(self, value: float) -> Any:
        """An f32 constant."""
        return ir.Constant(FLOAT, value)

    def less(self, x: Any, y: Any) -> Any:
        """x < y on f32, false for NaN."""
        return self.b.fcmp_ordered("<", x, y)

    def is_nan(self, x: Any) -> Any:
        """Whether x is a NaN."""
        return self.b.fcmp_unordered("uno", x, x)

    def intrinsic(self, name: str, *inputs: Any) -> Any:
        """An LLVM intrinsic on f32."""
        return self._call(f"llvm.{name}.f32", FLOAT, *inputs)

    def _call(self, name: str, result: Any, *inputs: Any) -> Any:
        module = self.b.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [item.type for item in inputs]), name)
        return self.b.call(function, inputs)

    def horner(self, x: Any, coefficients: tuple[int, ...]) -> Any:
        """((c0 * x + c1) * x + …) + cn."""
        y = self.bits(coefficients[0])
        for bits in coefficients[1:]:
            y = self.b.fadd(self.b.fmul(y, x), self.bits(bits))
        return y

    def exp(self, x: Any) -> Any:
        """`elementary.exp`."""
        b = self.b
        lowest, highest = self.bits(constants.EXP_LOWEST), self.bits(constants.EXP_HIGHEST)
        c = b.select(self.is_nan(x), self.number(0.0), x)
        c = b.select(self.less(c, lowest), lowest, c)
        c = b.select(self.less(highest, c), highest, c)
        n = self.intrinsic("rint", b.fmul(c, self.bits(constants.LOG2_E)))
        r = b.fsub(c, b.fmul(n, self.bits(constants.LN2_HIGH)))
        r = b.fsub(r, b.fmul(n, self.bits(constants.LN2_LOW)))
        y = b.fadd(b.fmul(self.horner(r, constants.EXP), b.fmul(r, r)), r)
        y = b.fadd(y, self.number(1.0))
        exponent = b.fptosi(n, INT)
        half = b.ashr(exponent, ir.Constant(INT, 1))
        y = b.fmul(y, self._power_of_two(half))
        y = b.fmul(y, self._power_of_two(b.sub(exponent, half)))
        return b.select(self.is_nan(x), x, y)

    def _power_of_two(self, n: Any) -> Any:
        biased = self.b.add(n, ir.Constant(INT, 127))
        return self.b.bitcast(self.b.shl(biased, ir.Constant(INT, 23)), FLOAT)

    def log(self, x: Any) -> Any:
        """`elementary.log`."""
        b = self.b
        denormal = self.less(x, self.bits(0x00800000))
        scaled = b.select(denormal, b.fmul(x, self.number(float(1 << 24))), x)
        word = b.bitcast(scaled, INT)
        bias = b.select(denormal, ir.Constant(INT, 150), ir.Constant(INT, 126))
        e = b.sub(b.ashr(word, ir.Constant(INT, 23)), bias)
        mantissa = b.or_(b.and_(word, ir.Constant(INT, 0x7FFFFF)), ir.Constant(INT, 0x3F000000))
        m = b.bitcast(mantissa, FLOAT)
        low = self.less(m, self.bits(constants.SQRT_HALF))
        m = b.fsub(b.select(low, b.fadd(m, m), m), self.number(1.0))
        e = b.sitofp(b.select(low, b.sub(e, ir.Constant(INT, 1)), e), FLOAT)
        z = b.fmul(m, m)
        y = b.fmul(b.fmul(self.horner(m, constants.LOG), m), z)
        y = b.fadd(y, b.fmul(e, self.bits(constants.LN2_LOW)))
        y = b.fsub(y, b.fmul(z, self.number(0.5)))
        y = b.fadd(b.fadd(m, y), b.fmul(e, self.bits(constants.LN2_HIGH)))
        infinity, zero = self.number(float("inf")), self.number(0.0)
        y = b.select(b.fcmp_ordered("==", x, infinity), infinity, y)
        y = b.select(b.fcmp_ordered("==", x, zero), self.number(float("-inf")), y)
        return b.select(b.or_(self.less(x, zero), self.is_nan(x)), self.bits(constants.NAN), y)

    def tanh(self, x: Any) -> Any:
        """`elementary.tanh`."""
        b = self.b
        a = self.intrinsic("fabs", x)
        large = b.fdiv(self.number(2.0), b.fadd(self.exp(b.fadd(a, a)), self.number(1.0)))
        large = b.fsub(self.number(1.0), large)
        z = b.fmul(a, a)
        small = b.fadd(b.fmul(b.fmul(self.horner(z, constants.TANH), z), a), a)
        return self.intrinsic("copysign", b.select(self.less(a, self.bits(constants.TANH_SPLIT)), small, large), x)

    def erf(self, x: Any) -> Any:
        """`elementary.erf`."""
        b = self.b
        t = self.intrinsic("fabs", x)
        s = b.fmul(x, x)
        small = b.fadd(b.fmul(self.horner(s, constants.ERF_SMALL), x), x)
        r = self.horner(t, constants.ERF_LARGE_HIGH)
        u = self.horner(t, constants.ERF_LARGE_MIDDLE)
        r = b.fadd(b.fmul(r, s), u)
        for bits in constants.ERF_LARGE_LOW:
            r = b.fadd(b.fmul(r, t), self.bits(bits))
        r = b.fsub(b.fmul(r, t), t)
        beyond = self.less(self.bits(constants.ERF_ONE), t)
        large = b.select(beyond, self.number(1.0), b.fsub(self.number(1.0), self.exp(r)))
        return b.select(self.less(self.bits(constants.ERF_SPLIT), t), self.intrinsic("copysign", large, x), small)
