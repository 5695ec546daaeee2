"""What a simulated provider is like: one word for each thing it does, `honest` or the name of a way to cheat."""

from __future__ import annotations

import random
from dataclasses import dataclass

HONEST = "honest"
SOLVERS = ("wrong", "wrong start", "garbage", "withholding", "deserting", "idle", "late")
"""Trains wrongly (one step, or the initial state); commits roots of no state; serves no state; stops half-way; never
starts; does everything in the last block that counts."""
FORCED_SOLVERS = ("secretive", "twisted", "contrary", "unopened")
"""With forced errors: never shows a secret; seals garbage and opens the truth where an error is drawn; opens an error
where none is drawn, and none where one is; never opens."""
TOLD = "told"
"""A verifier that knows every state root from the solver, and makes the samples up; in stories of its own."""
VERIFIERS = ("lazy", "copying", "lying", "blind", "silent", "unrevealing", "double")
"""Approves without looking; copies another's commitment; disagrees with what is right; says that states cannot be had;
commits nothing; commits and never reveals; says everything twice."""
DISPUTANTS = ("stalling", "silent", "garbage", "hasty")
"""Moves in the last block of its time; never; makes moves that prove nothing; moves twice, and after the end."""
WATCHERS = ("none", "false", "griefing", "thief")
"""Does not look; challenges what is right; announces and never shows; announces another's commitment as its own."""


@dataclass(frozen=True)
class Character:
    """How a provider behaves in each of its roles."""

    solver: str = HONEST
    verifier: str = HONEST
    disputant: str = HONEST
    watcher: str = "none"

    @property
    def honest(self) -> bool:
        """Whether it follows the protocol in everything."""
        return {self.solver, self.verifier, self.disputant} == {HONEST} and self.watcher in ("none", HONEST)


def draw_character(rng: random.Random, cheats: float) -> Character:
    """Honest in all, or a cheat in one or several things."""
    if rng.random() >= cheats:
        return Character(watcher=rng.choice(("none", HONEST)))
    return Character(
        solver=rng.choice((HONEST, rng.choice(SOLVERS))),
        verifier=rng.choice((HONEST, rng.choice(VERIFIERS))),
        disputant=rng.choice((HONEST, rng.choice(DISPUTANTS))),
        watcher=rng.choice((*WATCHERS, HONEST)),
    )
