"""The simulation draws as the ledger does."""

from __future__ import annotations

import random

from consensus.ledger.assignment import draw, weight
from gensyn_node.economics.population import populate
from gensyn_node.primitives.hashing import tagged_hash


def test_the_draw_by_bisection_is_the_ledger_s() -> None:
    population = populate(60, 0, (), random.Random(4))
    for number in range(50):
        beacon = number.to_bytes(32, "big")
        expected = draw(population.providers, 5, beacon, b"purpose")
        gone: list[int] = []
        for place in range(5):
            seed = tagged_hash("gensyn/sortition/1", beacon, place.to_bytes(4, "little"), b"purpose")
            left = sum(weight(one) for at, one in enumerate(population.providers) if at not in gone)
            gone.append(population.at(int.from_bytes(seed, "little") % left, gone))
        assert [population.providers[agent] for agent in gone] == expected


def test_a_draw_leaves_out_whom_it_is_told_and_repeats_nobody() -> None:
    population, rng = populate(12, 0, (), random.Random(1)), random.Random(2)
    for _ in range(200):
        drawn = population.draw(4, {0, 5, 11}, rng)
        assert len(set(drawn)) == 4 and not {0, 5, 11} & set(drawn)
    assert sorted(population.draw(20, (), rng)) == list(range(12))
