"""How good a downloaded model is, on records that it has not seen: by plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gensyn_node.config.home import Home
from gensyn_node.sdk.datasets import make_dataset
from gensyn_node.sdk.task_build import capture_program, data_options
from gensyn_node.sdk.task_file import TaskFile

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result on held-out records."""

    records: int
    loss: float
    """Mean cross entropy, nats."""
    accuracy: float
    """Fraction of targets ranked first."""


def evaluate_model(
    home: Home, task: TaskFile, base: Path, model: Path, held_out: dict[str, NDArray[Any]]
) -> Evaluation:
    """Evaluate `model` (safetensors) of `task` on arrays named like its batch inputs."""
    import torch
    from torch.nn.functional import cross_entropy

    from ml.checkpoint import load_state
    from ml.presets import load_parameters

    made = make_dataset(home, base / task.data.train, data_options(task, base))
    built = capture_program(task, made.folder, made.manifest)
    state, _ = load_state(model, built.program.state)
    load_parameters(built.module, built.program, state)
    built.module.eval()
    batch: dict[str, Tensor] = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in held_out.items()}
    with torch.no_grad():
        logits, targets = built.logits(built.module, batch)
    classes = logits.shape[-1]
    return Evaluation(
        records=len(next(iter(held_out.values()))),
        loss=float(cross_entropy(logits.reshape(-1, classes), targets.reshape(-1))),
        accuracy=float((logits.argmax(-1) == targets).float().mean()),
    )
