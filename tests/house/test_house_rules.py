"""House rules as tests: what the code may call, how it is laid out, what the wheel holds."""

from __future__ import annotations

import ast
import fcntl
import importlib
import pkgutil
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("gensyn_node", "consensus", "p2p", "ml", "proofs", "cli")
CORES = ("consensus", "proofs")
LINES_MAX = 600


def _sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def _calls(path: Path) -> list[tuple[int, str]]:
    tree = ast.parse(path.read_text())
    return [(node.lineno, ast.unparse(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_nothing_unpickles_evaluates_or_runs_a_shell() -> None:
    banned = re.compile(
        r"^(pickle|marshal|shelve|dill|cloudpickle)\.|^torch\.(load|save)$|^(eval|exec|compile|__import__)$|^os\.system$"
    )
    found = [
        f"{path.relative_to(ROOT)}:{line} {call}"
        for path in _sources(*PACKAGES, "devnet")
        for line, call in _calls(path)
        if banned.search(call)
    ]
    imports = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(*PACKAGES, "devnet")
        for name in re.findall(
            r"^\s*(?:import|from) (pickle|marshal|shelve|dill|cloudpickle)\b", path.read_text(), re.M
        )
    ]
    assert found + imports == []


def test_cores_take_time_and_randomness_as_arguments() -> None:
    banned = re.compile(r"^(time|random|secrets|os|datetime|uuid)\.|^(open|print|input)$|^np\.random\.")
    found = [
        f"{path.relative_to(ROOT)}:{line} {call}"
        for path in _sources(*CORES)
        for line, call in _calls(path)
        if banned.search(call)
    ]
    assert found == []


def test_input_is_never_checked_by_assert() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _sources(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_no_error_is_swallowed() -> None:
    """A broad handler must do something with the error; a handler that only passes names a narrow type."""
    found = []
    for path in _sources(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
            if broad and all(isinstance(line, ast.Pass | ast.Continue) for line in node.body):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_files_are_one_idea_long() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in _sources(*PACKAGES) if (n := len(p.read_text().splitlines())) > LINES_MAX
    }
    assert long == {}


def test_every_module_says_what_it_is() -> None:
    missing = [str(p.relative_to(ROOT)) for p in _sources(*PACKAGES) if not ast.get_docstring(ast.parse(p.read_text()))]
    assert missing == []


def test_nothing_unfinished_is_left() -> None:
    mark = re.compile(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _sources(*PACKAGES, "devnet")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if mark.search(line)
    ]
    assert found == []


def test_reasons_are_complete_and_in_their_package_s_range() -> None:
    from gensyn_node.primitives.errors import REASONS

    for package in PACKAGES:
        for module in pkgutil.walk_packages([str(ROOT / package)], package + "."):
            if module.name.endswith("reasons"):
                importlib.import_module(module.name)
    assert len(REASONS) > 30
    for code, declared in REASONS.items():
        assert re.fullmatch(r"E1\d{3}|E20\d{2}", code)
        assert re.fullmatch(r"[a-z][a-z0-9_]+", declared.name), declared
        assert declared.meaning.endswith(".") and declared.remedy.endswith("."), declared


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    # Builds share the tree's `build` folder, and another process of this test run may be at it.
    with (tmp_path_factory.getbasetemp().parent / "wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_ships_the_six_packages_and_nothing_else(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_installs_and_gensyn_runs_from_another_directory(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A source tree on the path would count as installed already.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120)
    # The dependencies are the running environment's, seen through a .pth file; the six packages come from the wheel.
    python = environment / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = subprocess.run([str(python), "-c", query], capture_output=True, text=True, check=True).stdout.strip()
    mine = subprocess.run([sys.executable, "-c", query], capture_output=True, text=True, check=True).stdout.strip()
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (Path(site) / "dependencies.pth").write_text(mine + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for command in ([str(environment / "bin" / "gensyn"), "--help"], [str(python), "-m", "gensyn_node", "--help"]):
        shown = subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, timeout=120, check=False)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "node" in shown.stdout and "task" in shown.stdout
    where = [str(python), "-c", "import gensyn_node; print(gensyn_node.__file__)"]
    location = subprocess.run(where, capture_output=True, text=True, cwd=elsewhere, check=True).stdout
    assert str(environment) in location
