"""Real networks for the tests of this folder. Whatever a test does, no process of it stays behind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Before numba is imported: every node of every test compiles its kernels once, not once a home.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).resolve().parents[2] / ".numba_cache"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from integration_net import Told, processes_of, tell_story

Tell = Callable[[str], Told]


@pytest.fixture(autouse=True, scope="module")
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process that lives in the tests' folder is gone after each module."""
    yield
    assert processes_of(tmp_path_factory.getbasetemp()) == []


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Tell:
    """A scenario of `devnet/scenarios` by name, told once however many tests look at it: they are in one file."""
    told: dict[str, Told] = {}

    def tell(name: str) -> Told:
        if name not in told:
            told[name] = tell_story(name, tmp_path_factory.mktemp(name))
        return told[name]

    return tell
