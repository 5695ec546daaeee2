"""Many schedules on many processes: `python -m tests.simulator --seeds 0:19999 --jobs 2`.

Prints the count, the time, how often each rare state was reached, and every violation with the command that repeats it
and the smallest schedule that still fails. Ends with 1 when there was a violation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

import msgspec

from tests.simulator.application import Violation
from tests.simulator.applications import APPLICATIONS
from tests.simulator.rare_states import RARE_STATES
from tests.simulator.schedule import Schedule, draw
from tests.simulator.shrink import shrink
from tests.simulator.simulation import run
from tests.simulator.twins import scenarios

BATCH = 20
SHRUNK_MAX = 3
"""Violations of one campaign that are made smaller."""

Batch = list[tuple[int, Schedule]]


@dataclass
class Report:
    """What a campaign found."""

    played: int = 0
    wall_s: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, Schedule, str]] = field(default_factory=list)
    """Seed, schedule, what was said."""

    def missing(self) -> list[str]:
        """Rare states that were not reached."""
        return [name for name in RARE_STATES if not self.seen[name]]


def play(batch: Batch) -> Report:
    """In one process."""
    report = Report(len(batch))
    for seed, schedule in batch:
        try:
            report.seen.update(run(seed, schedule).seen)
        except Violation as violation:
            report.failed.append((seed, schedule, str(violation)))
    return report


def campaign(schedules: Iterable[tuple[int, Schedule]], jobs: int, budget_s: float = float("inf")) -> Report:
    """Play schedules, in processes, until there are no more or the time is over."""
    begun, total = time.monotonic(), Report()
    waiting = iter(schedules)

    def batches() -> Iterator[Batch]:
        while time.monotonic() - begun < budget_s and (batch := list(islice(waiting, BATCH))):
            yield batch

    with multiprocessing.Pool(jobs) as pool:
        # `imap` would draw all batches at once; so many at a time leave no process idle and the clock in charge.
        source = batches()
        while several := list(islice(source, 4 * jobs)):
            for report in pool.imap_unordered(play, several):
                total.played += report.played
                total.seen.update(report.seen)
                total.failed += report.failed
                for _, _, said in report.failed:
                    print(f"VIOLATION {said}\n", file=sys.stderr, flush=True)
            if sys.stderr.isatty():
                print(f"\r{total.played} schedules", end="", file=sys.stderr, flush=True)
    total.wall_s = time.monotonic() - begun
    return total


def drawn(first: int, last: int, application: str | None = None) -> Iterator[tuple[int, Schedule]]:
    """The schedules of these seeds, if wanted with another application."""
    for seed in range(first, last + 1):
        schedule = draw(seed)
        yield seed, schedule if application is None else replace(schedule, application=application)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", default="0:999", metavar="FIRST:LAST", help="both are played")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--application", choices=sorted(APPLICATIONS), help="instead of the one each seed draws")
    parser.add_argument("--schedule", help="this schedule (JSON, as a violation prints it) instead of the seeds' own")
    parser.add_argument("--twins", type=int, metavar="ROUNDS", help="all scenarios of twins instead; 3 rounds: 16,384")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    first, _, last = options.seeds.partition(":")
    schedules: Iterable[tuple[int, Schedule]] = drawn(int(first), int(last or first), options.application)
    if options.schedule:
        given = msgspec.json.decode(options.schedule, type=Schedule)
        schedules = ((seed, given) for seed in range(int(first), int(last or first) + 1))
    elif options.twins:
        schedules = enumerate(scenarios(options.twins))
    report = campaign(schedules, options.jobs)
    for seed, schedule, _ in report.failed[:SHRUNK_MAX]:
        smallest, said = shrink(seed, schedule)
        command = f"python -m tests.simulator --seeds {seed}:{seed} --schedule '{as_json(smallest)}'"
        print(f"SMALLER {said.splitlines()[0] if said else 'not repeated'}\n{command}\n", file=sys.stderr, flush=True)
    _print(report, options.jobs, as_json=options.json)
    return 1 if report.failed else 0


def as_json(schedule: Schedule) -> str:
    """Without what is not out of the ordinary."""
    plain = Schedule([], {}, 0)
    values = {name: value for name, value in vars(schedule).items() if value != getattr(plain, name)}
    required = {"powers": schedule.powers, "byzantine": schedule.byzantine, "fault_ms": schedule.fault_ms}
    return msgspec.json.encode(required | values).decode()


def _print(report: Report, jobs: int, *, as_json: bool) -> None:
    rare = {name: report.seen[name] for name in RARE_STATES}
    other = {name: count for name, count in sorted(report.seen.items()) if name not in RARE_STATES}
    rate, failed = report.played / report.wall_s, sorted(seed for seed, _, _ in report.failed)
    if as_json:
        figures = {"schedules": report.played, "jobs": jobs, "wall_s": round(report.wall_s, 1), "violations": failed}
        print(json.dumps({**figures, "per_second": round(rate, 1), "rare_states": rare, "other": other}))
        return
    print(f"\n{report.played} schedules in {report.wall_s:.1f} s, {rate:.1f} a second with {jobs} processes: ", end="")
    print(f"{len(failed)} violations")
    for name, count in {**rare, **other}.items():
        print(f"{count:>10}  {name}")
