"""numba's decorators, for kernels whose machine code is kept between starts in the folder of these sources."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from ml.kernels.sources import STORE_VARIABLE, default_store, folder_in


def _can_keep(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


_FOLDER = folder_in(Path(os.environ.get(STORE_VARIABLE) or default_store()).absolute())
# numba reads it when a function is decorated. Where it cannot write there it would look in folders that know nothing of
# the state of these sources, so nothing is kept then.
numba.config.CACHE_DIR = str(_FOLDER)
_KEEP = _can_keep(_FOLDER)


def njit(signature: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit`, compiled at once or found in the store."""
    found: Callable[[Callable[..., Any]], Any] = numba.njit(signature, cache=_KEEP, **options)
    return found


def cfunc(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """`numba.cfunc`, compiled at once or found in the store."""
    found: Callable[[Callable[..., Any]], Any] = numba.cfunc(signature, cache=_KEEP)
    return found
