"""A transaction that gossip lost is spread again, and overload does not turn that into a flood."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from node_cluster import make_cluster, run, transfer
from test_node_executor import Bench

from gensyn_node.app import reannouncer
from gensyn_node.app.reannouncer import OVERDUE_BLOCKS, Reannouncer


def test_what_is_overdue_is_announced_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reannouncer, "AT_ONCE_MAX", 2)

    async def scenario() -> None:
        await trio.lowlevel.checkpoint()
        cluster = make_cluster(tmp_path, 4)
        pool = Bench(cluster.settings[0]).pool
        waiting = [transfer(cluster, sender, 0, 5, b"\2" * 20) for sender in range(3)]
        for data in waiting:
            pool.add(data)
        announced: list[bytes] = []
        height = OVERDUE_BLOCKS - 1
        again = Reannouncer(pool, lambda: height, announced.append)
        again.announce_overdue()
        assert announced == []
        height = OVERDUE_BLOCKS
        again.announce_overdue()
        assert announced == waiting[:2]
        again.announce_overdue()
        assert announced == [*waiting[:2], waiting[2], waiting[0]]

    run(scenario)
