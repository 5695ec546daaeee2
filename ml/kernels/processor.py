"""The processor that kernels are compiled for: this one, or what numba's NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say.

Another choice changes speed only; the tests compile for old processors to show it.
"""

from __future__ import annotations

from functools import lru_cache

from llvmlite import binding as llvm
from numba.core import config


@lru_cache(maxsize=1)
def processor() -> tuple[str, str]:
    """LLVM's name and feature string."""
    name = config.CPU_NAME or llvm.get_host_cpu_name()
    features = config.CPU_FEATURES
    return name, llvm.get_host_cpu_features().flatten() if features is None else features


def has_feature(feature: str) -> bool:
    """Whether kernels may use a feature, such as `avx2`."""
    return f"+{feature}" in processor()[1].split(",")
