"""Tasks on the production ledger among 20 % cheats of all kinds: what is left unfinished, what verification costs.

`python -m tests.bench economics_ledger` plays 200 tasks; `python tests/bench/bench_economics_ledger.py --tasks 1000`
plays as many as it is told. The second table shows how the overheads grow, honest providers only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench.economics.campaign import TASKS_A_MARKET, Plan, figures, total

GSN = 10**9
GROWTH = {
    "segments a task": [replace(Plan(0), segments=count) for count in (6, 12, 24, 48, 96)],
    "providers": [replace(Plan(0), nodes=count) for count in (5, 10, 20, 40)],
    "verifiers": [replace(Plan(0), verifiers=count) for count in (1, 2, 4)],
}
STATE_BYTES = (1 << 20, 100 << 20, 10 << 30)
"""Sizes of a model's state for which the bytes fetched are told: a state fetched is as large as the model."""


def growth(jobs: int) -> dict[str, list[dict[str, Any]]]:
    """Overheads along one size at a time."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, plans in GROWTH.items():
        for plan in plans:
            honest = replace(plan, dishonest_percent=0, tasks=8)
            size = {"segments a task": plan.segments, "providers": plan.nodes, "verifiers": plan.verifiers}[name]
            books = total([replace(honest, seed=seed) for seed in range(jobs)], jobs)
            found.setdefault(name, []).append({"size": size, **figures(books)})
    return found


def main() -> int:
    """Play, print, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    options = parser.parse_args()
    begun = time.monotonic()
    books = total([Plan(seed) for seed in range(-(-options.tasks // TASKS_A_MARKET))], options.jobs)
    wall_s = time.monotonic() - begun
    main_figures = figures(books)
    print(f"{books.tasks} tasks, a fifth of the providers dishonest, {wall_s:.0f} s with {options.jobs} processes")
    for name, value in main_figures.items():
        print(f"{value:>12}  {name}")
    gains = {kind: [gain / GSN for gain in each] for kind, each in sorted(books.gain_nano.items())}
    print("\nGain of a provider in a market, GSN, fees included (least, mean, most)")
    for kind, each in gains.items():
        print(f"{min(each):>10.4f} {mean(each):>10.4f} {max(each):>10.4f}  {kind} ({len(each)})")
    grown = growth(options.jobs)
    columns = ("verification_per_training", "messages_per_task", "chain_bytes_per_task", "states_fetched_per_task")
    for name, rows in grown.items():
        print(f"\n{name:>16}  " + "  ".join(columns))
        for row in rows:
            print(f"{row['size']:>16}  " + "  ".join(f"{row[column]:>{len(column)}}" for column in columns))
    fetched = main_figures["states_fetched_per_task"]
    state_bytes = {str(size): round(fetched * size) for size in STATE_BYTES}
    print("\nBytes of states fetched a task, by the size of a state: " + json.dumps(state_bytes))
    gain = {kind: [min(each), mean(each), max(each)] for kind, each in gains.items()}
    print(
        json.dumps(
            {
                **main_figures,
                "wall_s": round(wall_s, 1),
                "gain_gsn": gain,
                "growth": grown,
                "state_bytes_per_task": state_bytes,
            }
        )
    )
    return 1 if main_figures["unfinished"] or main_figures["honest_slashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
