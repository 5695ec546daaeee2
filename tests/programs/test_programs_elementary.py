"""exp, log, tanh, erf, sin, cos, sqrt: error bounds against float64, special values, and bits that must not change."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest
from programs_helpers import Array, node

from proofs.arithmetic import constants, elementary, elementwise, whole

F32 = np.float32
INF, NAN = math.inf, math.nan

REFERENCES: dict[str, Callable[[float], float]] = {
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "erf": math.erf,
    "sin": math.sin,
    "cos": math.cos,
}


def arguments(name: str) -> Array:
    """Every exponent, evenly in bits, and the interesting range densely."""
    bits = np.random.default_rng(7).integers(0, 1 << 32, 60_000, dtype=np.uint32)
    x = np.concatenate(
        [
            bits.view(F32),
            np.linspace(-1.5, 1.5, 20_001, dtype=F32),
            np.linspace(-105, 90, 20_001, dtype=F32),
            np.linspace(-5, 5, 20_001, dtype=F32),
        ]
    )
    x = x[np.isfinite(x)]
    return x[x > 0] if name == "log" else x


def worst_ulp(got: Array, want: list[float]) -> float:
    """Largest error in units in the last place of the f32 nearest to the exact value."""
    exact = np.array(want, np.float64)
    with np.errstate(over="ignore"):
        nearest = exact.astype(F32)
    finite = np.isfinite(nearest)
    assert np.array_equal(got[~finite], nearest[~finite])
    unit = np.maximum(np.spacing(np.abs(nearest[finite])).astype(np.float64), 2.0**-149)
    return float(np.max(np.abs(got[finite].astype(np.float64) - exact[finite]) / unit))


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_error_is_at_most_two_units_in_the_last_place(name: str) -> None:
    x = arguments(name)
    if name == "exp":
        x = x[x < 88.7]
    assert worst_ulp(getattr(elementary, name)(x), [REFERENCES[name](float(value)) for value in x]) <= 2.0


@pytest.mark.parametrize(
    ("name", "argument", "result"),
    [
        ("exp", 0.0, 1.0),
        ("exp", -0.0, 1.0),
        ("exp", INF, INF),
        ("exp", -INF, 0.0),
        ("exp", 89.0, INF),
        ("exp", 88.72284, INF),
        ("exp", -110.0, 0.0),
        ("exp", -103.0, 2.0**-149),
        ("log", 1.0, 0.0),
        ("log", 0.0, -INF),
        ("log", -0.0, -INF),
        ("log", INF, INF),
        ("log", -1.0, NAN),
        ("log", -INF, NAN),
        ("log", 2.0**-149, -103.27893),
        ("tanh", -0.0, -0.0),
        ("tanh", INF, 1.0),
        ("tanh", -INF, -1.0),
        ("tanh", 2.0**-149, 2.0**-149),
        ("erf", -0.0, -0.0),
        ("erf", INF, 1.0),
        ("erf", -INF, -1.0),
        ("erf", 1e-30, 1.1283792e-30),
        ("sin", -0.0, -0.0),
        ("sin", INF, NAN),
        ("sin", 2.0**-149, 2.0**-149),
        ("cos", 0.0, 1.0),
        ("cos", -INF, NAN),
        ("sqrt", -0.0, -0.0),
        ("sqrt", -1.0, NAN),
        ("sqrt", INF, INF),
        ("sqrt", 2.0**-149, 3.7433921e-23),
        *((name, NAN, NAN) for name in (*REFERENCES, "sqrt")),
    ],
)
def test_special_values(name: str, argument: float, result: float) -> None:
    got = getattr(elementary, name)(np.array([argument], F32))
    assert got.tobytes() == np.array([result], F32).tobytes()


def test_any_nan_becomes_the_canonical_one() -> None:
    x = np.array([0x7F800001, 0xFFFFFFFF, 0xFFC00000, 0x7FC00000], np.uint32).view(F32)
    for name in ("neg", "abs", "sign", "floor", "sqrt", "round_bf16", "reciprocal", *REFERENCES):
        assert elementwise.apply(name, [x], ()).view(np.uint32).tolist() == [constants.NAN] * 4
    for name in ("add", "sub", "mul", "div", "maximum", "minimum"):
        assert elementwise.apply(name, [np.ones(4, F32), x], ()).view(np.uint32).tolist() == [constants.NAN] * 4


def test_sine_of_a_number_next_to_a_multiple_of_pi() -> None:
    # 16367173 * 2**72 is the f32 closest to a multiple of pi/2 (Muller, Elementary Functions, 2006, p. 212).
    x = np.array([16367173.0 * 2.0**72], F32)
    assert elementary.cos(x)[0] == F32(math.cos(16367173.0 * 2.0**72))
    assert abs(float(elementary.cos(x)[0])) < 2e-9


def test_two_over_pi() -> None:
    digits = 0
    for word in constants.TWO_OVER_PI:
        digits = (digits << 32) | word
    assert digits == (2 << 224) * 10**80 // PI_TIMES_1E80


PI_TIMES_1E80 = 314159265358979323846264338327950288419716939937510582097494459230781640628620899


@pytest.mark.parametrize(
    ("operator", "x", "y", "result"),
    [
        ("maximum", 0.0, -0.0, -0.0),
        ("maximum", -0.0, 0.0, 0.0),
        ("minimum", 0.0, -0.0, -0.0),
        ("minimum", -INF, 1.0, -INF),
        ("div", 1.0, -0.0, -INF),
        ("mul", INF, 0.0, NAN),
        ("sub", INF, INF, NAN),
        ("add", 2.0**-149, 2.0**-149, 2.0**-148),
        ("mul", 2.0**-75, 2.0**-75, 0.0),
        ("mul", 2.0**-75, 2.0**-74, 2.0**-149),
        ("add", 1.0, 2.0**-24, 1.0),
        ("add", 1.0 + 2.0**-23, 2.0**-24, 1.0 + 2.0**-22),
    ],
)
def test_float_arithmetic(operator: str, x: float, y: float, result: float) -> None:
    got = whole.compute_value(node(operator), [np.array([x], F32), np.array([y], F32)])
    assert got.tobytes() == np.array([result], F32).tobytes()


LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1


@pytest.mark.parametrize(
    ("operator", "x", "y", "result"),
    [
        ("add", HIGHEST, 1, LOWEST),
        ("mul", LOWEST, -1, LOWEST),
        ("floor_divide", -7, 2, -4),
        ("floor_divide", 7, -2, -4),
        ("floor_divide", 7, 0, 0),
        ("floor_divide", LOWEST, -1, LOWEST),
        ("remainder", -7, 2, 1),
        ("remainder", 7, -2, -1),
        ("remainder", 7, 0, 0),
        ("remainder", LOWEST, -1, 0),
    ],
)
def test_integer_arithmetic(operator: str, x: int, y: int, result: int) -> None:
    got = whole.compute_value(node(operator), [np.array([x], np.int64), np.array([y], np.int64)])
    assert got.tolist() == [result]


def test_casts() -> None:
    x = np.array([NAN, INF, -INF, 1e30, -1e30, -1.9, 255.9, 300.0, 2.0**63, -(2.0**63)], F32)
    assert elementwise.cast(x, "i64").tolist() == [
        *(0, HIGHEST, LOWEST, HIGHEST, LOWEST, -1, 255, 300, HIGHEST, LOWEST),
    ]
    assert elementwise.cast(x, "u8").tolist() == [0, 255, 0, 255, 0, 0, 255, 255, 255, 0]
    assert elementwise.cast(x, "bool").tolist() == [True] * 10
    assert elementwise.cast(np.array([0.0, -0.0, 0.5], F32), "bool").tolist() == [False, False, True]
    integers = np.array([(1 << 24) + 1, (1 << 24) + 3, -5, 300, 0], np.int64)
    assert elementwise.cast(integers, "f32").tolist() == [2.0**24, 2.0**24 + 4, -5.0, 300.0, 0.0]
    assert elementwise.cast(integers, "u8").tolist() == [255, 255, 0, 255, 0]


def test_matmul_is_a_chain_of_rounded_products_and_sums() -> None:
    generator = np.random.default_rng(11)
    a, b = generator.standard_normal((3, 50)).astype(F32), generator.standard_normal((50, 4)).astype(F32)
    got = whole.compute_value(node("matmul"), [a, b])
    for i in range(3):
        for j in range(4):
            total = F32(0)
            for k in range(50):
                total = F32(total + F32(a[i, k] * b[k, j]))
            assert got[i, j] == total


def test_sum_adds_32_lanes_and_halves() -> None:
    x = np.random.default_rng(12).standard_normal(75).astype(F32)
    lanes = [F32(0)] * 32
    for number, value in enumerate(x):
        lanes[number % 32] = F32(lanes[number % 32] + value)
    for half in (16, 8, 4, 2, 1):
        lanes = [F32(lanes[lane] + lanes[lane + half]) for lane in range(half)]
    assert whole.compute_value(node("sum_last"), [x])[0] == lanes[0]
    assert whole.compute_value(node("sum_first"), [x[:, None]])[0, 0] == lanes[0]


def test_argmax_prefers_the_first_nan_and_the_first_greatest() -> None:
    x = np.array([[1, 3, 3], [-0.0, 0.0, -1], [5, NAN, NAN], [-INF, -INF, -INF]], F32)
    assert whole.compute_value(node("argmax_last"), [x]).tolist() == [[1], [0], [1], [0]]
    best = whole.compute_value(node("max_last"), [x])
    assert best.tobytes() == np.array([[3], [-0.0], [NAN], [-INF]], F32).tobytes()


GOLDEN = {
    "exp": "3d742e9c8a56bba9",
    "log": "99e5e39f9cd9415d",
    "tanh": "05fd39059136f027",
    "erf": "b9e3ab31d4b048b1",
    "sin": "90858e203fb70950",
    "cos": "141b6d6965e56154",
    "sqrt": "6670364070ecede6",
    "reciprocal": "783cdc575b6c2bf2",
    "matmul": "cb91b27af0521793",
    "sum_last": "ae2ee2fc1e76fd93",
    "sum_first": "6a02b6f09d7369e5",
    "div": "4aea8ab7fc8727fc",
    "uniform": "c5af10d02778be46",
}


def digest(*arrays: Array) -> str:
    """SHA-256 of the bytes, 16 hex digits."""
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def golden_inputs() -> tuple[Array, Array]:
    """65,536 evenly spaced bit patterns, and 4,096 tame numbers from integers."""
    patterns = (np.arange(1 << 16, dtype=np.uint32) * np.uint32(65_537)).view(F32)
    tame = ((np.arange(4096, dtype=np.int64) * 40_503 % 65_521) - 32_760).astype(F32) / F32(4096)
    return patterns, tame


@pytest.mark.parametrize("name", [*REFERENCES, "sqrt", "reciprocal"])
def test_golden_bits_of_functions(name: str) -> None:
    patterns, tame = golden_inputs()
    assert digest(*(elementwise.apply(name, [x], ()) for x in (patterns, tame))) == GOLDEN[name]


def test_golden_bits_of_compositions() -> None:
    _, x = golden_inputs()
    a, b = x.reshape(64, 64), x[::-1].reshape(64, 64)
    for name, inputs in (("matmul", [a, b]), ("sum_last", [a]), ("sum_first", [b]), ("div", [a, b])):
        assert digest(whole.compute_value(node(name), inputs)) == GOLDEN[name]
    uniform = whole.compute_value(node("uniform", 7, 100), [np.array([1, 2], np.int64), np.array(3, np.int64)])
    assert digest(uniform) == GOLDEN["uniform"]
