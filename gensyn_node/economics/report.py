"""The table of strategies: a campaign for each and each share of bad actors, in processes side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from consensus.ledger.parameters import Parameters
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.gain import gain
from gensyn_node.economics.shape import SHAPES, Shape
from gensyn_node.economics.simulate import Campaign, Tally, campaign
from gensyn_node.economics.strategies import BY_NAME, CHEATS, HAND, HONEST_ROLES, Strategy
from gensyn_node.economics.sybil import splitting

SHARES_BPS = (500, 1_500, 3_000)
MIXED = "mixed"
"""A crowd in which every strategy is played by as many."""
NOBODY = "nobody"
"""A crowd in which nobody cheats."""
GRIEF_RATIO = 2.0
"""A griefer must lose at least so many times what it costs honest others."""


@dataclass(frozen=True)
class Job:
    """One campaign."""

    name: str
    bad_bps: int
    tasks: int
    parameters: Parameters
    assumptions: Assumptions
    agents: int
    shapes: tuple[Shape, ...]
    seed: int

    def run(self) -> Campaign:
        """Play it."""
        cheats: tuple[Strategy, ...] = ()
        if self.name == MIXED:
            cheats = CHEATS
        elif self.name != NOBODY:
            cheats = (BY_NAME[self.name],)
        return campaign(
            cheats,
            self.bad_bps,
            self.tasks,
            self.parameters,
            self.assumptions,
            agents=self.agents,
            shapes=self.shapes,
            seed=self.seed,
            cheat_first=self.name != MIXED,
        )


def _run(job: Job) -> Campaign:
    return job.run()


def run_all(jobs: list[Job], processes: int, told: Callable[[int], None]) -> list[Campaign]:
    """Play jobs in processes; `told` hears how many are done."""
    if processes == 1:
        return _gathered(map(_run, jobs), told)
    with ProcessPoolExecutor(processes) as pool:
        return _gathered(pool.map(_run, jobs), told)


def _gathered(results: Iterable[Campaign], told: Callable[[int], None]) -> list[Campaign]:
    found = []
    for one in results:
        found.append(one)
        told(len(found))
    return found


def report(
    parameters: Parameters,
    assumptions: Assumptions,
    *,
    tasks: int,
    agents: int = 2_000,
    seed: int = 1,
    shares_bps: tuple[int, ...] = SHARES_BPS,
    shapes: tuple[Shape, ...] = SHAPES,
    processes: int = 1,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> dict[str, Any]:
    """Everything the command prints. `tasks` is for each strategy and share."""
    names = [MIXED, HAND.name, *(one.name for one in CHEATS)]
    places = [(NOBODY, 0), *((name, share) for name in names for share in shares_bps)]
    jobs = [Job(name, share, tasks, parameters, assumptions, agents, shapes, seed) for name, share in places]
    done = run_all(jobs, processes, lambda number: told(number, len(jobs)))
    found = dict(zip(places, done, strict=True))
    strategies = {name: _honest(name, what, found, shares_bps) for name, what in HONEST_ROLES.items()}
    split = splitting(parameters, assumptions, tasks=2 * tasks, shares_bps=shares_bps, shapes=shapes, seed=seed)
    strategies |= {one.name: _cheat(one, found, shares_bps) for one in CHEATS}
    for one in (one for one in CHEATS if one.free_riding):
        gains = [
            gain(one, share, tasks, parameters, assumptions, agents=agents, shapes=shapes, seed=seed)
            for share in shares_bps
        ]
        most = max(gains, key=lambda tally: tally.mean + tally.margin)
        bound = most.mean + most.margin
        strategies[one.name] |= {"more_than_honest": round(most.mean, 6), "more_high": round(bound, 6)}
        strategies[one.name]["holds"] = bound <= 0
    return {
        "tasks": sum(one.tasks for one in done),
        "agents": agents,
        "shares_bps": list(shares_bps),
        "shapes": [shape.name for shape in shapes],
        "unit": "GSN a duty: a training, a verification, a challenge; coalitions: a task",
        "confidence": 0.999,
        "assumptions": assumptions.sentences(),
        "strategies": strategies,
        "splitting": split,
        "unfinished": sum(one.unfinished for one in done),
        "verification_per_training": round(found[NOBODY, 0].checked / max(1, found[NOBODY, 0].trained), 4),
        "failing": [name for name, one in strategies.items() if not one["holds"]],
    }


def _bounds(tally: Tally) -> dict[str, Any]:
    if tally.count < 2:
        return {"mean": None, "low": None, "high": None, "count": tally.count}
    low, high = tally.mean - tally.margin, tally.mean + tally.margin
    return {"mean": round(tally.mean, 6), "low": round(low, 6), "high": round(high, 6), "count": tally.count}


def _honest(name: str, what: str, found: dict[tuple[str, int], Campaign], shares: tuple[int, ...]) -> dict[str, Any]:
    """The worst of: nobody cheats, and every kind of cheat at each share."""
    places = [(NOBODY, 0), *((MIXED, share) for share in shares)]
    by_share = {str(share): _bounds(found[place, share].tally(name)) for place, share in places}
    worst = min(by_share.values(), key=lambda one: one["low"] if one["low"] is not None else math.inf)
    return {
        "honest": True,
        "what": what,
        **worst,
        "holds": worst["low"] is not None and worst["low"] > 0,
        "by_share_bps": by_share,
    }


def _cheat(strategy: Strategy, found: dict[tuple[str, int], Campaign], shares: tuple[int, ...]) -> dict[str, Any]:
    """The best that the cheat does at any share."""
    tallies = {share: found[strategy.name, share].tally(strategy.name) for share in shares}
    by_share: dict[str, Any] = {str(share): _bounds(tally) for share, tally in tallies.items()}
    best = max(by_share.values(), key=lambda one: one["high"] if one["high"] is not None else -math.inf)
    value: dict[str, Any] = {"honest": False, "what": strategy.what, **best, "by_share_bps": by_share}
    value["holds"] = best["high"] is not None and best["high"] < 0
    if strategy.griefing:
        ratios = [-tally.total / tally.harm for tally in tallies.values() if tally.harm > 0]
        value["loss_per_harm"] = round(min(ratios), 3) if ratios else None
        value["holds"] = value["holds"] and all(ratio >= GRIEF_RATIO for ratio in ratios)
    return value
