"""CUDA C++ and Metal around a kernel's body: what the macros mean there, and how a work item finds its number.

CUDA's `__f…_rn` round to nearest even and are never contracted, whatever the compiler's flags. Metal has no such
functions: contraction is switched off by a pragma and fast maths by the options that torch compiles with.
"""

from __future__ import annotations

from collections.abc import Callable

from ml.devices.source import KernelSource, functions

Dialect = Callable[[KernelSource], str]

_CUDA = """
typedef long long LONG;
typedef unsigned long long ULONG;
typedef unsigned char BYTE;
#define FUNCTION __device__ static
#define ADD(x, y) __fadd_rn(x, y)
#define SUB(x, y) __fsub_rn(x, y)
#define MUL(x, y) __fmul_rn(x, y)
#define DIV(x, y) __fdiv_rn(x, y)
#define SQRT(x) __fsqrt_rn(x)
#define FLOOR(x) floorf(x)
#define NEAREST(x) rintf(x)
#define BITS(x) __float_as_int(x)
#define FLOAT(x) __int_as_float(x)
#define CONSTANT(bits) __int_as_float((int)bits##u)
#define TO_INT(x) __float2int_rz(x)
#define TO_LONG(x) __float2ll_rz(x)
#define FROM_LONG(x) __ll2float_rn(x)
"""

_METAL = """
#include <metal_stdlib>
using namespace metal;
#pragma clang fp contract(off)
typedef long LONG;
typedef ulong ULONG;
typedef uchar BYTE;
#define FUNCTION static inline
#define ADD(x, y) ((x) + (y))
#define SUB(x, y) ((x) - (y))
#define MUL(x, y) ((x) * (y))
#define DIV(x, y) ((x) / (y))
#define SQRT(x) precise::sqrt(x)
#define FLOOR(x) floor(x)
#define NEAREST(x) rint(x)
#define BITS(x) as_type<int>(x)
#define FLOAT(x) as_type<float>((int)(x))
#define CONSTANT(bits) as_type<float>(bits##u)
#define TO_INT(x) ((int)(x))
#define TO_LONG(x) ((long)(x))
#define FROM_LONG(x) ((float)(x))
"""


def cuda(kernel: KernelSource) -> str:
    """A translation unit for NVRTC."""
    arguments = ", ".join(["const LONG* n", *(f"{kind}* {name}" for kind, name in kernel.parameters)])
    head = "LONG i = (LONG)blockIdx.x * blockDim.x + threadIdx.x;\nif (i >= n[0]) return;\n"
    needed = functions() if "rep_" in kernel.body else ""
    return f'{_CUDA}{needed}\nextern "C" __global__ void {kernel.name}({arguments}) {{\n{head}{kernel.body}\n}}\n'


def metal(kernel: KernelSource) -> str:
    """A Metal library of one kernel."""
    arrays = [("const LONG", "n"), *kernel.parameters]
    arguments = ", ".join(f"device {kind}* {name} [[buffer({at})]]" for at, (kind, name) in enumerate(arrays))
    arguments += ", uint item_ [[thread_position_in_grid]]"
    head = "LONG i = (LONG)item_;\nif (i >= n[0]) return;\n"
    needed = functions() if "rep_" in kernel.body else ""
    return f"{_METAL}{needed}\nkernel void {kernel.name}({arguments}) {{\n{head}{kernel.body}\n}}\n"
