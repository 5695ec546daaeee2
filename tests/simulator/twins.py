"""Twins, systematically: four validators, one of them with a twin; every way to cut the five machines in two, by round.

After Bano et al., *Twins: BFT systems made robust* (OPODIS 2021). Leaders follow from the rotation, so each validator
in turn is the one with the twin. Messages of a round pass within the groups of that round; then everything heals.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

from tests.simulator.schedule import Schedule

VALIDATORS = 4
MACHINES = VALIDATORS + 1
SPLITS = tuple((0, *rest) for rest in product((0, 1), repeat=MACHINES - 1))
"""Every way to put the machines into one group or two."""
ROUND_MS = 1_100
"""A round in which nothing is decided takes about so long."""


def scenarios(rounds: int) -> Iterator[Schedule]:
    """All of them: 4 x 16 ** rounds."""
    for position in range(VALIDATORS):
        for script in product(SPLITS, repeat=rounds):
            yield Schedule([1] * VALIDATORS, {position: "twins"}, fault_ms=ROUND_MS * rounds, scripted=script)


def sample(rounds: int, count: int) -> Iterator[Schedule]:
    """So many, evenly spaced."""
    total = VALIDATORS * len(SPLITS) ** rounds
    return islice(scenarios(rounds), total // (2 * count), None, total // count)
