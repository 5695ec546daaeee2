"""Training that diverges: an outcome like any other, the same bits for all; bytes are compared, never numbers."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from ml_jobs import job_of, run_of

from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.solver import loss_bits
from ml import reasons
from ml.checkpoint import load_state, load_verified_state, root_of_state, save_state
from ml.interpreter import NAN_BITS
from ml.presets import Built, build
from ml.segment import verify_segment
from ml.trainer import INITIAL_STEP, Segment, initial_state, train
from ml.worker.messages import Fault, state_path

STEPS, SEGMENT = 12, 4


def quiet(*_: object) -> None:
    """No report."""


@pytest.fixture(scope="module")
def wild() -> Built:
    """A perceptron whose steps are a thousand million times too long."""
    preset = {"name": "mlp", "inputs": 20, "classes": 5, "widths": [33], "activation": "gelu"}
    return build(preset, {"name": "sgd", "lr": 1e9, "momentum": 0.9}, 24)


def trained(built: Built, data: Path, directory: Path, **changes: object) -> list[Segment]:
    return list(train(run_of(built, data, **changes), directory, 0, STEPS, SEGMENT, quiet))


def test_everybody_diverges_to_the_same_bytes(wild: Built, table_data: Path, tmp_path: Path) -> None:
    done = trained(wild, table_data, tmp_path / "a")
    assert not np.isfinite(done[-1].loss) and np.isnan(done[-1].loss)
    state, _ = load_state(done[-1].path, wild.program.state)
    nans = torch.cat([item.reshape(-1)[torch.isnan(item.reshape(-1))] for item in state if item.is_floating_point()])
    assert len(nans) > 100 and set(nans.view(torch.int32).tolist()) == {NAN_BITS}
    assert [item.root for item in trained(wild, table_data, tmp_path / "b", threads=2)] == [one.root for one in done]
    run = run_of(wild, table_data)
    for number in range(STEPS // SEGMENT):
        start, end = done[number], done[number + 1]
        found = verify_segment(run, tmp_path / "a", start.step, SEGMENT, start.root, quiet)
        assert found.end_root == end.root
    # The last segment starts from NaNs and stays there: a state that no step changes is agreed upon as well.
    again = trained(wild, table_data, tmp_path / "a")
    assert [item.root for item in again] == [item.root for item in done]


def test_a_lie_about_a_state_of_nans_is_seen(wild: Built, table_data: Path, tmp_path: Path) -> None:
    """Where every number is NaN, any comparison of numbers accepts anything."""
    honest = trained(wild, table_data, tmp_path / "a")
    weight = wild.program.state_outputs[0]
    lied = trained(wild, table_data, tmp_path / "b", fault=Fault(STEPS - 1, weight, 7, 30))
    assert [item.root for item in lied[:-1]] == [item.root for item in honest[:-1]]
    assert lied[-1].root != honest[-1].root
    found = verify_segment(run_of(wild, table_data), tmp_path / "a", 8, SEGMENT, lied[2].root, quiet)
    assert found.end_root == honest[-1].root != lied[-1].root


def test_a_sign_of_nought_is_another_state(mlp_sgd: Built, table_data: Path) -> None:
    run = run_of(mlp_sgd, table_data)
    state = initial_state(run)
    place = next(number for number, item in enumerate(state) if item.is_floating_point() and not item.any())
    flipped = initial_state(run_of(mlp_sgd, table_data, fault=Fault(INITIAL_STEP, place, 0, 31)))
    assert torch.equal(state[place], flipped[place])
    assert root_of_state(run.program, 0, state) != root_of_state(run.program, 0, flipped)


def test_one_root_is_one_file_of_bytes(mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    """A NaN of other bits has the same root; who kept such a file would show bytes in a dispute that nobody knows."""
    run = run_of(mlp_sgd, table_data)
    state = initial_state(run)
    state[0] = torch.full_like(state[0], torch.nan)
    path = state_path(tmp_path, 0)
    save_state(path, run.program.state, state, 0.0)
    root = root_of_state(run.program, 0, state)
    load_verified_state(path, run.program, 0, root)
    good = struct.pack("<I", NAN_BITS)
    assert path.read_bytes().count(good) == state[0].numel()
    path.write_bytes(path.read_bytes().replace(good, struct.pack("<I", 0xFFC12345), 1))
    with pytest.raises(Rejection) as refusal:
        load_verified_state(path, run.program, 0, root)
    assert refusal.value.reason is reasons.BAD_CHECKPOINT and "NaN" in refusal.value.message


def test_a_loss_that_is_no_number_goes_to_the_chain_as_bits(wild: Built, table_data: Path, tmp_path: Path) -> None:
    bits = [loss_bits(item.loss) for item in trained(wild, table_data, tmp_path)[1:]]
    assert bits[-1] & 0x7F800000 == 0x7F800000 and all(0 <= item < 1 << 32 for item in bits)
    assert job_of(wild, table_data).fault is None
