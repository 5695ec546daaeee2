"""Seconds until a new node has the head of a long chain: block by block, and by a snapshot.

`python tests/bench/bench_join.py [--blocks 2000] [--transfers 5]`: a real chain is grown in this process and served by
a node process over libp2p; two fresh homes join it, one each way. Both must end with the server's app hash. Prints a
table and one JSON line; it is no test.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))

import structlog
from chain_maker import ChainMaker
from msgspec import structs
from node_cluster import make_cluster
from test_node_processes import NodeProcess, write_home

from gensyn_node.app.node import open_node
from gensyn_node.app.settings import SNAPSHOT_FOLDER, NodeSettings
from gensyn_node.config.node_config import NodeSection, StatesyncSection, StorageSection
from gensyn_node.storage.chain_store import Head
from gensyn_node.storage.snapshots import SnapshotFolder

AFTER_SNAPSHOT = 40
"""Blocks that follow the snapshot and are synced after it."""
WAIT_S = 900.0


def follower(settings: NodeSettings, *, state_sync: bool = False) -> NodeSettings:
    """A node without a vote."""
    config = structs.replace(
        settings.config,
        node=NodeSection(role="none", validator=False),
        storage=StorageSection(snapshot_interval=0),
        statesync=StatesyncSection(enabled=state_sync),
    )
    return NodeSettings(
        settings.home, config, settings.genesis, settings.account_key, settings.consensus_key, settings.p2p_key
    )


def grow(maker: ChainMaker, blocks: int, transfers: int) -> tuple[float, int]:
    """Seconds for the chain, and bytes of its snapshot."""
    started = time.monotonic()
    maker.grow(blocks - AFTER_SNAPSHOT, transfers=transfers)
    folder = SnapshotFolder(maker.settings.home.data / SNAPSHOT_FOLDER)
    manifest = folder.create(maker.chain.snapshot_source(), keep=1)
    maker.grow(AFTER_SNAPSHOT, transfers=transfers)
    return time.monotonic() - started, manifest.size


async def join(settings: NodeSettings, head: Head) -> float:
    """Seconds from the start of the node until it has the head."""
    started = trio.current_time()
    async with open_node(settings) as node:
        with trio.fail_after(WAIT_S):
            while node.ledger.head.height < head.height:  # noqa: ASYNC110
                await trio.sleep(0.05)
        taken = trio.current_time() - started
        if node.ledger.head != head:
            raise SystemExit("the newcomer has another head")
    return taken


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=2000)
    parser.add_argument("--transfers", type=int, default=5)
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory() as folder:
        cluster = make_cluster(Path(folder), 3, validators=1)
        maker = ChainMaker(cluster)
        grown_s, snapshot_bytes = grow(maker, chosen.blocks, chosen.transfers)
        head = maker.chain.head
        maker.chain.close()
        server = NodeProcess(follower(cluster.settings[0]))
        write_home(server.settings)
        server.start()
        try:
            server.wait_height(head.height)
            by_blocks = trio.run(join, follower(cluster.settings[1]), head)
            by_snapshot = trio.run(join, follower(cluster.settings[2], state_sync=True), head)
        finally:
            server.stop(signal.SIGTERM)
    figures = {
        "blocks": chosen.blocks,
        "transactions": chosen.blocks * chosen.transfers,
        "grown_s": round(grown_s, 1),
        "snapshot_mib": round(snapshot_bytes / (1 << 20), 2),
        "block_sync_s": round(by_blocks, 1),
        "block_sync_blocks_per_s": round(chosen.blocks / by_blocks, 1),
        "state_sync_s": round(by_snapshot, 1),
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
    }
    for name, value in figures.items():
        print(f"{name:<28}{value}")
    print(json.dumps({"bench": "join", **figures}))


if __name__ == "__main__":
    main()
