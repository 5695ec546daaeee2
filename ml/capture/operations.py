"""Words for writing opset formulas over a builder: what the lowering rules are made of.

A `Value` is a value number with its type at hand; Python numbers become constants of the partner's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass

from ml.capture.builder import Builder
from proofs.program.shapes import DTYPES
from proofs.program.types import BOOL, F32, I64, TensorType

Number = float | int | bool


@dataclass(frozen=True)
class Value:
    """A value of the program under construction."""

    number: int
    type: TensorType

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.type.shape


class Operations:
    """Opset operators as methods on values."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def value(self, number: int) -> Value:
        """The value with this number."""
        return Value(number, self.builder.types[number])

    def apply(self, operator: str, *inputs: Value, attributes: tuple[int, ...] = ()) -> Value:
        """One operator."""
        return self.value(self.builder.node(operator, tuple(item.number for item in inputs), attributes))

    def constant(self, dtype: str, number: Number, shape: tuple[int, ...] = ()) -> Value:
        """A constant."""
        return self.value(self.builder.constant(dtype, number, shape))

    def binary(self, operator: str, left: Value | Number, right: Value | Number, dtype: str | None = None) -> Value:
        """A binary operator; tensors are cast to `dtype` (default: the first tensor's), numbers become constants."""
        if dtype is None:
            dtype = left.type.dtype if isinstance(left, Value) else right.type.dtype  # type: ignore[union-attr]
        return self.apply(operator, self.as_dtype(left, dtype), self.as_dtype(right, dtype))

    def as_dtype(self, item: Value | Number, dtype: str) -> Value:
        """A value of this dtype."""
        if not isinstance(item, Value):
            return self.constant(dtype, item)
        return self.apply("cast", item, attributes=(DTYPES.index(dtype),))

    def add(self, left: Value | Number, right: Value | Number) -> Value:
        """left + right."""
        return self.binary("add", left, right)

    def sub(self, left: Value | Number, right: Value | Number) -> Value:
        """left - right."""
        return self.binary("sub", left, right)

    def mul(self, left: Value | Number, right: Value | Number) -> Value:
        """left * right."""
        return self.binary("mul", left, right)

    def div(self, left: Value | Number, right: Value | Number) -> Value:
        """left / right, f32."""
        return self.binary("div", left, right, F32)

    def where(self, condition: Value, first: Value | Number, second: Value | Number, dtype: str) -> Value:
        """first where the condition holds, else second."""
        chosen = self.as_dtype(condition, BOOL)
        return self.apply("where", chosen, self.as_dtype(first, dtype), self.as_dtype(second, dtype))

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        """Same elements, row-major."""
        return self.apply("reshape", x, attributes=shape)

    def permute(self, x: Value, axes: tuple[int, ...]) -> Value:
        """Axes reordered."""
        return self.apply("permute", x, attributes=axes)

    def broadcast_to(self, x: Value, shape: tuple[int, ...]) -> Value:
        """Repeated to the shape."""
        return self.apply("broadcast_to", x, attributes=shape)

    def slice_axis(self, x: Value, axis: int, start: int, stop: int, step: int) -> Value:
        """A slice of one axis."""
        attributes: list[int] = []
        for number, size in enumerate(x.shape):
            attributes += [start, stop, step] if number == axis else [0, size, 1]
        return self.apply("slice", x, attributes=tuple(attributes))

    def last_reduction(self, operator: str, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
        """`operator` (one that reduces the last axis) over these axes."""
        rest = tuple(axis for axis in range(len(x.shape)) if axis not in axes)
        moved = self.permute(x, (*rest, *axes))
        kept = tuple(x.shape[axis] for axis in rest)
        flat = self.reshape(moved, (*kept, x.type.elements // max(1, _product(kept))))
        reduced = self.apply(operator, flat)
        final = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape)) if keep else kept
        return self.reshape(reduced, final)

    def sum(self, x: Value, axes: tuple[int, ...] = (), keep: bool = False) -> Value:
        """Sum over `axes`, all when there are none; bool and u8 count as i64."""
        if x.type.dtype not in (F32, I64):
            x = self.as_dtype(x, I64)
        rank = len(x.shape)
        axes = tuple(sorted(axes)) or tuple(range(rank))
        if rank == 0:
            return x
        if axes == tuple(range(len(axes))) and len(axes) < rank:
            rest = x.shape[len(axes) :]
            flat = self.reshape(x, (x.type.elements // _product(rest), _product(rest)))
            summed = self.apply("sum_first", flat)
            return self.reshape(summed, (*([1] * len(axes)), *rest) if keep else rest)
        lead = next((axis for axis in range(rank) if axis not in axes), rank)
        if 0 < lead < rank and axes[lead:] == tuple(range(rank - len(axes[lead:]), rank)):
            # First the last axes, as they lie, then the first ones: nothing is moved.
            inner = self.sum(x, axes[lead:], keep)
            return self.sum(inner, axes[:lead], keep)
        return self.last_reduction("sum_last", x, axes, keep)

    def mean(self, x: Value, axes: tuple[int, ...] = (), keep: bool = False) -> Value:
        """Sum divided by the count."""
        total = self.sum(x, axes, keep)
        return self.div(total, float(x.type.elements // total.type.elements))


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
