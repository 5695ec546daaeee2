"""Philox4x32-10 (Salmon et al., SC 2011; Random123 constants): counter-based randomness, the same bits everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.hashing import tagged_hash

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counters: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """The random words (n, 4) of counters (n, 4) under a key of two 32-bit words."""
    c0, c1, c2, c3 = (counters[:, word].astype(np.uint64) for word in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (product1 >> _SHIFT) ^ c1 ^ np.uint64(k0), product1 & _MASK
        c2, c3 = (product0 >> _SHIFT) ^ c3 ^ np.uint64(k1), product0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def stream_words(key: bytes, start: int, count: int) -> NDArray[np.uint32]:
    """Words `start` … `start + count - 1` of the stream of a 16-byte key: word w is word w mod 4 of block w div 4."""
    k0, k1, c2, c3 = (int.from_bytes(key[word * 4 : word * 4 + 4], "little") for word in range(4))
    first, last = start // 4, -(-(start + count) // 4)
    blocks = np.arange(first, last, dtype=np.uint64)
    counters = np.empty((last - first, 4), np.uint32)
    counters[:, 0], counters[:, 1] = blocks & _MASK, blocks >> _SHIFT
    counters[:, 2], counters[:, 3] = c2, c3
    words = philox4x32(counters, (k0, k1)).reshape(-1)
    return words[start - first * 4 : start - first * 4 + count]


def unit_uniform(words: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Uniform f32 in [0, 1) from the upper 24 bits of each word: both steps are exact."""
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def uniform_tensor(
    seed: bytes, entry_number: int, start_element: int, count: int, bound: np.float32 | float
) -> NDArray[np.float32]:
    """Elements of an initial tensor, uniform in [-bound, bound): one rounding, in the product with the f32 bound."""
    key = tagged_hash("gensyn/initial/1", seed, entry_number.to_bytes(4, "little"))[:16]
    unit = unit_uniform(stream_words(key, start_element, count))
    with np.errstate(all="ignore"):
        return (unit * np.float32(2.0) - np.float32(1.0)) * np.float32(bound)
