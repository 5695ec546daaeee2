"""What a hand earns more by a strategy than by honest work: the same accounts, task by task, with the same chances."""

from __future__ import annotations

import random

from consensus.ledger.parameters import Parameters
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.fate import Chance
from gensyn_node.economics.play import Play
from gensyn_node.economics.population import populate
from gensyn_node.economics.shape import Shape
from gensyn_node.economics.simulate import Tally
from gensyn_node.economics.strategies import HAND, Strategy


class _Hand:
    """A crowd of which a share plays one strategy."""

    def __init__(
        self,
        strategy: Strategy,
        share_bps: int,
        agents: int,
        parameters: Parameters,
        assumptions: Assumptions,
        shapes: tuple[Shape, ...],
        seed: int,
    ) -> None:
        self._rng = random.Random(f"{seed} hand {share_bps}")
        self._crowd = populate(agents, share_bps, (strategy,), self._rng)
        chance = Chance(self._crowd, assumptions, self._rng)
        self._plays = [Play(self._crowd, shape, parameters, assumptions, chance) for shape in shapes]
        self._strategy, self._seed = strategy, seed

    def earned(self, number: int) -> int:
        """All that it earns by one task, which its own solver begins."""
        self._rng.seed(f"{self._seed} task {number}")
        duties = self._plays[number % len(self._plays)].task(cheat_first=True).duties
        return sum(duty.profit_nano for duty in duties if self._crowd.strategies[duty.agent] is self._strategy)


def gain(
    strategy: Strategy,
    share_bps: int,
    tasks: int,
    parameters: Parameters,
    assumptions: Assumptions,
    *,
    agents: int,
    shapes: tuple[Shape, ...],
    seed: int,
) -> Tally:
    """The difference, a task."""
    sides = [_Hand(one, share_bps, agents, parameters, assumptions, shapes, seed) for one in (strategy, HAND)]
    found = Tally()
    for number in range(tasks):
        own, honest = (side.earned(number) for side in sides)
        found.add(own - honest)
    return found
