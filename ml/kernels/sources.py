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
    """Changes with every file of Python below a folder, and with where it lies."""
    told = hashlib.sha256(str(sources).encode())
    for source in sorted(sources.rglob("*.py")):
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
    if os.access(SOURCES, os.W_OK):
        return SOURCES / "__pycache__"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gensyn"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gensyn"
