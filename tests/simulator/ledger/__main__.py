"""Many markets on many processes: `python -m tests.simulator.ledger --seeds 0:2000 --jobs 2`.

Prints the count, the time, how often each rare state was reached, and every violation with the command to repeat it.
Ends with 1 when there was a violation.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from tests.simulator.application import Violation
from tests.simulator.ledger.market import run
from tests.simulator.ledger.rare_states import RARE_STATES


@dataclass
class Report:
    """What a campaign found."""

    played: int = 0
    wall_s: float = 0.0
    seen: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)
    """Seed, and what was said."""


def play(seed: int) -> tuple[int, Counter[str], str]:
    """One seed; what it reached, and its violation."""
    try:
        return seed, run(seed).seen, ""
    except Violation as violation:
        return seed, Counter(), str(violation)


def campaign(seeds: Iterable[int], jobs: int, budget_s: float = float("inf")) -> Report:
    """Play markets, in processes, until there are no more seeds or the time is over."""
    begun, report, waiting = time.monotonic(), Report(), iter(seeds)
    with multiprocessing.Pool(jobs) as pool:
        while time.monotonic() - begun < budget_s and (batch := list(islice(waiting, 16 * jobs))):
            for seed, reached, said in pool.imap_unordered(play, batch):
                report.played += 1
                report.seen.update(reached)
                if said:
                    report.failed.append((seed, said))
                    print(f"VIOLATION {said}\n", file=sys.stderr, flush=True)
    report.wall_s = time.monotonic() - begun
    return report


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.ledger", description=__doc__)
    parser.add_argument("--seeds", default="0:99", metavar="FIRST:LAST", help="both are played")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    first, _, last = options.seeds.partition(":")
    found = campaign(range(int(first), int(last or first) + 1), options.jobs)
    rare = {name: found.seen[name] for name in RARE_STATES}
    other = {name: count for name, count in sorted(found.seen.items()) if name not in RARE_STATES}
    failed = sorted(seed for seed, _ in found.failed)
    if options.json:
        figures = {
            "markets": found.played,
            "jobs": options.jobs,
            "wall_s": round(found.wall_s, 1),
            "violations": failed,
        }
        print(json.dumps({**figures, "rare_states": rare, "other": other}))
    else:
        print(f"{found.played} markets in {found.wall_s:.1f} s with {options.jobs} processes: {len(failed)} violations")
        for name, count in {**rare, **other}.items():
            print(f"{count:>10}  {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
