"""Whole training steps by the exact kernels against eager PyTorch with its own optimizers."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from ml.interpreter import Interpreter
from ml.kernels.threads import set_threads
from ml.presets import Built, build
from proofs.program.initial import initial_tensor

MLP = {"name": "mlp", "inputs": 784, "classes": 10, "widths": [256]}
GPT = {"name": "gpt", "context": 64, "vocabulary": 96, "layers": 4, "width": 128, "heads": 4}
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
ADAMW = {"name": "adamw", "lr": 1e-3}
CASES: tuple[tuple[str, dict[str, Any], dict[str, Any], int], ...] = (
    ("mlp 784-256-10, batch 64, sgd", MLP, SGD, 64),
    ("mlp 784-256-10, batch 64, adamw", MLP, ADAMW, 64),
    ("gpt 4 layers of 128, 16 x 64 tokens, adamw", GPT, ADAMW, 16),
)
ROUNDS = 15


def batch_of(built: Built) -> dict[str, torch.Tensor]:
    """A random batch."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(value.shape, generator=generator)
        if value.dtype == torch.float32
        else torch.randint(0, 10, value.shape, generator=generator).to(value.dtype)
        for name, value in built.batch.items()
    }


def eager_step(built: Built, batch: dict[str, torch.Tensor], settings: dict[str, Any]) -> Callable[[], None]:
    """One step by PyTorch itself."""
    options = {key: value for key, value in settings.items() if key != "name"}
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    optimizer = kinds[settings["name"]](built.module.parameters(), **options)

    def step() -> None:
        optimizer.zero_grad()
        built.loss(built.module, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def milliseconds(exact: Callable[[], object], eager: Callable[[], object]) -> tuple[float, float]:
    """Medians, the two taken in turns so that a busy machine hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 3):
        for step, taken in zip((exact, eager), times, strict=True):
            started = time.perf_counter()
            step()
            taken.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times[0][3:]), statistics.median(times[1][3:])


def measure(preset: dict[str, Any], optimizer: dict[str, Any], batch_size: int) -> tuple[float, float]:
    """(exact, eager) milliseconds of a step."""
    built = build(preset, optimizer, batch_size)
    batch = batch_of(built)
    interpreter = Interpreter(built.program)
    state = [
        torch.from_numpy(initial_tensor(entry, n, bytes(32)).copy()) for n, entry in enumerate(built.program.state)
    ]

    def exact() -> None:
        nonlocal state
        state, _ = interpreter.step(state, list(batch.values()), 0)

    return milliseconds(exact, eager_step(built, batch, optimizer))


def main() -> None:
    """Print a table, and the figures as one line of JSON."""
    figures = {}
    print(f"{'step':<46}{'threads':>8}{'exact ms':>10}{'eager ms':>10}{'ratio':>8}")
    for threads in (1, 2):
        set_threads(threads)
        for name, preset, optimizer, batch_size in CASES:
            exact, eager = measure(preset, optimizer, batch_size)
            figures[f"{name}, {threads} threads"] = [round(exact, 2), round(eager, 2), round(exact / eager, 2)]
            print(f"{name:<46}{threads:>8}{exact:>10.2f}{eager:>10.2f}{exact / eager:>8.2f}")
    print(json.dumps({"milliseconds exact, eager, ratio": figures}))


if __name__ == "__main__":
    main()
