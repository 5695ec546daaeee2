"""What a network of strangers trained is, bit for bit, what anybody gets alone: by a plain loop over the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from integration_net import Told, recompute

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("stories")]


def test_the_final_state_is_that_of_a_plain_loop_whatever_the_processor(story: Callable[[str], Told]) -> None:
    told = story("honest")
    root = told.certificate.record.final_root.hex()
    assert told.last("task")["record"]["settled_root"] == root
    data = told.folder / "digits.npz"
    runs = [
        recompute(told.certificate_path, data, "reference", threads=1),
        recompute(told.certificate_path, data, "reference", threads=2, ATEN_CPU_CAPABILITY="default"),
        recompute(told.certificate_path, data, "kernels", threads=1, ATEN_CPU_CAPABILITY="default"),
        recompute(told.certificate_path, data, "kernels", threads=2),
    ]
    for run in runs:
        print(run)
    assert runs[1]["processor"] == runs[2]["processor"] == "DEFAULT"
    assert [run["root"] for run in runs] == [root] * len(runs)


def test_another_seed_gives_another_state(story: Callable[[str], Told]) -> None:
    """The comparison above can fail: the two stories trained the same task from different seeds."""
    honest, cheated = story("honest").certificate.record, story("flip-bit").certificate.record
    assert honest.program_id == cheated.program_id
    assert honest.dataset_root == cheated.dataset_root
    assert honest.seed != cheated.seed
    assert honest.final_root != cheated.final_root
