"""Products with windows, read where they lie: convolutions without the matrix of windows.

The windows of one image are never written out. The image is copied once into *planes* (padded, divided by the
remainders of the step, so that neighbouring windows see neighbouring elements), and element k of every window lies at a
fixed offset from the window's place. Then vectors run over places (`gather_product`) or channels (`correlate`).
Each element is the chain of the definition, multiply, then add, k ascending: no bit differs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ml.kernels.call import Call
from ml.kernels.compiler import cfunc
from ml.kernels.matmul import ROWS, TERMS_PER_NS, WIDTH
from ml.kernels.memory import float_at, put_float, put_word, word_at
from ml.kernels.recipe import Recipe

VECTORS = 2
COLUMNS = WIDTH * VECTORS
ROW_COLUMNS = WIDTH * 4
"""Places that a product with one row takes at once."""
COPY_NS = 0.3
"""A float of planes, packed weights or turned gradients, about."""

Table = np.ndarray[tuple[int], np.dtype[np.intp]]


@dataclass(frozen=True)
class Planes:
    """How windows of an image (channels, height, width) lie in its planes. Sizes and offsets in floats."""

    image: tuple[int, int]
    places: tuple[int, int]
    """Windows down and across."""
    offsets: Table
    """Of element k = (channel, row, column) of a window from the window's place."""
    rows: Table
    """(remainder, row) → row of the image, or -1."""
    columns: Table
    pitch: tuple[int, int]
    """Rows of a plane, and floats of its rows."""
    plain: bool
    """Whether planes are the padded image itself: rows are copied as they are."""
    channel: int
    """Floats of one channel's planes."""

    @property
    def span(self) -> int:
        """Places of a plane from the first window's to the last one's."""
        return (self.places[0] - 1) * self.pitch[1] + self.places[1]


@lru_cache(maxsize=1024)
def planes_of(shape: tuple[int, ...], attributes: tuple[int, ...]) -> Planes:
    """The planes of an image (channels, height, width) under the attributes of `windows` over its last two axes."""
    axes = [_axis(shape[1 + axis], attributes[1 + 6 * axis : 7 + 6 * axis]) for axis in range(2)]
    (phase_h, shift_h, high, rows), (phase_w, shift_w, wide, columns) = axes
    remainders = int(phase_w.max()) + 1
    channel = (int(phase_h.max()) + 1) * remainders * high * wide
    within = ((phase_h[:, None] * remainders + phase_w) * high + shift_h[:, None]) * wide + shift_w
    offsets = np.arange(shape[0])[:, None, None] * channel + within
    plain = (attributes[4], attributes[6], attributes[10], attributes[12]) == (1, 1, 1, 1)
    return Planes(
        (shape[1], shape[2]),
        (attributes[2], attributes[8]),
        np.ascontiguousarray(offsets.reshape(-1), np.intp),
        rows,
        columns,
        (high, wide),
        plain,
        channel,
    )


def _axis(length: int, numbers: tuple[int, ...]) -> tuple[Any, Any, int, Table]:
    """Remainder and shift of each element of a window, size of a plane, and which elements it holds."""
    size, count, start, step, dilation, interior = numbers
    reach = start + dilation * np.arange(size)
    first = int(reach.min())
    phase, shift = (reach - first) % step, (reach - first) // step
    high = int(shift.max()) + count
    place = first + np.arange(int(phase.max()) + 1)[:, None] + step * np.arange(high)
    position, rest = np.divmod(place, interior)
    inside = (rest == 0) & (position >= 0) & (position < length)
    return phase, shift, high, np.ascontiguousarray(np.where(inside, position, -1).reshape(-1), np.intp)


_WORD, _FLOAT, _INT = ir.IntType(64), ir.FloatType(), ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, WIDTH)


def _load(builder: Any, kind: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=8 if kind is _WORD else 4)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)


def _spread(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(_INT, 0))
    lanes = ir.Constant(ir.VectorType(_INT, WIDTH), None)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), lanes)


def _number(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _places_block(rows: int, vectors: int) -> Any:
    """c[r, j] = chain over k of w[k, r] * x[offset[k] + j], from +0.0, for `rows` rows and `vectors` vectors."""

    @intrinsic
    def block(typing_context, weights, x, offsets, terms, c):  # type: ignore[no-untyped-def]
        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            weights, x, offsets, terms, c = arguments
            before = builder.basic_block
            loop, done = builder.append_basic_block("terms"), builder.append_basic_block("done")
            builder.branch(loop)
            builder.position_at_end(loop)
            left, w_at, o_at = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
            sums = [[builder.phi(_VECTOR) for _ in range(vectors)] for _ in range(rows)]
            at = builder.add(x, _load(builder, _WORD, o_at))
            seen = [_load(builder, _VECTOR, builder.add(at, _number(v * WIDTH * 4))) for v in range(vectors)]
            after = []
            for r in range(rows):
                weight = _spread(builder, _load(builder, _FLOAT, builder.add(w_at, _number(r * 4))))
                after.append([builder.fadd(sums[r][v], builder.fmul(weight, seen[v])) for v in range(vectors)])
            following = builder.sub(left, _number(1))
            for phi, first, later in (
                (left, terms, following),
                (w_at, weights, builder.add(w_at, _number(rows * 4))),
                (o_at, offsets, builder.add(o_at, _number(8))),
            ):
                phi.add_incoming(first, before)
                phi.add_incoming(later, loop)
            for r, v in itertools.product(range(rows), range(vectors)):
                sums[r][v].add_incoming(ir.Constant(_VECTOR, None), before)
                sums[r][v].add_incoming(after[r][v], loop)
            builder.cbranch(builder.icmp_signed(">", following, _number(0)), loop, done)
            builder.position_at_end(done)
            for r, v in itertools.product(range(rows), range(vectors)):
                _store(builder, after[r][v], builder.add(c, _number((r * vectors + v) * WIDTH * 4)))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 5), generate

    return block


_block_of_rows = _places_block(ROWS, VECTORS)
_block_of_one = _places_block(1, ROW_COLUMNS // WIDTH)


@intrinsic
def _channels_block(typing_context, x, offsets, gradient, down, across, jump, c, fresh):  # type: ignore[no-untyped-def]
    """c[r, j] = chain over places (down, across) of c[r, j] + x[offset[r] + place] * gradient[place, j]."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        x, offsets, gradient, down, across, jump, c, fresh = arguments
        pairs = list(itertools.product(range(ROWS), range(VECTORS)))
        targets = [builder.add(c, _number((r * VECTORS + v) * WIDTH * 4)) for r, v in pairs]
        is_fresh = builder.icmp_signed("!=", fresh, _number(0))
        zero = ir.Constant(_VECTOR, None)
        start = [builder.select(is_fresh, zero, _load(builder, _VECTOR, target)) for target in targets]
        bases = [builder.add(x, _load(builder, _WORD, builder.add(offsets, _number(8 * r)))) for r in range(ROWS)]
        before = builder.basic_block
        outer, inner = builder.append_basic_block("row"), builder.append_basic_block("place")
        ended, done = builder.append_basic_block("rowend"), builder.append_basic_block("done")
        builder.branch(outer)

        builder.position_at_end(outer)
        rows_left, row_at, row_gradient = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
        row_sums = [builder.phi(_VECTOR) for _ in pairs]
        builder.branch(inner)

        builder.position_at_end(inner)
        left, at, from_ = builder.phi(_WORD), builder.phi(_WORD), builder.phi(_WORD)
        sums = [builder.phi(_VECTOR) for _ in pairs]
        flows = [_load(builder, _VECTOR, builder.add(from_, _number(v * WIDTH * 4))) for v in range(VECTORS)]
        spread = [_spread(builder, _load(builder, _FLOAT, builder.add(base, at))) for base in bases]
        after = [
            builder.fadd(total, builder.fmul(spread[r], flows[v])) for total, (r, v) in zip(sums, pairs, strict=True)
        ]
        following, next_at = builder.sub(left, _number(1)), builder.add(at, _number(4))
        next_from = builder.add(from_, _number(COLUMNS * 4))
        for phi, first, later in ((left, across, following), (at, row_at, next_at), (from_, row_gradient, next_from)):
            phi.add_incoming(first, outer)
            phi.add_incoming(later, inner)
        for total, row, later in zip(sums, row_sums, after, strict=True):
            total.add_incoming(row, outer)
            total.add_incoming(later, inner)
        builder.cbranch(builder.icmp_signed(">", following, _number(0)), inner, ended)

        builder.position_at_end(ended)
        rows_after, jumped = builder.sub(rows_left, _number(1)), builder.add(next_at, jump)
        for phi, first, later in (
            (rows_left, down, rows_after),
            (row_at, _number(0), jumped),
            (row_gradient, gradient, next_from),
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(later, ended)
        for row, first, later in zip(row_sums, start, after, strict=True):
            row.add_incoming(first, before)
            row.add_incoming(later, ended)
        builder.cbranch(builder.icmp_signed(">", rows_after, _number(0)), outer, done)

        builder.position_at_end(done)
        for target, later in zip(targets, after, strict=True):
            _store(builder, later, target)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8), generate


@intrinsic
def _move_vector(typing_context, source, target):  # type: ignore[no-untyped-def]
    """Copy WIDTH floats."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        _store(builder, _load(builder, _VECTOR, arguments[0]), arguments[1])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _add_vector(typing_context, source, amount, target):  # type: ignore[no-untyped-def]
    """Copy WIDTH floats with an amount added to each."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        source, amount, target = arguments
        total = builder.fadd(_load(builder, _VECTOR, source), _spread(builder, amount))
        _store(builder, total, target)
        return context.get_dummy_value()

    return types.void(types.intp, types.float32, types.intp), generate


@cfunc("void(intp, intp, intp, intp)")
def _fill(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: images, planes, rows, columns, height, width, high, wide, remainders down and across, plain, channel.

    Items are channels of images. Where planes are the padded image, `plain` is one more than the first column held.
    """
    images, planes, rows, columns = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3)
    height, width, high, wide, down, across = (
        word_at(s, 4),
        word_at(s, 5),
        word_at(s, 6),
        word_at(s, 7),
        word_at(s, 8),
        word_at(s, 9),
    )
    plain, channel = word_at(s, 10), word_at(s, 11)
    for item in range(first, end):
        image = images + item * height * width * 4
        for phase in range(down * across):
            h, w = phase // across, phase % across
            for t in range(high):
                target = planes + (item * channel + (phase * high + t) * wide) * 4
                row = word_at(rows, h * high + t)
                source = image + row * width * 4
                if row < 0:
                    for u in range(wide):
                        put_float(target + u * 4, types.float32(0))
                elif plain > 0:
                    held = plain - 1
                    from_ = word_at(columns, held)
                    count = min(width - from_, wide - held)
                    for u in range(held):
                        put_float(target + u * 4, types.float32(0))
                    u = 0
                    while u + WIDTH <= count:
                        _move_vector(source + (from_ + u) * 4, target + (held + u) * 4)
                        u += WIDTH
                    while u < count:
                        put_float(target + (held + u) * 4, float_at(source + (from_ + u) * 4))
                        u += 1
                    for u in range(held + count, wide):
                        put_float(target + u * 4, types.float32(0))
                else:
                    for u in range(wide):
                        column = word_at(columns, w * wide + u)
                        if column >= 0:
                            put_float(target + u * 4, float_at(source + column * 4))
                        else:
                            put_float(target + u * 4, types.float32(0))


@cfunc("void(intp, intp, intp, intp)")
def _pack(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: weights (groups, M, terms), packed, M, terms, rows of a block, floats from a group to the next.

    Items are blocks of rows: [term][row], zeros beyond M.
    """
    weights, packed, count, terms, rows, group = (
        word_at(s, 0),
        word_at(s, 1),
        word_at(s, 2),
        word_at(s, 3),
        word_at(s, 4),
        word_at(s, 5),
    )
    blocks = (count + rows - 1) // rows
    for item in range(first, end):
        g, block = item // blocks, item % blocks
        for r in range(rows):
            row = block * rows + r
            source, target = weights + (g * group + row * terms) * 4, packed + (item * terms * rows + r) * 4
            if row < count:
                for k in range(terms):
                    put_float(target + k * rows * 4, float_at(source + k * 4))
            else:
                for k in range(terms):
                    put_float(target + k * rows * 4, types.float32(0))


@cfunc("void(intp, intp, intp, intp)")
def _gather(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: planes, packed, offsets, bias, out, floats of an image's planes, wide, down, across, groups, M, terms,
    whether there is a bias. Items are images."""
    planes, packed, offsets, bias, out, image = (
        word_at(s, 0),
        word_at(s, 1),
        word_at(s, 2),
        word_at(s, 3),
        word_at(s, 4),
        word_at(s, 5),
    )
    wide, down, across, groups, count, terms, biased = (
        word_at(s, 6),
        word_at(s, 7),
        word_at(s, 8),
        word_at(s, 9),
        word_at(s, 10),
        word_at(s, 11),
        word_at(s, 12),
    )
    one = count == 1
    height = 1 if one else ROWS
    broad = ROW_COLUMNS if one else COLUMNS
    blocks = (count + height - 1) // height
    span, size = (down - 1) * wide + across, down * across
    edge = scratch
    # Behind the block: for each run of places of a panel its lane, its first place and its length.
    table = scratch + (height * broad + WIDTH + 16) * 4
    for n in range(first, end):
        at = planes + n * image * 4
        for j in range(0, span, broad):
            runs, lane = 0, 0
            while lane < broad and j + lane < span:
                row, column = (j + lane) // wide, (j + lane) % wide
                if column >= across:
                    lane += wide - column
                    continue
                length = min(across - column, broad - lane)
                put_word(table + runs * 24, lane)
                put_word(table + runs * 24 + 8, row * across + column)
                put_word(table + runs * 24 + 16, length)
                runs += 1
                lane += length
            for g in range(groups):
                for block in range(blocks):
                    weights = packed + (g * blocks + block) * terms * height * 4
                    if one:
                        _block_of_one(weights, at + j * 4, offsets + g * terms * 8, terms, edge)
                    else:
                        _block_of_rows(weights, at + j * 4, offsets + g * terms * 8, terms, edge)
                    for r in range(min(height, count - block * height)):
                        m = g * count + block * height + r
                        target = out + (n * groups * count + m) * size * 4
                        amount = float_at(bias + m * 4) if biased else types.float32(0)
                        for run in range(runs):
                            source = edge + (r * broad + word_at(table, 3 * run)) * 4
                            place, left = word_at(table, 3 * run + 1), word_at(table, 3 * run + 2)
                            # A vector may write beyond its run: the next one, further on, writes there again.
                            while left > 0 and place + WIDTH <= size:
                                if biased:
                                    _add_vector(source, amount, target + place * 4)
                                else:
                                    _move_vector(source, target + place * 4)
                                source, place, left = source + WIDTH * 4, place + WIDTH, left - WIDTH
                            while left > 0:
                                value = float_at(source)
                                put_float(target + place * 4, value + amount if biased else value)
                                source, place, left = source + 4, place + 1, left - 1


@cfunc("void(intp, intp, intp, intp)")
def _turn(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: gradients (images · groups, M, places), flows, M, places, panels. Items are panels of channels."""
    gradients, flows, count, size, panels = word_at(s, 0), word_at(s, 1), word_at(s, 2), word_at(s, 3), word_at(s, 4)
    for item in range(first, end):
        lead, panel = item // panels, item % panels
        target = flows + item * size * COLUMNS * 4
        here = min(COLUMNS, count - panel * COLUMNS)
        source = gradients + (lead * count + panel * COLUMNS) * size * 4
        for start in range(0, size, 16):
            for j in range(here):
                for place in range(start, min(size, start + 16)):
                    put_float(target + (place * COLUMNS + j) * 4, float_at(source + (j * size + place) * 4))
        for place in range(size if here < COLUMNS else 0):
            for j in range(here, COLUMNS):
                put_float(target + (place * COLUMNS + j) * 4, types.float32(0))


@cfunc("void(intp, intp, intp, intp)")
def _correlate(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: planes, flows, offsets, sums, images, floats of an image's planes, wide, down, across, groups, blocks of
    terms, panels of channels. Items are blocks of sums, ROWS terms × COLUMNS channels."""
    planes, flows, offsets, sums, images, image = (
        word_at(s, 0),
        word_at(s, 1),
        word_at(s, 2),
        word_at(s, 3),
        word_at(s, 4),
        word_at(s, 5),
    )
    wide, down, across, groups, blocks, panels = (
        word_at(s, 6),
        word_at(s, 7),
        word_at(s, 8),
        word_at(s, 9),
        word_at(s, 10),
        word_at(s, 11),
    )
    size, jump = down * across, (wide - across) * 4
    for n in range(images):
        fresh = 1 if n == 0 else 0
        for item in range(first, end):
            g, rest = item // (blocks * panels), item % (blocks * panels)
            panel, block = rest // blocks, rest % blocks
            flow = flows + ((n * groups + g) * panels + panel) * size * COLUMNS * 4
            rows = offsets + (g * blocks + block) * ROWS * 8
            target = sums + item * ROWS * COLUMNS * 4
            _channels_block(planes + n * image * 4, rows, flow, down, across, jump, target, fresh)


@cfunc("void(intp, intp, intp, intp)")
def _settle(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: sums as `_correlate` leaves them, out (groups, M, terms), M, terms, blocks, panels. Items are rows."""
    sums, out, count, terms, blocks, panels = (
        word_at(s, 0),
        word_at(s, 1),
        word_at(s, 2),
        word_at(s, 3),
        word_at(s, 4),
        word_at(s, 5),
    )
    for item in range(first, end):
        g, m = item // count, item % count
        base = sums + ((g * panels + m // COLUMNS) * blocks * ROWS * COLUMNS + m % COLUMNS) * 4
        for k in range(terms):
            put_float(out + (item * terms + k) * 4, float_at(base + k * COLUMNS * 4))


@cfunc("void(intp, intp, intp, intp)")
def _correlate_one(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """One channel a group, a chain for each element of the kernel. Numbers: planes, gradients (images, groups, places),
    offsets, out (groups, terms), images, floats of an image's planes, wide, down, across, groups, terms."""
    planes, gradients, offsets, out, images, image = (
        word_at(s, 0),
        word_at(s, 1),
        word_at(s, 2),
        word_at(s, 3),
        word_at(s, 4),
        word_at(s, 5),
    )
    wide, down, across, groups, terms = word_at(s, 6), word_at(s, 7), word_at(s, 8), word_at(s, 9), word_at(s, 10)
    for g in range(first, end):
        sums, own = out + g * terms * 4, offsets + g * terms * 8
        for k in range(terms):
            put_float(sums + k * 4, types.float32(0))
        for n in range(images):
            flow = gradients + (n * groups + g) * down * across * 4
            for row in range(down):
                line = planes + (n * image + row * wide) * 4
                for column in range(across):
                    amount = float_at(flow + (row * across + column) * 4)
                    for k in range(terms):
                        seen = float_at(line + word_at(own, k) + column * 4)
                        put_float(sums + k * 4, float_at(sums + k * 4) + amount * seen)


def _filling(shape: tuple[int, ...], planes: Planes, images: int, target: int) -> tuple[Call, tuple[Any, ...]]:
    """The step that makes the planes of operand `images` in operand `target`."""
    batch, channels, height, width = shape
    high, wide = planes.pitch
    held = int(np.argmax(planes.columns >= 0))
    # An image that no window sees is not copied from.
    plain = held + 1 if planes.plain and planes.columns[held] >= 0 else 0
    down, across = len(planes.rows) // high, len(planes.columns) // wide
    numbers = (0, 0, 0, 0, height, width, high, wide, down, across, plain, planes.channel)
    floats = batch * channels * planes.channel
    call = Call(_fill.address, numbers, (0, 1, 2, 3), batch * channels, floats * COPY_NS)
    return call, (images, target, torch.from_numpy(planes.rows), torch.from_numpy(planes.columns))


def gather_product(
    shape: tuple[int, ...], attributes: tuple[int, ...], weights: tuple[int, int, int], shared: bool, biased: bool
) -> Recipe:
    """Weights (groups, M, terms) times the windows of images (batch, channels, height, width).

    Inputs: weights (one group's for all, if `shared`), images, and, if `biased`, a number for each row that is added
    last. Output: (batch, groups · M, places).
    """
    batch, channels = shape[:2]
    groups, count, terms = weights
    planes = planes_of(shape[1:], attributes)
    height = 1 if count == 1 else ROWS
    blocks = -(-count // height)
    image = channels * planes.channel
    slack = ROW_COLUMNS + 16
    out, packed, held = (3, 4, 5) if biased else (2, 3, 4)
    pack = (0, 0, count, terms, height, 0 if shared else count * terms)
    size = planes.places[0] * planes.places[1]
    gather = (0, 0, 0, 0, 0, image, planes.pitch[1], *planes.places, groups, count, terms, int(biased))
    work = batch * groups * blocks * height * terms * size / TERMS_PER_NS
    offsets = torch.from_numpy(planes.offsets * 4)
    return Recipe(
        (groups * blocks * terms * height * 4, (batch * image + slack) * 4),
        (
            (
                Call(_pack.address, pack, (0, 1), groups * blocks, groups * blocks * height * terms * COPY_NS),
                (0, packed),
            ),
            _filling(shape, planes, 1, held),
            (
                Call(_gather.address, gather, (0, 1, 2, 3, 4), batch, work),
                (held, packed, offsets, 2 if biased else out, out),
            ),
        ),
    )


def correlate(shape: tuple[int, ...], attributes: tuple[int, ...], gradients: tuple[int, int]) -> Recipe:
    """Gradients (batch, groups, M, places) against the windows of images (batch, channels, height, width).

    `gradients` is (groups, M). Inputs: gradients, images. Output: (groups, M, terms), chains over images, then places.
    """
    batch, channels = shape[:2]
    groups, count = gradients
    planes = planes_of(shape[1:], attributes)
    terms, size = len(planes.offsets) // groups, planes.places[0] * planes.places[1]
    image, wide = channels * planes.channel, planes.pitch[1]
    work = batch * groups * count * terms * size / TERMS_PER_NS
    out, held, flows, sums = 2, 3, 4, 5
    filling = _filling(shape, planes, 1, held)
    if count == 1:
        one = (0, 0, 0, 0, batch, image, wide, *planes.places, groups, terms)
        single = Call(_correlate_one.address, one, (0, 1, 2, 3), groups, work * TERMS_PER_NS)
        return Recipe((batch * image * 4,), (filling, (single, (held, 0, torch.from_numpy(planes.offsets * 4), out))))
    blocks, panels = -(-terms // ROWS), -(-count // COLUMNS)
    padded = np.zeros((groups, blocks * ROWS), np.intp)
    padded[:, :terms] = planes.offsets.reshape(groups, terms) * 4
    items = groups * panels * blocks
    floats = batch * groups * panels * size * COLUMNS
    numbers = (0, 0, 0, 0, batch, image, wide, *planes.places, groups, blocks, panels)
    turn = Call(_turn.address, (0, 0, count, size, panels), (0, 1), batch * groups * panels, floats * COPY_NS)
    chains = Call(_correlate.address, numbers, (0, 1, 2, 3), items, work)
    settled = (0, 0, count, terms, blocks, panels)
    settle = Call(_settle.address, settled, (0, 1), groups * count, groups * count * terms * COPY_NS)
    return Recipe(
        (batch * image * 4, floats * 4, items * ROWS * COLUMNS * 4),
        (
            filling,
            (turn, (0, flows)),
            (chains, (held, flows, torch.from_numpy(padded.reshape(-1)), sums)),
            (settle, (sums, out)),
        ),
    )
