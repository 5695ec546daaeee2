"""The threshold of a native task out of what drawn profilers measured. Integers only: the chain computes it.

Each profiler runs the first segment twice from a seed of its own: by its vendor's kernels and by `rep-v1`, and reports
the distance between the two, entry by entry. `rep-v1` is the same everywhere, so two honest machines are at most the
sum of their own distances from it apart: that is where the factor 2 comes from. Nobody has to fetch another's states.

A threshold decides who has to be looked at, never who loses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.hashing import tagged_hash

PARTS = 1 << 32
"""Distances are in parts of this, rounded up."""
DISTANCE_MAX = PARTS - 1
"""As large as the update itself or larger, or no number at all."""
BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Rule:
    """How thresholds follow from measurements."""

    quantile_bps: int
    """Which of the sorted measurements of an entry counts: above it, as many may be made up as the rest allows."""
    margin_bps: int
    """Times this: few profilers see little of the noise's tail."""
    floor: int
    """No threshold is below: what is nearer is never worth a dispute."""
    cap: int
    """An entry that would need a higher one is not measured: its update is noise."""


def thresholds(reports: Sequence[Sequence[int]], rule: Rule) -> tuple[int, ...]:
    """The threshold of every state entry; DISTANCE_MAX where it is not measured. `reports`: one a profiler, not empty.

    The quantile is by nearest rank: of n sorted measurements the one at ceil(n q), counted from 1.
    """
    rank = max(1, -(-len(reports) * rule.quantile_bps // BASIS_POINTS))
    found = []
    for measured in zip(*reports, strict=True):
        noise = sorted(measured)[min(rank, len(measured)) - 1]
        threshold = -(-2 * noise * rule.margin_bps // BASIS_POINTS)
        found.append(DISTANCE_MAX if threshold > rule.cap else max(rule.floor, threshold))
    return tuple(found)


def exceeded(distances: Sequence[int], limits: Sequence[int]) -> bool:
    """Whether any measured entry is farther off than its threshold."""
    return any(distance > limit for distance, limit in zip(distances, limits, strict=True))


def measured_entries(limits: Sequence[int]) -> int:
    """How many entries have a threshold; with none, a task cannot be verified by distance."""
    return sum(limit < DISTANCE_MAX for limit in limits)


def profile_seed(task_id: bytes, profiler: bytes, beacon: bytes) -> bytes:
    """The seed of a profiler's run: other initial weights and batches than anybody else's, known to nobody before."""
    return tagged_hash("gensyn/profile-seed/1", task_id, profiler, beacon)


def profile_commitment(task_id: bytes, profiler: bytes, distances: Sequence[int], salt: bytes) -> bytes:
    """Binds a profiler to its measurements before anybody shows any."""
    return tagged_hash("gensyn/profile/1", task_id, profiler, encode(tuple(distances)), salt)
