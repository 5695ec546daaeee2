"""How good a downloaded model is, on records that it has not seen: by plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gensyn_node.config.home import Home
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons
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
    """Mean of the task's loss over batches, by their records; cross entropy in nats for presets."""
    accuracy: float | None
    """Fraction of targets ranked first; None where the model's outputs are no scores of classes."""


def evaluate_model(
    home: Home, task: TaskFile, base: Path, model: Path, held_out: dict[str, NDArray[Any]] | None = None
) -> Evaluation:
    """Evaluate `model` (safetensors) of `task` by PyTorch.

    On arrays named like its batch inputs, or on the records that the task file holds out.
    Raises Rejection NOTHING_HELD_OUT.
    """
    import torch

    from ml.checkpoint import load_state
    from ml.data.dataset import open_dataset
    from ml.presets import load_parameters

    made = make_dataset(home, base / task.data.train, data_options(task, base))
    built = capture_program(task, made.folder, made.manifest, base)
    if held_out is None:
        if made.held_out is None:
            raise Rejection(reasons.NOTHING_HELD_OUT, "the task file holds nothing out and no data is given")
        kept = open_dataset(made.held_out, check=False)
        names, records, between = {item.name for item in kept.manifest.dataset}, kept.records, kept.between
    else:
        arrays = held_out
        names, records = set(arrays), len(next(iter(arrays.values())))

        def between(name: str, first: int, end: int) -> NDArray[Any]:
            return arrays[name][first:end]

    missing = [item.name for item in built.program.batch if item.name not in names]
    if missing:
        raise Rejection(reasons.BAD_DATA_FILE, f"the data lacks {', '.join(missing)}")
    state, _ = load_state(model, built.program.state)
    load_parameters(built.module, built.program, state)
    built.module.eval()
    loss, right, targets = 0.0, 0.0, 0
    with torch.no_grad():
        for start in range(0, records, task.train.batch_size):
            count = min(task.train.batch_size, records - start)
            batch: dict[str, Tensor] = {
                item.name: torch.from_numpy(np.array(between(item.name, start, start + count)))
                for item in built.program.batch
            }
            loss += float(built.loss(built.module, batch)) * count
            if built.logits is not None:
                logits, classes = built.logits(built.module, batch)
                right += float((logits.argmax(-1) == classes).sum())
                targets += classes.numel()
    return Evaluation(records, loss / records, right / targets if targets else None)
