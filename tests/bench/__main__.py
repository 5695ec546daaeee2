"""`make bench`: run every `bench_*.py`, show what each prints, end with one JSON object that holds them all.

A bench prints a table for people and, as its last line, one JSON object. `python -m tests.bench NAME…` runs some.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
TIMEOUT_S = 1_200


def main(names: list[str]) -> int:
    """Run the benches named (all when none is); the exit code is 1 when one failed."""
    benches = sorted(
        path for path in FOLDER.glob("bench_*.py") if not names or path.stem.removeprefix("bench_") in names
    )
    figures: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    }
    failed = []
    for path in benches:
        name = path.stem.removeprefix("bench_")
        print(f"\n== {name} " + "=" * max(0, 100 - len(name)), flush=True)
        done = subprocess.run(
            [sys.executable, str(path)], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False
        )
        print(done.stdout, end="", flush=True)
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            failed.append(name)
            continue
        figures[name] = json.loads(lines[-1])
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    print(json.dumps(figures, sort_keys=True))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
