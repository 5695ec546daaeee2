"""Small data sets and programs that the tests of `ml` share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from ml_jobs import ADAMW, SGD

from ml.data.manifest import write_dataset
from ml.presets import Built, build


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def table_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 records of x f32 (20,), y i64 in 0 … 4, that a line separates."""
    directory = tmp_path_factory.mktemp("table")
    generator = np.random.default_rng(1)
    x = generator.standard_normal((300, 20)).astype(np.float32)
    y = np.argmax(x[:, :5] + 0.3 * x[:, 5:10], axis=1).astype(np.int64)
    write_dataset(directory, {"x": x, "y": y}, shard_bytes=4096)
    return directory


@pytest.fixture(scope="session")
def token_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 records of 17 tokens below 40."""
    directory = tmp_path_factory.mktemp("tokens")
    tokens = np.random.default_rng(2).integers(0, 40, (64, 17)).astype(np.uint8)
    write_dataset(directory, {"tokens": tokens})
    return directory


@pytest.fixture(scope="session")
def mlp_sgd() -> Built:
    """A small perceptron with SGD."""
    return build({"name": "mlp", "inputs": 20, "classes": 5, "widths": [33, 16]}, SGD, 24)


@pytest.fixture(scope="session")
def mlp_adamw() -> Built:
    """A small perceptron with GELU and AdamW."""
    return build({"name": "mlp", "inputs": 20, "classes": 5, "widths": [40], "activation": "gelu"}, ADAMW, 24)


@pytest.fixture(scope="session")
def gpt_adamw() -> Built:
    """A small transformer with AdamW."""
    preset = {"name": "gpt", "context": 16, "vocabulary": 40, "layers": 2, "width": 32, "heads": 2}
    return build(preset, ADAMW, 4)
