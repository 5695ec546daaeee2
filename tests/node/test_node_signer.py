"""The double-sign guard: outside vectors, and what a crash or a damaged file may not lead to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gensyn_node.primitives import crypto
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import files, reasons
from gensyn_node.storage.signer import Signed, Signer, SignRequest, SignStep, read_state

KEY = SecretKey(b"\x07" * 32)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors/signer/last_sign_state.json").read_text())


def request(height: int, round_: int, step: SignStep, block: str = "B1", time_ms: int = 0) -> SignRequest:
    subject = f"{height}/{round_}/{step.name}/{block}".encode()
    return SignRequest(height, round_, step, subject + b"@%d" % time_ms, subject, time_ms, 1)


@pytest.mark.parametrize("session", VECTORS["sessions"], ids=lambda session: str(session["type"]))
@pytest.mark.parametrize("reopen", [False, True], ids=["one-process", "restart-before-each"])
def test_outside_vectors(session: dict[str, Any], reopen: bool, tmp_path: Path) -> None:
    signer = Signer.create(tmp_path / "state", KEY)
    first: Signed | None = None
    for entry in session["requests"]:
        if reopen:
            signer = Signer.open(tmp_path / "state", KEY)
        asked = entry["req"]
        wanted = request(
            asked["height"], asked["round"], SignStep[asked["type"].upper()], asked["block"], asked["time_ms"]
        )
        if entry["expect"] == "refuse":
            with pytest.raises(Rejection):
                signer.sign(wanted)
            continue
        signed = signer.sign(wanted)
        if entry["expect"] == "sign":
            first = signed
            assert crypto.verify(KEY.public, wanted.message, signed.signature)
        assert signed == first


def test_every_order_of_places(tmp_path: Path) -> None:
    places = [(h, r, s) for h in (1, 2) for r in (0, 1) for s in SignStep]
    for last in places:
        for following in places:
            path = tmp_path / f"{last}{following}"
            signer = Signer.create(path, KEY)
            signer.sign(request(*last))
            if following > last:
                signer.sign(request(*following, block="B2"))
                continue
            with pytest.raises(Rejection) as caught:
                signer.sign(request(*following, block="B2"))
            expected = reasons.SIGN_CONFLICT if following == last else reasons.SIGN_REGRESSION
            assert caught.value.reason is expected


def test_state_is_durable_before_the_signature_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of system calls: content synced, then renamed, then the directory synced, then the caller sees it."""
    signer = Signer.create(tmp_path / "state", KEY)
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(descriptor: int) -> None:
        calls.append("directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def seen_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", seen_fsync)
    monkeypatch.setattr(files.os, "replace", seen_replace)
    signer.sign(request(5, 0, SignStep.PREVOTE))
    assert calls == ["file", "rename", "directory"]
    assert read_state(tmp_path / "state").height == 5


def test_nothing_leaves_when_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer.create(tmp_path / "state", KEY)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            signer.sign(request(5, 0, SignStep.PREVOTE))
    assert signer.state.height == 0
    assert read_state(tmp_path / "state").height == 0


def test_missing_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejection) as caught:
        Signer.open(tmp_path / "state", KEY)
    assert caught.value.reason is reasons.SIGN_STATE_MISSING


def test_create_never_overwrites(tmp_path: Path) -> None:
    Signer.create(tmp_path / "state", KEY).sign(request(9, 0, SignStep.PRECOMMIT))
    with pytest.raises(Rejection) as caught:
        Signer.create(tmp_path / "state", KEY)
    assert caught.value.reason is reasons.STORE_EXISTS
    assert read_state(tmp_path / "state").height == 9


def test_every_flipped_byte_and_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    Signer.create(path, KEY).sign(request(3, 1, SignStep.PREVOTE))
    sound = path.read_bytes()
    damaged = [sound[:i] + bytes([sound[i] ^ 0x10]) + sound[i + 1 :] for i in range(len(sound))]
    damaged += [sound[:length] for length in range(len(sound))]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(Rejection) as caught:
            Signer.open(path, KEY)
        assert caught.value.reason is reasons.SIGN_STATE_CORRUPT


def test_state_of_another_key_is_refused(tmp_path: Path) -> None:
    Signer.create(tmp_path / "state", KEY)
    with pytest.raises(Rejection) as caught:
        Signer.open(tmp_path / "state", SecretKey(b"\x08" * 32))
    assert caught.value.reason is reasons.WRONG_KEY


def test_sitting_out_lasts_over_restarts_and_ends_at_the_next_height(tmp_path: Path) -> None:
    signer = Signer.create(tmp_path / "state", KEY)
    signer.sign(request(7, 0, SignStep.PRECOMMIT))
    signer.sit_out()
    signer = Signer.open(tmp_path / "state", KEY)
    with pytest.raises(Rejection):
        signer.sign(request(7, 1, SignStep.PREVOTE, "B2"))
    signer.sign(request(8, 0, SignStep.PREVOTE))


def test_a_leftover_of_an_interrupted_write_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state"
    Signer.create(path, KEY).sign(request(4, 0, SignStep.PREVOTE))
    (tmp_path / "state.new").write_bytes(b"half a rec")
    signer = Signer.open(path, KEY)
    assert signer.state.height == 4
    signer.sign(request(4, 0, SignStep.PRECOMMIT))
    assert Signer.open(path, KEY).state.step == SignStep.PRECOMMIT
