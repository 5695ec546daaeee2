"""Kernels along rows: sums in 32 lanes and halves, maxima, lookups, scatters. Vectors run over lanes and columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ml.kernels.call import Call, run
from ml.kernels.compiler import cfunc
from ml.kernels.memory import LANE, NUMBER, WORD, float_at, load, pointer, put_float, put_word, store, times, word_at

LANES = 32
MAXIMA = 16
BLOCK = 64
"""Columns that a sum over rows carries at once: 32 lanes of them stay in the first cache."""
ELEMENT_NS = 0.25
"""What an element of a sum or a maximum takes, about."""


def _lower_half(builder: Any, value: Any, width: int) -> tuple[Any, Any]:
    """The two halves of a vector."""
    masks = ([ir.Constant(LANE, n) for n in range(first, first + width // 2)] for first in (0, width // 2))
    low, high = (ir.Constant(ir.VectorType(LANE, width // 2), mask) for mask in masks)
    return builder.shuffle_vector(value, value, low), builder.shuffle_vector(value, value, high)


@intrinsic
def _sum_row(typing_context, x, columns):  # type: ignore[no-untyped-def]
    """The sum of a row: 32 lanes, then halves added."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        row, columns = pointer(builder, arguments[0]), arguments[1]
        vector = ir.VectorType(NUMBER, LANES)
        lanes = cgutils.alloca_once_value(builder, ir.Constant(vector, None))
        with cgutils.for_range(builder, builder.lshr(columns, ir.Constant(WORD, 5))) as loop:
            item = load(builder, vector, row, times(builder, loop.index, LANES * 4))
            builder.store(builder.fadd(builder.load(lanes), item), lanes)
        rest = builder.and_(columns, ir.Constant(WORD, LANES - 1))
        with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(WORD, 0))):
            # A lane is never -0.0, so adding +0.0 where there is no element changes none.
            offset = times(builder, builder.sub(columns, rest), 4)
            item = _masked_load(builder, builder.gep(row, [offset]), rest, LANES)
            builder.store(builder.fadd(builder.load(lanes), item), lanes)
        total, width = builder.load(lanes), LANES
        while width > 1:
            total = builder.fadd(*_lower_half(builder, total, width))
            width //= 2
        return builder.extract_element(total, ir.Constant(LANE, 0))

    return types.float32(types.intp, types.intp), generate


def _masked_load(builder: Any, place: Any, count: Any, width: int) -> Any:
    """The first `count` floats at a pointer, +0.0 beyond."""
    vector, words = ir.VectorType(NUMBER, width), ir.VectorType(LANE, width)
    nothing = ir.Constant(words, ir.Undefined)
    spread = builder.insert_element(nothing, builder.trunc(count, LANE), ir.Constant(LANE, 0))
    spread = builder.shuffle_vector(spread, nothing, ir.Constant(words, None))
    mask = builder.icmp_signed("<", ir.Constant(words, [ir.Constant(LANE, n) for n in range(width)]), spread)
    kind = ir.FunctionType(vector, [vector.as_pointer(), LANE, ir.VectorType(ir.IntType(1), width), vector])
    name = f"llvm.masked.load.v{width}f32.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    typed = builder.bitcast(place, vector.as_pointer())
    return builder.call(function, [typed, ir.Constant(LANE, 4), mask, ir.Constant(vector, None)])


@cfunc("void(intp, intp, intp, intp)")
def _sum_last(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: x, out, columns; items are rows."""
    x, out, columns = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    for row in range(first, end):
        put_float(out + row * 4, _sum_row(x + row * columns * 4, columns))


def _add_vectors(width: int) -> Any:
    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        to, item = (pointer(builder, argument) for argument in arguments)
        vector = ir.VectorType(NUMBER, width)
        store(builder, builder.fadd(load(builder, vector, to, 0), load(builder, vector, item, 0)), to, 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _add_block(typing_context, to, item):  # type: ignore[no-untyped-def]
    """Add BLOCK floats at `item` to those at `to`."""
    return _add_vectors(BLOCK)


@intrinsic
def _add_eight(typing_context, to, item):  # type: ignore[no-untyped-def]
    """Add 8 floats at `item` to those at `to`."""
    return _add_vectors(8)


@cfunc("void(intp, intp, intp, intp)")
def _sum_first(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: x, out, rows, columns; items are columns. The lanes wait in `scratch`."""
    x, out, rows, columns = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3)
    for start in range(first, end, BLOCK):
        width = min(BLOCK, end - start)
        eights = width // 8 * 8
        for place in range(LANES * BLOCK):
            put_float(scratch + place * 4, types.float32(0))
        for row in range(rows):
            to = scratch + row % LANES * BLOCK * 4
            item = x + (row * columns + start) * 4
            if width == BLOCK:
                _add_block(to, item)
            else:
                for column in range(0, eights, 8):
                    _add_eight(to + column * 4, item + column * 4)
                for column in range(eights, width):
                    put_float(to + column * 4, float_at(to + column * 4) + float_at(item + column * 4))
        half = LANES // 2
        while half > 0:
            for lane in range(half):
                _add_block(scratch + lane * BLOCK * 4, scratch + (lane + half) * BLOCK * 4)
            half //= 2
        for column in range(width):
            put_float(out + (start + column) * 4, float_at(scratch + column * 4))


@intrinsic
def _max_blocks(typing_context, x, blocks, best):  # type: ignore[no-untyped-def]
    """The greatest of blocks of 16 floats, written to `best`; whether there is a NaN among them."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        row, blocks, to = pointer(builder, arguments[0]), arguments[1], pointer(builder, arguments[2])
        vector = ir.VectorType(NUMBER, MAXIMA)
        flags = ir.VectorType(LANE, MAXIMA)
        best = cgutils.alloca_once_value(builder, load(builder, vector, row, 0))
        odd = cgutils.alloca_once_value(builder, ir.Constant(flags, None))
        with cgutils.for_range(builder, blocks) as loop:
            item = load(builder, vector, row, times(builder, loop.index, MAXIMA * 4))
            now = builder.load(best)
            builder.store(builder.select(builder.fcmp_ordered(">", item, now), item, now), best)
            nan = builder.sext(builder.fcmp_unordered("uno", item, item), flags)
            builder.store(builder.or_(builder.load(odd), nan), odd)
        value, nan, width = builder.load(best), builder.load(odd), MAXIMA
        while width > 1:
            low, high = _lower_half(builder, value, width)
            value = builder.select(builder.fcmp_ordered(">", high, low), high, low)
            nan = builder.or_(*_lower_half(builder, nan, width))
            width //= 2
        store(builder, builder.extract_element(value, ir.Constant(LANE, 0)), to, 0)
        return builder.sext(builder.extract_element(nan, ir.Constant(LANE, 0)), WORD)

    return types.intp(types.intp, types.intp, types.intp), generate


@cfunc("void(intp, intp, intp, intp)")
def _max_last(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: x, out, columns; items are rows."""
    base, out, columns = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    whole = columns // MAXIMA * MAXIMA
    for row in range(first, end):
        x = base + row * columns * 4
        best = float_at(x)
        has_nan = False
        if whole:
            has_nan = _max_blocks(x, whole // MAXIMA, scratch) != 0
            best = float_at(scratch)
        for column in range(whole, columns):
            item = float_at(x + column * 4)
            best = item if item > best else best
            has_nan |= item != item
        if has_nan:
            best = types.float32(np.nan)
        elif best == 0:
            # Zeros are equal, their signs are not: the first one counts.
            column = 0
            while float_at(x + column * 4) != 0:
                column += 1
            best = float_at(x + column * 4)
        put_float(out + row * 4, best)


@cfunc("void(intp, intp, intp, intp)")
def _argmax_last(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: x, out, columns; items are rows."""
    base, out, columns = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    for row in range(first, end):
        x = base + row * columns * 4
        chosen = 0
        best = float_at(x)
        for column in range(1, columns):
            item = float_at(x + column * 4)
            if best == best and (item > best or item != item):
                best = item
                chosen = column
        put_word(out + row * 8, chosen)


@cfunc("void(intp, intp, intp, intp)")
def _embedding(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: table, ids, out, rows of the table, columns; items are ids."""
    table, ids, out, rows, columns = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3), word_at(s, 4)
    for item in range(first, end):
        chosen = word_at(ids, item)
        target = out + item * columns * 4
        inside = 0 <= chosen < rows
        source = table + (chosen if inside else 0) * columns * 4
        for column in range(columns):
            put_float(target + column * 4, float_at(source + column * 4) if inside else types.float32(0))


@cfunc("void(intp, intp, intp, intp)")
def _embedding_grad(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: gradient, ids, out, ids' count, rows of the table, columns; items are columns."""
    gradient, ids, out = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    count, rows, columns = word_at(s, 3), word_at(s, 4), word_at(s, 5)
    eights = first + (end - first) // 8 * 8
    for row in range(rows):
        for column in range(first, end):
            put_float(out + (row * columns + column) * 4, types.float32(0))
    for item in range(count):
        chosen = word_at(ids, item)
        if 0 <= chosen < rows:
            to, source = out + chosen * columns * 4, gradient + item * columns * 4
            for column in range(first, eights, 8):
                _add_eight(to + column * 4, source + column * 4)
            for column in range(eights, end):
                put_float(to + column * 4, float_at(to + column * 4) + float_at(source + column * 4))


@cfunc("void(intp, intp, intp, intp)")
def _take_last(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: x, ids, out, columns, taken of a row; items are rows."""
    x, ids, out, columns, taken = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3), word_at(s, 4)
    for place in range(first * taken, end * taken):
        chosen = word_at(ids, place)
        inside = 0 <= chosen < columns
        source = x + (place // taken * columns + (chosen if inside else 0)) * 4
        put_float(out + place * 4, float_at(source) if inside else types.float32(0))


@cfunc("void(intp, intp, intp, intp)")
def _scatter_last(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: values, ids, out, columns; items are rows, with one value each."""
    values, ids, out, columns = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3)
    for row in range(first, end):
        for column in range(columns):
            put_float(out + (row * columns + column) * 4, types.float32(0))
        chosen = word_at(ids, row)
        if 0 <= chosen < columns:
            put_float(out + (row * columns + chosen) * 4, float_at(values + row * 4))


def sum_last_call(rows: int, columns: int) -> Call:
    """x (rows, columns) → (rows,)."""
    return Call(_sum_last.address, (0, 0, columns), (0, 1), rows, rows * (5 + columns * ELEMENT_NS))


def sum_first_call(rows: int, columns: int) -> Call:
    """x (rows, columns) → (columns,)."""
    return Call(_sum_first.address, (0, 0, rows, columns), (0, 1), columns, rows * columns * ELEMENT_NS, 16)


def max_last_call(rows: int, columns: int) -> Call:
    """x (rows, columns) → (rows,)."""
    return Call(_max_last.address, (0, 0, columns), (0, 1), rows, rows * (10 + columns * ELEMENT_NS))


def argmax_last_call(rows: int, columns: int) -> Call:
    """x (rows, columns) → i64 (rows,)."""
    return Call(_argmax_last.address, (0, 0, columns), (0, 1), rows, rows * columns * 1.0)


def embedding_call(table_rows: int, columns: int, ids: int) -> Call:
    """Table (rows, columns), ids → (ids, columns)."""
    return Call(_embedding.address, (0, 0, 0, table_rows, columns), (0, 1, 2), ids, ids * columns * ELEMENT_NS)


def embedding_grad_call(ids: int, columns: int, table_rows: int) -> Call:
    """Gradient (ids, columns), ids → (rows, columns)."""
    numbers = (0, 0, 0, ids, table_rows, columns)
    nanoseconds = (ids + table_rows) * columns * ELEMENT_NS
    return Call(_embedding_grad.address, numbers, (0, 1, 2), columns, nanoseconds, 16)


def take_last_call(rows: int, columns: int, taken: int) -> Call:
    """x (rows, columns), ids (rows, taken) → (rows, taken)."""
    return Call(_take_last.address, (0, 0, 0, columns, taken), (0, 1, 2), rows, rows * taken * 5.0)


def scatter_last_call(rows: int, columns: int) -> Call:
    """Values (rows, 1), ids (rows, 1) → (rows, columns)."""
    return Call(_scatter_last.address, (0, 0, 0, columns), (0, 1, 2), rows, rows * columns * ELEMENT_NS)


def matrix(x: torch.Tensor) -> torch.Tensor:
    """The contiguous 2-D view: leading dimensions × last."""
    columns = x.shape[-1] if x.ndim else 1
    return x.contiguous().view(-1, columns)


def _along_rows(x: torch.Tensor, call: Callable[[int, int], Call], dtype: torch.dtype) -> torch.Tensor:
    out = torch.empty((*x.shape[:-1], 1), dtype=dtype)
    rows = matrix(x)
    run(call(rows.shape[0], rows.shape[1]), (rows, out))
    return out


def sum_last(x: torch.Tensor) -> torch.Tensor:
    """(…, n) → (…, 1), f32 in lanes and halves, i64 wrapping."""
    if x.dtype != torch.float32:
        return x.sum(-1, keepdim=True)
    return _along_rows(x, sum_last_call, torch.float32)


def sum_first(x: torch.Tensor) -> torch.Tensor:
    """(…, D) → (1, D) over all rows."""
    rows = matrix(x)
    if x.dtype != torch.float32:
        return rows.sum(0, keepdim=True)
    out = torch.empty((1, rows.shape[1]))
    run(sum_first_call(rows.shape[0], rows.shape[1]), (rows, out))
    return out


def max_last(x: torch.Tensor) -> torch.Tensor:
    """(…, n) → (…, 1): the first of the greatest elements; NaN if there is one."""
    if x.dtype != torch.float32:
        return x.amax(-1, keepdim=True)
    return _along_rows(x, max_last_call, torch.float32)


def argmax_last(x: torch.Tensor) -> torch.Tensor:
    """(…, n) → (…, 1) i64: the first NaN, else the first of the greatest."""
    if x.dtype != torch.float32:
        out = np.argmax(matrix(x).numpy(), axis=1)
        return torch.from_numpy(out).view(*x.shape[:-1], 1)
    return _along_rows(x, argmax_last_call, torch.int64)


def embedding(table: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Row ids[n] of the table for each n; zeros for an id out of range."""
    if table.dtype != torch.float32:
        rows = table.shape[0]
        inside = ((ids >= 0) & (ids < rows)).unsqueeze(-1)
        return torch.where(inside, table[ids.clamp(0, rows - 1)], torch.zeros((), dtype=table.dtype))
    table, ids = table.contiguous(), ids.contiguous()
    out = torch.empty((*ids.shape, table.shape[1]))
    run(embedding_call(table.shape[0], table.shape[1], ids.numel()), (table, ids, out))
    return out


def embedding_grad(gradient: torch.Tensor, ids: torch.Tensor, rows: int) -> torch.Tensor:
    """Rows of the gradient added, in order, to the rows that their ids name."""
    source, ids = matrix(gradient), ids.contiguous()
    out = torch.empty((rows, source.shape[1]))
    run(embedding_grad_call(ids.numel(), source.shape[1], rows), (source, ids, out))
    return out


def take_last(x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """x[…, ids[…]]; zero for an id out of range."""
    if x.dtype == torch.float32:
        rows, chosen = matrix(x), matrix(ids)
        out = torch.empty(ids.shape)
        run(take_last_call(rows.shape[0], rows.shape[1], chosen.shape[1]), (rows, chosen, out))
        return out
    columns = x.shape[-1]
    taken = x.gather(-1, ids.clamp(0, columns - 1))
    inside = (ids >= 0) & (ids < columns)
    return torch.where(inside, taken, torch.zeros((), dtype=x.dtype))


def scatter_last(values: torch.Tensor, ids: torch.Tensor, columns: int) -> torch.Tensor:
    """Zeros (…, columns) but for the value at column ids[…] of its row."""
    out = torch.empty((*values.shape[:-1], columns), dtype=values.dtype)
    if values.dtype == torch.float32:
        run(scatter_last_call(ids.numel(), columns), (values.contiguous(), ids.contiguous(), out))
        return out
    out.zero_()
    inside = (ids >= 0) & (ids < columns)
    place = ids.clamp(0, columns - 1)
    return out.scatter_(-1, place, torch.where(inside, values, torch.zeros((), dtype=values.dtype)))
