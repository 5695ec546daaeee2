"""Lowering rules for tensors that pick elements of tensors: indexing, gather, their gradients; constants written out.

Everything becomes a lookup of rows: the indexed axes are brought to the front and flattened, and several index tensors
make one row number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.lowering import lowers, unsupported
from ml.capture.operations import Operations, Value
from proofs.program.types import BOOL, F32, I64, U8, TensorType

CONSTANT_ELEMENTS_MAX = 4096
"""Elements of a tensor that a forward pass makes from Python numbers; larger ones are buffers."""
CONSTANT_RUNS_MAX = 256
"""Runs of equal or evenly spaced elements in it: each is a node or two."""
_JOINED_MAX = 64


@lowers("aten._local_scalar_dense.default")
def _number(ops: Operations, out: Any, x: Value) -> Value:
    raise Rejection(
        reasons.DATA_DEPENDENT, "a number of Python is taken out of a tensor; keep it a tensor of one element"
    )


def _counted(ops: Operations, ids: Value, size: int) -> Value:
    """Indices counted from the front."""
    ids = ops.as_dtype(ids, I64)
    return ops.where(ops.binary("lt", ids, 0), ops.add(ids, size), ids, I64)


class _Picked:
    """An indexing x[..., i, j, ...]: which axes are indexed, the row numbers, where the result's axes go."""

    def __init__(self, ops: Operations, shape: tuple[int, ...], indices: Sequence[Value | None]) -> None:
        self.axes = [axis for axis, index in enumerate(indices) if index is not None]
        given = [index for index in indices if index is not None]
        if any(index.type.dtype in (BOOL, U8) for index in given):
            raise Rejection(
                reasons.DATA_DEPENDENT,
                "indexing with a mask: the size of the result depends on values; use torch.where or multiply by it",
            )
        self.rest = [axis for axis in range(len(shape)) if axis not in self.axes]
        self.shape = shape
        self.rows = math.prod(shape[axis] for axis in self.axes)
        self.width = math.prod(shape[axis] for axis in self.rest)
        number: Value | None = None
        for axis, index in zip(self.axes, given, strict=True):
            counted = _counted(ops, index, shape[axis])
            number = counted if number is None else ops.add(ops.mul(number, shape[axis]), counted)
        if number is None:
            raise unsupported("indexing without an index")
        self.numbers = number
        together = self.axes == list(range(self.axes[0], self.axes[-1] + 1))
        self.place = self.axes[0] if together else 0
        """Where the indices' own axes go in the result: in their place, or first if they were apart."""

    def table(self, ops: Operations, x: Value) -> Value:
        """x with one row per number."""
        return ops.reshape(ops.permute(x, (*self.axes, *self.rest)), (self.rows, self.width))

    def _order(self) -> tuple[int, ...]:
        """Result axis → axis of (indices' axes, rest)."""
        own = len(self.numbers.shape)
        rest = [own + place for place in range(len(self.rest))]
        return (*rest[: self.place], *range(own), *rest[self.place :])

    def result(self, ops: Operations, rows: Value) -> Value:
        """The looked-up rows in the result's shape."""
        whole = ops.reshape(rows, (*self.numbers.shape, *(self.shape[axis] for axis in self.rest)))
        return ops.permute(whole, self._order())

    def rows_of(self, ops: Operations, values: Value) -> Value:
        """Values in the result's shape as rows, the inverse of `result`."""
        order = self._order()
        sizes = (*self.numbers.shape, *(self.shape[axis] for axis in self.rest))
        whole = ops.broadcast_to(values, tuple(sizes[axis] for axis in order))
        back = ops.permute(whole, tuple(order.index(place) for place in range(len(order))))
        return ops.reshape(back, (*self.numbers.shape, self.width))

    def back(self, ops: Operations, table: Value) -> Value:
        """A table in the shape of x, the inverse of `table`."""
        order = (*self.axes, *self.rest)
        whole = ops.reshape(table, tuple(self.shape[axis] for axis in order))
        return ops.permute(whole, tuple(order.index(place) for place in range(len(order))))


@lowers("aten.index.Tensor", "aten._unsafe_index.Tensor")
def _index(ops: Operations, out: TensorType, x: Value, indices: Sequence[Value | None]) -> Value:
    return _looked_up(ops, x, indices)


def _looked_up(ops: Operations, x: Value, indices: Sequence[Value | None]) -> Value:
    if x.type.dtype in (BOOL, U8):
        return ops.as_dtype(_looked_up(ops, ops.as_dtype(x, I64), indices), x.type.dtype)
    picked = _Picked(ops, x.shape, [*indices, *[None] * (len(x.shape) - len(indices))])
    return picked.result(ops, ops.apply("embedding", picked.table(ops, x), picked.numbers))


@lowers("aten.index_select.default")
def _index_select(ops: Operations, out: TensorType, x: Value, dim: int, ids: Value) -> Value:
    return _looked_up(ops, x, [*[None] * (dim % len(x.shape)), ids])


@lowers("aten.index_put.default", "aten._unsafe_index_put.default")
def _index_put(
    ops: Operations,
    out: TensorType,
    x: Value,
    indices: Sequence[Value | None],
    values: Value,
    accumulate: bool = False,
) -> Value:
    if not accumulate:
        raise unsupported("writing elements by index; use torch.where with a mask, or torch.index_add")
    if out.dtype != F32:
        raise unsupported(f"adding {out.dtype} by index; only float32")
    picked = _Picked(ops, x.shape, [*indices, *[None] * (len(x.shape) - len(indices))])
    table = ops.apply("embedding_grad", picked.rows_of(ops, values), picked.numbers, attributes=(picked.rows,))
    added = picked.back(ops, table)
    return added if ops.builder.constant_value(x.number) == 0 else ops.add(x, added)


def _one_per_row(shape: tuple[int, ...], dim: int, ids: Value) -> bool:
    return dim % len(shape) == len(shape) - 1 and ids.shape == (*shape[:-1], 1)


def _numbers_along(ops: Operations, shape: tuple[int, ...], axis: int, ids: Value) -> Value:
    """For `gather` along the last axis of a moved tensor: the element's number in the flattened tensor."""
    number: Value | None = None
    for place, size in enumerate(shape):
        along = _counted(ops, ids, size) if place == axis else ops.apply("iota", attributes=(place, *ids.shape))
        number = along if number is None else ops.add(ops.mul(number, size), along)
    return number if number is not None else ids


@lowers("aten.gather.default")
def _gather(ops: Operations, out: TensorType, x: Value, dim: int, ids: Value, **_: Any) -> Value:
    if _one_per_row(x.shape, dim, ids):
        return ops.apply("take_last", x, ids)
    if x.type.dtype in (BOOL, U8):
        return ops.as_dtype(_gather(ops, out, ops.as_dtype(x, I64), dim, ids), x.type.dtype)
    numbers = _numbers_along(ops, x.shape, dim % len(x.shape), ids)
    column = ops.reshape(x, (x.type.elements, 1))
    return ops.reshape(ops.apply("embedding", column, numbers), out.shape)


@lowers("aten.scatter_add.default")
def _scatter_add(ops: Operations, out: TensorType, x: Value, dim: int, ids: Value, source: Value) -> Value:
    if out.dtype != F32:
        raise unsupported(f"scatter_add of {out.dtype}; only float32")
    part = source
    for axis, size in enumerate(ids.shape):
        part = ops.slice_axis(part, axis, 0, size, 1)
    if _one_per_row(x.shape, dim, ids):
        added = ops.apply("scatter_last", part, ids, attributes=(x.shape[-1],))
    else:
        numbers = _numbers_along(ops, x.shape, dim % len(x.shape), ids)
        rows = ops.reshape(part, (*ids.shape, 1))
        added = ops.reshape(ops.apply("embedding_grad", rows, numbers, attributes=(x.type.elements,)), x.shape)
    return added if ops.builder.constant_value(x.number) == 0 else ops.add(x, added)


def written_out(ops: Operations, value: torch.Tensor) -> Value:
    """A tensor that the forward pass makes from Python numbers: runs of constants and of evenly spaced integers."""
    if value.dtype not in _NAMES:
        raise Rejection(reasons.FOREIGN_DTYPE, f"a constant tensor of {value.dtype}; use float32 or int64")
    dtype = _NAMES[value.dtype]
    flat = value.detach().contiguous().reshape(-1).numpy()
    runs = _runs(flat) if flat.size <= CONSTANT_ELEMENTS_MAX else []
    if not 0 < len(runs) <= CONSTANT_RUNS_MAX:
        raise Rejection(
            reasons.CLOSED_OVER,
            f"a constant tensor of {flat.size} elements; register it in __init__: self.register_buffer(name, tensor)",
        )
    parts = [_run(ops, dtype, *run) for run in runs]
    while len(parts) > 1:
        groups = [parts[start : start + _JOINED_MAX] for start in range(0, len(parts), _JOINED_MAX)]
        parts = [one[0] if len(one) == 1 else ops.apply("concatenate", *one, attributes=(0,)) for one in groups]
    return ops.reshape(parts[0], tuple(value.shape))


_NAMES = {torch.float32: F32, torch.int64: I64, torch.bool: BOOL, torch.uint8: U8}


def _runs(flat: np.ndarray[Any, Any]) -> list[tuple[Any, int, int]]:
    """(first element, spacing, count) of consecutive runs; spacing is 0 except for integers."""
    runs: list[tuple[Any, int, int]] = []
    integers = flat.dtype == np.int64
    elements = flat.tolist()
    bits = flat.view(f"u{flat.itemsize}").tolist()
    start = 0
    while start < len(elements):
        end = start + 1
        spacing = elements[end] - elements[start] if integers and end < len(elements) else 0
        while end < len(elements) and (
            elements[end] - elements[end - 1] == spacing if integers else bits[end] == bits[start]
        ):
            end += 1
        runs.append((elements[start], spacing if end - start > 1 else 0, end - start))
        start = end
    return runs


def _run(ops: Operations, dtype: str, first: Any, spacing: int, count: int) -> Value:
    if spacing == 0:
        return ops.constant(dtype, first, (count,))
    index = ops.apply("iota", attributes=(0, count))
    return ops.add(ops.mul(index, spacing) if spacing != 1 else index, first) if first else ops.mul(index, spacing)
