"""The simulation draws as the ledger does."""

from __future__ import annotations

import random

import pytest

from consensus.ledger import sortition
from consensus.ledger.assignment import weight
from gensyn_node.economics.population import Population, populate, provider
from gensyn_node.economics.strategies import TRUE
from gensyn_node.primitives.money import NANO_PER_GSN


@pytest.mark.parametrize("trainer", [None, 7])
def test_the_draw_by_bisection_is_the_ledger_s(trainer: int | None) -> None:
    population, rng = populate(60, 0, (), random.Random(4)), random.Random(5)
    for _ in range(50):
        without = {7} if trainer is not None else set(rng.sample(range(60), 3))
        population.draw(1, (), rng)
        left = [agent for agent in population.order if agent not in without]
        weights = [weight(population.providers[agent]) for agent in left]
        if trainer is not None:
            weights = sortition.corrected(weights, weight(population.providers[trainer]))
        start = rng.randrange(sortition.starting_points(weights, 5))
        gone = sorted(population.order.index(agent) for agent in without)
        expected = [left[place] for place in sortition.sample(weights, 5, start)]
        assert population.at(5, start, gone, trainer) == expected and len(set(expected)) == 5


def test_a_draw_leaves_out_whom_it_is_told_and_repeats_nobody() -> None:
    population, rng = populate(12, 0, (), random.Random(1)), random.Random(2)
    for _ in range(200):
        drawn = population.draw(4, {0, 5, 11}, rng)
        assert len(set(drawn)) == 4 and not {0, 5, 11} & set(drawn)
    assert sorted(population.draw(20, (), rng)) == list(range(12))
    assert population.draw(3, range(12), rng) == []


def test_who_is_heavy_is_always_drawn_and_another_beside_it() -> None:
    bonds = (1_000, 10, 10, 10)
    agents = tuple(provider(number, bond * NANO_PER_GSN, 10**6) for number, bond in enumerate(bonds))
    population, rng = Population(agents, (TRUE,) * 4), random.Random(3)
    drawn = [population.draw(2, (1,), rng, trainer=1) for _ in range(100)]
    assert all(0 in pair and len(set(pair)) == 2 and 1 not in pair for pair in drawn)
    assert {agent for pair in drawn for agent in pair} == {0, 2, 3}
