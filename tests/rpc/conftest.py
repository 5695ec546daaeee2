"""A fresh fake node for each test."""

import pytest
from rpc_fake_node import FakeNode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()
