"""Does a device give the bits of rep-v1? Known answers by `proofs.arithmetic`, asked before the device is offered.

Every operator of the opset is tried: elementwise ones on numbers of every sign and exponent (denormals, infinities and
NaNs among them), singly and as one group over repeated and transposed inputs, the others on shapes that end inside a
block. What is compared is bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ml.devices.backend import Backend
from ml.devices.interpreter import Run, node_run
from ml.interpreter import canonical, makes_nan
from ml.kernels.table import kernel
from proofs.arithmetic.whole import compute_value
from proofs.program.operators import infer
from proofs.program.shapes import DTYPES
from proofs.program.types import BOOL, F32, I64, U8, Node, TensorType
from proofs.tensors import type_of

Array = NDArray[Any]
Types = tuple[TensorType, ...]
_SEED = 2_021
FLOAT_SIMPLE = ("neg", "abs", "sign", "floor", "sqrt", "round_bf16", "reciprocal")
FLOAT_UNARY = (*FLOAT_SIMPLE, "exp", "log", "tanh", "erf", "sin", "cos")
FLOAT_BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
INTEGER_UNARY, INTEGER_BINARY = ("neg", "abs", "sign"), ("add", "sub", "mul", "maximum", "minimum")
DIVISIONS = ("remainder", "floor_divide")
COMPARISONS, LOGIC = ("eq", "ne", "lt", "le", "gt", "ge"), ("logical_and", "logical_or", "logical_xor")


def _arguments() -> dict[str, Array]:
    """2,048 elements of each dtype, awkward ones first."""
    generator = np.random.default_rng(_SEED)
    patterns = generator.integers(0, 1 << 32, 2_048, np.uint32)
    patterns[:512] = (np.arange(512, dtype=np.uint32) << np.uint32(23)) | (patterns[:512] & np.uint32(0x7FFFFF))
    patterns[512:1_024] = (generator.uniform(-20, 20, 512).astype(np.float32)).view(np.uint32)
    patterns[1_024:1_032] = (0, 0x80000000, 1, 0x80000001, 0x7F800000, 0xFF800000, 0x7FC00000, 0x3F800000)
    floats = patterns.view(np.float32)
    floats = np.where(np.isnan(floats), np.uint32(0x7FC00000).view(np.float32), floats)
    integers = generator.integers(-(1 << 63), (1 << 63) - 1, 2_048, np.int64)
    integers[:8] = (0, 1, -1, 255, 256, -256, -(1 << 63), (1 << 63) - 1)
    integers[8:256] = generator.integers(-300, 300, 248)
    bools = generator.random(2_048) < 0.5
    return {F32: floats, I64: integers, BOOL: bools, U8: generator.integers(0, 256, 2_048).astype(np.uint8)}


def known_cases() -> list[tuple[Node, list[Array]]]:
    """Every operator with the numbers that it is tried on."""
    given = _arguments()
    x, y = given[F32], np.roll(given[F32], 517)
    i, j = given[I64], np.roll(given[I64], 3)
    b, c = given[BOOL], np.roll(given[BOOL], 1)
    cases: list[tuple[Node, list[Array]]] = []

    def add(operator: str, arrays: list[Array], *attributes: int) -> None:
        cases.append((Node(operator, tuple(range(len(arrays))), attributes), arrays))

    for name in FLOAT_UNARY:
        add(name, [x])
    for name in (*FLOAT_BINARY, *COMPARISONS):
        add(name, [x, y])
        add(name, [x.reshape(32, 64), y[:64]])
        add(name, [x.reshape(32, 64).T, y.reshape(64, 32)[:, :1]])
    for name in INTEGER_UNARY:
        add(name, [i])
    for name in (*INTEGER_BINARY, *DIVISIONS, *COMPARISONS):
        add(name, [i, j])
    for name in LOGIC:
        add(name, [b, c])
    add("logical_not", [b])
    add("where", [b, x, y])
    for source in given:
        for target, _ in enumerate(DTYPES):
            add("cast", [given[source]], target)
    finite = np.where(np.abs(x) < 1e9, x, np.float32(0.5))
    add("matmul", [finite[:1_197].reshape(57, 21), finite[800:1_997].reshape(21, 57)])
    add("matmul", [finite[:1_260].reshape(4, 15, 21), finite[:1_092].reshape(4, 21, 13)])
    add("matmul", [finite[:315].reshape(15, 21), finite[:1_092].reshape(4, 21, 13)])
    add("matmul", [finite[:1_260].reshape(4, 15, 21), finite[:273].reshape(21, 13)])
    for name in ("sum_last", "sum_first", "max_last", "argmax_last"):
        for shape in ((31, 66), (66, 31), (2_046, 1), (1, 2_046)):
            add(name, [x[:2_046].reshape(shape)])
            add(name, [finite[:2_046].reshape(shape)])
    ids = np.array([[0, 5, -1, 5], [39, 40, 1 << 62, 0]], np.int64)
    table = x[:1_200].reshape(40, 30)
    add("embedding", [table, ids])
    add("embedding_grad", [finite[:240].reshape(2, 4, 30), ids], 40)
    add("take_last", [table[:8], np.arange(-1, 7).reshape(8, 1)])
    add("scatter_last", [x[:8].reshape(8, 1), np.arange(-1, 7).reshape(8, 1)], 6)
    add("uniform", [np.array([123, 456], np.int64), np.array(7, np.int64)], 3, 5, 7)
    add("iota", [], 1, 3, 4)
    add("full", [], 0, 0x7FC00000, 3, 4)
    add("concatenate", [x[:12].reshape(3, 4), x[12:24].reshape(3, 4)], 1)
    add("slice", [x[:12].reshape(3, 4)], 0, 3, 2, 1, 4, 1)
    add("pad", [x[:12].reshape(3, 4)], 1, 0, 2, 0, 1, 0)
    add("permute", [x[:24].reshape(2, 3, 4)], 2, 0, 1)
    return cases


def differing_operators(backend: Backend) -> list[str]:
    """Operators for which this device gives other bits than the definition; none: it computes rep-v1."""
    return _differing(backend.device, lambda node, types, output: node_run(node, types, output, backend))


def differing_operators_of_cpu() -> list[str]:
    """The same of this processor's own kernels."""

    def run_of(node: Node, types: Types, output: TensorType) -> Run:
        compute = kernel(node, types, output)
        return lambda values: [compute(values)]

    return _differing(torch.device("cpu"), run_of)


def _differing(device: torch.device, run_of: Callable[[Node, Types, TensorType], Run]) -> list[str]:
    wrong: list[str] = []
    for node, arrays in known_cases():
        types = tuple(type_of(array) for array in arrays)
        output = infer(node.operator, types, node.attributes)
        with np.errstate(all="ignore"):
            answer = compute_value(node, [array.copy() for array in arrays])
        expected = torch.from_numpy(np.ascontiguousarray(answer).reshape(output.shape))
        # Strides survive the way to the device: a transposed input is read as it lies.
        values = [torch.from_numpy(array.copy(order="K")).to(device) for array in arrays]
        (found,) = run_of(node, types, output)(values)
        found = canonical(found.cpu()) if makes_nan(node) else found.cpu()
        if found.dtype != expected.dtype or found.shape != expected.shape or not _same_bits(found, expected):
            wrong.append(node.operator)
    return sorted(set(wrong))


def _same_bits(found: torch.Tensor, expected: torch.Tensor) -> bool:
    left, right = (item.contiguous().view(-1).view(torch.uint8) for item in (found, expected))
    return torch.equal(left, right)
