"""Jobs and runs over the shared data sets and programs."""

from __future__ import annotations

from pathlib import Path

from gensyn_node.primitives.codec import encode
from ml.presets import Built
from ml.trainer import Run, open_run
from ml.worker.messages import Job

SEED = bytes(range(32))
SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
ADAMW = {"name": "adamw", "lr": 2e-3}


def job_of(built: Built, data: Path, **changes: object) -> Job:
    """A job over a program and a data set."""
    fields: dict[str, object] = {
        "program": encode(built.program),
        "dataset_directory": str(data),
        "seed": SEED,
        "initial_path": "",
        "threads": 1,
    }
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


def run_of(built: Built, data: Path, **changes: object) -> Run:
    """An opened run over a program and a data set."""
    return open_run(job_of(built, data, **changes))
