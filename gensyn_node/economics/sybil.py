"""Splitting into Sybils: the same bonds as one identity and as many, honest otherwise; what all earn a task."""

from __future__ import annotations

import math
import random
from typing import Any

from consensus.ledger.parameters import Parameters
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.fate import Chance
from gensyn_node.economics.play import Play
from gensyn_node.economics.population import Population, populate, provider
from gensyn_node.economics.shape import SHAPES, Shape
from gensyn_node.economics.simulate import Tally
from gensyn_node.economics.strategies import HAND
from gensyn_node.roles.policy import REFERENCE_ASK_NANO

IDENTITIES = 20


def _crowd(agents: int, share_bps: int, identities: int, rng: random.Random) -> Population:
    """Honest agents and one hand that holds a share of all bonds in so many identities."""
    honest = populate(agents, 0, (), rng)
    others = sum(one.bond_nano for one in honest.providers)
    own = others * share_bps // (10_000 - share_bps)
    hand = tuple(provider(agents + n, own // identities, REFERENCE_ASK_NANO) for n in range(identities))
    everybody = (*honest.providers, *hand)
    strategies = (*honest.strategies, *(HAND,) * identities)
    return Population(everybody, strategies)


def _earned(
    share_bps: int,
    identities: int,
    tasks: int,
    parameters: Parameters,
    assumptions: Assumptions,
    shapes: tuple[Shape, ...],
    seed: int,
) -> Tally:
    """What the hand earns a task."""
    rng = random.Random(f"{seed} sybil {share_bps} {identities}")
    crowd = _crowd(300, share_bps, identities, rng)
    plays = [Play(crowd, shape, parameters, assumptions, Chance(crowd, assumptions, rng)) for shape in shapes]
    earned = Tally()
    for number in range(tasks):
        duties = plays[number % len(plays)].task().duties
        earned.add(sum(duty.profit_nano for duty in duties if crowd.strategies[duty.agent] is HAND))
    return earned


def splitting(
    parameters: Parameters,
    assumptions: Assumptions,
    *,
    tasks: int,
    shares_bps: tuple[int, ...],
    shapes: tuple[Shape, ...] = SHAPES,
    seed: int = 1,
) -> list[dict[str, Any]]:
    """For each share of all bonds: what one identity earns a task, what many do, and the difference with its bounds."""
    found = []
    for share in shares_bps:
        one, many = (
            _earned(share, identities, tasks, parameters, assumptions, shapes, seed) for identities in (1, IDENTITIES)
        )
        gain, margin = many.mean - one.mean, math.hypot(one.margin, many.margin)
        found.append(
            {
                "share_bps": share,
                "one": round(one.mean, 6),
                "many": round(many.mean, 6),
                "identities": IDENTITIES,
                "gain": round(gain, 6),
                "low": round(gain - margin, 6),
                "high": round(gain + margin, 6),
            }
        )
    return found
