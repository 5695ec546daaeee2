"""The preset for sequences: equal to eager PyTorch, trained to the same bits by any number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ml_jobs import run_of
from torch import nn

from ml.capture.check import check_against_eager
from ml.checkpoint import load_state
from ml.data.manifest import write_dataset
from ml.kernels.threads import get_threads, set_threads
from ml.presets import build
from ml.presets.build import accuracy
from ml.trainer import train

LSTM = {"name": "lstm", "context": 6, "vocabulary": 12, "layers": 2, "width": 16}
ADAMW = {"name": "adamw", "lr": 1e-2}


def test_equal_eager() -> None:
    torch.manual_seed(0)
    built = build(LSTM, ADAMW, 5)
    for parameter in built.module.parameters():
        nn.init.uniform_(parameter, -0.4, 0.4)
    batch = {"tokens": torch.randint(0, 12, (5, 7)).to(torch.uint8)}
    assert check_against_eager(built.program, built.module, built.loss, built.optimizer, batch).worst_ratio <= 1


def test_training_gives_the_same_bits_with_any_number_of_threads(tmp_path: Path) -> None:
    starts = np.random.default_rng(1).integers(0, 12, (160, 1))
    # Each token is the one before and five more.
    tokens = ((starts + 5 * np.arange(7)) % 12).astype(np.uint8)
    write_dataset(tmp_path / "data", {"tokens": tokens})
    built = build(LSTM, ADAMW, 16)
    before, roots = get_threads(), []
    try:
        for threads in (1, 3):
            run = run_of(built, tmp_path / "data", threads=threads)
            set_threads(threads)
            segments = list(train(run, tmp_path / f"states-{threads}", 0, 60, 20, lambda *_: None))
            roots.append([segment.root for segment in segments])
    finally:
        set_threads(before)
    assert roots[0] == roots[1] and len(set(roots[0])) == 4
    state, _ = load_state(segments[-1].path, built.program.state)
    assert accuracy(built, state, {"tokens": torch.from_numpy(tokens)}) > 0.9
