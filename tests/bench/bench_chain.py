"""Block interval and transfers per second of a devnet of processes on this machine.

`python tests/bench/bench_chain.py [--nodes 4] [--rate 400] [--seconds 20]`: validators as processes, real libp2p and
LevelDB on loopback. Idle blocks first; then transfers at a steady rate, published by a peer that is no node, until no
more of them come into blocks. Says what became of each: applied, in a block and refused there, refused by the pools
(with reasons), still pending, or never arrived. The figures come from the blocks in a validator's database and from
the nodes' metrics. Prints a table and one JSON line; it is no test.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))

from node_cluster import FEE_NANO, Cluster, free_ports, key, make_cluster
from test_node_processes import NodeProcess, open_chain, processes

from consensus.ledger.genesis import genesis_hash
from consensus.ledger.messages import Transfer, encode_transaction, sign_transaction
from consensus.ledger.records import GenesisAccount
from gensyn_node.app import wire
from gensyn_node.app.chain import Chain
from gensyn_node.primitives import codec
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.hashing import sha256
from gensyn_node.primitives.money import NANO_PER_GSN
from p2p.api import NetworkConfig
from p2p.network import open_network

T = TypeVar("T")

PER_ACCOUNT = 50
"""Transfers of one account: below the mempool's bound for a sender."""
PUBLISH_INTERVAL_S = 0.1
STUCK_S = 15.0
"""Pools that shrink no more for so long hold what cannot go into a block."""


def sender_key(number: int) -> SecretKey:
    """Keys of the accounts that pay."""
    return SecretKey(sha256(b"bench" + number.to_bytes(4, "little")))


def signed_transfers(chain_id: str, count: int) -> list[bytes]:
    """Transfers in an order in which nonces rise, spread over the accounts."""
    accounts = -(-count // PER_ACCOUNT)
    made = []
    for nonce in range(PER_ACCOUNT):
        for number in range(accounts):
            message = Transfer(sha256(bytes([nonce]))[:20], 1)
            made.append(encode_transaction(sign_transaction(sender_key(number), chain_id, nonce, FEE_NANO, message)))
    return made[:count]


async def publish(
    cluster: Cluster, directory: Path, transfers: list[bytes], rate: int, finish: Callable[[], T]
) -> tuple[T, int]:
    """Join as a peer, gossip the transfers at the rate, stay until `finish` returns: queues end with their peer.

    What `finish` said, and how many frames did not fit into the queues.
    """
    seeds = cluster.settings[0].config.p2p.seeds
    config = NetworkConfig(
        chain_id=cluster.genesis.chain_id,
        genesis_hash=genesis_hash(cluster.genesis),
        identity_seed=key("p2p", 99).seed,
        directory=directory,
        listen=(f"/ip4/127.0.0.1/tcp/{free_ports(1)[0]}",),
        seeds=seeds,
    )
    async with open_network(config) as network:
        while len(network.peers.connected()) < len(seeds):  # noqa: ASYNC110
            await trio.sleep(0.1)
        await trio.sleep(3)  # the gossip mesh forms with the next heartbeats
        per_message = max(1, int(rate * PUBLISH_INTERVAL_S))
        due = trio.current_time()
        for first in range(0, len(transfers), per_message):
            batch = wire.TransactionBatch(tuple(transfers[first : first + per_message]))
            await network.gossip.publish(wire.TOPIC_TRANSACTIONS, codec.encode(batch))
            due += PUBLISH_INTERVAL_S
            await trio.sleep_until(due)
        return await trio.to_thread.run_sync(finish), network.counters().get("gossip_queue_full", 0)


def intervals(chain: Chain, first: int, last: int) -> list[int]:
    """Milliseconds between blocks of a range of heights."""
    times = [block.header.time_ms for height in range(first, last + 1) if (block := chain.block(height))]
    return [after - before for before, after in itertools.pairwise(times)]


def report(chain: Chain, idle: tuple[int, int], loaded: tuple[int, int], sent: int, rate: int) -> dict[str, object]:
    """Figures of the two ranges of heights."""
    counts = {h: len(block.transactions) for h in range(loaded[0], loaded[1] + 1) if (block := chain.block(h))}
    busy = [height for height, count in counts.items() if count]
    results = [result for height in busy for result in chain.results(height) or ()]
    applied = len({result.transaction_id for result in results if result.applied})
    quiet = intervals(chain, *idle)
    under_load = intervals(chain, busy[0] - 1, busy[-1]) if busy else []
    seconds = sum(under_load) / 1000
    rounds = [commit.round for h in range(1, chain.head.height + 1) if (commit := chain.commit(h))]
    return {
        "idle_interval_ms_median": statistics.median(quiet) if quiet else None,
        "idle_interval_ms_max": max(quiet, default=None),
        "loaded_interval_ms_median": statistics.median(under_load) if under_load else None,
        "loaded_interval_ms_max": max(under_load, default=None),
        "offered_per_s": rate,
        "sent": sent,
        "applied": applied,
        "refused_in_blocks": sum(not result.applied for result in results),
        "applied_per_s": round(applied / seconds, 1) if seconds else None,
        "largest_block": max(counts.values(), default=0),
        "block_bytes": sum(len(chain.store.block(height) or b"") for height in busy),
        "blocks": chain.head.height,
        "blocks_of_later_rounds": sum(number > 0 for number in rounds),
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
    }


_ACCEPTED = "gensyn_mempool_accepted_total"
_METRIC = re.compile(r"^(gensyn_(?:mempool|p2p)_\w+(?:\{[^}]*\})?) ([0-9.e+]+)$", re.MULTILINE)


def metrics(node: NodeProcess) -> dict[str, float]:
    """What a node says of its mempool and network."""
    home = node.settings.home
    headers = {"Authorization": f"Bearer {home.token.read_text()}"}
    text = httpx.get(home.endpoint.read_text() + "/metrics", headers=headers, timeout=60).text
    return {name: float(value) for name, value in _METRIC.findall(text)}


def settle(nodes: list[NodeProcess], sent: int, earlier: list[dict[str, float]]) -> list[dict[str, float]]:
    """Wait until everything sent came in and is in blocks, or nothing moves any more; the nodes' metrics then."""
    seen: tuple[float, float] = (-1, -1)
    since = time.monotonic()
    while True:
        now = [metrics(node) for node in nodes]
        pending = max(one["gensyn_mempool_transactions"] for one in now)
        pairs = zip(now, earlier, strict=True)
        taken = min(one[_ACCEPTED] - before[_ACCEPTED] for one, before in pairs)
        if (taken, pending) != seen:
            seen, since = (taken, pending), time.monotonic()
        if (taken >= sent and not pending) or time.monotonic() - since > STUCK_S:
            return now
        time.sleep(0.5)


def fate(now: list[dict[str, float]], before: list[dict[str, float]], figures: dict[str, object]) -> dict[str, object]:
    """What became of the transfers that are in no block, and how much gossip all of them took."""
    grown = [
        {name: value - old.get(name, 0) for name, value in new.items()} for new, old in zip(now, before, strict=True)
    ]
    refusal = re.compile(r'gensyn_mempool_failed_total\{reason="(.*)"\}')
    refused: Counter[str] = Counter()
    for node in grown:
        for name, count in node.items():
            if count and (found := refusal.match(name)):
                refused[found[1]] += int(count)

    def total(prefix: str) -> int:
        return int(sum(count for node in grown for name, count in node.items() if name.startswith(prefix)))

    sent, applied = int(str(figures["sent"])), int(str(figures["applied"]))
    known = max(int(node[_ACCEPTED]) for node in grown)
    return {
        "pending": int(max(node["gensyn_mempool_transactions"] for node in now)),
        "not_applied": sent - applied,
        "never_taken_by_best_node": sent - known,
        "refused_by_nodes": dict(sorted(refused.items())),
        "displaced": total("gensyn_mempool_evicted_total"),
        "signatures_checked": total("gensyn_mempool_signatures_checked_total"),
        "gossip_messages_received": total('gensyn_p2p_events_total{event="gossip_received"}'),
        "gossip_lost": total('gensyn_p2p_events_total{event="gossip_queue_full"}')
        + total('gensyn_p2p_events_total{event="gossip_over_rate"}')
        + total('gensyn_p2p_events_total{event="gossip_lost_slow_reader"}'),
        "gossip_bytes_per_block_byte": round(
            total("gensyn_p2p_gossip_received_bytes_total") / max(1, int(str(figures["block_bytes"]))), 2
        ),
    }


def memory_mib(nodes: list[NodeProcess]) -> float:
    """Resident memory of the largest node."""
    return max(psutil.Process(node.process.pid).memory_info().rss for node in nodes if node.process) / (1 << 20)


def cpu_s(nodes: list[NodeProcess]) -> float:
    """Processor time of all nodes so far."""
    used = [psutil.Process(node.process.pid).cpu_times() for node in nodes if node.process]
    return sum(times.user + times.system for times in used)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--rate", type=int, default=400)
    parser.add_argument("--seconds", type=int, default=20)
    chosen = parser.parse_args()
    count = chosen.rate * chosen.seconds
    extra = tuple(
        GenesisAccount(sender_key(number).address, 1_000 * NANO_PER_GSN) for number in range(-(-count // PER_ACCOUNT))
    )
    with tempfile.TemporaryDirectory() as folder:
        cluster = make_cluster(Path(folder), chosen.nodes, accounts=extra, commit_ms=1000, propose_ms=3000)
        transfers = signed_transfers(cluster.genesis.chain_id, count)
        with processes(cluster) as nodes:
            for node in nodes:
                node.wait_height(2)
            before = nodes[0].height()
            started, quiet_cpu_s = time.monotonic(), cpu_s(nodes)
            time.sleep(min(20, chosen.seconds))
            quiet_share = (cpu_s(nodes) - quiet_cpu_s) / (time.monotonic() - started) / chosen.nodes
            idle = (before, nodes[0].height())
            earlier, spent = [metrics(node) for node in nodes], cpu_s(nodes)
            finish = partial(settle, nodes, count, earlier)
            later, unsent = trio.run(publish, cluster, Path(folder) / "peer", transfers, chosen.rate, finish)
            memory, spent = memory_mib(nodes), cpu_s(nodes) - spent
            loaded = (idle[1] + 1, nodes[0].wait_height(nodes[0].height() + 1))
            for node in nodes:
                node.stop(signal.SIGTERM)
        figures = report(open_chain(cluster.settings[0]), idle, loaded, count, chosen.rate)
    figures["frames_publisher_lost"] = unsent
    figures |= fate(later, earlier, figures)
    figures["cpu_ms_per_transfer_and_node"] = round(
        1000 * spent / chosen.nodes / max(1, int(str(figures["applied"]))), 3
    )
    figures["cpu_share_of_idle_node"] = round(quiet_share, 3)
    figures["memory_mib_max"] = round(memory, 1)
    for name, value in figures.items():
        print(f"{name:<32}{value}")
    print(json.dumps({"bench": "chain", "nodes": chosen.nodes, **figures}))


if __name__ == "__main__":
    main()
