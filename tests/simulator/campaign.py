"""Many seeds on many processes: `python -m tests.simulator --seeds 0:20000 --jobs 2`.

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
from dataclasses import replace

from tests.simulator.application import Violation
from tests.simulator.applications import APPLICATIONS
from tests.simulator.coverage import RARE_STATES
from tests.simulator.schedule import draw
from tests.simulator.simulation import run

BATCH_SEEDS = 20


def play(work: tuple[int, int, str | None]) -> tuple[int, Counter[str], list[tuple[int, str]]]:
    """Play seeds first to last; their number, what they reached, and (seed, violation) of those that failed."""
    first, last, application = work
    seen: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    for seed in range(first, last + 1):
        schedule = draw(seed) if application is None else replace(draw(seed), application=application)
        try:
            seen.update(run(seed, schedule).seen)
        except Violation as violation:
            failed.append((seed, str(violation)))
    return last - first + 1, seen, failed


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seeds", default="0:999", help="FIRST:LAST, both played")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--application", choices=sorted(APPLICATIONS), help="instead of the one each seed draws")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last or first) + 1)
    batches = [(a, min(a + BATCH_SEEDS, seeds.stop) - 1, options.application) for a in seeds[::BATCH_SEEDS]]
    begun, played = time.monotonic(), 0
    seen: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    with multiprocessing.Pool(min(options.jobs, len(batches))) as pool:
        for count, reached, violations in pool.imap_unordered(play, batches):
            played += count
            seen.update(reached)
            failed += violations
            for _, text in violations:
                print(f"VIOLATION {text}\n", file=sys.stderr, flush=True)
            if sys.stderr.isatty():
                print(f"\r{played} of {len(seeds)} schedules", end="", file=sys.stderr, flush=True)
    wall_s = time.monotonic() - begun
    report = {
        "seeds": [seeds.start, seeds.stop - 1],
        "schedules": played,
        "jobs": options.jobs,
        "wall_s": round(wall_s, 1),
        "per_second": round(played / wall_s, 1),
        "violations": sorted(seed for seed, _ in failed),
        "rare_states": {name: seen[name] for name in RARE_STATES},
        "other": {name: count for name, count in sorted(seen.items()) if name not in RARE_STATES},
    }
    if options.json:
        print(json.dumps(report))
    else:
        print(f"\n{played} schedules (seeds {seeds.start} to {seeds.stop - 1}) in {wall_s:.1f} s: ", end="")
        print(f"{played / wall_s:.1f} a second with {options.jobs} processes; {len(failed)} violations")
        for name, count in {**report["rare_states"], **report["other"]}.items():  # type: ignore[dict-item]
            print(f"{count:>10}  {name}")
    return 1 if failed else 0
