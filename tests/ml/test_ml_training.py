"""Whole trainings: kernels equal the torch reference; threads, processors and resuming change nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ml_jobs import job_of, run_of

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml import segment as segment_module
from ml.checkpoint import load_state, load_verified_state, root_of_state, save_state
from ml.presets import Built
from ml.reference.operators import run as reference_step
from ml.segment import verify_segment
from ml.trainer import Cancelled, Stepper, initial_state, mean_loss, start_of, train
from ml.worker.messages import Fault, state_path
from proofs.program.types import Fill, StateEntry, TensorType, program_id
from proofs.state import evidence_root


def quiet(step: int, loss: float, seconds: float = 0.0) -> None:
    """No progress."""


def roots_of(built: Built, data: Path, directory: Path, steps: int, every: int, **changes: object) -> list[bytes]:
    """The segment roots of a training."""
    return [item.root for item in train(run_of(built, data, **changes), directory, 0, steps, every, quiet)]


@pytest.mark.parametrize(("fixture", "steps"), [("mlp_sgd", 20), ("mlp_adamw", 20), ("gpt_adamw", 3)])
def test_kernels_equal_the_reference_over_a_training(
    fixture: str, steps: int, request: pytest.FixtureRequest, table_data: Path, token_data: Path, tmp_path: Path
) -> None:
    built: Built = request.getfixturevalue(fixture)
    data = token_data if fixture.startswith("gpt") else table_data
    run = run_of(built, data)
    state = initial_state(run)
    for step in range(steps):
        state, _ = reference_step(run.program, state, run.dataset.batch(run.program, run.seed, step), step)
    assert root_of_state(run.program, steps, state) == roots_of(built, data, tmp_path, steps, steps)[-1]


def test_the_fused_plan_equals_the_plain_one(gpt_adamw: Built, token_data: Path) -> None:
    run = run_of(gpt_adamw, token_data)
    fused, plain = Stepper(run, initial_state(run), 0), Stepper(run, initial_state(run), 0)
    for step in range(2):
        fused.advance()
        batch = run.dataset.batch(run.program, run.seed, step)
        plain.state, _ = run.interpreter.observed_step(plain.state, batch, step, lambda _, value: value)
    assert root_of_state(run.program, 2, fused.state) == root_of_state(run.program, 2, plain.state)


TRAIN = """
import sys
from pathlib import Path
from gensyn_node.primitives.codec import decode
from ml.presets import build
from ml.trainer import open_run, train
from ml.worker.messages import Job
from proofs.program.types import program_id
built = build({"name": "gpt", "context": 16, "vocabulary": 40, "layers": 2, "width": 32, "heads": 2},
              {"name": "adamw", "lr": 2e-3}, 4)
print(program_id(built.program).hex())
job = decode(Job, Path(sys.argv[1]).read_bytes())
print([s.root.hex() for s in train(open_run(job), Path(sys.argv[2]), 0, 3, 3, lambda *_: None)][-1])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 processors")
@pytest.mark.parametrize(
    ("threads", "hash_seed", "capability", "processor", "features"),
    [(2, "7", "default", "x86-64-v2", "+sse4.2"), (1, "99", "avx2", "haswell", "+avx2,+fma")],
)
def test_threads_and_processors_change_nothing(
    gpt_adamw: Built,
    token_data: Path,
    tmp_path: Path,
    threads: int,
    hash_seed: str,
    capability: str,
    processor: str,
    features: str,
) -> None:
    here = roots_of(gpt_adamw, token_data, tmp_path / "here", 3, 3)[-1]
    (tmp_path / "job").write_bytes(encode(job_of(gpt_adamw, token_data, threads=threads)))
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": str(threads)}
    environment |= {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "PYTHONHASHSEED": hash_seed}
    result = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path / "job"), str(tmp_path / "there")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == [program_id(gpt_adamw.program).hex(), here.hex()]


def test_resuming_equals_going_through(mlp_adamw: Built, table_data: Path, tmp_path: Path) -> None:
    through = roots_of(mlp_adamw, table_data, tmp_path / "a", 30, 10)
    run, broken = run_of(mlp_adamw, table_data), tmp_path / "b"

    def stop_at_17(step: int, loss: float, seconds: float) -> None:
        if step == 17:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(train(run, broken, 0, 30, 10, stop_at_17))
    assert sorted(path.name for path in broken.iterdir()) == [state_path("", step).name for step in (0, 10)]
    assert roots_of(mlp_adamw, table_data, broken, 30, 10) == through
    again = list(train(run, broken, 0, 30, 10, lambda *_: pytest.fail("nothing was left to do")))
    assert [item.root for item in again] == through
    assert np.isnan(again[0].loss) and all(np.isfinite(item.loss) for item in again[1:])


def test_a_later_stretch_continues(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    whole = roots_of(mlp_sgd, table_data, tmp_path / "a", 20, 5)
    run = run_of(mlp_sgd, table_data)
    list(train(run, tmp_path / "b", 0, 10, 5, quiet))
    later = list(train(run, tmp_path / "b", 10, 10, 5, quiet))
    assert [item.root for item in later] == whole[2:]
    uneven = list(train(run, tmp_path / "c", 0, 12, 5, quiet))
    assert [item.step for item in uneven] == [0, 5, 10, 12]
    with pytest.raises(Rejection):
        list(train(run, tmp_path / "d", 5, 5, 5, quiet))
    with pytest.raises(Rejection):
        list(train(run, tmp_path / "d", 3, 5, 5, quiet))


@pytest.mark.parametrize("free", [True, False], ids=["beside", "between"])
def test_verifying_segments(
    free: bool, mlp_sgd: Built, table_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_module, "a_core_is_free", lambda: free)
    roots = roots_of(mlp_sgd, table_data, tmp_path, 20, 5)
    run = run_of(mlp_sgd, table_data)
    found = verify_segment(run, tmp_path, 10, 5, roots[2], quiet)
    assert found.end_root == roots[3] and len(found.step_roots) == 6 and found.step_roots[0] == roots[2]
    assert found.evidence_root == evidence_root(found.step_roots)
    from_seed = verify_segment(run, tmp_path / "nothing here", 0, 5, roots[0], quiet)
    assert from_seed.end_root == roots[1]
    for directory, first, start in (
        (tmp_path, 10, roots[1]),
        (tmp_path / "no", 0, roots[1]),
        (tmp_path / "no", 5, b""),
    ):
        with pytest.raises(Rejection) as refusal:
            verify_segment(run, directory, first, 5, start, quiet)
        assert refusal.value.reason is reasons.BAD_CHECKPOINT


def test_a_fault_changes_only_what_follows(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    honest = roots_of(mlp_sgd, table_data, tmp_path / "a", 20, 5)
    weight = mlp_sgd.program.state_outputs[0]
    for fault, first in ((Fault(12, weight, 7, 20), 3), (Fault(-1, 0, 3, 30), 0), (Fault(5, weight, 0, 31), 2)):
        directory = tmp_path / f"{fault.step}"
        faulty = roots_of(mlp_sgd, table_data, directory, 20, 5, fault=fault)
        assert faulty[:first] == honest[:first]
        assert all(a != b for a, b in zip(faulty[first:], honest[first:], strict=True))


def test_going_to_a_step_from_the_nearest_state(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    run = run_of(mlp_sgd, table_data)
    list(train(run, tmp_path, 0, 10, 5, quiet))
    state_path(tmp_path, 5).unlink()
    stepper = start_of(run, tmp_path, 7)
    assert stepper.step == 7
    state = initial_state(run)
    assert mean_loss(run, stepper.state, 0, 5) < mean_loss(run, state, 0, 5)


def test_digits_are_learnt(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    from ml.data.sources import from_arrays
    from ml.presets import build
    from ml.presets.build import accuracy

    images, labels = load_digits(return_X_y=True)
    source = from_arrays({"x": images.astype(np.float32) / 16, "y": labels.astype(np.int64)}, validation=0.2)
    source.write(tmp_path / "train")
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    built = build({"name": "mlp", "inputs": 64, "classes": 10, "widths": [64]}, optimizer, 64)
    done = list(train(run_of(built, tmp_path / "train"), tmp_path / "states", 0, 600, 300, quiet))
    state, loss = load_state(done[-1].path, built.program.state)
    held_out = {name: torch.from_numpy(array) for name, array in source.validation.arrays().items()}
    assert len(held_out["y"]) == 359
    assert accuracy(built, state, held_out) >= 0.95
    assert loss < 0.1


def test_checkpoints_are_strict(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    run = run_of(mlp_sgd, table_data)
    entries, state = run.program.state, initial_state(run)
    path = tmp_path / "state"
    save_state(path, entries, state, 0.25)
    loaded, loss = load_state(path, entries)
    assert loss == 0.25 and all(torch.equal(a, b) for a, b in zip(state, loaded, strict=True))
    root = root_of_state(run.program, 0, state)
    load_verified_state(path, run.program, 0, root)
    good = path.read_bytes()
    spoilt = {
        "cut": good[:-1],
        "longer": good + b"\0" * 100_000,
        "not safetensors": bytes(len(good)),
        "huge header": (1 << 60).to_bytes(8, "little") + good[8:],
        "missing": None,
    }
    for name, data in spoilt.items():
        other = tmp_path / name
        if data is not None:
            other.write_bytes(data)
        with pytest.raises(Rejection) as refusal:
            load_state(other, entries)
        assert refusal.value.reason is reasons.BAD_CHECKPOINT, name
    renamed = [StateEntry("other", entries[0].type, entries[0].initial), *entries[1:]]
    retyped = [StateEntry(entries[0].name, TensorType("f32", (1, *entries[0].type.shape)), Fill(0)), *entries[1:]]
    for wrong in (renamed, retyped, entries[1:]):
        with pytest.raises(Rejection):
            load_state(path, wrong)
    flipped = bytearray(good)
    flipped[-5] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(Rejection):
        load_verified_state(path, run.program, 0, root)
