"""Roots of f32 tensors in machine code: what `proofs.tensors` defines, eight BLAKE3 chunks at a time.

A tile of 32 × 32 floats is four chunks of 1024 bytes. Chunks, their parents and the nodes of the tree over tiles go
through one compression function on vectors of eight. NaNs are made canonical as they are read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic

from ml.kernels.call import run_alone
from ml.kernels.memory import LANE, WORD, pointer, word_at
from proofs import tensors

LANES = 8
TILE_BYTES = 4096
_VECTOR = ir.VectorType(LANE, LANES)
_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_MIXES = (*_COLUMNS, (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
START, END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
_NAN = 0x7FC00000
_NAN_F32 = np.array(_NAN, np.uint32).view(np.float32)


def _constant(value: int) -> Any:
    return ir.Constant(_VECTOR, [ir.Constant(LANE, value)] * LANES)


def _splat(builder: Any, word: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, builder.trunc(word, LANE), ir.Constant(LANE, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(_VECTOR, None))


def _rotated(builder: Any, value: Any, bits: int) -> Any:
    return builder.or_(builder.lshr(value, _constant(bits)), builder.shl(value, _constant(32 - bits)))


def _vector_at(builder: Any, base: Any, number: int) -> Any:
    return builder.bitcast(builder.gep(base, [ir.Constant(WORD, number * LANES * 4)]), _VECTOR.as_pointer())


@intrinsic
def _compress(typing_context, chain, message, counter, flags):  # type: ignore[no-untyped-def]
    """One compression of a whole block in each lane: the chaining values at `chain` become the next ones.

    `chain` holds 8 vectors, `message` 16; `counter` is the address of 8 lanes (chunk numbers below 2^32).
    """

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        chain, message, counter = (pointer(builder, item) for item in arguments[:3])
        state = [builder.load(_vector_at(builder, chain, n), align=4) for n in range(8)]
        state += [_constant(word) for word in _IV[:4]]
        state += [builder.load(_vector_at(builder, counter, 0), align=4), _constant(0), _constant(64)]
        state.append(_splat(builder, arguments[3]))
        words = [builder.load(_vector_at(builder, message, n), align=4) for n in range(16)]
        for turn in range(7):
            for number, (a, b, c, d) in enumerate(_MIXES):
                for half, (first, second) in enumerate(((16, 12), (8, 7))):
                    state[a] = builder.add(builder.add(state[a], state[b]), words[2 * number + half])
                    state[d] = _rotated(builder, builder.xor(state[d], state[a]), first)
                    state[c] = builder.add(state[c], state[d])
                    state[b] = _rotated(builder, builder.xor(state[b], state[c]), second)
            if turn < 6:
                words = [words[place] for place in _PERMUTATION]
        for n in range(8):
            builder.store(builder.xor(state[n], state[n + 8]), _vector_at(builder, chain, n), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), generate


@intrinsic
def _gather(typing_context, message, addresses, canonical):  # type: ignore[no-untyped-def]
    """Word i of each lane's 64 bytes into vector i of `message`; with `canonical` NaNs get their one form."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        message, addresses = (pointer(builder, item) for item in arguments[:2])
        wanted = builder.icmp_signed("!=", arguments[2], ir.Constant(WORD, 0))
        table = builder.bitcast(addresses, WORD.as_pointer())
        lanes = [pointer(builder, builder.load(builder.gep(table, [ir.Constant(WORD, n)]))) for n in range(LANES)]
        for half in range(2):
            rows = [builder.load(_vector_at(builder, lane, half), align=4) for lane in lanes]
            distance = 1
            while distance < LANES:
                low = [n if not n & distance else LANES + n - distance for n in range(LANES)]
                high = [n + distance if not n & distance else LANES + n for n in range(LANES)]
                masks = [ir.Constant(_VECTOR, [ir.Constant(LANE, n) for n in mask]) for mask in (low, high)]
                for n in range(LANES):
                    if not n & distance:
                        a, b = rows[n], rows[n + distance]
                        rows[n] = builder.shuffle_vector(a, b, masks[0])
                        rows[n + distance] = builder.shuffle_vector(a, b, masks[1])
                distance *= 2
            for n, row in enumerate(rows):
                size = builder.and_(row, _constant(0x7FFFFFFF))
                nan = builder.icmp_unsigned(">", size, _constant(0x7F800000))
                clean = builder.select(nan, _constant(_NAN), row)
                builder.store(builder.select(wanted, clean, row), _vector_at(builder, message, half * 8 + n), align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), generate


@intrinsic
def _set_chain(typing_context, chain, key):  # type: ignore[no-untyped-def]
    """Every lane's chaining value: the 8 words at `key`."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        chain, key = (pointer(builder, item) for item in arguments)
        words = builder.bitcast(key, LANE.as_pointer())
        for n in range(8):
            word = builder.zext(builder.load(builder.gep(words, [ir.Constant(WORD, n)])), WORD)
            builder.store(_splat(builder, word), _vector_at(builder, chain, n), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _lane_word(typing_context, chain, number, lane):  # type: ignore[no-untyped-def]
    """Word `number` of a lane's chaining value."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        words = builder.bitcast(pointer(builder, arguments[0]), LANE.as_pointer())
        place = builder.add(builder.mul(arguments[1], ir.Constant(WORD, LANES)), arguments[2])
        return builder.zext(builder.load(builder.gep(words, [place])), WORD)

    return types.intp(types.intp, types.intp, types.intp), generate


@intrinsic
def _put_u32(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Write the low 32 bits."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        words = builder.bitcast(pointer(builder, arguments[0]), LANE.as_pointer())
        builder.store(builder.trunc(arguments[1], LANE), words, align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@intrinsic
def _put_address(typing_context, address, value):  # type: ignore[no-untyped-def]
    """Write a 64-bit word."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        builder.store(arguments[1], builder.bitcast(pointer(builder, arguments[0]), WORD.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


@njit("void(intp, intp, intp, intp)", inline="never", cache=True)
def _block(chain, message, counter, flags):  # type: ignore[no-untyped-def]
    _compress(chain, message, counter, flags)


@njit("void(intp, intp, intp)", inline="never", cache=True)
def _read(message, addresses, canonical):  # type: ignore[no-untyped-def]
    _gather(message, addresses, canonical)


@njit("void(intp, intp, intp, intp, intp, intp, intp)", inline="never", cache=True)
def _pairs(source, count, target, key, flags, counter, scratch):  # type: ignore[no-untyped-def]
    """target[i] = the keyed hash of hashes 2i and 2i + 1 at `source`, for i below `count`."""
    chain, message, addresses = scratch, scratch + 256, scratch + 768
    for first in range(0, count, 8):
        for lane in range(8):
            _put_address(addresses + lane * 8, source + min(first + lane, count - 1) * 64)
        _read(message, addresses, 0)
        _set_chain(chain, key)
        _block(chain, message, counter, flags)
        for lane in range(min(8, count - first)):
            for number in range(8):
                _put_u32(target + (first + lane) * 32 + number * 4, _lane_word(chain, number, lane))


@cfunc("void(intp, intp, intp, intp)", cache=True)
def _leaves(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: matrix, leaves, leaf key, bytes of a row, whole tiles and tiles in a row, whole tiles; items are pairs.

    Whole tiles are counted row by row. The last pair may be one tile twice.
    """
    matrix, leaves, key = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    row_bytes, whole, across, count = word_at(s, 3), word_at(s, 4), word_at(s, 5), word_at(s, 6)
    chain, message, addresses, counter = scratch, scratch + 256, scratch + 768, scratch + 832
    zeros, chunks, parents = scratch + 864, scratch + 1024, scratch + 1536
    for lane in range(8):
        _put_u32(counter + lane * 4, lane % 4)
        _put_u32(zeros + lane * 4, 0)
    for item in range(first, end):
        _set_chain(chain, key)
        for block in range(16):
            for lane in range(8):
                tile = min(2 * item + lane // 4, count - 1)
                row = tile // whole * 32 + lane % 4 * 8 + block // 2
                _put_address(addresses + lane * 8, matrix + row * row_bytes + tile % whole * 128 + block % 2 * 64)
            _read(message, addresses, 1)
            flags = KEYED + (START if block == 0 else 0) + (END if block == 15 else 0)
            _block(chain, message, counter, flags)
        for lane in range(8):
            for number in range(8):
                _put_u32(chunks + lane * 32 + number * 4, _lane_word(chain, number, lane))
        _pairs(chunks, 4, parents, key, KEYED + PARENT, zeros, scratch)
        _pairs(parents, 2, chunks, key, KEYED + PARENT + ROOT, zeros, scratch)
        for half in range(2):
            tile = min(2 * item + half, count - 1)
            target = leaves + (tile // whole * across + tile % whole) * 32
            for number in range(4):
                _put_address(target + number * 8, word_at(chunks, half * 4 + number))


@cfunc("void(intp, intp, intp, intp)", cache=True)
def _fold(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: hashes, node key, how many; the root ends in the first place. One item."""
    hashes, key, count = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    zeros = scratch + 864
    for lane in range(8):
        _put_u32(zeros + lane * 4, 0)
    while count > 1:
        _pairs(hashes, count // 2, hashes, key, KEYED + START + END + ROOT, zeros, scratch)
        if count % 2:
            for number in range(4):
                _put_address(hashes + count // 2 * 32 + number * 8, word_at(hashes, (count - 1) * 4 + number))
        count = (count + 1) // 2


_LEAF_KEY = np.frombuffer(tensors.LEAF_KEY, np.uint8).copy()
_NODE_KEY = np.frombuffer(tensors.NODE_KEY, np.uint8).copy()


def tree_root(value: torch.Tensor) -> bytes:
    """The root of the tree over the tiles of a contiguous f32 tensor with NaNs counted as canonical, on this thread."""
    columns = value.shape[-1] if value.ndim else 1
    rows = value.numel() // max(columns, 1)
    down, across = -(-rows // 32), -(-columns // 32)
    leaves = np.empty((down * across, 32), np.uint8)
    whole_down, whole = rows // 32, columns // 32
    count = whole_down * whole
    if count:
        keys = _LEAF_KEY.ctypes.data
        numbers = (value.data_ptr(), leaves.ctypes.data, keys, columns * 4, whole, across, count)
        run_alone(_leaves.address, numbers, (count + 1) // 2)
    if count < down * across:
        matrix = value.detach().numpy().reshape(rows, columns)
        for tile in range(down * across):
            row, column = divmod(tile, across)
            if row >= whole_down or column >= whole:
                part = matrix[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
                leaves[tile] = np.frombuffer(tensors.leaf_of(np.where(np.isnan(part), _NAN_F32, part)), np.uint8)
    run_alone(_fold.address, (leaves.ctypes.data, _NODE_KEY.ctypes.data, down * across), 1)
    root: bytes = leaves[0].tobytes()
    return root
