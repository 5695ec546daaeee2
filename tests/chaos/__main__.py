"""`python -m tests.chaos COMMAND`: campaigns that break things for real and count what came of it.

    power-cut   folders that a power cut can leave, each opened by a node
    flips       homes with one damaged byte, each opened and read by a node
    kills       nodes killed with -9 and frozen while money is sent
    partitions  four validators in networks of their own, cut off from each other (needs root)

With `--json` one JSON object is printed at the end. The exit code is 1 when something was lost or contradicted.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "node")]

import byte_flips  # noqa: E402
import power_cut  # noqa: E402
import structlog  # noqa: E402
import system_trace  # noqa: E402

MEMORY_FOLDER = Path("/dev/shm")
"""Thousands of folders are written and thrown away; memory is enough."""


def main() -> int:
    """Run one campaign."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cut = commands.add_parser("power-cut", help="open what power cuts can leave")
    cut.add_argument("--states", type=int, default=2_000, help="folders in all, half of them by each rule for names")
    cut.add_argument("--save-trace", type=Path, help="keep what the workload did, to repeat a campaign exactly")
    cut.add_argument("--trace", type=Path, help="use a kept trace instead of a new run")
    cut.set_defaults(run=run_power_cut)
    flip = commands.add_parser("flips", help="damage one byte at a time and read everything")
    flip.add_argument("--count", type=int, default=2_000)
    flip.set_defaults(run=run_flips)
    kill = commands.add_parser("kills", help="kill -9 and freeze nodes under load")
    kill.add_argument("--count", type=int, default=200, help="kills in all")
    kill.add_argument("--nodes", type=int, default=4)
    kill.set_defaults(run=run_kills)
    part = commands.add_parser("partitions", help="cut validators off from each other")
    part.add_argument("--count", type=int, default=30, help="cuts in all")
    part.set_defaults(run=run_partitions)
    for command in (cut, flip, kill, part):
        command.add_argument("--seed", type=int, default=1)
        command.add_argument("--json", action="store_true")
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None) as folder:
        figures = options.run(options, Path(folder))
    figures |= {"seed": options.seed, "seconds": round(time.monotonic() - begun, 1)}
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:12} {value}")
    return 1 if figures["faults"] else 0


def run_power_cut(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Record (or load) a workload, then judge folders by both rules."""
    if options.trace is None and not system_trace.available():
        raise SystemExit("strace is not installed or may not trace here")
    trace = (
        system_trace.load(options.trace)
        if options.trace
        else power_cut.record(folder, sessions=4, blocks=6, transfers=12)
    )
    if options.save_trace:
        system_trace.save(options.save_trace, trace)
    figures: dict[str, object] = {"operations": len(trace), "points": len(power_cut.crash_points(trace))}
    faults: list[str] = []
    states = 0
    for rule in ("journal", "posix"):
        outcome = power_cut.campaign(
            trace, rule, options.seed, options.states // 2, folder / "state", _progress(rule, options.states // 2)
        )
        figures[rule] = dict(outcome.outcomes.most_common())
        faults += outcome.faults
        states += outcome.states
    return figures | {"states": states, "faults": faults}


def run_flips(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Build a home, then damage it."""
    sound = byte_flips.build(folder / "home")
    progress = _progress("flips", options.count)
    outcome = byte_flips.campaign(sound, options.seed, options.count, folder / "state", progress)
    figures: dict[str, object] = {kind: dict(said.most_common()) for kind, said in sorted(outcome.outcomes.items())}
    return figures | {"flips": outcome.flips, "faults": outcome.faults}


def run_kills(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Kill nodes, then look into their homes."""
    import kills

    try:
        figures = kills.campaign(
            folder,
            count=options.count,
            nodes=options.nodes,
            seed=options.seed,
            progress=_progress("kills", options.count),
        )
    except AssertionError as error:
        return {"faults": [str(error)]}
    return figures.summary() | {"faults": []}


def run_partitions(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Cut and repair."""
    import net_rooms
    import partitions

    if reason := net_rooms.why_not():
        raise SystemExit(reason)
    try:
        progress = _progress("cuts", options.count)
        figures = partitions.campaign(folder, count=options.count, seed=options.seed, progress=progress)
    except AssertionError as error:
        return {"faults": [str(error)]}
    return figures.summary() | {"faults": []}


def _progress(what: str, total: int):  # type: ignore[no-untyped-def]
    def show(done: int) -> None:
        if sys.stderr.isatty() and done % 25 == 0:
            print(f"\r{what}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
