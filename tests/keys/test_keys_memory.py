"""A process with unlocked keys leaves no core file, and others cannot look into it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import os, resource
from gensyn_node.keys.memory import forbid_dumps
agreed = forbid_dumps()
print(agreed, resource.getrlimit(resource.RLIMIT_CORE)[0], flush=True)
if agreed:
    import ctypes
    print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True)
os.abort()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have the limit alone")
def test_no_core_file_and_no_look_into_the_memory(tmp_path: object) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=str(tmp_path), check=False)
    assert done.stdout.split() == ["True", "0", "0"]
    assert done.returncode < 0
    listed = subprocess.run(["ls", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert listed == ""
