"""numba's decorators for kernels whose machine code is kept between starts, in the folder of these sources."""

from __future__ import annotations

import os
from pathlib import Path

from numba import cfunc, config, njit

from ml.kernels.sources import STORE_VARIABLE, default_store, folder_in

__all__ = ["cfunc", "njit"]

# Read when a function is decorated.
config.CACHE_DIR = str(folder_in(Path(os.environ.get(STORE_VARIABLE) or default_store()).absolute()))
