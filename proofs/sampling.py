"""What randomness decides: the order of records, the segments a verifier re-executes, a task's seed. Integers only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import tagged_hash
from proofs.reasons import BAD_SAMPLE

RECORDS_MAX = 1 << 40
"""Records of one dataset."""
_FEISTEL_ROUNDS = 8


def task_seed(task_id: bytes, dataset_root: bytes, solver_address: bytes, beacon: bytes) -> bytes:
    """The seed of a task's initial weights and batches: nobody knows it before the solver is assigned."""
    return tagged_hash("gensyn/task-seed/1", task_id, dataset_root, solver_address, beacon)


def _epoch_keys(seed: bytes, epoch: int) -> list[int]:
    """Round keys of one epoch's permutation."""
    material = b"".join(
        tagged_hash("gensyn/epoch/1", seed, epoch.to_bytes(8, "little"), bytes([part])) for part in range(2)
    )
    return [int.from_bytes(material[8 * number : 8 * number + 8], "little") for number in range(_FEISTEL_ROUNDS)]


def _mix(values: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """The round function: key, then the 64-bit finaliser of MurmurHash3; wraps modulo 2^64."""
    mixed = values ^ np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return mixed ^ (mixed >> np.uint64(33))


def permute(positions: NDArray[np.uint64], size: int, keys: list[int]) -> NDArray[np.uint64]:
    """A keyed permutation of 0 … size - 1 at `positions`: a balanced Feistel network with cycle walking."""
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    mask = (np.uint64(1) << half) - np.uint64(1)
    result, walking = positions.copy(), np.arange(len(positions))
    while len(walking):
        left, right = result[walking] >> half, result[walking] & mask
        for key in keys:
            left, right = right, left ^ (_mix(right, key) & mask)
        result[walking] = (left << half) | right
        walking = walking[result[walking] >= size]
    return result


def batch_indices(seed: bytes, step: int, batch_size: int, records: int) -> NDArray[np.int64]:
    """The record numbers (batch_size,) of step `step`: every epoch is a fresh permutation of all records.

    A batch may span epochs. `Rejection` BAD_SAMPLE when a number is out of bounds.
    """
    return indices_at(seed, step, batch_size, records, np.arange(batch_size, dtype=np.int64))


def indices_at(seed: bytes, step: int, batch_size: int, records: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """`batch_indices` at some rows of the batch only, which are in ascending order."""
    if not (0 < records <= RECORDS_MAX and step >= 0 and batch_size > 0 and (step + 1) * batch_size < 1 << 63):
        raise Rejection(BAD_SAMPLE, f"step {step}, batch of {batch_size}, {records} records")
    positions = rows.astype(np.uint64) + np.uint64(step * batch_size)
    epochs, offsets = positions // np.uint64(records), positions % np.uint64(records)
    result = np.empty(len(rows), np.int64)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        result[here] = permute(offsets[here], records, _epoch_keys(seed, epoch)).astype(np.int64)
    return result


def draw_segments(
    beacon: bytes, task_id: bytes, verifier_address: bytes, samples: int, segments: int
) -> tuple[int, ...]:
    """The distinct segment numbers a verifier re-executes, sorted; all, when there are no more than `samples`."""
    if samples < 1 or segments < 1:
        raise Rejection(BAD_SAMPLE, f"{samples} samples of {segments} segments")
    left = list(range(segments))
    for drawn in range(min(samples, segments)):
        number = int.from_bytes(
            tagged_hash("gensyn/draw/1", beacon, task_id, verifier_address, drawn.to_bytes(4, "little")), "little"
        )
        other = drawn + number % (segments - drawn)
        left[drawn], left[other] = left[other], left[drawn]
    return tuple(sorted(left[: min(samples, segments)]))
