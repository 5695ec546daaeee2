"""Compiling kernels for a device and launching them, through what torch itself offers: NVRTC, and Metal's compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import torch

from ml.devices import dialects
from ml.devices.source import KernelSource

Launch = Callable[[Sequence[int], Sequence[torch.Tensor]], None]
"""launch(numbers, arrays): numbers[0] work items; arrays contiguous or as the numbers say, the written ones last."""
CUDA_THREADS = 256
"""Threads of one block."""
CUDA_OPTIONS = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
METAL_BUFFERS_MAX = 30
"""Arrays of one kernel beside its numbers."""


class Backend(Protocol):
    """A device that kernels can be compiled for."""

    device: torch.device
    arrays_max: int
    """Arrays that one kernel may have."""

    def compile(self, kernel: KernelSource) -> Launch:
        """The kernel on this device; compiled once."""


class CudaBackend:
    """NVIDIA, by NVRTC."""

    arrays_max = 256

    def __init__(self, index: int = 0) -> None:
        self.device = torch.device("cuda", index)

    @lru_cache(maxsize=4096)  # noqa: B019  (a process has one backend, as long as it lives)
    def compile(self, kernel: KernelSource) -> Launch:
        """See `Backend`."""
        with torch.cuda.device(self.device):
            compiled: Any = torch.cuda._compile_kernel(
                dialects.cuda(kernel), kernel.name, nvcc_options=list(CUDA_OPTIONS)
            )

        def launch(numbers: Sequence[int], arrays: Sequence[torch.Tensor]) -> None:
            blocks = -(-numbers[0] // CUDA_THREADS)
            with torch.cuda.device(self.device):
                compiled(
                    grid=(blocks, 1, 1),
                    block=(CUDA_THREADS, 1, 1),
                    args=[_numbers(tuple(numbers), self.device), *arrays],
                )

        return launch


class MetalBackend:
    """Apple, by Metal's compiler as torch calls it (fast maths off)."""

    arrays_max = METAL_BUFFERS_MAX

    def __init__(self) -> None:
        self.device = torch.device("mps")

    @lru_cache(maxsize=4096)  # noqa: B019  (a process has one backend, as long as it lives)
    def compile(self, kernel: KernelSource) -> Launch:
        """See `Backend`."""
        library: Any = torch.mps.compile_shader(dialects.metal(kernel))
        function = getattr(library, kernel.name)

        def launch(numbers: Sequence[int], arrays: Sequence[torch.Tensor]) -> None:
            function(_numbers(tuple(numbers), self.device), *arrays, threads=[numbers[0]])

        return launch


@lru_cache(maxsize=65_536)
def _numbers(numbers: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Sizes and strides on the device; the same few come at every step."""
    return torch.tensor(numbers, dtype=torch.int64, device=device)
