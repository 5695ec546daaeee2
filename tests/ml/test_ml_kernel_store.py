"""Compiled kernels are those of the sources that run: a change anywhere among them is a change of the folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ml.kernels.sources import PREFIX, SOURCES, fingerprint, fingerprint_of, folder_in
from ml.worker.kernels import OLD_S, _forget_old

HELPER = "from ml.kernels.compiler import njit\n\n@njit('int64()')\ndef answer():\n    return {}\n"
USER = """
from ml.kernels.compiler import njit
from ml.kernels.helper import answer

@njit("int64()")
def told():
    return answer()
"""


def test_every_file_of_the_sources_counts(tmp_path: Path) -> None:
    for name in ("kernels/a.py", "kernels/b.py", "other/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    seen = {fingerprint_of(tmp_path)}
    for name in ("kernels/a.py", "other/c.py", "kernels/new.py"):
        (tmp_path / name).write_text("changed")
        seen.add(fingerprint_of(tmp_path))
    (tmp_path / "kernels/new.py").rename(tmp_path / "kernels/newer.py")
    seen.add(fingerprint_of(tmp_path))
    (tmp_path / "kernels/.#editor.py").symlink_to("nobody@nowhere")
    (tmp_path / "kernels/folder.py").mkdir()
    seen.add(fingerprint_of(tmp_path))
    assert len(seen) == 5
    assert fingerprint() == fingerprint_of(SOURCES)


def test_a_changed_neighbour_is_compiled_in_anew(tmp_path: Path) -> None:
    """numba by itself asks only for the file of the function, and would go on answering 1."""
    package = tmp_path / "ml"
    for name in ("__init__.py", "kernels/__init__.py", "kernels/sources.py", "kernels/compiler.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes((SOURCES / name).read_bytes())
    (package / "kernels/user.py").write_text(USER)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "store"), "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "from ml.kernels.user import told; print(told())"]
    for answer in (1, 1, 2):
        (package / "kernels/helper.py").write_text(HELPER.format(answer))
        told = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert int(told.stdout) == answer
    assert len(list((tmp_path / "store").glob(f"{PREFIX}*"))) == 2
    # Where nothing can be kept nothing is found either: numba alone would turn to folders that know of no sources.
    environment["NUMBA_CACHE_DIR"] = str(package / "__init__.py")
    for answer in (3, 4):
        (package / "kernels/helper.py").write_text(HELPER.format(answer))
        told = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert int(told.stdout) == answer


def test_old_kernels_of_other_sources_are_deleted(tmp_path: Path) -> None:
    ages = {folder_in(tmp_path).name: 2 * OLD_S, f"{PREFIX}old": 2 * OLD_S, f"{PREFIX}new": 1.0, "theirs": 2 * OLD_S}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "matmul.nbi").touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    _forget_old(tmp_path)
    assert {place.name for place in tmp_path.iterdir()} == set(ages) - {f"{PREFIX}old"}
