"""Matrix products of rep-v1: every element a chain of multiply, then add, k ascending from +0.0, two roundings a term.

The inner loop is written in LLVM IR (through numba's intrinsics): vectors run over columns, a block of rows shares each
load of the right operand. No fast-math flag is set, so LLVM may not contract the multiply and the add; the width of the
vectors is a matter of speed only. NaNs keep whatever payload the processor gives them (see `emit`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gensyn_node.primitives.errors import InvariantViolation
from ml.kernels.call import Call, run
from ml.kernels.compiler import cfunc, njit
from ml.kernels.memory import LANE, NUMBER, WORD, float_at, load, pointer, put_float, store, times, transposed, word_at
from ml.kernels.processor import has_feature, processor


def _blocking() -> tuple[int, int]:
    """Vector width in floats and rows of a block, by what the registers hold and what runs best."""
    # Zen 4 does 512-bit arithmetic in halves: measured a fifth slower than 256-bit code there, twice as fast on Zen 5.
    if has_feature("avx512f") and processor()[0] != "znver4":
        return 16, 8
    if has_feature("avx2"):
        return 8, 4
    return 4, 4


WIDTH, ROWS = _blocking()
VECTORS = 2
COLUMNS = WIDTH * VECTORS
UNROLL = 4
K_BLOCK = 256
"""Terms taken at a time: a panel of the right operand stays in the first cache, the left block in the second."""
ROWS_BLOCK = 128
COLUMNS_BLOCK_MAX = 256
"""What is copied at once: 128 KiB of the left operand, 256 KiB of the right."""
ITEMS_WANTED = 8
"""Big products are cut into so many items at least, for threads to share."""
TERMS_PER_NS = 30.0
"""Multiply-adds of one thread, about."""


def _block_generator(packed_left: bool) -> Callable[..., Any]:
    """One block of ROWS × COLUMNS sums in registers, over `terms` terms."""
    vector = ir.VectorType(NUMBER, WIDTH)
    offsets = [v * WIDTH * 4 for v in range(VECTORS)]
    k_step = ROWS * 4 if packed_left else 4

    def terms_loop(builder: Any, rows: list[Any], panel: Any, bounds: tuple[Any, Any], unroll: int, sums: Any) -> Any:
        before = builder.basic_block
        body, done = builder.append_basic_block("terms"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", *bounds), body, done)
        builder.position_at_end(body)
        k = builder.phi(WORD)
        entering = [[builder.phi(vector) for _ in offsets] for _ in rows]
        current = [list(row) for row in entering]
        left_at = [builder.gep(row, [times(builder, k, k_step)]) for row in rows]
        panel_at = builder.gep(panel, [times(builder, k, COLUMNS * 4)])
        for u in range(unroll):
            columns = [load(builder, vector, panel_at, u * COLUMNS * 4 + offset) for offset in offsets]
            for r in range(ROWS):
                scalar = load(builder, NUMBER, left_at[r], u * k_step + (r * 4 if packed_left else 0))
                nothing = ir.Constant(vector, ir.Undefined)
                spread = builder.insert_element(nothing, scalar, ir.Constant(LANE, 0))
                spread = builder.shuffle_vector(spread, nothing, ir.Constant(ir.VectorType(LANE, WIDTH), None))
                for v in range(VECTORS):
                    current[r][v] = builder.fadd(current[r][v], builder.fmul(spread, columns[v]))
        following = builder.add(k, ir.Constant(WORD, unroll))
        builder.cbranch(builder.icmp_signed("<", following, bounds[1]), body, done)
        k.add_incoming(bounds[0], before)
        k.add_incoming(following, body)
        builder.position_at_end(done)
        leaving = [[builder.phi(vector) for _ in offsets] for _ in rows]
        for r in range(ROWS):
            for v in range(VECTORS):
                for phi in (entering[r][v], leaving[r][v]):
                    phi.add_incoming(sums[r][v], before)
                    phi.add_incoming(current[r][v], body)
        return leaving

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        left, row_step, panel, terms, c, c_step, fresh = arguments
        row_c = [pointer(builder, builder.add(c, times(builder, c_step, r))) for r in range(ROWS)]
        is_fresh = builder.icmp_signed("!=", fresh, ir.Constant(WORD, 0))
        zero = ir.Constant(vector, None)
        sums = [[builder.select(is_fresh, zero, load(builder, vector, row, at)) for at in offsets] for row in row_c]
        steps = [0] * ROWS if packed_left else list(range(ROWS))
        rows = [pointer(builder, builder.add(left, times(builder, row_step, step))) for step in steps]
        whole = builder.and_(terms, ir.Constant(WORD, -UNROLL))
        right = pointer(builder, panel)
        sums = terms_loop(builder, rows, right, (ir.Constant(WORD, 0), whole), UNROLL, sums)
        sums = terms_loop(builder, rows, right, (whole, terms), 1, sums)
        for r in range(ROWS):
            for v in range(VECTORS):
                store(builder, sums[r][v], row_c[r], offsets[v])
        return context.get_dummy_value()

    return generate


@intrinsic
def _block(typing_context, left, row_step, panel, terms, c, c_step, fresh):  # type: ignore[no-untyped-def]
    """c[r, j] = chain over k of c[r, j] + left[r, k] * panel[k, j]; addresses, steps in bytes, counts.

    Rows of `left` are `row_step` apart, their terms contiguous. A `fresh` chain starts at +0.0 instead of c[r, j].
    """
    return types.void(*[types.intp] * 7), _block_generator(packed_left=False)


@intrinsic
def _block_packed(typing_context, left, row_step, panel, terms, c, c_step, fresh):  # type: ignore[no-untyped-def]
    """`_block` with a left block of ROWS numbers for each term."""
    return types.void(*[types.intp] * 7), _block_generator(packed_left=True)


@intrinsic
def _copy_columns(typing_context, target, source):  # type: ignore[no-untyped-def]
    """Copy COLUMNS floats."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        to, origin = (pointer(builder, item) for item in arguments)
        for v in range(VECTORS):
            vector = ir.VectorType(NUMBER, WIDTH)
            store(builder, load(builder, vector, origin, v * WIDTH * 4), to, v * WIDTH * 4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _copy_rows(typing_context, target, source):  # type: ignore[no-untyped-def]
    """Copy ROWS floats."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        to, origin = (pointer(builder, item) for item in arguments)
        store(builder, load(builder, ir.VectorType(NUMBER, ROWS), origin, 0), to, 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _transpose(typing_context, target, target_step, source, source_step):  # type: ignore[no-untyped-def]
    """target[i, j] = source[j, i] for WIDTH × WIDTH floats, rows the steps (bytes) apart."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        target, target_step, source, source_step = arguments
        vector = ir.VectorType(NUMBER, WIDTH)

        def row(base: Any, step: Any, number: int) -> Any:
            return pointer(builder, builder.add(base, times(builder, step, number)))

        rows = transposed(builder, [load(builder, vector, row(source, source_step, j), 0) for j in range(WIDTH)])
        for i in range(WIDTH):
            store(builder, rows[i], row(target, target_step, i), 0)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate


_ROWS, _TERMS, _COLUMNS, _LEFT, _RIGHT, _OUT = 0, 1, 2, 3, 4, 5
_INNER, _LEFT_OUTER, _LEFT_INNER, _LEFT_ROW, _LEFT_K = 6, 7, 8, 9, 10
_RIGHT_OUTER, _RIGHT_INNER, _RIGHT_K, _RIGHT_COLUMN, _ROWS_BLOCK, _COLUMNS_BLOCK, _GOES_ON = 11, 12, 13, 14, 15, 16, 17
_EDGE_FLOATS = ROWS * COLUMNS
_STRIP_FLOATS = K_BLOCK * COLUMNS_BLOCK_MAX


@njit("void(intp, intp, intp, intp, intp, intp, intp)", inline="never")
def _pack_strip(strip, panel_bytes, source, b_k, b_column, count, width):  # type: ignore[no-untyped-def]
    """Columns of the right operand, `count` terms of them, as panels of COLUMNS columns, the last filled with zeros."""
    whole = width // COLUMNS * COLUMNS
    transposed = count // WIDTH * WIDTH if b_k == 4 and b_column != 4 else 0
    if b_column == 4:
        for k in range(count):
            for column in range(0, whole, COLUMNS):
                target = strip + column // COLUMNS * panel_bytes + k * COLUMNS * 4
                _copy_columns(target, source + k * b_k + column * 4)
    elif transposed:
        for column in range(0, whole, COLUMNS):
            target = strip + column // COLUMNS * panel_bytes
            for k in range(0, transposed, WIDTH):
                for v in range(0, COLUMNS, WIDTH):
                    to = target + (k * COLUMNS + v) * 4
                    _transpose(to, COLUMNS * 4, source + k * 4 + (column + v) * b_column, b_column)
    for column in range(0, width, COLUMNS):
        from_k = 0
        if column < whole:
            from_k = count if b_column == 4 else transposed
        target = strip + column // COLUMNS * panel_bytes
        for k in range(from_k, count):
            for j in range(COLUMNS):
                inside = column + j < width
                value = float_at(source + k * b_k + (column + j) * b_column) if inside else types.float32(0)
                put_float(target + (k * COLUMNS + j) * 4, value)


@njit("void(intp, intp, intp, intp, intp, intp, intp)", inline="never")
def _pack_left(left, row_stride, source, a_row, a_k, count, height):  # type: ignore[no-untyped-def]
    """Rows of the left operand, `count` terms of them, zeros up to whole groups of ROWS.

    Contiguous terms stay rows, `row_stride` bytes apart; otherwise a group holds ROWS numbers for each term.
    """
    if a_k == 4:
        whole_k = count // COLUMNS * COLUMNS
        for row in range(height):
            target, origin = left + row * row_stride, source + row * a_row
            for k in range(0, whole_k, COLUMNS):
                _copy_columns(target + k * 4, origin + k * 4)
            for k in range(whole_k, count):
                put_float(target + k * 4, float_at(origin + k * 4))
        for row in range(height, (height + ROWS - 1) // ROWS * ROWS):
            for k in range(count):
                put_float(left + row * row_stride + k * 4, types.float32(0))
        return
    whole = height // ROWS * ROWS if a_row == 4 else 0
    for k in range(count):
        for row in range(0, whole, ROWS):
            _copy_rows(left + row * row_stride + k * ROWS * 4, source + row * 4 + k * a_k)
        for row in range(whole, height, ROWS):
            for r in range(ROWS):
                inside = row + r < height
                value = float_at(source + (row + r) * a_row + k * a_k) if inside else types.float32(0)
                put_float(left + row * row_stride + (k * ROWS + r) * 4, value)


@cfunc("void(intp, intp, intp, intp)")
def _products(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Items `first` … `end - 1`: blocks of rows and columns of a batch of products; `s` is what `matmul_call` lays out.

    Terms are taken K_BLOCK at a time, the sums so far wait in the output. Panels of COLUMNS columns of the right
    operand are copied so that they lie together, and the left block too unless its rows' terms do already.
    """
    rows, terms, columns = word_at(s, _ROWS), word_at(s, _TERMS), word_at(s, _COLUMNS)
    inner = word_at(s, _INNER)
    a_row, a_k = word_at(s, _LEFT_ROW), word_at(s, _LEFT_K)
    b_k, b_column = word_at(s, _RIGHT_K), word_at(s, _RIGHT_COLUMN)
    rows_block, columns_block = word_at(s, _ROWS_BLOCK), word_at(s, _COLUMNS_BLOCK)
    c_row = columns * 4
    down, across = (rows + rows_block - 1) // rows_block, (columns + columns_block - 1) // columns_block
    strip_at = scratch
    edge_at = strip_at + _STRIP_FLOATS * 4
    left_at = edge_at + _EDGE_FLOATS * 4
    for item in range(first, end):
        batch = item // (down * across)
        block = item - batch * (down * across)
        first_row, first_column = block // across * rows_block, block % across * columns_block
        height, width = min(rows_block, rows - first_row), min(columns_block, columns - first_column)
        outer = batch // inner
        within = batch - outer * inner
        a_base = word_at(s, _LEFT) + outer * word_at(s, _LEFT_OUTER) + within * word_at(s, _LEFT_INNER)
        a_base += first_row * a_row
        b_base = word_at(s, _RIGHT) + outer * word_at(s, _RIGHT_OUTER) + within * word_at(s, _RIGHT_INNER)
        b_base += first_column * b_column
        c_base = word_at(s, _OUT) + batch * rows * c_row + first_row * c_row + first_column * 4
        whole_columns = width // COLUMNS * COLUMNS
        for first_term in range(0, terms, K_BLOCK):
            count = min(K_BLOCK, terms - first_term)
            fresh = 1 if first_term == 0 and word_at(s, _GOES_ON) == 0 else 0
            # Not a power of two: rows one such stride apart would all fall into one set of the cache.
            row_stride = (count + 16) * 4
            panel_bytes = count * COLUMNS * 4
            _pack_strip(strip_at, panel_bytes, b_base + first_term * b_k, b_k, b_column, count, width)
            for top in range(0, height, ROWS_BLOCK):
                part = min(ROWS_BLOCK, height - top)
                _pack_left(left_at, row_stride, a_base + first_term * a_k + top * a_row, a_row, a_k, count, part)
                for column in range(0, width, COLUMNS):
                    panel_at = strip_at + column // COLUMNS * panel_bytes
                    wide = min(COLUMNS, width - column)
                    for row in range(0, part, ROWS):
                        target = c_base + (top + row) * c_row + column * 4
                        high = min(ROWS, part - row)
                        to, to_row = target, c_row
                        if high < ROWS or column >= whole_columns:
                            to, to_row = edge_at, COLUMNS * 4
                            for r in range(high):
                                for j in range(wide):
                                    put_float(to + r * to_row + j * 4, float_at(target + r * c_row + j * 4))
                        if a_k == 4:
                            _block(left_at + row * row_stride, row_stride, panel_at, count, to, to_row, fresh)
                        else:
                            _block_packed(left_at + row * row_stride, 4, panel_at, count, to, to_row, fresh)
                        if to != target:
                            for r in range(high):
                                for j in range(wide):
                                    put_float(target + r * c_row + j * 4, float_at(to + r * to_row + j * 4))


def blocks(batch: int, rows: int, terms: int, columns: int) -> tuple[int, int]:
    """Rows and columns of an item: what fits the caches, and enough items for threads to share big products."""
    down, across = 1, -(-columns // COLUMNS_BLOCK_MAX)
    enough = min(ITEMS_WANTED, int(batch * rows * terms * columns / TERMS_PER_NS / 8_000))
    while batch * down * across < enough:
        if rows // down > ROWS_BLOCK:
            down *= 2
        elif columns // across > 4 * COLUMNS:
            across *= 2
        elif rows // down > 8 * ROWS:
            down *= 2
        else:
            break
    return _rounded(rows, down, ROWS), _rounded(columns, across, COLUMNS)


def _rounded(size: int, pieces: int, step: int) -> int:
    piece = -(-size // pieces)
    return -(-piece // step) * step


@lru_cache(maxsize=4096)
def matmul_call(
    left: tuple[tuple[int, ...], tuple[int, ...]], right: tuple[tuple[int, ...], tuple[int, ...]], goes_on: bool = False
) -> Call | None:
    """The call for operands given as (shape, strides in elements); None when their leading axes need a copy.

    With `goes_on` every chain continues from what the output holds instead of +0.
    """
    (a_shape, a_steps), (b_shape, b_steps) = left, right
    rows, terms, columns = a_shape[-2], a_shape[-1], b_shape[-1]
    flat = len(b_shape) == 2 and len(a_shape) != 2
    merged = _merged([(size, step) for size, step in zip(a_shape[:-2], a_steps[:-2], strict=True)])
    if flat and a_shape[:-2]:
        together = _merged([*zip(a_shape[:-1], a_steps[:-1], strict=True)])
        if len(together) > 1:
            return None
        rows = together[0][0]
        a_batch, b_batch, row_step = [(1, 0)], [(1, 0)], together[0][1]
    else:
        a_batch, row_step = merged, a_steps[-2]
        b_batch = _merged([*zip(b_shape[:-2], b_steps[:-2], strict=True)])
        levels = max(len(a_batch), len(b_batch))
        if levels > 1:
            a_batch = [*zip(a_shape[:-2], a_steps[:-2], strict=True)]
            b_batch = [*zip(b_shape[:-2], b_steps[:-2], strict=True)]
            kept = [axis for axis, (size, _) in enumerate(a_batch) if size > 1]
            a_batch, b_batch = [a_batch[axis] for axis in kept], [b_batch[axis] for axis in kept]
        if len(a_batch) > 2:
            return None
    batch = 1
    for size, _ in a_batch:
        batch *= size
    inner = a_batch[1][0] if len(a_batch) == 2 else 1
    (a_outer, a_inner), (b_outer, b_inner) = (
        (levels_[0][1], levels_[1][1] if len(levels_) == 2 else 0) for levels_ in (a_batch, b_batch)
    )
    rows_block, columns_block = blocks(batch, rows, terms, columns)
    items = batch * -(-rows // rows_block) * -(-columns // columns_block)
    steps = (a_outer, a_inner, row_step, a_steps[-1], b_outer, b_inner, b_steps[-2], b_steps[-1])
    in_bytes = [step * 4 for step in steps]
    numbers = (rows, terms, columns, 0, 0, 0, inner, *in_bytes, rows_block, columns_block, int(goes_on))
    nanoseconds = batch * rows * terms * columns / TERMS_PER_NS
    return Call(_products.address, numbers, (_LEFT, _RIGHT, _OUT), items, nanoseconds)


def _merged(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(size, stride) of axes, joined where one walks on where the next ends; at least one."""
    merged: list[tuple[int, int]] = []
    for size, step in axes:
        if size == 1:
            continue
        if merged and merged[-1][1] == step * size:
            merged[-1] = (merged[-1][0] * size, step)
        else:
            merged.append((size, step))
    return merged or [(1, 0)]


def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """f32 (..., M, K) @ (..., K, N), leading dimensions as the operator's rule has them; any strides."""
    if left.ndim < right.ndim:
        left = left.expand(*right.shape[:-2], *left.shape[-2:])
    out = torch.empty((*left.shape[:-1], right.shape[-1]), dtype=torch.float32)
    call = matmul_call((tuple(left.shape), left.stride()), (tuple(right.shape), right.stride()))
    if call is None:
        left, right = left.contiguous(), right.contiguous()
        call = matmul_call((tuple(left.shape), left.stride()), (tuple(right.shape), right.stride()))
    if call is None:
        raise InvariantViolation(f"no call for {tuple(left.shape)} @ {tuple(right.shape)}")
    run(call, (left, right, out))
    return out
