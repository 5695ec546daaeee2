"""`python -m tests.native`: is an honest native solver ever slashed, and which cheats are caught at which length.

A trial is one honest solver on one machine, one segment from one agreed state. It is *suspected* by a verifier on
another machine when a measured entry is farther off than its threshold, and *slashed* when, looked at, one of its
values is outside its bound: only that loses a dispute. Every trial is looked at, suspected or not.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from consensus.ledger.parameters import mainnet_parameters
from consensus.ledger.profiling import profile_rule
from gensyn_node.primitives.codec import encode
from ml.checkpoint import load_state, save_state
from ml.kernels.threads import set_threads
from ml.native.distance import distances
from ml.native.interpreter import NativeInterpreter
from proofs.native.profile import DISTANCE_MAX, PARTS, measured_entries, thresholds
from proofs.program.types import Program
from tests.native.cheats import CHEATS, Cheater
from tests.native.machines import Machine, machines_here, work
from tests.native.models import Model, captured
from tests.native.solver import LENGTHS, Case, open_case, task_seed

RULE = profile_rule(mainnet_parameters())
"""The chain's own: floor 1.5e-5, cap 9.8e-4, eight times what two machines may be apart."""
STEPS = (0, 40, 150)
"""Agreed states are taken after so many steps: noise grows with training."""


@dataclass
class Honest:
    """What became of honest solvers of one model."""

    trials: int = 0
    comparisons: int = 0
    suspected: dict[int, int] = field(default_factory=lambda: dict.fromkeys(LENGTHS, 0))
    """By segment length, of `comparisons` each."""
    slashed: int = 0
    values: int = 0
    elements: int = 0
    noise: dict[int, float] = field(default_factory=lambda: dict.fromkeys(LENGTHS, 0.0))
    """Largest distance of a measured entry, by segment length."""
    measured: dict[int, int] = field(default_factory=dict)
    """Entries with a threshold, by segment length."""
    entries: int = 0
    used: dict[str, float] = field(default_factory=dict)
    """By operator, the largest share of its bound that noise took."""


def lay_out(folder: Path, models: dict[str, tuple[Model, Program]], trials: Sequence[tuple[int, int]]) -> None:
    """Programs, data and agreed states, trained by this process."""
    for name, (model, program) in models.items():
        place = folder / name
        place.mkdir()
        (place / "program").write_bytes(encode(program))
        model.write(place / "data")
        native, case = NativeInterpreter(program), open_case(folder, name)
        for seed in sorted({seed for seed, _ in trials}):
            state, last = model.initial(seed, program), max(step for other, step in trials if other == seed)
            for step in range(last + 1):
                if (seed, step) in trials or step == 0:
                    save_state(place / f"start-{seed}-{step}", program.state, state, 0.0)
                state, _ = native.step(state, case.batch(task_seed(seed), step), step)
    plan = {"models": list(models), "trials": list(trials)}
    (folder / "plan.json").write_text(json.dumps(plan))


def end_state(case: Case, machine: Machine, seed: int, step: int, length: int) -> list[torch.Tensor]:
    """What a machine reached in a trial."""
    return load_state(case.end(machine.name, seed, step, length), case.program.state)[0]


def limits_of(reports: Sequence[dict[str, dict]], model: str) -> dict[int, tuple[int, ...]]:
    """Thresholds from all machines' profiles, by segment length."""
    return {
        length: thresholds([report[model]["profile"][position] for report in reports], RULE)
        for position, length in enumerate(LENGTHS)
    }


def excess(found: Sequence[int], limits: Sequence[int]) -> float:
    """The largest distance as a multiple of its threshold, over measured entries."""
    return max((one / limit for one, limit in zip(found, limits, strict=True) if limit < DISTANCE_MAX), default=0.0)


def judge_honest(
    folder: Path, model: str, machines: Sequence[Machine], reports: Sequence[dict[str, dict]], trials: Sequence
) -> Honest:
    """Every machine's trials, each verified on every other machine."""
    case, limits, result = open_case(folder, model), limits_of(reports, model), Honest()
    result.entries = len(case.program.state)
    result.measured = {length: measured_entries(limits[length]) for length in LENGTHS}
    for report in reports:
        mine = report[model]
        result.trials += len(trials)
        result.values, result.elements = result.values + mine["values"], result.elements + mine["elements"]
        result.slashed += mine["outside"] > 0
        for operator, share in mine["used"].items():
            result.used[operator] = max(result.used.get(operator, 0.0), share)
    for seed, step in trials:
        start = case.start(seed, step)
        for length in LENGTHS:
            ends = [end_state(case, machine, seed, step, length) for machine in machines]
            for solver, claimed in enumerate(ends):
                for verifier, own in enumerate(ends):
                    if solver == verifier:
                        continue
                    found = distances(start, own, claimed)
                    result.comparisons += length == LENGTHS[0]
                    result.suspected[length] += excess(found, limits[length]) > 1
                    kept = [one for one, limit in zip(found, limits[length], strict=True) if limit < DISTANCE_MAX]
                    result.noise[length] = max(result.noise[length], max(kept, default=0) / PARTS)
    return result


def judge_cheats(
    folder: Path, model: str, machines: Sequence[Machine], reports: Sequence[dict[str, dict]], trial: tuple[int, int]
) -> dict[str, dict[str, object]]:
    """Each cheat on this machine, verified on every other: distances in thresholds, and what an audit names."""
    case, limits = open_case(folder, model), limits_of(reports, model)
    seed, step = trial
    start, found = case.start(seed, step), {}
    for cheat in CHEATS:
        cheater, row = Cheater(case, cheat), {}
        for length in LENGTHS:
            claimed = cheater.segment(seed, step, length)
            row[str(length)] = min(
                excess(distances(start, end_state(case, machine, seed, step, length), claimed), limits[length])
                for machine in machines[1:]
            )
        found[cheat] = {**row, "operator": cheater.caught(seed, step).operator}
    return found


def run(
    folder: Path, trials: int, names: tuple[str, ...], machines: Sequence[Machine], say: bool = False
) -> dict[str, object]:
    """The whole campaign with `trials` segments for each model and machine."""
    set_threads(1)
    models, refused = captured(names)
    segments = [(number // len(STEPS), STEPS[number % len(STEPS)]) for number in range(trials)]
    lay_out(folder, models, segments)
    reports = []
    for machine in machines:
        if say:
            print(f"machine {machine.name}: {len(models)} models, {trials} segments each", flush=True)
        reports.append(work(machine, folder))
    honest = {name: asdict(judge_honest(folder, name, machines, reports, segments)) for name in models}
    cheats = {name: judge_cheats(folder, name, machines, reports, segments[1 % trials]) for name in models}
    return {
        "machines": {machine.name: report["capability"] for machine, report in zip(machines, reports, strict=True)},
        "not_captured": refused,
        "honest": honest,
        "trials": sum(result["trials"] for result in honest.values()),
        "slashed": sum(result["slashed"] for result in honest.values()),
        "cheats": cheats,
    }


def table(result: dict) -> str:
    """For people."""
    lines = [f"machines (torch's kernels): {', '.join(f'{k} ({v})' for k, v in result['machines'].items())}", ""]
    for name, why in result["not_captured"].items():
        lines.append(f"{name}: not captured: {why}")
    lines.append(f"{'model':<12}{'trials':>7}{'slashed':>8}{'values looked at':>17}{'pairs':>7}  suspected at k, worst")
    for name, found in result["honest"].items():
        marks = "  ".join(f"{k}: {found['suspected'][k]} {found['noise'][k]:.1e}" for k in found["suspected"])
        counts = f"{found['trials']:>7}{found['slashed']:>8}{found['values']:>17}{found['comparisons']:>7}"
        lines.append(f"{name:<12}{counts}  {marks}")
    worst: dict[str, float] = {}
    for found in result["honest"].values():
        for operator, share in found["used"].items():
            worst[operator] = max(worst.get(operator, 0.0), share)
    used = ", ".join(f"{operator} {share:.2f}" for operator, share in sorted(worst.items()) if share)
    lines += ["", f"share of the bound that noise took at most: {used}", ""]
    lines.append(
        "cheats: distance in thresholds at k = 1, 5, 10 (above 1: suspected by every verifier); what an audit names"
    )
    for name, rows in result["cheats"].items():
        lines.append(name)
        for cheat, row in rows.items():
            marks = "".join(f"{row[str(length)]:>12.3g}" for length in LENGTHS)
            lines.append(f"  {cheat:<20}{marks}  {row['operator'] or 'nothing'}")
    lines += ["", f"{result['trials']} honest trials, {result['slashed']} slashed"]
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.native", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=6, help="segments of each model on each machine")
    parser.add_argument("--models", default="", help="names, comma separated; all by default")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    arguments = parser.parse_args()
    names = tuple(name for name in arguments.models.split(",") if name)
    with tempfile.TemporaryDirectory(prefix="native-") as folder:
        result = run(Path(folder), arguments.trials, names, machines_here(), say=not arguments.json)
    print(json.dumps(result) if arguments.json else table(result))
    return 1 if result["slashed"] else 0
