"""Kernels along rows: sums in 32 lanes and halves, maxima, lookups, scatters. Compiled by numba, fast-math off."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit

from ml.kernels.threads import run_parts

LANES = 32
PARALLEL_ELEMENTS = 1 << 16
"""Below so many elements one thread does all."""
BLOCK = 64
"""Columns that `sum_first` carries at once: 32 lanes of them stay in the first cache."""


@njit("void(float32[:,::1], float32[::1], intp, intp)", nogil=True, cache=True, error_model="numpy")
def _sum_last(x, out, first, end):  # type: ignore[no-untyped-def]
    columns = x.shape[1]
    whole = columns // 32 * 32
    lanes = np.empty(32, np.float32)
    for row in range(first, end):
        for lane in range(32):
            lanes[lane] = np.float32(0)
        for start in range(0, whole, 32):
            for lane in range(32):
                lanes[lane] += x[row, start + lane]
        for column in range(whole, columns):
            lanes[column - whole] += x[row, column]
        for lane in range(16):
            lanes[lane] += lanes[lane + 16]
        for lane in range(8):
            lanes[lane] += lanes[lane + 8]
        for lane in range(4):
            lanes[lane] += lanes[lane + 4]
        out[row] = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])


@njit("void(float32[:,::1], float32[::1], intp, intp)", nogil=True, cache=True, error_model="numpy")
def _sum_first(x, out, first, end):  # type: ignore[no-untyped-def]
    rows = x.shape[0]
    lanes = np.empty((32, 64), np.float32)
    for start in range(first, end, 64):
        width = min(64, end - start)
        for lane in range(32):
            for column in range(64):
                lanes[lane, column] = np.float32(0)
        for row in range(rows):
            lane = row % 32
            if width == 64:
                for column in range(64):
                    lanes[lane, column] += x[row, start + column]
            else:
                for column in range(width):
                    lanes[lane, column] += x[row, start + column]
        half = 16
        while half > 0:
            for lane in range(half):
                for column in range(64):
                    lanes[lane, column] += lanes[lane + half, column]
            half //= 2
        for column in range(width):
            out[start + column] = lanes[0, column]


@njit("void(float32[:,::1], float32[::1], intp, intp)", nogil=True, cache=True, error_model="numpy")
def _max_last(x, out, first, end):  # type: ignore[no-untyped-def]
    columns = x.shape[1]
    whole = columns // 16 * 16
    lanes = np.empty(16, np.float32)
    odd = np.empty(16, np.float32)
    for row in range(first, end):
        best = x[row, 0]
        has_nan = False
        if whole:
            for lane in range(16):
                lanes[lane] = x[row, lane]
                odd[lane] = np.float32(0)
            for start in range(0, whole, 16):
                for lane in range(16):
                    item = x[row, start + lane]
                    lanes[lane] = item if item > lanes[lane] else lanes[lane]
                    odd[lane] = odd[lane] if item == item else np.float32(1)
            for lane in range(16):
                best = lanes[lane] if lanes[lane] > best else best
                has_nan |= odd[lane] != 0
        for column in range(whole, columns):
            item = x[row, column]
            best = item if item > best else best
            has_nan |= item != item
        if has_nan:
            best = np.float32(np.nan)
        elif best == 0:
            column = 0
            while x[row, column] != 0:
                column += 1
            best = x[row, column]
        out[row] = best


@njit("void(float32[:,::1], int64[::1], intp, intp)", nogil=True, cache=True, error_model="numpy")
def _argmax_last(x, out, first, end):  # type: ignore[no-untyped-def]
    for row in range(first, end):
        chosen = 0
        best = x[row, 0]
        for column in range(1, x.shape[1]):
            item = x[row, column]
            if best == best and (item > best or item != item):
                best = item
                chosen = column
        out[row] = chosen


@njit("void(float32[:,::1], int64[::1], float32[:,::1], intp, intp)", nogil=True, cache=True, error_model="numpy")
def _embedding_grad(gradient, ids, out, first, end):  # type: ignore[no-untyped-def]
    for row in range(gradient.shape[0]):
        chosen = ids[row]
        if 0 <= chosen < out.shape[0]:
            for column in range(first, end):
                out[chosen, column] += gradient[row, column]


def matrix(x: torch.Tensor) -> torch.Tensor:
    """The contiguous 2-D view: leading dimensions × last."""
    columns = x.shape[-1] if x.ndim else 1
    return x.contiguous().view(-1, columns)


def sum_last(x: torch.Tensor) -> torch.Tensor:
    """(…, n) → (…, 1), f32 in lanes and halves, i64 wrapping."""
    if x.dtype != torch.float32:
        return x.sum(-1, keepdim=True)
    out = torch.empty((*x.shape[:-1], 1))
    rows = matrix(x)
    source, target = rows.numpy(), out.view(-1).numpy()
    run_parts(rows.shape[0], rows.numel(), PARALLEL_ELEMENTS, lambda first, end: _sum_last(source, target, first, end))
    return out


def sum_first(x: torch.Tensor) -> torch.Tensor:
    """(…, D) → (1, D) over all rows."""
    rows = matrix(x)
    if x.dtype != torch.float32:
        return rows.sum(0, keepdim=True)
    out = torch.empty((1, rows.shape[1]))
    source, target = rows.numpy(), out.view(-1).numpy()
    run_parts(rows.shape[1], rows.numel(), PARALLEL_ELEMENTS, lambda first, end: _sum_first(source, target, first, end))
    return out


def max_last(x: torch.Tensor) -> torch.Tensor:
    """(…, n) → (…, 1): the first of the greatest elements; NaN if there is one."""
    if x.dtype != torch.float32:
        return x.amax(-1, keepdim=True)
    out = torch.empty((*x.shape[:-1], 1))
    rows = matrix(x)
    source, target = rows.numpy(), out.view(-1).numpy()
    run_parts(rows.shape[0], rows.numel(), PARALLEL_ELEMENTS, lambda first, end: _max_last(source, target, first, end))
    return out


def argmax_last(x: torch.Tensor) -> torch.Tensor:
    """(…, n) → (…, 1) i64: the first NaN, else the first of the greatest."""
    out = torch.empty((*x.shape[:-1], 1), dtype=torch.int64)
    rows = matrix(x)
    if x.dtype != torch.float32:
        out.view(-1).numpy()[:] = np.argmax(rows.numpy(), axis=1)
        return out
    source, target = rows.numpy(), out.view(-1).numpy()
    run_parts(
        rows.shape[0], rows.numel(), PARALLEL_ELEMENTS, lambda first, end: _argmax_last(source, target, first, end)
    )
    return out


def embedding(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Row ids[n] of the table for each n; zeros for an id out of range."""
    flat = ids.reshape(-1)
    rows = table.shape[0]
    inside = (flat >= 0) & (flat < rows)
    out = table.index_select(0, flat.clamp(0, rows - 1))
    if not bool(inside.all()):
        out[~inside] = 0
    return out.view(*ids.shape, table.shape[1])


def embedding_grad(gradient: torch.Tensor, ids: torch.Tensor, rows: int) -> torch.Tensor:
    """Rows of the gradient added, in order, to the rows that their ids name."""
    source = matrix(gradient)
    out = torch.zeros((rows, source.shape[1]))
    arrays = source.numpy(), ids.contiguous().view(-1).numpy(), out.numpy()
    columns = source.shape[1]
    run_parts(columns, source.numel(), PARALLEL_ELEMENTS, lambda first, end: _embedding_grad(*arrays, first, end))
    return out


def take_last(x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """x[…, ids[…]]; zero for an id out of range."""
    columns = x.shape[-1]
    taken = x.gather(-1, ids.clamp(0, columns - 1))
    inside = (ids >= 0) & (ids < columns)
    return torch.where(inside, taken, torch.zeros((), dtype=x.dtype))


def scatter_last(values: torch.Tensor, ids: torch.Tensor, columns: int) -> torch.Tensor:
    """Zeros (…, columns) but for the value at column ids[…] of its row."""
    out = torch.zeros((*values.shape[:-1], columns), dtype=values.dtype)
    inside = (ids >= 0) & (ids < columns)
    zero = torch.zeros((), dtype=values.dtype)
    if bool(inside.all()):
        return out.scatter_(-1, ids, values)
    place = ids.clamp(0, columns - 1)
    return out.scatter_(-1, place, torch.where(inside, values, zero))
