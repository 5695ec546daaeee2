"""Mixed precision: rounding to bfloat16 is exact everywhere, and training so is what torch.autocast does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ml_jobs import run_of
from torch import nn

from ml.capture.check import check_against_eager
from ml.checkpoint import load_state
from ml.data.manifest import write_dataset
from ml.interpreter import Interpreter, canonical
from ml.kernels.threads import get_threads, set_threads
from ml.microbatch.records import find_records
from ml.presets import Built, build
from ml.presets.build import load_parameters
from ml.reference import operators as reference
from ml.trainer import train
from proofs.arithmetic import elementwise
from proofs.program.types import Program
from proofs.program.validate import validate_program

MLP = {"name": "mlp", "inputs": 20, "classes": 5, "widths": [32]}
GPT = {"name": "gpt", "context": 12, "vocabulary": 32, "layers": 1, "width": 32, "heads": 2}
CNN = {"name": "cnn", "channels": 1, "height": 8, "width": 8, "classes": 4, "widths": [8]}
LSTM = {"name": "lstm", "context": 5, "vocabulary": 12, "width": 16}
ADAMW = {"name": "adamw", "lr": 5e-3}


def awkward() -> np.ndarray[Any, Any]:
    """Every upper half of a word, with lower halves at, below and above the middle; NaNs with payloads among them."""
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    words = [upper | np.uint32(low) for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]
    return np.concatenate(words).view(np.float32)


def test_rounding_is_that_of_torch_and_of_the_definition() -> None:
    x = awkward()
    own = elementwise.apply("round_bf16", [x], ())
    theirs = torch.from_numpy(x).to(torch.bfloat16).to(torch.float32).numpy()
    nan = np.isnan(x)
    assert own[~nan].tobytes() == theirs[~nan].tobytes()
    assert own[nan].view(np.uint32).tolist() == [0x7FC00000] * int(nan.sum())
    # The definition: no bfloat16 is nearer; of two as near the one whose last bit is 0.
    finite = x[np.abs(x) < 3e38].astype(np.float64)
    kept = own[np.abs(x) < 3e38]
    below, above = (kept.view(np.uint32) - np.uint32(1 << 16)), (kept.view(np.uint32) + np.uint32(1 << 16))
    for other in (below.view(np.float32), above.view(np.float32)):
        usable = np.isfinite(other)
        with np.errstate(invalid="ignore"):
            here, there = np.abs(finite - kept), np.abs(finite - other.astype(np.float64))
        tie_is_even = (kept.view(np.uint32) >> np.uint32(16)) & np.uint32(1) == 0
        # Next to zero the neighbour of other sign is further away in words than in numbers.
        same_sign = np.signbit(other) == np.signbit(kept)
        assert bool(((here < there) | ((here == there) & tie_is_even))[usable & same_sign].all())


def noisy(built: Built) -> dict[str, torch.Tensor]:
    """A batch of plausible values; the module gets others, too."""
    torch.manual_seed(0)
    for parameter in built.module.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3)
    batch = {}
    for name, value in built.batch.items():
        floats = value.dtype == torch.float32
        batch[name] = torch.randn(value.shape) if floats else torch.randint(0, 4, value.shape).to(value.dtype)
    return batch


@pytest.mark.parametrize("preset", [MLP, GPT, CNN, LSTM], ids=lambda preset: preset["name"])
def test_the_program_rounds_where_eager_pytorch_is_made_to(preset: dict[str, Any]) -> None:
    built = build(preset, ADAMW, 6, precision="bf16")
    comparison = check_against_eager(
        built.program, built.module, built.loss, built.optimizer, noisy(built), built.precision
    )
    assert comparison.worst_ratio <= 1
    rounds = {node.operator for node in built.program.nodes} & {"round_bf16"}
    assert rounds and "round_bf16" not in {node.operator for node in build(preset, ADAMW, 6).program.nodes}
    for value, node in enumerate(built.program.nodes, built.program.first_node_value):
        # Pooling's gradient is a product of ones, which PyTorch does otherwise.
        if node.operator == "matmul" and preset is not CNN:
            assert all(is_rounded(built.program, number) for number in node.inputs), value


def is_rounded(program: Program, number: int) -> bool:
    """Whether a value is of bfloat16 numbers: rounded, then only moved; or made of zeros and ones."""
    node = program.nodes[number - program.first_node_value] if number >= program.first_node_value else None
    if node is None:
        return False
    if node.operator in ("reshape", "permute", "windows", "slice", "broadcast_to", "pad", "concatenate"):
        return all(is_rounded(program, item) for item in node.inputs)
    return node.operator in ("round_bf16", "full")


def tokens(folder: Path) -> Path:
    """Records in which each token is the one before and five more."""
    starts = np.random.default_rng(1).integers(0, 32, (120, 1))
    write_dataset(folder / "data", {"tokens": ((starts + 5 * np.arange(13)) % 32).astype(np.uint8)})
    return folder / "data"


def test_kernels_reference_and_threads_give_the_same_bits_and_autocast_about_the_losses(tmp_path: Path) -> None:
    built = build(GPT, ADAMW, 8, precision="bf16")
    run = run_of(built, tokens(tmp_path))
    before, roots = get_threads(), []
    losses: list[float] = []
    try:
        for threads in (1, 3):
            set_threads(threads)
            del losses[:]
            folder = tmp_path / f"states-{threads}"
            segments = list(train(run, folder, 0, 60, 30, lambda step, loss, seconds: losses.append(loss)))
            roots.append([segment.root for segment in segments])
    finally:
        set_threads(before)
    assert roots[0] == roots[1] and losses[-1] < losses[0] / 2

    state, _ = load_state(segments[1].path, built.program.state)
    batch = run.dataset.batch(built.program, run.seed, 30)
    fused, plain = list[torch.Tensor](), dict[int, torch.Tensor]()
    fused, _ = Interpreter(built.program).step(state, batch, 30)
    Interpreter(built.program).observed_step(state, batch, 30, lambda number, value: plain.setdefault(number, value))
    other, _ = reference.run(built.program, state, batch, 30)
    for number, (one, two) in enumerate(zip(fused, other, strict=True)):
        assert canonical(one).numpy().tobytes() == canonical(two).numpy().tobytes(), built.program.state[number].name
    for value, node in enumerate(built.program.nodes, built.program.first_node_value):
        if node.operator == "round_bf16":
            whole = {**dict(enumerate([*state, *batch])), **plain}[node.inputs[0]]
            referee = elementwise.apply("round_bf16", [np.ravel(whole.numpy())], ())
            assert plain[value].numpy().tobytes() == referee.tobytes()

    begin, _ = load_state(segments[0].path, built.program.state)
    load_parameters(built.module, built.program, begin)
    rule = torch.optim.AdamW(built.module.parameters(), lr=5e-3)
    theirs = []
    for step in range(60):
        (records,) = run.dataset.batch(built.program, run.seed, step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = built.loss(built.module, {"tokens": records})
        rule.zero_grad()
        loss.backward()
        rule.step()
        theirs.append(loss.item())
    assert np.abs(np.array(losses) - theirs).max() < 0.05
    assert np.array(losses).tobytes() != np.array(theirs).tobytes()


def test_steps_in_bf16_have_parts() -> None:
    program = build(GPT, ADAMW, 6, precision="bf16").program
    assert find_records(program, validate_program(program).types).sums
