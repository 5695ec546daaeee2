"""The state before the first step, as the program and the task's seed give it; whole or tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.hashing import tagged_hash
from gensyn_node.primitives.limits import TILE
from proofs.arithmetic.generators import filled
from proofs.philox import uniform_tensor
from proofs.program.types import Fill, Given, Seed, StateEntry, Uniform
from proofs.tensors import tile_grid, tile_shape

Array = NDArray[Any]


def seed_key(seed: bytes, entry_number: int) -> NDArray[np.int64]:
    """The value of a `Seed` entry: two 32-bit words, i64 of shape (2,)."""
    digest = tagged_hash("gensyn/seed-entry/1", seed, entry_number.to_bytes(4, "little"))
    return np.frombuffer(digest[:8], "<u4").astype(np.int64)


def _elements(entry: StateEntry, entry_number: int, seed: bytes, start: int, count: int) -> Array:
    """Elements `start` … `start + count - 1` in row-major order."""
    match entry.initial:
        case Fill(bits):
            return filled(entry.type.dtype, bits, count)
        case Uniform(bound_bits):
            return uniform_tensor(seed, entry_number, start, count, np.uint32(bound_bits).view(np.float32))
        case Seed():
            return seed_key(seed, entry_number)[start : start + count]
        case Given():
            raise ValueError(f"{entry.name} is taken from the task's initial checkpoint")


def initial_tensor(entry: StateEntry, entry_number: int, seed: bytes) -> Array:
    """The initial value of state entry `entry_number`; `ValueError` for `Given`, which no seed determines."""
    return _elements(entry, entry_number, seed, 0, entry.type.elements).reshape(entry.type.shape)


def initial_tile(entry: StateEntry, entry_number: int, seed: bytes, tile_index: int) -> Array:
    """One tile (2-D) of the initial value, without computing the rest; `ValueError` for `Given`."""
    columns = entry.type.matrix[1]
    height, width = tile_shape(entry.type, tile_index)
    tile_row, tile_column = divmod(tile_index, tile_grid(entry.type)[1])
    starts = (row * columns + tile_column * TILE for row in range(tile_row * TILE, tile_row * TILE + height))
    return np.stack([_elements(entry, entry_number, seed, start, width) for start in starts])
