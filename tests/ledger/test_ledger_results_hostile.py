"""A refused transaction must not divide validators whose libraries say the same thing in other words."""

from __future__ import annotations

import msgspec

from consensus.ledger.block import TransactionResult


def test_the_results_root_does_not_depend_on_words() -> None:
    result = TransactionResult(bytes(32), "E1002", "Expected `int`, got `str`", 5, 100)
    other_words = msgspec.structs.replace(result, message="expected int")
    assert result.committed == other_words.committed
    for name, value in (("transaction_id", b"\x01" * 32), ("code", "E1003"), ("fee_nano", 6), ("units", 101)):
        assert msgspec.structs.replace(result, **{name: value}).committed != result.committed, name
