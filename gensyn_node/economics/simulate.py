"""Many tasks: what each strategy earns on average, with bounds, and what is left of the guarantees."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from consensus.ledger.parameters import Parameters
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.fate import Chance
from gensyn_node.economics.play import Play
from gensyn_node.economics.population import populate
from gensyn_node.economics.shape import SHAPES, Shape
from gensyn_node.economics.strategies import COALITION, STRATEGIES, Strategy
from gensyn_node.economics.table import Result
from gensyn_node.primitives.money import NANO_PER_GSN

Z_999 = 3.2905
"""Two-sided 99.9 % of the normal distribution."""
COALITIONS = frozenset(one.name for one in STRATEGIES if one.counts == COALITION)


@dataclass(slots=True)
class Tally:
    """A running mean with its spread."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    harm: float = 0.0

    def add(self, profit_nano: int, harm_nano: int = 0) -> None:
        """One more duty."""
        gsn = profit_nano / NANO_PER_GSN
        self.count += 1
        self.total += gsn
        self.squares += gsn * gsn
        self.harm += harm_nano / NANO_PER_GSN

    @property
    def mean(self) -> float:
        """GSN a duty."""
        return self.total / self.count if self.count else 0.0

    @property
    def margin(self) -> float:
        """Half the width of the 99.9 % interval of the mean; without end for fewer than two duties."""
        if self.count < 2:
            return math.inf
        spread = max(0.0, self.squares / self.count - self.mean**2) * self.count / (self.count - 1)
        return Z_999 * math.sqrt(spread / self.count)


@dataclass(slots=True)
class Campaign:
    """What many tasks gave."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    tasks: int = 0
    unfinished: int = 0
    wrong: int = 0
    """Settled instalments that hold a bad segment."""
    settled: int = 0
    attempts: int = 0
    trained: int = 0
    checked: int = 0
    """Segments whose training counted, and segments re-executed."""

    def tally(self, label: str) -> Tally:
        """Of one strategy or honest role."""
        return self.tallies.setdefault(label, Tally())

    def take(self, result: Result, instalments: int) -> None:
        """Add one task. A coalition's duties of one task count together."""
        together: dict[str, tuple[int, int]] = {}
        for duty in result.duties:
            if duty.label in COALITIONS:
                profit, harm = together.get(duty.label, (0, 0))
                together[duty.label] = (profit + duty.profit_nano, harm + duty.harm_nano)
            else:
                self.tally(duty.label).add(duty.profit_nano, duty.harm_nano)
        for label, (profit, harm) in together.items():
            self.tally(label).add(profit, harm)
        self.tally("honest submitter").add(result.submitter_nano)
        self.tasks += 1
        self.unfinished += result.settled < instalments
        self.wrong += result.wrong
        self.settled += result.settled
        self.attempts += result.attempts
        self.trained += result.trained
        self.checked += result.checked


def campaign(
    cheats: tuple[Strategy, ...],
    bad_bps: int,
    tasks: int,
    parameters: Parameters,
    assumptions: Assumptions,
    *,
    agents: int = 2_000,
    shapes: tuple[Shape, ...] = SHAPES,
    seed: int = 1,
    cheat_first: bool = False,
) -> Campaign:
    """Tasks of every shape in turn, among agents of which a share plays the cheats.

    `cheat_first` has one of them begin every task, so that small shares need no more tasks for the same bounds.
    """
    rng = random.Random(f"{seed} {bad_bps} {[one.name for one in cheats]}")
    population = populate(agents, bad_bps if cheats else 0, cheats, rng)
    plays = [Play(population, shape, parameters, assumptions, Chance(population, assumptions, rng)) for shape in shapes]
    found = Campaign()
    for number in range(tasks):
        play = plays[number % len(plays)]
        found.take(play.task(cheat_first), play.shape.spec.instalments)
    return found
