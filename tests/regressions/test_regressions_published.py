"""Every published mistake of the table has its test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from published import PUBLISHED

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", sorted({place for mistake in PUBLISHED for place in mistake.tests}))
def test_it_is_there(place: str) -> None:
    file, _, name = place.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_row_names_a_source_and_a_test() -> None:
    assert len({mistake.what for mistake in PUBLISHED}) == len(PUBLISHED) >= 30
    assert all(mistake.source and mistake.tests for mistake in PUBLISHED)
