"""The presets for images: equal to eager PyTorch, trained to the same bits by any number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ml_jobs import ADAMW, SGD, run_of
from torch import nn

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.check import check_against_eager
from ml.data.manifest import write_dataset
from ml.kernels.threads import get_threads, set_threads
from ml.presets import build
from ml.presets.build import accuracy
from ml.presets.configuration import parse_preset
from ml.trainer import train

CNN = {"name": "cnn", "channels": 3, "height": 8, "width": 12, "classes": 4, "widths": [8, 12]}
RESNET = {**CNN, "name": "resnet", "blocks": 2, "pixels": "u8"}
VIT = {"name": "vit", "channels": 3, "height": 8, "width": 12, "classes": 4, "layers": 2, "embedding": 24}


@pytest.mark.parametrize("preset", [CNN, RESNET, {**CNN, "pixels": "u8"}, VIT], ids=["cnn", "resnet", "cnn-u8", "vit"])
def test_equal_eager(preset: dict[str, object]) -> None:
    torch.manual_seed(0)
    built = build(preset, SGD, 6)
    for part in built.module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.uniform_(part.weight, -0.3, 0.3)
    images = torch.rand(6, 3, 8, 12)
    x = (images * 255).to(torch.uint8) if preset.get("pixels") == "u8" else images
    batch = {"x": x, "y": torch.randint(0, 4, (6,))}
    assert check_against_eager(built.program, built.module, built.loss, built.optimizer, batch).worst_ratio <= 1


@pytest.mark.parametrize("preset", [CNN, RESNET, VIT], ids=["cnn", "resnet", "vit"])
def test_training_gives_the_same_bits_with_any_number_of_threads(preset: dict[str, object], tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    y = generator.integers(0, 4, 240)
    x = generator.integers(0, 128, (240, 3, 8, 12)).astype(np.uint8)
    # The class is where the image is bright.
    for image, label in zip(x, y, strict=True):
        image[:, 4 * (label // 2) : 4 * (label // 2) + 4, 6 * (label % 2) : 6 * (label % 2) + 6] += 90
    write_dataset(tmp_path / "data", {"x": x if preset is RESNET else (x / np.float32(255)).astype(np.float32), "y": y})
    built = build(preset, {**ADAMW, "lr": 5e-3} if preset is VIT else {**SGD, "lr": 0.05}, 24)
    # A transformer learns late where it has to look.
    steps = 120 if preset is VIT else 30
    before, roots = get_threads(), []
    try:
        for threads in (1, 3):
            run = run_of(built, tmp_path / "data", threads=threads)
            set_threads(threads)
            segments = list(train(run, tmp_path / f"states-{threads}", 0, steps, steps // 3, lambda *_: None))
            roots.append([segment.root for segment in segments])
    finally:
        set_threads(before)
    assert roots[0] == roots[1] and len(set(roots[0])) == 4
    assert segments[-1].loss < 0.7
    state, _ = _state(segments[-1].path, run)
    pixels = torch.from_numpy(x) if preset is RESNET else torch.from_numpy(x).float() / 255
    assert accuracy(built, state, {"x": pixels, "y": torch.from_numpy(y)}) > 0.8


def _state(path: Path, run: object) -> tuple[list[torch.Tensor], float]:
    from ml.checkpoint import load_state

    return load_state(path, run.program.state)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "changed",
    [
        {"channels": 0},
        {"widths": []},
        {"widths": [4, 4, 4, 4]},
        {"widths": [4, 0]},
        {"pixels": "i64"},
        {"blocks": 2},
        {"name": "resnet", "blocks": 0},
        {"name": "resnet", "widths": [4, 4, 4, 4, 4]},
    ],
)
def test_bad_configurations(changed: dict[str, object]) -> None:
    with pytest.raises(Rejection) as refusal:
        parse_preset({**CNN, **changed})
    assert refusal.value.reason is reasons.BAD_PRESET


@pytest.mark.parametrize(
    "changed", [{"patch": 3}, {"patch": 0}, {"patch": 8}, {"heads": 5}, {"layers": 0}, {"pixels": "i64"}]
)
def test_bad_patches(changed: dict[str, object]) -> None:
    with pytest.raises(Rejection) as refusal:
        parse_preset({**VIT, **changed})
    assert refusal.value.reason is reasons.BAD_PRESET
