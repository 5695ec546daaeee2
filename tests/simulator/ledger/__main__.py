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

from tests.simulator.application import Violation
from tests.simulator.ledger.coverage import RARE_STATES
from tests.simulator.ledger.market import run


def play(seed: int) -> tuple[int, Counter[str], str]:
    """One seed; what it reached, and its violation."""
    try:
        return seed, run(seed).seen, ""
    except Violation as violation:
        return seed, Counter(), str(violation)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator.ledger", description=__doc__)
    parser.add_argument("--seeds", default="0:99", help="FIRST:LAST, both played")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last or first) + 1)
    begun, seen, failed = time.monotonic(), Counter[str](), list[int]()
    with multiprocessing.Pool(options.jobs) as pool:
        for seed, reached, violation in pool.imap_unordered(play, seeds, chunksize=4):
            seen.update(reached)
            if violation:
                failed.append(seed)
                print(f"VIOLATION {violation}\n", file=sys.stderr, flush=True)
    wall_s = time.monotonic() - begun
    report = {
        "seeds": [seeds.start, seeds.stop - 1],
        "schedules": len(seeds),
        "jobs": options.jobs,
        "wall_s": round(wall_s, 1),
        "per_second": round(len(seeds) / wall_s, 1),
        "violations": sorted(failed),
        "rare_states": {name: seen[name] for name in RARE_STATES},
        "other": {name: count for name, count in sorted(seen.items()) if name not in RARE_STATES},
    }
    if options.json:
        print(json.dumps(report))
    else:
        print(f"{len(seeds)} markets (seeds {seeds.start} to {seeds.stop - 1}) in {wall_s:.1f} s", end="")
        print(f" with {options.jobs} processes; {len(failed)} violations")
        for name, count in {**report["rare_states"], **report["other"]}.items():  # type: ignore[dict-item]
            print(f"{count:>10}  {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
