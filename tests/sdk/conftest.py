"""The fake node of the RPC tests, for clients of it, and the ledger's small world."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "rpc"))
sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))

from rpc_fake_node import FakeNode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()
