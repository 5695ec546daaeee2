"""The agents and the draw: the ledger's own weights and its own rule, only faster for thousands of agents."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from consensus.ledger.assignment import weight
from consensus.ledger.messages import ROLES_ALL
from consensus.ledger.records import PROVIDER_ACTIVE, Provider
from gensyn_node.economics.strategies import TRUE, Strategy
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.roles.policy import REFERENCE_ASK_NANO

BONDS_GSN = (2_000, 6_000)
"""Bonds are spread evenly between these: enough for a few duties of the default tasks at a time."""
ASKS_PERCENT = (90, 110)
"""Asks, beside the reference."""


@dataclass(frozen=True)
class Population:
    """Agents by number, their weights in the draw summed up."""

    providers: tuple[Provider, ...]
    strategies: tuple[Strategy, ...]
    cumulative: tuple[int, ...]

    def weight_of(self, agent: int) -> int:
        """Chance in the draw, beside the sum of all."""
        return self.cumulative[agent] - (self.cumulative[agent - 1] if agent else 0)

    def at(self, mark: int, without: Iterable[int]) -> int:
        """Who is drawn by a mark below the weight of all that are left: `assignment.draw` by bisection."""
        for agent in sorted(without):
            if mark >= (self.cumulative[agent - 1] if agent else 0):
                mark += self.weight_of(agent)
        return bisect_right(self.cumulative, mark)

    def draw(self, count: int, without: Iterable[int], rng: random.Random) -> list[int]:
        """Distinct agents, each with a chance by its weight among those left."""
        gone, drawn = set(without), list[int]()
        left = self.cumulative[-1] - sum(self.weight_of(agent) for agent in gone)
        while left > 0 and len(drawn) < count:
            agent = self.at(rng.randrange(left), gone)
            gone.add(agent)
            drawn.append(agent)
            left -= self.weight_of(agent)
        return drawn


def provider(number: int, bond_nano: int, ask_nano: int) -> Provider:
    """A registered machine."""
    return Provider(
        address=number.to_bytes(20, "big"),
        name="",
        state=PROVIDER_ACTIVE,
        roles=ROLES_ALL,
        device_class="cpu",
        memory_bytes=1 << 40,
        ask_price_nano=ask_nano,
        bond_nano=bond_nano,
        locked_nano=0,
        endpoints=(),
        solving=0,
        verifying=0,
        work=(),
        misses=0,
        registered_height=0,
        earned_nano=0,
        slashed_nano=0,
    )


def populate(agents: int, bad_bps: int, cheats: tuple[Strategy, ...], rng: random.Random) -> Population:
    """Agents with spread bonds and asks; the bad share plays the strategies in turn."""
    bad = agents * bad_bps // 10_000
    strategies = [cheats[i % len(cheats)] for i in range(bad)] + [TRUE] * (agents - bad)
    rng.shuffle(strategies)
    made = tuple(
        provider(
            number,
            rng.randint(*BONDS_GSN) * NANO_PER_GSN,
            REFERENCE_ASK_NANO * rng.randint(*ASKS_PERCENT) // 100,
        )
        for number in range(agents)
    )
    return Population(made, tuple(strategies), tuple(accumulate(weight(one) for one in made)))
