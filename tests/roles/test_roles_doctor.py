"""`gensyn node doctor`: what it finds on this machine, and what it says of a machine where something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.roles import doctor
from gensyn_node.roles.reasons import WORKER_DIED
from gensyn_node.roles.worker_client import Worker
from ml.worker.messages import DeviceFinding, DevicesExamined, ExamineDevices, ExamineNative, Measure, NativeExamined


def test_the_command_starts_a_real_worker(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli", "node", "doctor", "--json", "--home", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    value = json.loads(shown.stdout)
    found = {(item["subject"], item["name"]): item for item in value["findings"]}
    for place in (
        ("worker", "start"),
        ("arithmetic", "this process"),
        ("arithmetic", "native"),
        ("sandbox", "keys"),
        ("device", "cpu"),
    ):
        assert found[place]["ok"]
    assert {name for subject, name in found if subject == "sandbox"} >= {"files", "system calls", "memory", "file size"}
    assert shown.returncode == (0 if value["ok"] else 1), shown.stderr
    assert all(item["ok"] or item["remedy"] for item in value["findings"])


def test_what_is_missing_is_said_with_a_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measures = (
        Measure("files", active=False, detail="no Landlock"),
        Measure("system calls", active=True, detail="an allow-list"),
        Measure("processor time", active=False, detail="not limited"),
    )

    async def warm_up(worker: Worker) -> None:
        worker.sandbox = measures

    def off() -> None:
        raise InvariantViolation("denormals are off")

    async def final(worker: Worker, request: object) -> DevicesExamined | NativeExamined:
        if isinstance(request, ExamineNative):
            return NativeExamined(("exp", "matmul"))
        assert isinstance(request, ExamineDevices)
        return DevicesExamined(
            (
                DeviceFinding("cpu", there=True, exact=True, detail="exact"),
                DeviceFinding("cuda", there=False, exact=False, detail="none"),
                DeviceFinding("mps", there=True, exact=False, detail="other bits in mul"),
            )
        )

    monkeypatch.setattr(Worker, "warm_up", warm_up)
    monkeypatch.setattr(Worker, "final", final)
    monkeypatch.setattr(doctor, "check_machine", off)
    found = {item.name: item for item in doctor.examine(1, 1 << 30, Path(sys.prefix) / "keys")}
    assert not found["files"].ok and "Landlock" in found["files"].remedy
    assert not found["native"].ok and "exp, matmul" in found["native"].detail and "Native" in found["native"].remedy
    assert found["system calls"].ok and found["processor time"].ok and "node" in found["processor time"].detail
    assert not found["this process"].ok and "denormals" in found["this process"].detail
    assert not found["keys"].ok and "home" in found["keys"].remedy
    assert found["cpu"].ok and found["cuda"].ok and not found["mps"].ok and "mul" in found["mps"].detail
    assert doctor.examine(1, 1 << 30, tmp_path)[-1].ok
    chosen = {item.name: item for item in doctor.examine(1, 1 << 30, tmp_path, "cuda")}
    assert not chosen["cuda"].ok and "worker.device" in chosen["cuda"].remedy


def test_a_worker_that_does_not_start_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def warm_up(_: Worker) -> None:
        raise Rejection(WORKER_DIED, "no torch")

    monkeypatch.setattr(Worker, "warm_up", warm_up)
    (start,) = [item for item in doctor.examine(1, 1 << 30, tmp_path) if item.subject == "worker"]
    assert not start.ok and "no torch" in start.detail
