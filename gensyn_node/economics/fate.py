"""What chance decides in a task: who is drawn, which segments, what a cheat leaves out, who looks."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.ledger.parameters import BASIS_POINTS
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.population import Population
from gensyn_node.economics.strategies import COALITION, OUTSIDER, SOLVER

WINS, LOSES, BOTH_WRONG = "wins", "loses", "both wrong"
"""How a dispute ends for its challenger."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a solver claims of one instalment."""

    bad: frozenset[int]
    done_bps: int
    """Of the cost of honest training."""
    hidden: frozenset[int] = frozenset()
    """Segments whose states are not served."""


class Fate(Protocol):
    """Everything that `Play` leaves open. Segments are numbered within the instalment."""

    def solver(self, gone: Collection[int], cheat_first: bool) -> int | None:
        """The task's next solver."""

    def work(self, act: str, segments: int) -> Work:
        """What a solver that acts so does of an instalment."""

    def forced(self, segments: int, chance_bps: int) -> int | None:
        """The segment that the solver has to show with an error; None without one."""

    def verifiers(self, count: int, out: Collection[int], solver: int) -> list[int]:
        """Up to `count` verifiers for empty slots of the solver's instalment."""

    def segments(self, agent: int, segments: int, samples: int) -> tuple[int, ...]:
        """What is drawn for a verifier."""

    def compares(self, agent: int) -> bool:
        """Whether a verifier that did its work compares others' evidence with its own."""

    def lie(self, agent: int) -> str:
        """How a dispute ends for who disagreed unseen at a segment that is wrong indeed, with a root that is not right
        either: as WINS, LOSES or BOTH_WRONG, by where the two first differ."""

    def rank(self, agent: int) -> tuple[int, int]:
        """Whose dispute is decided first: the least."""

    def watch(self, taken: Collection[int], claimed: Sequence[int], chance_bps: int) -> tuple[int, int] | None:
        """The drawn watch and its segment; None without one."""

    def watcher(self, taken: Collection[int], approved: Sequence[int]) -> tuple[int, int] | None:
        """A whistleblower that looks on its own, and the segment that it re-executes."""

    def griefers(self, taken: Collection[int]) -> list[int]:
        """Who challenges what is right."""


class Chance:
    """As the ledger draws: by systematic sampling, and segments uniformly."""

    def __init__(self, population: Population, assumptions: Assumptions, rng: random.Random) -> None:
        self._population, self._assumptions, self._rng = population, assumptions, rng
        counted = [one.counts for one in population.strategies]
        self._cheats = [agent for agent, counts in enumerate(counted) if counts in (SOLVER, COALITION)]
        self._griefers = [agent for agent, counts in enumerate(counted) if counts == OUTSIDER]

    def solver(self, gone: Collection[int], cheat_first: bool) -> int | None:
        """See `Fate`."""
        if cheat_first and not gone and self._cheats:
            weights = [self._population.weight_of(agent) for agent in self._cheats]
            return self._rng.choices(self._cheats, weights)[0]
        drawn = self._population.draw(1, gone, self._rng)
        return drawn[0] if drawn else None

    def work(self, act: str, segments: int) -> Work:
        """See `Fate`."""
        rng, assumed = self._rng, self._assumptions
        everything = frozenset(range(segments))
        match act:
            case "one" | "self":
                return Work(frozenset((rng.randrange(segments),)), BASIS_POINTS - BASIS_POINTS // segments)
            case "tenth":
                count = max(1, segments // 10)
                bad = frozenset(rng.sample(range(segments), count))
                return Work(bad, BASIS_POINTS - BASIS_POINTS * count // segments)
            case "stale":
                half = segments // 2
                return Work(frozenset(range(half, segments)), BASIS_POINTS * half // segments)
            case "all" | "copy":
                return Work(everything, 0)
            case "data":
                return Work(everything, BASIS_POINTS - assumed.wrong_data_saving_bps)
            case "precision":
                return Work(everything, BASIS_POINTS - assumed.low_precision_saving_bps)
            case "withhold":
                return Work(everything, 0, everything)
            case "hide":
                tenth = self.work("tenth", segments)
                return Work(tenth.bad, tenth.done_bps, tenth.bad)
            case _:
                return Work(frozenset(), BASIS_POINTS)

    def forced(self, segments: int, chance_bps: int) -> int | None:
        """See `Fate`."""
        return self._rng.randrange(segments) if self._rng.randrange(BASIS_POINTS) < chance_bps else None

    def verifiers(self, count: int, out: Collection[int], solver: int) -> list[int]:
        """See `Fate`."""
        return self._population.draw(count, out, self._rng, solver)

    def segments(self, agent: int, segments: int, samples: int) -> tuple[int, ...]:
        """See `Fate`."""
        return tuple(self._rng.sample(range(segments), samples))

    def compares(self, agent: int) -> bool:
        """See `Fate`."""
        return True

    def lie(self, agent: int) -> str:
        """See `Fate`. What is best for the liar."""
        return WINS

    def rank(self, agent: int) -> tuple[int, int]:
        """See `Fate`. As they were drawn."""
        return 0, 0

    def watch(self, taken: Collection[int], claimed: Sequence[int], chance_bps: int) -> tuple[int, int] | None:
        """See `Fate`."""
        if not claimed or self._rng.randrange(BASIS_POINTS) >= chance_bps:
            return None
        drawn = self._population.draw(1, taken, self._rng)
        return (drawn[0], self._rng.choice(claimed)) if drawn else None

    def watcher(self, taken: Collection[int], approved: Sequence[int]) -> tuple[int, int] | None:
        """See `Fate`. A bad agent looks at nothing."""
        if not approved or self._rng.randrange(BASIS_POINTS) >= self._assumptions.audit_bps:
            return None
        drawn = self._population.draw(1, taken, self._rng)
        if not drawn or self._population.strategies[drawn[0]].counts:
            return None
        return drawn[0], self._rng.choice(approved)

    def griefers(self, taken: Collection[int]) -> list[int]:
        """See `Fate`. One an instalment, where there are any."""
        free = [agent for agent in self._griefers if agent not in taken]
        return [self._rng.choice(free)] if free else []
