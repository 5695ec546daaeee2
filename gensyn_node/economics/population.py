"""The agents and the draw: the ledger's own weights and its own rule, only faster for thousands of agents."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from consensus.ledger import sortition
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


SHUFFLED_EVERY = 64
"""Draws for which one order serves: the chances of each are exact in every order."""


class Population:
    """Agents by number, and the draws among them."""

    def __init__(self, providers: tuple[Provider, ...], strategies: tuple[Strategy, ...]) -> None:
        self.providers, self.strategies = providers, strategies
        self._weights = [weight(one) for one in providers]
        self._total, self._draws = sum(self._weights), 0
        self._factors = sortition.correction_factors(self._weights, self._total)
        self._heaviest = max(range(len(providers)), key=lambda agent: self._weights[agent])
        self._lay(list(range(len(providers))))

    def _lay(self, order: list[int]) -> None:
        """Lay the weights side by side, plain and with their own factors."""
        self.order = order
        self._place = {agent: place for place, agent in enumerate(order)}
        self._plain = list(accumulate((self._weights[agent] for agent in order), initial=0))
        self._own = list(accumulate((self._weights[agent] * self._factors[agent] for agent in order), initial=0))

    def weight_of(self, agent: int) -> int:
        """Chance in the draw, beside the sum of all."""
        return self._weights[agent]

    def draw(self, count: int, without: Iterable[int], rng: random.Random, trainer: int | None = None) -> list[int]:
        """Up to `count` distinct agents by systematic sampling; for verifiers, `trainer` is the solver left out."""
        if self._draws % SHUFFLED_EVERY == 0:
            rng.shuffle(self.order)
            self._lay(self.order)
        self._draws += 1
        gone = sorted({self._place[agent] for agent in without})
        if self._heavy(count, gone, trainer):
            left = [place for place in range(len(self.order)) if place not in gone]
            lengths = [self._length(place, trainer) for place in left]
            start = rng.randrange(sortition.starting_points(lengths, count))
            return [self.order[left[place]] for place in sortition.sample(lengths, count, start)]
        return self.at(count, rng.randrange(self._points(gone, trainer)), gone, trainer)

    def at(self, count: int, start: int, gone: Sequence[int], trainer: int | None = None) -> list[int]:
        """`sortition.sample` on what is laid, less the places `gone`, by bisection; nobody may be taken for certain."""
        distance, places = self._points(gone, trainer), range(len(self.order))
        drawn = []
        for number in range(count):
            mark = start + number * distance
            for place in gone:
                if mark >= count * self._end(place - 1, trainer):
                    mark += count * self._length(place, trainer)
            drawn.append(self.order[bisect_right(places, mark, key=lambda place: count * self._end(place, trainer))])
        return drawn

    def _heavy(self, count: int, gone: Sequence[int], trainer: int | None) -> bool:
        """Whether somebody may be as long as the marks are apart: then it is taken for certain."""
        factor = 1 if trainer is None else self._factors[self._heaviest] + self._factors[trainer]
        return self._weights[self._heaviest] * factor * count >= self._points(gone, trainer)

    def _end(self, place: int, trainer: int | None) -> int:
        """Where the weight at a place ends, on all that are laid."""
        if trainer is None:
            return self._plain[place + 1]
        return self._own[place + 1] + self._factors[trainer] * self._plain[place + 1]

    def _length(self, place: int, trainer: int | None) -> int:
        return self._end(place, trainer) - self._end(place - 1, trainer)

    def _points(self, gone: Sequence[int], trainer: int | None) -> int:
        return self._end(len(self.order) - 1, trainer) - sum(self._length(place, trainer) for place in gone)


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
    return Population(made, tuple(strategies))
