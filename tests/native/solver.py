"""One machine's part of the campaign, in a process of its own: profile, train every segment, audit its own values.

Everything it starts from is in the campaign's folder; it writes the states that it reaches there and prints one JSON
object.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from gensyn_node.primitives.codec import decode
from ml.checkpoint import load_state, save_state
from ml.data.dataset import Dataset, open_dataset
from ml.interpreter import Interpreter
from ml.kernels.threads import set_threads
from ml.native.audit import Audited, audit_step
from ml.native.distance import distances
from ml.native.interpreter import NativeInterpreter
from proofs.native.profile import profile_seed
from proofs.program.types import Program
from tests.native.machines import machine_named

LENGTHS = (1, 5, 10)
"""Segment lengths: the states after so many steps are compared."""
State = list[torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One model in the campaign's folder."""

    name: str
    program: Program
    dataset: Dataset
    folder: Path

    def start(self, seed: int, step: int) -> State:
        """The agreed state of a trial."""
        return load_state(self.folder / f"start-{seed}-{step}", self.program.state)[0]

    def end(self, machine: str, seed: int, step: int, length: int) -> Path:
        """Where a machine's result of a trial is."""
        return self.folder / f"end-{machine}-{seed}-{step}-{length}"

    def batch(self, seed: bytes, step: int) -> State:
        """The batch values of a step."""
        return self.dataset.batch(self.program, seed, step)


def task_seed(seed: int) -> bytes:
    """The seed of a trial's batches."""
    return seed.to_bytes(32, "little")


def open_case(folder: Path, name: str) -> Case:
    """A model as the campaign laid it out."""
    program: Program = decode(Program, (folder / name / "program").read_bytes())
    return Case(name, program, open_dataset(folder / name / "data"), folder / name)


def values_of(
    interpreter: NativeInterpreter, program: Program, state: State, batch: State, step: int
) -> tuple[State, State]:
    """One step with every value by its number: (state', values)."""
    made = dict(enumerate(state))
    made[program.step_index_value] = torch.tensor(step, dtype=torch.int64)

    def see(number: int, value: torch.Tensor) -> torch.Tensor:
        made[number] = value
        return value

    after, _ = interpreter.observed_step(state, batch, step, see)
    return after, [made[number] for number in range(program.value_count)]


def segment(
    case: Case, interpreter: NativeInterpreter | Interpreter, state: State, seed: bytes, step: int
) -> list[State]:
    """The states after each of LENGTHS steps."""
    found = []
    for done in range(1, LENGTHS[-1] + 1):
        batch = case.batch(seed, step + done - 1)
        state, _ = interpreter.step(state, batch, step + done - 1)
        if done in LENGTHS:
            found.append(state)
    return found


def profiled(case: Case, machine: str, native: NativeInterpreter) -> list[tuple[int, ...]]:
    """Distances of this machine's first segment from `rep-v1`'s, from a seed of its own, for each of LENGTHS."""
    seed, start = profile_seed(case.name.encode(), machine.encode(), b""), case.start(0, 0)
    own = segment(case, native, start, seed, 0)
    exact = segment(case, Interpreter(case.program), start, seed, 0)
    return [distances(start, right, mine) for right, mine in zip(exact, own, strict=True)]


def audited(case: Case, native: NativeInterpreter, state: State, seed: bytes, step: int) -> list[Audited]:
    """Every value of one step of this machine against its bound."""
    batch = case.batch(seed, step)
    return audit_step(case.program, values_of(native, case.program, state, batch, step)[1], batch)


def main(folder: Path, name: str) -> None:
    """Do every case of the plan."""
    machine = machine_named(name)
    set_threads(machine.threads)
    torch.backends.mkldnn.enabled = machine.onednn
    plan = json.loads((folder / "plan.json").read_text())
    report: dict[str, object] = {"capability": torch.backends.cpu.get_cpu_capability()}
    for model in plan["models"]:
        case = open_case(folder, model)
        native = NativeInterpreter(case.program)
        found = {"profile": profiled(case, name, native), "values": 0, "elements": 0, "outside": 0}
        used: dict[str, float] = {}
        for seed, step in plan["trials"]:
            start = case.start(seed, step)
            for length, state in zip(LENGTHS, segment(case, native, start, task_seed(seed), step), strict=True):
                save_state(case.end(name, seed, step, length), case.program.state, state, 0.0)
            for item in audited(case, native, start, task_seed(seed), step):
                found["values"] += 1
                found["elements"] += item.elements
                found["outside"] += item.outside
                used[item.operator] = max(used.get(item.operator, 0.0), item.used)
        report[model] = {**found, "used": used}
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
