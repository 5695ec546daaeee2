"""`python -m tests.disputes --count N --seed S`: a campaign of random faults; `--first` goes on where one stopped."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from proofs.program.operators import OPERATORS
from tests.disputes.architectures import ARCHITECTURES
from tests.disputes.faults import Failed, Figures, Worlds, campaign


def main() -> int:
    """Run a campaign, print what it saw; the exit code is 1 when a dispute did not go as it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.disputes", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="faults (each is disputed twice)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first fault")
    parser.add_argument("--only", action="append", default=[], choices=sorted(ARCHITECTURES), help="an architecture")
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    chosen = parser.parse_args()

    def progress(number: int, figures: Figures) -> None:
        if figures.faults % 50 == 0:
            print(f"fault {number}: {figures.games} disputes, {figures.rounded_away} rounded away", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        worlds = Worlds(Path(folder), tuple(chosen.only))
        try:
            figures = campaign(worlds, chosen.seed, chosen.first, chosen.count, progress)
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 1
    found = figures.as_json() | {"seed": chosen.seed, "first": chosen.first}
    if chosen.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in sorted(value.items(), key=lambda item: -item[1]))
        print(f"{name:<28}{value}")
    print(f"{'operators without a fault':<28}{', '.join(sorted(set(OPERATORS) - set(figures.operators))) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
