"""Max pooling and its gradient, straight from the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ml.kernels.matmul import WIDTH
from ml.kernels.threads import run_parts

PARALLEL_ELEMENTS = 1 << 16
"""Below so many elements of windows one thread does all."""


def _lanes_step(step: int) -> Any:
    """Look at one element of WIDTH windows next to each other, which lie `step` floats apart."""

    @intrinsic
    def look(typing_context, source, best, chosen, number, low, high):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            source, best, chosen, number, low, high = arguments
            floats, integers = ir.VectorType(ir.FloatType(), WIDTH), ir.VectorType(ir.IntType(32), WIDTH)

            def pointer(address: Any, kind: Any) -> Any:
                return builder.inttoptr(address, kind.as_pointer())

            def spread(item: Any) -> Any:
                lanes = builder.insert_element(
                    ir.Constant(integers, ir.Undefined),
                    builder.trunc(item, ir.IntType(32)),
                    ir.Constant(ir.IntType(32), 0),
                )
                return builder.shuffle_vector(lanes, ir.Constant(integers, ir.Undefined), ir.Constant(integers, None))

            value = builder.load(pointer(source, floats), align=4)
            if step == 2:
                # The second half overlaps the first by one float: nothing beyond the last window's is read.
                later = builder.add(source, ir.Constant(ir.IntType(64), 4 * (WIDTH - 1)))
                following = builder.load(pointer(later, floats), align=4)
                order = [*range(0, WIDTH, 2), *range(WIDTH + 1, 2 * WIDTH, 2)]
                value = builder.shuffle_vector(value, following, ir.Constant(integers, order))
            held = builder.load(pointer(best, floats), align=4)
            lane = ir.Constant(integers, list(range(WIDTH)))
            inside = builder.and_(
                builder.icmp_signed(">=", lane, spread(low)), builder.icmp_signed("<", lane, spread(high))
            )
            # Greater or NaN, and nothing replaces a NaN.
            greater = builder.fcmp_unordered(">", value, held)
            taken = builder.and_(builder.and_(greater, builder.fcmp_ordered("ord", held, held)), inside)
            builder.store(builder.select(taken, value, held), pointer(best, floats), align=4)
            before = builder.load(pointer(chosen, integers), align=4)
            builder.store(builder.select(taken, spread(number), before), pointer(chosen, integers), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 6), generate

    return look


_look_next = _lanes_step(1)
_look_second = _lanes_step(2)


@njit(
    "void(float32[:,:,::1], float32[:,:,::1], int64[:,:,::1], intp[::1], intp, intp)",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _greatest(images, values, within, s, first, end):  # type: ignore[no-untyped-def]
    """Planes `first` … `end - 1`; `s`: size, start, step, dilation of each axis."""
    tall, top, down, spread = s[0], s[1], s[2], s[3]
    broad, left, across, gap = s[4], s[5], s[6], s[7]
    height, width = images.shape[1], images.shape[2]
    rows, columns = values.shape[1], values.shape[2]
    room = (columns + WIDTH - 1) // WIDTH * WIDTH
    best, chosen = np.empty(room, np.float32), np.empty(room, np.int32)
    best_at, chosen_at, images_at = best.ctypes.data, chosen.ctypes.data, images.ctypes.data
    limit = images_at + images.size * 4
    for n in range(first, end):
        for o in range(rows):
            # What stands outside is -infinity: the element that a window without a greater one shows first.
            best[:] = np.float32(-np.inf)
            chosen[:] = np.int32(0)
            for k in range(tall):
                row = top + o * down + k * spread
                if row < 0 or row >= height:
                    continue
                line = images_at + (n * height + row) * width * 4
                for m in range(broad):
                    start = left + m * gap
                    low = max(0, -(start // across))
                    high = min(columns, (width - 1 - start) // across + 1)
                    number = k * broad + m
                    for p in range(low // WIDTH * WIDTH, high, WIDTH):
                        source = line + (start + p * across) * 4
                        safe = source >= images_at and source + ((WIDTH - 1) * across + 1) * 4 <= limit
                        if across == 1 and safe:
                            _look_next(source, best_at + p * 4, chosen_at + p * 4, number, low - p, high - p)
                        elif across == 2 and safe:
                            _look_second(source, best_at + p * 4, chosen_at + p * 4, number, low - p, high - p)
                        else:
                            for at in range(max(low, p), min(high, p + WIDTH)):
                                value, held = images[n, row, start + at * across], best[at]
                                if (value > held or value != value) and held == held:
                                    best[at], chosen[at] = value, number
            values[n, o, :] = best[:columns]
            within[n, o, :] = chosen[:columns]
    # numba frees an array after the last mention of its name; addresses are used until here.
    best[0], chosen[0] = best[0], chosen[0]


@njit(
    "void(float32[:,:,::1], int64[:,:,::1], float32[:,:,::1], intp[::1], intp, intp)",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def _spread(gradients, within, out, s, first, end):  # type: ignore[no-untyped-def]
    """Planes `first` … `end - 1`. Windows are taken from the last: the elements of the kernel then come in order."""
    tall, top, down, spread = s[0], s[1], s[2], s[3]
    broad, left, across, gap = s[4], s[5], s[6], s[7]
    height, width = out.shape[1], out.shape[2]
    rows, columns = gradients.shape[1], gradients.shape[2]
    row_of, column_of = np.empty(tall * broad, np.intp), np.empty(tall * broad, np.intp)
    for k in range(tall * broad):
        row_of[k], column_of[k] = k // broad * spread - top, k % broad * gap - left
    for n in range(first, end):
        for i in range(height):
            for j in range(width):
                out[n, i, j] = np.float32(0)
        for o in range(rows - 1, -1, -1):
            for p in range(columns - 1, -1, -1):
                k = within[n, o, p]
                if 0 <= k < tall * broad:
                    i, j = o * down + row_of[k], p * across + column_of[k]
                    if 0 <= i < height and 0 <= j < width:
                        out[n, i, j] += gradients[n, o, p]


def greatest(images: torch.Tensor, attributes: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """(values, places within the window), each (batch, channels, down, across), under attributes of `windows`."""
    batch, channels, height, width = images.shape
    (tall, rows, top, down, spread, _), (broad, columns, left, across, gap, _) = attributes[1:7], attributes[7:13]
    shape = (batch, channels, rows, columns)
    values, within = torch.empty(shape), torch.empty(shape, dtype=torch.int64)
    settings = np.array([tall, top, down, spread, broad, left, across, gap], np.intp)
    planes = batch * channels
    arrays = (
        images.contiguous().view(planes, height, width).numpy(),
        values.view(planes, rows, columns).numpy(),
        within.view(planes, rows, columns).numpy(),
        settings,
    )
    work = values.numel() * tall * broad
    run_parts(planes, work, PARALLEL_ELEMENTS, lambda first, end: _greatest(*arrays, first, end))
    return values, within


def spread(gradients: torch.Tensor, within: torch.Tensor, attributes: tuple[int, ...]) -> torch.Tensor:
    """The gradient of the images, (batch, channels, height, width); `attributes` look from an image's elements back.

    Their places are (start + i - dilation · k) / interior: the interior is the pooling's step.
    """
    batch, channels, rows, columns = gradients.shape
    (tall, height, top, _, spread_, down), (broad, width, left, _, gap, across) = attributes[1:7], attributes[7:13]
    out = torch.empty((batch, channels, height, width))
    settings = np.array([tall, top, down, -spread_, broad, left, across, -gap], np.intp)
    planes = batch * channels
    arrays = (
        gradients.contiguous().view(planes, rows, columns).numpy(),
        within.contiguous().view(planes, rows, columns).numpy(),
        out.view(planes, height, width).numpy(),
        settings,
    )
    run_parts(planes, out.numel(), PARALLEL_ELEMENTS, lambda first, end: _spread(*arrays, first, end))
    return out
