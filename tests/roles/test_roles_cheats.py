"""Rehearsed lies: every word can be configured, each lie is told in its role only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ledger_world import PROGRAM

from consensus.ledger.messages import APPROVED, Finding
from consensus.ledger.records import VERIFICATION_COMMITTED, VERIFICATION_REVEALED, Instalment, Verification
from gensyn_node.config.node_config import parse_config
from gensyn_node.primitives.codec import encode
from gensyn_node.roles.cheats import Cheats, as_told, copied, known_cheats, parse_cheat, poisoned
from ml.data.manifest import manifest_path, read_manifest, write_dataset
from ml.worker.messages import Job


def test_words_mean_different_things() -> None:
    assert parse_cheat("colluder@step=3") == Cheats(flip_bit_step=3, verifying=True)
    assert parse_cheat("false-accuser@step=3") == Cheats(flip_bit_step=3, solving=False, verifying=True)
    assert len({parse_cheat(text) for text in known_cheats()}) == len(known_cheats())


@pytest.mark.parametrize("text", ["", *known_cheats()])
def test_every_cheat_can_be_configured(text: str) -> None:
    assert parse_config(f'[devnet]\ncheat = "{text}"\n').devnet.cheat == text


@pytest.mark.parametrize(
    ("text", "solving", "verifying"),
    [
        ("", None, None),
        ("flip-bit@step=37", 37, None),
        ("skip-step@step=5", 5, None),
        ("staller@step=2", 2, None),
        ("colluder@step=37", 37, 37),
        ("false-accuser@step=37", None, 37),
        ("lazy-verifier", None, None),
        ("withheld-data", None, None),
    ],
)
def test_each_lie_is_told_in_its_role_only(text: str, solving: int | None, verifying: int | None) -> None:
    job = Job(encode(PROGRAM), "nowhere", bytes(32), "", 1)
    told = [as_told(job, parse_cheat(text), solving=role).fault for role in (True, False)]
    assert [fault and fault.step for fault in told] == [solving, verifying]
    assert all(fault.skip == text.startswith("skip") for fault in told if fault)


def test_poisoned_data_look_like_the_task_s_and_are_others(tmp_path: Path) -> None:
    arrays = {"x": np.arange(24, dtype=np.float32).reshape(6, 4), "y": np.arange(6)}
    manifest = write_dataset(tmp_path / "data", arrays, shard_bytes=40)
    assert len(manifest.tensors[0].shards) > 1
    job = Job(encode(PROGRAM), str(tmp_path / "data"), bytes(32), "", 1)
    honest, lying = (as_told(job, parse_cheat("wrong-data"), solving=role).dataset_directory for role in (False, True))
    assert honest == job.dataset_directory != lying
    found = read_manifest(manifest_path(lying).read_bytes())
    assert [item.tensor.record for item in found.tensors] == [item.tensor.record for item in manifest.tensors]
    assert found.tensors[0].tensor.root != manifest.tensors[0].tensor.root
    assert found.tensors[1].tensor.root == manifest.tensors[1].tensor.root
    assert str(poisoned(tmp_path / "data")) == lying


def test_a_copying_verifier_shows_what_others_have_shown_and_nothing_before() -> None:
    mine = (Finding(0, APPROVED, b"\x01" * 32), Finding(1, APPROVED, b"\x01" * 32))
    theirs = (Finding(1, APPROVED, b"\x02" * 32),)

    def instalment(state: str) -> Instalment:
        slot = Verification(bytes(20), state, (1,), 0, 0, 0, b"", theirs, b"", 0)
        return Instalment(
            *(bytes(32), 0, 0, bytes(20), "revealing", 0, b"", (bytes(32),) * 2, (), (), ()),
            *(0, 0, 0, 0, (slot,), (), False, (), (), 0, 0),
        )

    assert copied(instalment(VERIFICATION_COMMITTED), mine) == ()
    assert copied(instalment(VERIFICATION_REVEALED), mine) == (mine[0], theirs[0])
