"""Whole nodes in one process, over real sockets and databases: they agree, and go on when gossip does not."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from node_cluster import Cluster, balance, eventually, make_cluster, run, transfer

from gensyn_node.app.node import Node, open_node

pytestmark = pytest.mark.integration


async def start(stack: AsyncExitStack, cluster: Cluster, *numbers: int) -> list[Node]:
    """Start some of the nodes."""
    return [await stack.enter_async_context(open_node(cluster.settings[number])) for number in numbers]


def assert_same_chain(nodes: list[Node]) -> None:
    """All nodes have the same blocks up to the lowest head."""
    lowest = min(node.ledger.head.height for node in nodes)
    for height in range(1, lowest + 1):
        ids = set()
        for node in nodes:
            block = node.ledger.block(height)
            assert block is not None
            ids.add(block.id)
        assert len(ids) == 1, f"two blocks at height {height}"


def test_four_nodes_commit_transfers(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        target = b"\x55" * 20
        async with AsyncExitStack() as stack:
            nodes = await start(stack, cluster, 0, 1, 2, 3)
            names = [
                await nodes[n].chain.submit_transaction(transfer(cluster, n, nonce, 1_000, target))
                for n in range(4)
                for nonce in range(5)
            ]
            for name in names:
                outcome = await nodes[0].chain.wait_transaction(name, 60)
                assert outcome is not None
                assert outcome.accepted, outcome
            height = nodes[0].ledger.head.height
            await eventually(lambda: all(n.ledger.head.height >= height for n in nodes), "all nodes at this height")
            assert [balance(node, target) for node in nodes] == [20_000] * 4
            assert_same_chain(nodes)
            # Blocks go on without transactions as well.
            await eventually(lambda: all(n.ledger.head.height >= height + 2 for n in nodes), "empty blocks")
            assert all(len(node.pool) == 0 for node in nodes)

    run(scenario)
