"""Systematic sampling: some of a crowd, distinct, each with a chance of exactly count · weight / total.

Weights are laid side by side in an order that the beacon shuffles; marks at one distance, the first drawn, pick whom
they fall upon (Madow 1949). No weight is longer than the distance, so nobody is picked twice and the same weight in
many accounts is picked as often as in one. Who is longer is taken for certain, and the rest is drawn among the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gensyn_node.primitives.hashing import tagged_hash

Item = TypeVar("Item")
CORRECTION_SHIFT = 64
"""Bits behind the point of the factors in `corrected`."""


@dataclass(frozen=True, slots=True)
class _Split:
    certain: frozenset[int]
    """Places of those that are taken for certain."""
    count: int
    """How many are drawn among the others."""
    total: int
    """Their weight."""


def _split(weights: Sequence[int], count: int) -> _Split:
    """Take the heaviest for certain as long as it weighs at least its part of what is left."""
    total, certain = sum(weights), set[int]()
    for place in sorted(range(len(weights)), key=lambda place: -weights[place]):
        if count == 0 or weights[place] * count < total:
            break
        certain.add(place)
        count, total = count - 1, total - weights[place]
    return _Split(frozenset(certain), count if total else 0, total)


def starting_points(weights: Sequence[int], count: int) -> int:
    """How many first marks there are, all alike; 1 where nothing is left to chance."""
    split = _split(weights, count)
    return split.total if split.count else 1


def sample(weights: Sequence[int], count: int, start: int) -> list[int]:
    """The places that are picked when the first mark falls upon `start`, below `starting_points`; all if they are few.

    Every weight is at least 1. Both ends of the chances are in integers: marks stand `total` apart on weights taken
    `count` times.
    """
    split = _split(weights, count)
    picked, mark, end = [], start, 0
    for place, weight in enumerate(weights):
        if place in split.certain:
            picked.append(place)
            continue
        end += weight * split.count
        if mark < end:
            picked.append(place)
            mark += split.total
    return picked


def chances(weights: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Of each, the exact chance to be picked: numerator and denominator."""
    split = _split(weights, count)
    certain, others = (1, 1), split.total or 1
    return [
        certain if place in split.certain else (weight * split.count, others) for place, weight in enumerate(weights)
    ]


def shuffled(names: Iterable[bytes], beacon: bytes, *purpose: bytes) -> list[int]:
    """Places of the names in an order that nobody knew before the beacon."""
    ranks = [tagged_hash("gensyn/sortition-order/1", beacon, name, *purpose) for name in names]
    return sorted(range(len(ranks)), key=lambda place: ranks[place])


def pick(items: Sequence[Item], names: Sequence[bytes], weights: Sequence[int], count: int, seed: bytes) -> list[Item]:
    """Up to `count` distinct items by a seed of 32 bytes that decides the order and the first mark.

    The mark is a hash modulo the number of starting points: that favours none by more than their number in 2^256.
    """
    order = shuffled(names, seed)
    laid = [weights[place] for place in order]
    drawn = int.from_bytes(tagged_hash("gensyn/sortition-start/1", seed), "little")
    picked = sample(laid, count, drawn % starting_points(laid, count))
    return [items[order[place]] for place in picked]


def corrected(weights: Sequence[int], left_out: int) -> list[int]:
    """Weights among which one that was drawn before, by weight, takes no part, so that on average nobody loses by it.

    Who trains does not verify its own work, so a large account would verify less than its bonds' share, and more if it
    were split. The factor is Durbin's (1967): with p the share of each among all, the one left out included,
    1 / (1 - 2p) of its own and of the one left out, added. Over all draws of the first each is then picked with
    count · p. Whoever holds half of everything or more cannot be made whole: it is picked for certain.
    """
    total = left_out + sum(weights)
    before = correction_factors([left_out], total)[0]
    factors = correction_factors(weights, total)
    return [weight * (factor + before) for weight, factor in zip(weights, factors, strict=True)]


def correction_factors(weights: Sequence[int], total: int) -> list[int]:
    """1 / (1 - 2p) of each, `CORRECTION_SHIFT` bits behind the point."""
    return [(total << CORRECTION_SHIFT) // max(1, total - 2 * weight) for weight in weights]
