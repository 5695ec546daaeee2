"""Hostile programs, checkpoints and data: each is refused with its code, and none makes the process grow."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
MODULES = ("hostile_programs", "hostile_checkpoints", "hostile_data")

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")


@pytest.mark.parametrize("module", MODULES)
def test_every_case_is_refused_with_its_code_in_bounded_memory(module: str, tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "hostile_runner.py"), module, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert shown.returncode == 0, shown.stderr[-4000:]
    found = json.loads(shown.stdout.splitlines()[-1])
    cases = importlib.import_module(module).CASES
    assert len(found) == len(cases) > 15, "two cases have one name"
    codes = {case.name: found[case.name]["code"] for case in cases}
    assert codes == {case.name: case.code for case in cases}
    grown = {case.name: found[case.name]["growth_mib"] for case in cases}
    assert {name: mib for name, mib in grown.items() if mib > next(c.growth_mib for c in cases if c.name == name)} == {}
