"""`gensyn bench ml` with one thread and with two."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cli.bench import show
from ml.benchmark.measures import measure


def main() -> None:
    """Print the tables, and the figures as one line of JSON."""
    figures = {f"{threads} threads": measure(threads) for threads in (1, 2)}
    for item in figures.values():
        show(item)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
