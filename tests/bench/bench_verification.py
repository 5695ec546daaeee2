"""What it costs to verify one segment, beside training it: re-execution, and committing to every step's state."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from gensyn_node.primitives.codec import encode
from ml.checkpoint import root_of_state, save_state
from ml.data.manifest import write_dataset
from ml.presets import build
from ml.segment import verify_segment
from ml.trainer import Run, Stepper, initial_state, open_run
from ml.worker.messages import Job, state_path

SEGMENT_STEPS = 50
SEED = bytes(range(32))
MLP = {"name": "mlp", "inputs": 784, "classes": 10, "widths": [256]}
GPT = {"name": "gpt", "context": 64, "vocabulary": 96, "layers": 4, "width": 128, "heads": 4}
ADAMW = {"name": "adamw", "lr": 1e-3}
CASES: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("mlp 784-256-10, batch 64", MLP, 64),
    ("gpt 4 layers of 128, 16 x 64 tokens", GPT, 16),
)
COLUMNS = ("train s", "roots s", "save s", "verify s", "verify/train", "state MiB")


def open_case(preset: dict[str, Any], batch_size: int, folder: Path) -> Run:
    """A run over random records."""
    random = np.random.default_rng(1)
    if preset is MLP:
        tensors = {"x": random.random((2_000, 784), np.float32), "y": random.integers(0, 10, 2_000)}
    else:
        tensors = {"tokens": random.integers(0, 96, (2_000, 65)).astype(np.uint8)}
    write_dataset(folder / "data", tensors)
    program = build(preset, ADAMW, batch_size).program
    return open_run(Job(encode(program), str(folder / "data"), SEED, "", 1))


def measure(preset: dict[str, Any], batch_size: int, folder: Path) -> dict[str, float]:
    """Seconds of a segment of k steps: its steps alone, what commits to it, and its verification from its start."""
    run = open_case(preset, batch_size, folder)
    stepper = Stepper(run, initial_state(run), 0)
    stepper.advance()  # what is made once (compiled loops, memory) is no part of a segment
    stepper = Stepper(run, initial_state(run), 0)
    start_root = root_of_state(run.program, 0, stepper.state)
    save_state(state_path(folder, 0), run.program.state, stepper.state, float("nan"))
    started = time.perf_counter()
    for _ in range(SEGMENT_STEPS):
        stepper.advance()
    train = time.perf_counter() - started
    started = time.perf_counter()
    end_root = root_of_state(run.program, stepper.step, stepper.state)
    roots = time.perf_counter() - started
    started = time.perf_counter()
    save_state(state_path(folder, SEGMENT_STEPS), run.program.state, stepper.state, 0.0)
    save = time.perf_counter() - started
    started = time.perf_counter()
    found = verify_segment(run, folder, 0, SEGMENT_STEPS, start_root, lambda *_: None)
    verify = time.perf_counter() - started
    if found.end_root != end_root:
        raise SystemExit("verification came to another state")
    size = state_path(folder, SEGMENT_STEPS).stat().st_size / (1 << 20)
    values = (train, roots, save, verify, verify / train, size)
    return dict(zip(COLUMNS, (round(value, 4) for value in values), strict=True))


def main() -> None:
    """Print a table, and the figures as one line of JSON."""
    print(f"segments of {SEGMENT_STEPS} steps, 1 thread; roots, save: what a solver adds at a segment's end")
    print(f"{'':<38}" + "".join(f"{column:>14}" for column in COLUMNS))
    figures = {}
    for name, preset, batch_size in CASES:
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = measure(preset, batch_size, Path(folder))
        print(f"{name:<38}" + "".join(f"{figures[name][column]:>14.4f}" for column in COLUMNS))
    print(json.dumps({"segment_steps": SEGMENT_STEPS, "cases": figures}))


if __name__ == "__main__":
    main()
