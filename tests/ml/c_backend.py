"""A stand-in for a device: the very source that CUDA or Metal would compile, compiled for this processor by g++.

A header gives CUDA's and Metal's words their meaning in C++: what a launch would do at once, a loop does one item after
the other. Contraction is off, as both dialects demand; that their compilers obey is what only the device can show.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

from ml.devices import dialects
from ml.devices.backend import Launch
from ml.devices.source import KernelSource

COMPILER = shutil.which("g++")
OPTIONS = ("-O1", "-shared", "-fPIC", "-ffp-contract=off", "-fwrapv", "-w")

_COMMON = """
extern "C" { float floorf(float); float rintf(float); }
template <class T, class F> static T copied(F x) { T y; __builtin_memcpy(&y, &x, sizeof y); return y; }
"""
_CUDA = """
#define __global__
#define __device__
struct Place { long x; };
static thread_local Place blockIdx, blockDim, threadIdx;
static float __fadd_rn(float x, float y) { return x + y; }
static float __fsub_rn(float x, float y) { return x - y; }
static float __fmul_rn(float x, float y) { return x * y; }
static float __fdiv_rn(float x, float y) { return x / y; }
static float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
static int __float_as_int(float x) { return copied<int>(x); }
static float __int_as_float(int x) { return copied<float>(x); }
static int __float2int_rz(float x) { return (int)x; }
static long long __float2ll_rz(float x) { return (long long)x; }
static float __ll2float_rn(long long x) { return (float)x; }
"""
_METAL = """
#define kernel static
#define device
typedef unsigned int uint;
typedef unsigned long ulong;
typedef unsigned char uchar;
template <class T, class F> static T as_type(F x) { return copied<T>(x); }
namespace metal {
namespace precise { static float sqrt(float x) { return __builtin_sqrtf(x); } }
static float floor(float x) { return floorf(x); }
static float rint(float x) { return rintf(x); }
}
"""


class Recorder:
    """Notes every kernel that is asked for, and computes nothing."""

    arrays_max = 30

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.kernels: list[KernelSource] = []

    def compile(self, kernel: KernelSource) -> Launch:
        """See `Backend`."""
        if kernel not in self.kernels:
            self.kernels.append(kernel)
        return lambda numbers, tensors: None


class CBackend:
    """Kernels in one dialect on this processor, compiled all at once."""

    arrays_max = 30

    def __init__(self, dialect: str, kernels: Sequence[KernelSource], folder: Path) -> None:
        self.device = torch.device("cpu")
        self.launches = 0
        self._places = {kernel: place for place, kernel in enumerate(kernels)}
        text = _COMMON + (_CUDA if dialect == "cuda" else _METAL)
        text += "".join(_unit(dialect, kernel, place) for kernel, place in self._places.items())
        source = folder / f"{dialect}.cpp"
        source.write_text(text)
        library = source.with_suffix(".so")
        command = [str(COMPILER), *OPTIONS, str(source), "-o", str(library)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr[:3000]
        self._library = ctypes.CDLL(str(library))

    def compile(self, kernel: KernelSource) -> Launch:
        """See `Backend`."""
        function = self._library[f"launch_{self._places[kernel]}"]

        def launch(numbers: Sequence[int], tensors: Sequence[torch.Tensor]) -> None:
            self.launches += 1
            held = (ctypes.c_longlong * len(numbers))(*numbers)
            pointers = (ctypes.c_void_p * len(tensors))(*(item.data_ptr() for item in tensors))
            function(held, pointers)

        return launch


def _unit(dialect: str, kernel: KernelSource, place: int) -> str:
    """One kernel in a namespace of its own, and the loop that stands for its launch."""
    if dialect == "cuda":
        source = dialects.cuda(kernel).replace('extern "C" ', "static ")
        call, last = "blockDim.x = 256; blockIdx.x = i / 256; threadIdx.x = i % 256; ", ""
    else:
        source = dialects.metal(kernel).replace("#include <metal_stdlib>", "")
        source = re.sub(r"\[\[\w+(\(\d+\))?\]\]", "", source)
        call, last = "", ", (uint)i"
    arrays = "".join(f", ({kind}*)p[{number}]" for number, (kind, _) in enumerate(kernel.parameters))
    # Blocks are whole: some items beyond the last one are started, and must do nothing.
    loop = "for (long i = 0; i < (n[0] + 255) / 256 * 256; i++)"
    begin = "" if dialect == "cuda" else "using namespace metal;\n"
    return (
        f"\nnamespace unit_{place} {{\n{begin}{source}\n"
        f'extern "C" void launch_{place}(const LONG* n, void** p) {{\n'
        f"{loop} {{ {call}{kernel.name}(n{arrays}{last}); }} }}\n}}\n"
    )
