"""The opset is one table: whoever adds an operator to one layer is told here which layers still lack it."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from ml.kernels.table import KERNELS
from ml.reference.operators import REFERENCE
from proofs.arithmetic.movement import SOURCES
from proofs.arithmetic.opset import ARITHMETIC
from proofs.native.bounds import BOUNDS
from proofs.program.operators import OPERATORS

TABLES: dict[str, Collection[str]] = {
    "definition and tile rule (proofs.arithmetic.opset)": ARITHMETIC,
    "forward-error bound (proofs.native.bounds)": BOUNDS,
    "torch reference (ml.reference.operators)": REFERENCE,
    "kernel (ml.kernels.table)": KERNELS,
}


@pytest.mark.parametrize("table", TABLES)
def test_every_operator_has_a_row_in_every_table(table: str) -> None:
    rows = set(TABLES[table])
    assert set(OPERATORS) - rows == set(), f"without {table}"
    assert rows - set(OPERATORS) == set(), f"{table} of operators that the opset does not have"


def test_movement_operators_say_where_their_elements_come_from() -> None:
    assert set(SOURCES) == {name for name, row in OPERATORS.items() if row.family == "movement"}
