"""Makes a failing schedule smaller: fewer kinds of fault, less time, fewer nodes, as long as it still fails.

Any violation counts as failing: another one on the way is as worth knowing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace

from gensyn_node.primitives.errors import InvariantViolation
from tests.simulator.application import Violation
from tests.simulator.schedule import Schedule
from tests.simulator.simulation import Simulation

RUNS_MAX = 150
SHORTEST_MS = 250
FAULTS = tuple(
    field for field in fields(Schedule) if field.name not in ("powers", "byzantine", "fault_ms", "application")
)


def fails(seed: int, schedule: Schedule) -> str:
    """What is violated; empty when nothing is."""
    try:
        Simulation(seed, schedule).run()
    except (Violation, InvariantViolation) as violation:
        return str(violation)
    return ""


def shrink(seed: int, schedule: Schedule, fails: Callable[[int, Schedule], str] = fails) -> tuple[Schedule, str]:
    """The smallest failing schedule that dropping one thing after the other finds, and what it says."""
    said, runs = fails(seed, schedule), 0
    smaller = True
    while smaller and said:
        smaller = False
        for candidate in _candidates(schedule):
            if runs == RUNS_MAX:
                return schedule, said
            runs += 1
            if found := fails(seed, candidate):
                schedule, said, smaller = candidate, found, True
                break
    return schedule, said


def _candidates(schedule: Schedule) -> Iterator[Schedule]:
    """The same with one thing less."""
    last = len(schedule.powers) - 1
    if last >= 4 and not _is_used(schedule, last):
        yield replace(schedule, powers=schedule.powers[:-1])
    for position in schedule.byzantine:
        yield replace(schedule, byzantine={p: kind for p, kind in schedule.byzantine.items() if p != position})
    for field in FAULTS:
        default = field.default_factory() if callable(field.default_factory) else field.default
        if getattr(schedule, field.name) != default:
            yield replace(schedule, **{field.name: default})
    if schedule.fault_ms > SHORTEST_MS:
        yield replace(schedule, fault_ms=schedule.fault_ms // 2)


def _is_used(schedule: Schedule, position: int) -> bool:
    changed = {p for changes in schedule.set_changes.values() for p, _ in changes}
    return position in schedule.byzantine or position in schedule.late or position in changed
