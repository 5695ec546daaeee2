"""Matrix products of rep-v1: every element a chain of multiply, then add, k ascending from +0.0, two roundings a term.

The inner loop is written in LLVM IR (through numba's intrinsics): vectors run over columns, a block of rows shares each
load of the right operand. No fast-math flag is set, so LLVM may not contract the multiply and the add; the width of the
vectors is a matter of speed only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ml.kernels.processor import has_feature, processor
from ml.kernels.threads import run_parts


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
K_BLOCK = 256
PARALLEL_TERMS = 1 << 20
"""Below so many terms a product is done by one thread."""


@intrinsic
def _block(typing_context, a, row_step, k_step, packed, terms, c, c_step, fresh):  # type: ignore[no-untyped-def]
    """c[r, j] = chain over k of c[r, j] + a[r, k] * packed[k, j] for one block; addresses, steps in bytes, counts.

    A `fresh` chain starts at +0.0 instead of c[r, j].
    """
    signature = types.void(*[types.intp] * 8)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        a, row_step, k_step, packed, terms, c, c_step, fresh = arguments
        word, number = ir.IntType(64), ir.FloatType()
        vector = ir.VectorType(number, WIDTH)
        lane_zero = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None)

        def load(kind: Any, address: Any) -> Any:
            return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)

        def at(address: Any, step: Any, times: int) -> Any:
            return builder.add(address, builder.mul(step, ir.Constant(word, times)))

        row_c = [at(c, c_step, r) for r in range(ROWS)]
        offsets = [ir.Constant(word, v * WIDTH * 4) for v in range(VECTORS)]
        is_fresh, zero = builder.icmp_signed("!=", fresh, ir.Constant(word, 0)), ir.Constant(vector, None)
        start = [
            [builder.select(is_fresh, zero, load(vector, builder.add(row, offset))) for offset in offsets]
            for row in row_c
        ]
        before = builder.basic_block
        loop = builder.append_basic_block("terms")
        done = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", terms, ir.Constant(word, 0)), loop, done)

        builder.position_at_end(loop)
        left, a_at, b_at = builder.phi(word), builder.phi(word), builder.phi(word)
        sums = [[builder.phi(vector) for _ in offsets] for _ in row_c]
        columns = [load(vector, builder.add(b_at, offset)) for offset in offsets]
        after = []
        for r in range(ROWS):
            scalar = load(number, at(a_at, row_step, r))
            spread = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
            spread = builder.shuffle_vector(spread, ir.Constant(vector, ir.Undefined), lane_zero)
            after.append([builder.fadd(sums[r][v], builder.fmul(spread, columns[v])) for v in range(VECTORS)])
        next_left = builder.sub(left, ir.Constant(word, 1))
        next_a, next_b = builder.add(a_at, k_step), builder.add(b_at, ir.Constant(word, COLUMNS * 4))
        for phi, first, later in ((left, terms, next_left), (a_at, a, next_a), (b_at, packed, next_b)):
            phi.add_incoming(first, before)
            phi.add_incoming(later, loop)
        for r in range(ROWS):
            for v in range(VECTORS):
                sums[r][v].add_incoming(start[r][v], before)
                sums[r][v].add_incoming(after[r][v], loop)
        builder.cbranch(builder.icmp_signed(">", next_left, ir.Constant(word, 0)), loop, done)

        builder.position_at_end(done)
        results = [[builder.phi(vector) for _ in offsets] for _ in row_c]
        nan = ir.Constant(vector, [ir.Constant(number, float("nan"))] * WIDTH)
        for r in range(ROWS):
            for v in range(VECTORS):
                result = results[r][v]
                result.add_incoming(start[r][v], before)
                result.add_incoming(after[r][v], loop)
        for r in range(ROWS):
            for v in range(VECTORS):
                result = results[r][v]
                canonical = builder.select(builder.fcmp_unordered("uno", result, result), nan, result)
                address = builder.inttoptr(builder.add(row_c[r], offsets[v]), vector.as_pointer())
                builder.store(canonical, address, align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _float_at(typing_context, address):  # type: ignore[no-untyped-def]
    """The float at an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.FloatType().as_pointer()), align=4)

    return types.float32(types.intp), generate


@intrinsic
def _put_float(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Write a float to an address."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.FloatType().as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.float32), generate


@njit("void(intp[::1], intp, intp)", nogil=True, cache=True, error_model="numpy")
def _panels(s, first, end):  # type: ignore[no-untyped-def]
    """Panels `first` … `end - 1` of a batch of products; `s` is what `matmul` lays out.

    A panel is COLUMNS columns of one product. Terms are taken K_BLOCK at a time: the sums so far wait in `c`. A left
    operand whose rows are not contiguous is copied into blocks of ROWS, so that a block's terms lie together.
    """
    rows, terms, columns = s[0], s[1], s[2]
    a_row, a_k, b_k, b_column, c_row = s[5], s[6], s[9], s[10], s[2] * 4
    across = (columns + COLUMNS - 1) // COLUMNS
    block = min(K_BLOCK, terms)
    groups = (rows + ROWS - 1) // ROWS
    scattered = a_k != 4
    # Vector loads that cross a cache line take twice as long: start where a line does.
    packed = np.zeros(block * COLUMNS + 16, np.float32)
    packed_at = (packed.ctypes.data + 63) // 64 * 64
    edge = np.zeros(ROWS * COLUMNS, np.float32)
    edge_at = edge.ctypes.data
    # Not a power of two: groups one such stride apart would all fall into one set of the cache.
    stride = ROWS * block + 16
    copied = np.zeros((groups if scattered else 1) * stride, np.float32)
    copied_at = copied.ctypes.data
    panel = first
    while panel < end:
        batch = panel // across
        stop = min(end, (batch + 1) * across)
        a_base, b_base, c_base = s[3] + batch * s[4], s[7] + batch * s[8], s[11] + batch * rows * c_row
        for first_term in range(0, terms, K_BLOCK):
            count = min(K_BLOCK, terms - first_term)
            fresh = 1 if first_term == 0 else 0
            if scattered:
                for k in range(count):
                    source = a_base + (first_term + k) * a_k
                    for group in range(rows // ROWS):
                        place = group * stride + k * ROWS
                        for r in range(ROWS):
                            copied[place + r] = _float_at(source + (group * ROWS + r) * a_row)
                    for row in range(rows // ROWS * ROWS, rows):
                        copied[row // ROWS * stride + k * ROWS + row % ROWS] = _float_at(source + row * a_row)
            for column in range((panel - batch * across) * COLUMNS, (stop - batch * across) * COLUMNS, COLUMNS):
                width = min(COLUMNS, columns - column)
                for k in range(count):
                    source = b_base + (first_term + k) * b_k + column * b_column
                    target = packed_at + k * COLUMNS * 4
                    if b_column == 4:
                        for j in range(width):
                            _put_float(target + j * 4, _float_at(source + j * 4))
                    else:
                        for j in range(width):
                            _put_float(target + j * 4, _float_at(source + j * b_column))
                for group in range(groups):
                    row = group * ROWS
                    height = min(ROWS, rows - row)
                    if scattered:
                        a_at, row_step, k_step = copied_at + group * stride * 4, 4, ROWS * 4
                    elif height == ROWS:
                        a_at, row_step, k_step = a_base + row * a_row + first_term * 4, a_row, 4
                    else:
                        for r in range(height):
                            for k in range(count):
                                copied[r * block + k] = _float_at(a_base + (row + r) * a_row + (first_term + k) * 4)
                        a_at, row_step, k_step = copied_at, block * 4, 4
                    target = c_base + row * c_row + column * 4
                    if height == ROWS and width == COLUMNS:
                        _block(a_at, row_step, k_step, packed_at, count, target, c_row, fresh)
                        continue
                    for r in range(height):
                        for j in range(width):
                            edge[r * COLUMNS + j] = _float_at(target + r * c_row + j * 4)
                    _block(a_at, row_step, k_step, packed_at, count, edge_at, COLUMNS * 4, fresh)
                    for r in range(height):
                        for j in range(width):
                            _put_float(target + r * c_row + j * 4, edge[r * COLUMNS + j])
        panel = stop
    # numba frees an array after the last mention of its name; its address is used until here.
    packed[0] = np.float32(0)


def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """f32 (..., M, K) @ (..., K, N), leading dimensions as the operator's rule has them; any strides."""
    if left.ndim < right.ndim:
        left = left.expand(*right.shape[:-2], *left.shape[-2:])
    rows, terms, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    out = torch.empty((*left.shape[:-1], columns), dtype=torch.float32)
    if out.numel() == 0:
        return out
    if right.ndim == 2 and left.ndim != 2:
        left = left.reshape(-1, terms)
        rows = left.shape[0]
    if left.ndim > 3:
        left = left.flatten(0, -3)
        right = right.flatten(0, -3)
    batch = left.shape[0] if left.ndim == 3 else 1
    a_step, b_step = left.stride(), right.stride()
    layout = np.array(
        [
            rows,
            terms,
            columns,
            left.data_ptr(),
            a_step[0] * 4 if left.ndim == 3 else 0,
            a_step[-2] * 4,
            a_step[-1] * 4,
            right.data_ptr(),
            b_step[0] * 4 if right.ndim == 3 else 0,
            b_step[-2] * 4,
            b_step[-1] * 4,
            out.data_ptr(),
        ],
        np.intp,
    )
    panels = batch * -(-columns // COLUMNS)
    work = batch * rows * terms * columns
    run_parts(panels, work, PARALLEL_TERMS, lambda first, end: _panels(layout, first, end))
    return out
