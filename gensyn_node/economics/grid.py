"""Around the parameters: one of them at a time is changed, and which strategies then pay is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from consensus.ledger.parameters import Parameters
from gensyn_node.economics.assumptions import Assumptions
from gensyn_node.economics.report import report
from gensyn_node.economics.shape import SIZES, shape


@dataclass(frozen=True, slots=True)
class Point:
    """What is changed from the chain's parameters and a usual task."""

    name: str
    bonds_percent: int = 100
    """Solver's bond, and with it everybody's, beside the chain's."""
    verifiers: int = 2
    samples: int = 2
    forced_error_bps: int = 0
    watch_bps: int | None = None
    """With none, nobody looks on its own either."""


POINTS = (
    Point("as they are"),
    Point("a tenth of the bonds", bonds_percent=10),
    Point("a third of the bonds", bonds_percent=33),
    Point("twice the bonds", bonds_percent=200),
    Point("1 verifier", verifiers=1),
    Point("3 verifiers", verifiers=3),
    Point("1 verifier, forced errors 10 %", verifiers=1, forced_error_bps=1_000),
    Point("1 sample", samples=1),
    Point("4 samples", samples=4),
    Point("forced errors 5 %", forced_error_bps=500),
    Point("forced errors 10 %", forced_error_bps=1_000),
    Point("no drawn watch", watch_bps=0),
    Point("every instalment watched", watch_bps=10_000),
    Point("1 verifier, no drawn watch", verifiers=1, watch_bps=0),
)


def region(
    parameters: Parameters,
    assumptions: Assumptions,
    *,
    tasks: int,
    processes: int = 1,
    seed: int = 1,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> list[dict[str, Any]]:
    """Every point with what fails there: cheats whose mean is above 0 (above honest work), honest roles below."""
    found = []
    for number, point in enumerate(POINTS, 1):
        scaled = {
            name: max(1, getattr(parameters, name) * point.bonds_percent // 100)
            for name in ("solver_bond_bps", "solver_bond_min_nano", "verifier_bond_min_nano")
        }
        watched = parameters.watch_bps if point.watch_bps is None else point.watch_bps
        assumed = replace(assumptions, audit_bps=watched // 10)
        sizes = {"verifiers": point.verifiers, "samples": point.samples, "forced_error_bps": point.forced_error_bps}
        result = report(
            msgspec.structs.replace(parameters, watch_bps=watched, **scaled),
            assumed,
            tasks=tasks,
            seed=seed,
            shares_bps=(3_000,),
            shapes=tuple(shape(*size, **sizes) for size in SIZES),
            processes=processes,
        )
        strategies = result["strategies"].items()
        means = {name: one.get("more_than_honest", one["mean"]) for name, one in strategies}
        means = {name: mean for name, mean in means.items() if mean is not None}
        honest = {name: one["honest"] for name, one in result["strategies"].items()}
        riding = {name for name, one in strategies if "more_than_honest" in one}
        fails = [
            name
            for name, mean in means.items()
            if (mean <= 0 if honest[name] else mean > 0 or (mean == 0 and name not in riding))
        ]
        found.append({"point": point.name, "fails": fails, "means": means})
        told(number, len(POINTS))
    return found
