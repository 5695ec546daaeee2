"""For every operator some inputs that reach its corners: many pieces, edge tiles, broadcasting, special values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.program.types import Node

Array = NDArray[Any]
Shape = tuple[int, ...]
Given = tuple[tuple[str, Shape], ...]
"""Dtype and shape of each input; `id:n` are ids around the range 0 … n - 1."""

SPECIAL = np.array(
    [0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-39, 3e38, -3e38, 88.7, -104, 0.625, 4.001, 9.3e18],
    np.float32,
)
ODD_NANS = np.array([0x7F812345, 0xFFC00001, 0x7FFFFFFF, 0xFF800001], np.uint32).view(np.float32)
"""NaNs with a sign or a payload, quiet and signalling."""


def _same(count: int, dtypes: tuple[str, ...]) -> list[tuple[Given, Shape]]:
    shapes: list[Shape] = [(40, 70), (1, 70), (40, 1)]
    return [(tuple((dtype, shape) for shape in shapes[:count]), ()) for dtype in dtypes]


NUMBERS, FLOAT, INTEGER, TRUTH = ("f32", "i64"), ("f32",), ("i64",), ("bool",)
SAMPLES: dict[str, list[tuple[Given, tuple[int, ...]]]] = {
    **{name: _same(1, NUMBERS) for name in ("neg", "abs", "sign")},
    **{name: _same(1, FLOAT) for name in ("floor", "sqrt", "round_bf16", "reciprocal")},
    **{name: _same(1, FLOAT) for name in ("exp", "log", "tanh", "erf", "sin", "cos")},
    **{name: _same(2, NUMBERS) for name in ("add", "sub", "mul", "maximum", "minimum", "lt", "le", "gt", "ge")},
    **{name: _same(2, (*NUMBERS, "bool")) for name in ("eq", "ne")},
    **{name: _same(2, INTEGER) for name in ("remainder", "floor_divide")},
    **{name: _same(2, TRUTH) for name in ("logical_and", "logical_or", "logical_xor")},
    "logical_not": _same(1, TRUTH),
    "div": _same(2, FLOAT),
    "where": [((("bool", (40, 70)), (dtype, (70,)), (dtype, (40, 1))), ()) for dtype in ("f32", "i64", "u8")],
    "cast": [(((dtype, (40, 70)),), (code,)) for dtype in ("f32", "i64", "bool", "u8") for code in range(4)],
    "full": [((), (0, 0x7FC00000, 40, 70)), ((), (1, 5)), ((), (2, 1, 3))],
    "iota": [((), (0, 40, 70)), ((), (1, 3, 5))],
    "uniform": [((("i64", (2,)), ("i64", ())), (9, 40, 70))],
    "reshape": [((("i64", (64, 1024)),), (2048, 32)), ((("f32", (5, 33)),), (165,))],
    "permute": [((("f32", (3, 40, 33)),), (2, 0, 1)), ((("i64", (40, 300)),), (1, 0))],
    "broadcast_to": [((("f32", (40, 1)),), (2, 40, 70)), ((("u8", ()),), (3, 3))],
    "slice": [((("f32", (300, 40)),), (3, 300, 7, 0, 40, 3))],
    "concatenate": [((("f32", (33, 5)), ("f32", (33, 40)), ("f32", (33, 1))), (1,))],
    "pad": [((("f32", (20, 20)),), (1, 2, 1, 3, 0, 2))],
    "windows": [
        ((("f32", (3, 20, 33)),), (0, 3, 20, -1, 1, 1, 1, 5, 9, 2, 3, -1, 2)),
        ((("u8", (70,)),), (7, 4, 40, 0, 2, 3, 1)),
    ],
    "matmul": [
        ((("f32", (40, 600)), ("f32", (600, 33))), ()),
        ((("f32", (3, 7, 450)), ("f32", (3, 450, 5))), ()),
        ((("f32", (5, 300)), ("f32", (3, 300, 5))), ()),
        ((("f32", (1, 1)), ("f32", (1, 1))), ()),
    ],
    "sum_last": [(((dtype, (40, 1100)),), ()) for dtype in NUMBERS],
    "sum_first": [(((dtype, (1100, 40)),), ()) for dtype in NUMBERS],
    "max_last": [(((dtype, (40, 1100)),), ()) for dtype in NUMBERS],
    "argmax_last": [(((dtype, (40, 1100)),), ()) for dtype in NUMBERS],
    "embedding": [(((dtype, (100, 70)), ("id:100", (5, 9))), ()) for dtype in ("f32", "i64")],
    "embedding_grad": [((("f32", (300, 40)), ("id:50", (300,))), (50,)), ((("f32", (40,)), ("id:50", ())), (50,))],
    "take_last": [((("f32", (40, 300)), ("id:300", (40, 1))), ())],
    "scatter_last": [((("f32", (40, 1)), ("id:70", (40, 1))), (70,))],
}
"""Operator -> samples: the inputs and the attributes."""


def values(dtype: str, shape: Shape, generator: np.random.Generator, tame: bool) -> Array:
    """Random elements; unless tame, of all magnitudes and with special ones among them."""
    if dtype.startswith("id:"):
        return np.asarray(generator.integers(-2, int(dtype[3:]) + 2, shape), np.int64)
    if dtype in ("bool", "u8"):
        high = 2 if dtype == "bool" else 256
        return np.asarray(generator.integers(0, high, shape), np.bool_ if dtype == "bool" else np.uint8)
    if dtype == "i64":
        wide = np.asarray(generator.integers(-(1 << 63), (1 << 63) - 1, shape), np.int64)
        narrow = np.asarray(generator.integers(-9, 9, shape), np.int64)
        return np.asarray(np.where(generator.random(shape) < (1.0 if tame else 0.5), narrow, wide), np.int64)
    x = np.asarray(generator.standard_normal(shape), np.float32)
    if not tame:
        x = (x * 10.0 ** generator.integers(-8, 8, shape)).astype(np.float32)
        x = np.where(generator.random(shape) < 0.05, generator.choice(SPECIAL, shape), x).astype(np.float32)
        odd = generator.random(shape) < 0.01
        x = np.asarray(np.where(odd, generator.choice(ODD_NANS, shape), x), np.float32)
    return x


def sample(name: str, number: int, tame: bool, seed: int = 0) -> tuple[Node, list[Array]]:
    """A node of the operator and its inputs; the same for the same arguments."""
    given, attributes = SAMPLES[name][number]
    generator = np.random.default_rng((seed, number, *name.encode()))
    inputs = [values(dtype, shape, generator, tame) for dtype, shape in given]
    return Node(name, tuple(range(len(inputs))), attributes), inputs
