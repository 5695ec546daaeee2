"""Elements that follow from their position alone: full, iota, uniform."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.arithmetic.elementary import F32Array, I64Array
from proofs.arithmetic.movement import unravel
from proofs.philox import philox4x32, unit_uniform
from proofs.program.types import BOOL, ITEM_BYTES, TensorType
from proofs.tensors import NUMPY_DTYPES

Array = npt.NDArray[Any]

_MASK = 0xFFFFFFFF


def filled(dtype: str, bits: int, count: int) -> Array:
    """`count` elements with these bits."""
    if dtype == BOOL:
        return np.full(count, bits != 0, np.bool_)
    one = np.frombuffer(bits.to_bytes(ITEM_BYTES[dtype], "little"), NUMPY_DTYPES[dtype])
    return np.repeat(one, count)


def uniform(key: I64Array, counter: int, stream: int, linear: I64Array) -> F32Array:
    """Elements of `uniform` at the linear numbers: upper 24 bits of a Philox word, times 2**-24.

    Element e takes word e mod 4 of the block whose counter is (e div 4, counter mod 2**32, stream, counter div 2**32),
    under the key (key[0], key[1]), all modulo 2**32.
    """
    blocks, position = np.unique(linear // 4, return_inverse=True)
    counters = np.empty((len(blocks), 4), np.uint32)
    counters[:, 0] = blocks
    counters[:, 1], counters[:, 2], counters[:, 3] = counter & _MASK, stream, (counter >> 32) & _MASK
    words = philox4x32(counters, (int(key[0]) & _MASK, int(key[1]) & _MASK))
    return unit_uniform(words[position.reshape(-1), linear % 4])


def index_along(axis: int, output: TensorType, linear: I64Array) -> I64Array:
    """Elements of `iota` at the linear numbers."""
    return unravel(linear, output.shape)[axis]
