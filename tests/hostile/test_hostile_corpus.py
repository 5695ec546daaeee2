"""Hostile programs, checkpoints and data: each is refused with its code, and none makes the process grow."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
MODULES = ("hostile_programs", "hostile_checkpoints", "hostile_data")

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Any]]]:
    """What became of every case."""
    command = [sys.executable, str(HERE / "hostile_runner.py"), str(tmp_path_factory.mktemp("hostile")), *MODULES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert shown.returncode == 0, shown.stderr[-4000:]
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(shown.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_case_is_refused_with_its_code_in_bounded_memory(module: str, played: dict[str, Any]) -> None:
    found, cases = played[module], importlib.import_module(module).CASES
    assert len(found) == len(cases) > 15, "two cases have one name"
    codes = {case.name: found[case.name]["code"] for case in cases}
    assert codes == {case.name: case.code for case in cases}
    grown = {case.name: found[case.name]["growth_mib"] for case in cases}
    assert {case.name: grown[case.name] for case in cases if grown[case.name] > case.growth_mib} == {}
