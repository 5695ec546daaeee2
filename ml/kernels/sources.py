"""Which sources compiled kernels come from, and where their machine code is kept between starts.

numba looks only at the file of the function itself: code that a changed neighbour emitted, or that a changed neighbour
is inlined into, would go on being used, and compute what this version no longer computes. So every state of the sources
has a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
import sys
from functools import lru_cache
from pathlib import Path

STORE_VARIABLE = "NUMBA_CACHE_DIR"
"""The owner's choice of a folder for compiled kernels."""
SOURCES = Path(__file__).resolve().parents[1]
PREFIX = "source-"


def fingerprint_of(sources: Path) -> str:
    """Changes with every file of Python below a folder, with its name, and with where the folder lies."""
    told = hashlib.sha256(str(sources).encode())
    for source in sorted(sources.rglob("*.py")):
        if source.is_file():  # an editor's lock is none
            told.update(hashlib.sha256(str(source.relative_to(sources)).encode()).digest())
            told.update(hashlib.sha256(source.read_bytes()).digest())
    return told.hexdigest()[:16]


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Of the sources that run."""
    return fingerprint_of(SOURCES)


def folder_in(store: Path) -> Path:
    """The folder of these sources in a store of compiled kernels."""
    return store / f"{PREFIX}{fingerprint()}"


def default_store() -> Path:
    """Where kernels are kept when the owner chose nothing: beside the sources, or among the user's caches."""
    beside = SOURCES / "__pycache__"
    if os.access(SOURCES, os.W_OK):
        return beside
    try:
        home = Path.home()
    except RuntimeError:  # a user without one
        return beside
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "gensyn"
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))  # a relative one has to be ignored (XDG base directories)
    return (chosen if chosen.is_absolute() else home / ".cache") / "gensyn"
