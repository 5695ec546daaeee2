"""Roots of f32 tensors in machine code: what `proofs.tensors` defines, eight tiles at a time.

All tensors of a state are done in two tasks, since a state has hundreds of them, most of them small: the leaves of all
tiles, then the trees. Tiles of one size go through BLAKE3 side by side. NaNs are made canonical as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numba import float32

from gensyn_node.primitives.limits import TILE
from ml.kernels.blake3 import (
    BLOCK_BYTES,
    END,
    HASH_BYTES,
    KEYED,
    LANES,
    PARENT,
    ROOT,
    START,
    eight_blocks,
    hash_chunks,
    pairs,
    put_hash,
)
from ml.kernels.call import Call, run_listed
from ml.kernels.compiler import cfunc, njit
from ml.kernels.memory import copy_bytes, put_float, put_word, word_at
from proofs import tensors
from proofs.program.types import F32, TensorType

_HASHES, _MORE, _TAIL, _PLACES, _TARGETS, _TILES = 0, 1024, 2048, 2560, 2624, 4096
"""Places in the scratch memory: hashes of chunks, of pairs; a partly filled eight; addresses of eight tiles and of
their leaves; eight tiles without gaps."""
_TENSOR_WORDS, _ITEM_WORDS = 6, 6
_TENSOR_BYTES, _ITEM_BYTES = 8 * _TENSOR_WORDS, 8 * _ITEM_WORDS


@njit("void(intp, intp, intp, intp, intp)", inline="never")
def _equal_tiles(size, row_bytes, count, key, scratch):  # type: ignore[no-untyped-def]
    """The leaves of eight tiles of `size` bytes, of which the first `count` matter; they go to the place of hashes.

    A tile lies in rows of 128 bytes, `row_bytes` apart, from its address in the scratch memory on.
    """
    number = (size + 1023) // 1024
    stride = 32 if number == 1 else (64 if number < 4 else 128)
    for chunk in range(number):
        left = min(1024, size - chunk * 1024)
        blocks = (left + 63) // 64
        ends = END + (ROOT if number == 1 else 0)
        target = scratch + (_MORE + 32 if number == 3 and chunk == 2 else _HASHES + 32 * chunk)
        hash_chunks(target, stride, key, scratch + _PLACES, row_bytes, chunk, blocks, left - (blocks - 1) * 64, ends)
        for lane in range(8):
            place = scratch + _PLACES + lane * 8
            put_word(place, word_at(place, 0) + 8 * row_bytes)
    hashes, tail = scratch + _HASHES, scratch + _TAIL
    if number == 4:
        pairs(hashes, count * 2, hashes, key, KEYED + PARENT, tail)
    elif number == 3:
        # Of three chunks two are joined first: what comes of them stands before the third.
        pairs(hashes, count, hashes, key, KEYED + PARENT, tail)
        for lane in range(count):
            put_hash(scratch + _MORE + lane * 64, hashes + lane * 32)
        hashes = scratch + _MORE
    if number > 1:
        pairs(hashes, count, scratch + _HASHES, key, KEYED + PARENT + ROOT, tail)


@njit("void(intp, intp, intp, intp, intp)", inline="never")
def _pack(source, row_bytes, height, width, target):  # type: ignore[no-untyped-def]
    """A tile's floats without gaps, and zeros to the end of the last block."""
    if row_bytes == width * 4:
        copy_bytes(target, source, height * row_bytes)
    else:
        for row in range(height):
            copy_bytes(target + row * width * 4, source + row * row_bytes, width * 4)
    used = height * width
    for number in range(used, (used + 15) // 16 * 16):
        put_float(target + number * 4, float32(0))


@cfunc("void(intp, intp, intp, intp)")
def _leaves(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: tensors, items, leaf key. An item is up to eight tiles of one size, as `_items` lists them."""
    tensors_at, items_at, key = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    for number in range(first, end):
        item = items_at + number * _ITEM_BYTES
        tensor, down, along = tensors_at + word_at(item, 0) * _TENSOR_BYTES, word_at(item, 1), word_at(item, 2)
        count, height, width = word_at(item, 3), word_at(item, 4), word_at(item, 5)
        base, leaves, columns = word_at(tensor, 0), word_at(tensor, 1), word_at(tensor, 2)
        row_bytes, across, whole = columns * 4, (columns + 31) // 32, columns // 32
        for lane in range(count):
            source = base + down * 32 * row_bytes + along * 128
            if width < 32:
                _pack(source, row_bytes, height, width, scratch + _TILES + lane * 4096)
                source = scratch + _TILES + lane * 4096
            put_word(scratch + _PLACES + lane * 8, source)
            put_word(scratch + _TARGETS + lane * 8, leaves + (down * across + along) * 32)
            along += 1
            if along >= whole:
                down, along = down + 1, whole if width < 32 else 0
        for lane in range(count, 8):
            put_word(scratch + _PLACES + lane * 8, word_at(scratch + _PLACES, 0))
        _equal_tiles(height * width * 4, 128 if width < 32 else row_bytes, count, key, scratch)
        for lane in range(count):
            put_hash(word_at(scratch + _TARGETS, lane), scratch + _HASHES + lane * 32)


@cfunc("void(intp, intp, intp, intp)")
def _trees(s, first, end, scratch):  # type: ignore[no-untyped-def]
    """Numbers: tensors, node key, tensor key. An item is a tensor: its leaves' tree ends as the tensor's root."""
    tensors_at, node_key, tensor_key = word_at(s, 0), word_at(s, 1), word_at(s, 2)
    tail = scratch + _TAIL
    for number in range(first, end):
        tensor = tensors_at + number * _TENSOR_BYTES
        hashes, count = word_at(tensor, 1), word_at(tensor, 3)
        while count > 1:
            pairs(hashes, count // 2, hashes, node_key, KEYED + START + END + ROOT, tail)
            if count % 2:
                put_hash(hashes + count // 2 * 32, hashes + (count - 1) * 32)
            count = (count + 1) // 2
        length = word_at(tensor, 5)
        if length:
            block = scratch + _MORE
            copy_bytes(block, word_at(tensor, 4), 64)
            copy_bytes(block + length, hashes, 32)
            eight_blocks(block, block, tensor_key, length + 32, KEYED + START + END + ROOT)
            put_hash(hashes, block)


def _address(key: bytes) -> tuple[np.ndarray[Any, Any], int]:
    held = np.frombuffer(key, np.uint8).copy()
    return held, held.ctypes.data


_HELD_LEAF_KEY, _LEAF_KEY = _address(tensors.LEAF_KEY)
_HELD_NODE_KEY, _NODE_KEY = _address(tensors.NODE_KEY)
_HELD_TENSOR_KEY, _TENSOR_KEY = _address(tensors.TENSOR_KEY)
_EIGHT_TILES_NS, _TREE_NS = 9_000, 600
"""What an item of `_leaves` takes at most, and one of `_trees` for a small tensor, roughly."""


def _items(tensor: int, rows: int, columns: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Up to eight tiles of one size each: (tensor, tile row and column of the first, how many, height, width).

    Whole tiles are counted on through the tile rows; tiles of the right edge go downwards.
    """
    down, along, low, narrow = rows // TILE, columns // TILE, rows % TILE, columns % TILE
    for first in range(0, down * along, LANES):
        yield tensor, first // along, first % along, min(LANES, down * along - first), TILE, TILE
    if low:
        for first in range(0, along, LANES):
            yield tensor, down, first, min(LANES, along - first), low, TILE
    if narrow:
        for first in range(0, down, LANES):
            yield tensor, first, along, min(LANES, down - first), TILE, narrow
    if low and narrow:
        yield tensor, down, along, 1, low, narrow


class TensorRoots:
    """Makes the roots of f32 tensors of known shapes, none of them empty. For one thread at a time."""

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        types = [TensorType(F32, tuple(shape)) for shape in shapes]
        matrices = [type_.matrix for type_ in types]
        if not all(type_.elements for type_ in types):
            raise ValueError("an empty tensor has no tiles")
        self._types = types
        self._tiles = np.array([-(-rows // TILE) * -(-columns // TILE) for rows, columns in matrices], np.int64)
        self._leaves = np.empty((int(self._tiles.sum()), HASH_BYTES), np.uint8)
        self._first = np.cumsum(self._tiles) - self._tiles
        self._headers = np.zeros((len(types), BLOCK_BYTES), np.uint8)
        self._tensors = np.zeros((len(types), _TENSOR_WORDS), np.int64)
        listed = [item for number, matrix in enumerate(matrices) for item in _items(number, *matrix)]
        self._items = np.array(listed, np.int64).reshape(-1, _ITEM_WORDS)
        table = self._tensors
        table[:, 1] = self._leaves.ctypes.data + HASH_BYTES * self._first
        table[:, 2] = [columns for _, columns in matrices]
        table[:, 3] = self._tiles
        table[:, 4] = self._headers.ctypes.data + BLOCK_BYTES * np.arange(len(types))
        for number, type_ in enumerate(types):
            header = tensors.type_header(type_)
            if len(header) + HASH_BYTES <= BLOCK_BYTES:
                self._headers[number, : len(header)] = np.frombuffer(header, np.uint8)
                table[number, 5] = len(header)
        self._long = [number for number in range(len(types)) if not table[number, 5]]
        at, items, trees = table.ctypes.data, len(self._items), len(types)
        self._calls = (
            Call(_leaves.address, (at, self._items.ctypes.data, _LEAF_KEY), (), items, items * _EIGHT_TILES_NS),
            Call(_trees.address, (at, _NODE_KEY, _TENSOR_KEY), (), trees, trees * _TREE_NS),
        )

    def of(self, values: Sequence[torch.Tensor], together: bool = False) -> list[bytes]:
        """The root of each contiguous tensor on the CPU, NaNs counted as canonical; `ValueError` for any other.

        `together`: on all of this process's threads, which then must have nothing else to do; else on the calling
        thread alone.
        """
        for value, type_ in zip(values, self._types, strict=True):
            if value.shape != type_.shape or value.dtype is not torch.float32:
                raise ValueError(f"{value.dtype} {tuple(value.shape)} instead of {type_}")
            if value.device.type != "cpu" or not value.is_contiguous():
                raise ValueError("the tensor does not lie in memory as it is")
        if not values:
            return []
        self._tensors[:, 0] = [value.data_ptr() for value in values]
        run_listed(self._calls, together)
        roots: list[bytes] = [row.tobytes() for row in self._leaves[self._first]]
        for number in self._long:
            roots[number] = tensors.bind(self._types[number], roots[number])
        return roots
