"""Every operator's type rule, its refusals and its gas."""

from __future__ import annotations

import pytest

from gensyn_node.primitives.errors import Rejection
from proofs.program import reasons
from proofs.program.operators import INPUTS_MAX, OPERATORS, gas_of, infer
from proofs.program.types import TensorType


def t(text: str) -> TensorType:
    """`f32[2,3]` as a TensorType; `f32[]` is a scalar."""
    dtype, _, sizes = text[:-1].partition("[")
    return TensorType(dtype, tuple(int(size) for size in sizes.split(",") if size))


GOOD: list[tuple[str, list[str], tuple[int, ...], str]] = [
    ("neg", ["f32[2,3]"], (), "f32[2,3]"),
    ("abs", ["i64[2]"], (), "i64[2]"),
    ("sign", ["f32[]"], (), "f32[]"),
    ("floor", ["f32[1]"], (), "f32[1]"),
    ("sqrt", ["f32[4]"], (), "f32[4]"),
    ("round_bf16", ["f32[4]"], (), "f32[4]"),
    ("reciprocal", ["f32[4]"], (), "f32[4]"),
    ("exp", ["f32[4]"], (), "f32[4]"),
    ("log", ["f32[4]"], (), "f32[4]"),
    ("tanh", ["f32[4]"], (), "f32[4]"),
    ("erf", ["f32[4]"], (), "f32[4]"),
    ("sin", ["f32[4]"], (), "f32[4]"),
    ("cos", ["f32[4]"], (), "f32[4]"),
    ("logical_not", ["bool[4]"], (), "bool[4]"),
    ("add", ["f32[2,1,3]", "f32[4,1]"], (), "f32[2,4,3]"),
    ("sub", ["i64[]", "i64[5]"], (), "i64[5]"),
    ("mul", ["f32[3]", "f32[1,1,3]"], (), "f32[1,1,3]"),
    ("div", ["f32[3]", "f32[]"], (), "f32[3]"),
    ("maximum", ["f32[3]", "f32[3]"], (), "f32[3]"),
    ("minimum", ["i64[3]", "i64[1]"], (), "i64[3]"),
    ("remainder", ["i64[3]", "i64[]"], (), "i64[3]"),
    ("floor_divide", ["i64[3]", "i64[]"], (), "i64[3]"),
    ("eq", ["bool[3]", "bool[3]"], (), "bool[3]"),
    ("ne", ["i64[3]", "i64[3]"], (), "bool[3]"),
    ("lt", ["f32[3]", "f32[3]"], (), "bool[3]"),
    ("le", ["f32[3]", "f32[3]"], (), "bool[3]"),
    ("gt", ["i64[3]", "i64[3]"], (), "bool[3]"),
    ("ge", ["f32[2,3]", "f32[3]"], (), "bool[2,3]"),
    ("logical_and", ["bool[3]", "bool[]"], (), "bool[3]"),
    ("logical_or", ["bool[3]", "bool[]"], (), "bool[3]"),
    ("logical_xor", ["bool[3]", "bool[]"], (), "bool[3]"),
    ("where", ["bool[3,1]", "u8[4]", "u8[]"], (), "u8[3,4]"),
    ("cast", ["u8[3]"], (0,), "f32[3]"),
    ("full", [], (2, 1), "bool[]"),
    ("full", [], (0, 0x7FC00000, 2, 3), "f32[2,3]"),
    ("iota", [], (1, 2, 3), "i64[2,3]"),
    ("uniform", ["i64[2]", "i64[]"], (7, 2, 3), "f32[2,3]"),
    ("reshape", ["i64[2,3]"], (6, 1), "i64[6,1]"),
    ("reshape", ["i64[1,1]"], (), "i64[]"),
    ("permute", ["f32[2,3,4]"], (2, 0, 1), "f32[4,2,3]"),
    ("permute", ["f32[]"], (), "f32[]"),
    ("broadcast_to", ["bool[3,1]"], (2, 3, 4), "bool[2,3,4]"),
    ("slice", ["f32[10,5]"], (1, 10, 4, 0, 5, 1), "f32[3,5]"),
    ("concatenate", ["f32[2,3]", "f32[2,1]"], (1,), "f32[2,4]"),
    ("concatenate", ["u8[2]"], (0,), "u8[2]"),
    ("pad", ["f32[3,2]"], (1, 2, 1, 0, 0, 0), "f32[8,2]"),
    ("windows", ["f32[2,5,6]"], (0, 3, 2, -1, 2, 1, 1), "f32[2,5,3,2]"),
    ("windows", ["u8[2,5,6]"], (255, 2, 5, 0, 1, -1, 2, 1, 1, 0, 1, 1, 1), "u8[2,2,1,5,1]"),
    ("matmul", ["f32[2,3]", "f32[3,4]"], (), "f32[2,4]"),
    ("matmul", ["f32[2,3]", "f32[7,8,3,4]"], (), "f32[7,8,2,4]"),
    ("matmul", ["f32[8,2,3]", "f32[7,8,3,4]"], (), "f32[7,8,2,4]"),
    ("matmul", ["f32[7,8,2,3]", "f32[7,8,3,4]"], (), "f32[7,8,2,4]"),
    ("matmul", ["f32[7,8,2,3]", "f32[3,4]"], (), "f32[7,8,2,4]"),
    ("sum_last", ["f32[2,3]"], (), "f32[2,1]"),
    ("sum_last", ["i64[3]"], (), "i64[1]"),
    ("sum_first", ["f32[2,5,3]"], (), "f32[1,3]"),
    ("max_last", ["f32[2,3]"], (), "f32[2,1]"),
    ("argmax_last", ["f32[2,3]"], (), "i64[2,1]"),
    ("embedding", ["f32[9,4]", "i64[2,3]"], (), "f32[2,3,4]"),
    ("embedding", ["f32[9,4]", "i64[]"], (), "f32[4]"),
    ("embedding_grad", ["f32[2,3,4]", "i64[2,3]"], (9,), "f32[9,4]"),
    ("take_last", ["f32[2,3]", "i64[2,1]"], (), "f32[2,1]"),
    ("scatter_last", ["f32[2,1]", "i64[2,1]"], (5,), "f32[2,5]"),
]

BAD: list[tuple[str, list[str], tuple[int, ...], str]] = [
    ("nonsense", ["f32[2]"], (), "E1501"),
    ("", [], (), "E1501"),
    ("neg", [], (), "E1502"),
    ("add", ["f32[2]"], (), "E1502"),
    ("add", ["f32[2]"] * 3, (), "E1502"),
    ("full", ["f32[2]"], (0, 0), "E1502"),
    ("concatenate", [], (0,), "E1502"),
    ("concatenate", ["f32[1]"] * (INPUTS_MAX + 1), (0,), "E1502"),
    ("add", ["f32[2]", "f32[2]"], (1,), "E1503"),
    ("cast", ["f32[2]"], (), "E1503"),
    ("cast", ["f32[2]"], (4,), "E1503"),
    ("cast", ["f32[2]"], (-1,), "E1503"),
    ("full", [], (0,), "E1503"),
    ("full", [], (2, 2), "E1503"),
    ("full", [], (3, 256), "E1503"),
    ("full", [], (0, -1), "E1503"),
    ("full", [], (0, 0x7FC00001, 2), "E1503"),
    ("full", [], (0, 0xFFC00000, 2), "E1503"),
    ("windows", ["f32[9]"], (0x7F800001, 1, 1, 0, 1, 1, 1), "E1503"),
    ("full", [], (9, 0), "E1503"),
    ("iota", [], (0,), "E1503"),
    ("iota", [], (1, 5), "E1503"),
    ("uniform", ["i64[2]", "i64[]"], (), "E1503"),
    ("uniform", ["i64[2]", "i64[]"], (1 << 32, 4), "E1503"),
    ("permute", ["f32[2,3]"], (0, 0), "E1503"),
    ("permute", ["f32[2,3]"], (0,), "E1503"),
    ("slice", ["f32[10]"], (0, 11, 1), "E1503"),
    ("slice", ["f32[10]"], (3, 3, 1), "E1503"),
    ("slice", ["f32[10]"], (0, 3, 0), "E1503"),
    ("slice", ["f32[10]"], (0, 3, 1 << 63), "E1503"),
    ("slice", ["f32[10]"], (0, 3), "E1503"),
    ("concatenate", ["f32[]"], (0,), "E1503"),
    ("concatenate", ["f32[2]"], (), "E1503"),
    ("pad", ["f32[3]"], (0, -1, 0), "E1503"),
    ("pad", ["f32[1]"], (0, 0, 1 << 63), "E1503"),
    ("pad", ["f32[3]"], (0, 1), "E1503"),
    ("windows", ["f32[9]"], (), "E1503"),
    ("windows", ["f32[9]"], (0,), "E1503"),
    ("windows", ["f32[9]"], (0, 1, 1, 0, 1, 1), "E1503"),
    ("windows", ["f32[9]"], (0, *(1, 1, 0, 1, 1, 1) * 2), "E1503"),
    ("windows", ["bool[9]"], (2, 1, 1, 0, 1, 1, 1), "E1503"),
    ("windows", ["f32[9]"], (0, 1, 1, 0, 0, 1, 1), "E1503"),
    ("windows", ["f32[9]"], (0, 1, 1, 0, 1, 1, 0), "E1503"),
    ("windows", ["f32[9]"], (0, 1, 1, -1 << 41, 1, 1, 1), "E1503"),
    ("windows", ["f32[9]"], (0, 1, 1 << 21, 0, 1 << 21, 1, 1), "E1503"),
    ("windows", ["f32[9]"], (0, 1 << 21, 1, 0, 1, -1 << 21, 1), "E1503"),
    ("windows", ["f32[9]"], (0, 1, 1, 0, 1, 1, 1 << 41), "E1503"),
    ("embedding_grad", ["f32[2,4]", "i64[2]"], (), "E1503"),
    ("scatter_last", ["f32[2,1]", "i64[2,1]"], (), "E1503"),
    ("exp", ["i64[2]"], (), "E1504"),
    ("neg", ["bool[2]"], (), "E1504"),
    ("add", ["f32[2]", "i64[2]"], (), "E1504"),
    ("add", ["u8[2]", "u8[2]"], (), "E1504"),
    ("div", ["i64[2]", "i64[2]"], (), "E1504"),
    ("remainder", ["f32[2]", "f32[2]"], (), "E1504"),
    ("logical_and", ["f32[2]", "f32[2]"], (), "E1504"),
    ("where", ["f32[2]", "f32[2]", "f32[2]"], (), "E1504"),
    ("where", ["bool[2]", "f32[2]", "i64[2]"], (), "E1504"),
    ("concatenate", ["f32[2]", "i64[2]"], (0,), "E1504"),
    ("matmul", ["i64[2,2]", "i64[2,2]"], (), "E1504"),
    ("sum_last", ["bool[2]"], (), "E1504"),
    ("sum_first", ["u8[2,2]"], (), "E1504"),
    ("embedding", ["f32[9,4]", "f32[2]"], (), "E1504"),
    ("take_last", ["f32[2,3]", "f32[2,1]"], (), "E1504"),
    ("scatter_last", ["f32[2,1]", "u8[2,1]"], (3,), "E1504"),
    ("add", ["f32[2]", "f32[3]"], (), "E1505"),
    ("where", ["bool[2]", "f32[3]", "f32[3]"], (), "E1505"),
    ("full", [], (0, 0, 0), "E1505"),
    ("windows", ["f32[9]"], (0, 0, 1, 0, 1, 1, 1), "E1505"),
    ("windows", ["f32[9]"], (0, 1, -1, 0, 1, 1, 1), "E1505"),
    ("iota", [], (0, -3), "E1505"),
    ("uniform", ["i64[3]", "i64[]"], (0, 4), "E1505"),
    ("uniform", ["i64[2]", "i64[1]"], (0, 4), "E1505"),
    ("reshape", ["f32[2,3]"], (5,), "E1505"),
    ("reshape", ["f32[2,3]"], (-2, -3), "E1505"),
    ("broadcast_to", ["f32[3]"], (3, 2), "E1505"),
    ("broadcast_to", ["f32[3]"], (1,), "E1505"),
    ("concatenate", ["f32[2,3]", "f32[3,3]"], (1,), "E1505"),
    ("concatenate", ["f32[2,3]", "f32[2]"], (0,), "E1505"),
    ("matmul", ["f32[2,3]", "f32[2,3]"], (), "E1505"),
    ("matmul", ["f32[3]", "f32[3,2]"], (), "E1505"),
    ("matmul", ["f32[1,2,3]", "f32[2,3,4]"], (), "E1505"),
    ("matmul", ["f32[7,2,3]", "f32[7,8,3,4]"], (), "E1505"),
    ("matmul", ["f32[7,8,2,3]", "f32[8,3,4]"], (), "E1505"),
    ("matmul", ["f32[5,2,3]", "f32[4,3,4]"], (), "E1505"),
    ("sum_last", ["f32[]"], (), "E1505"),
    ("sum_first", ["f32[4]"], (), "E1505"),
    ("embedding", ["f32[9]", "i64[2]"], (), "E1505"),
    ("embedding_grad", ["f32[3,4]", "i64[2]"], (9,), "E1505"),
    ("embedding_grad", ["f32[2,4]", "i64[2]"], (0,), "E1505"),
    ("take_last", ["f32[2,3]", "i64[2]"], (), "E1505"),
    ("scatter_last", ["f32[2,2]", "i64[2,2]"], (3,), "E1505"),
    ("full", [], (0, 0, 1 << 34, 2), "E1507"),
    ("full", [], (0, 0, *[1] * 9), "E1507"),
    ("reshape", ["f32[1]"], (1,) * 9, "E1507"),
    ("pad", ["f32[3]"], (1 << 34, 0, 0), "E1507"),
    ("windows", ["f32[9]"], (0, 1 << 18, 1 << 18, 0, 1, 1, 1), "E1507"),
    ("windows", ["f32[1,1,1,1,1]"], (0, *(1, 1, 0, 1, 1, 1) * 4), "E1507"),
]


@pytest.mark.parametrize(("name", "inputs", "attributes", "output"), GOOD)
def test_infer(name: str, inputs: list[str], attributes: tuple[int, ...], output: str) -> None:
    assert infer(name, tuple(map(t, inputs)), attributes) == t(output)


@pytest.mark.parametrize(("name", "inputs", "attributes", "code"), BAD)
def test_infer_refuses(name: str, inputs: list[str], attributes: tuple[int, ...], code: str) -> None:
    with pytest.raises(Rejection) as caught:
        infer(name, tuple(map(t, inputs)), attributes)
    assert caught.value.reason.code == code


def test_every_operator_has_a_row_in_the_tables() -> None:
    assert {row[0] for row in GOOD} == set(OPERATORS)


def test_reasons_have_their_range() -> None:
    codes = [value.code for name, value in vars(reasons).items() if name.isupper()]
    assert codes == [f"E15{number:02}" for number in range(1, len(codes) + 1)]


@pytest.mark.parametrize(
    ("name", "inputs", "attributes", "gas"),
    [
        ("matmul", ["f32[2,3]", "f32[3,4]"], (), 24),
        ("matmul", ["f32[5,2,3]", "f32[3,4]"], (), 120),
        ("add", ["f32[2,1]", "f32[3]"], (), 4 * 6),
        ("div", ["f32[4]", "f32[]"], (), 8 * 4),
        ("exp", ["f32[10]"], (), 240),
        ("sum_last", ["f32[2,3]"], (), 4 * (6 + 2)),
        ("embedding_grad", ["f32[2,4]", "i64[2]"], (9,), 8 * (8 + 36)),
        ("reshape", ["f32[2,4]"], (8,), 4 * 8),
    ],
)
def test_gas_formula(name: str, inputs: list[str], attributes: tuple[int, ...], gas: int) -> None:
    types = tuple(map(t, inputs))
    assert gas_of(name, types, infer(name, types, attributes)) == gas
