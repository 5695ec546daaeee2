"""Block interval and transfers per second of a devnet of processes on this machine.

`python tests/bench/bench_chain.py [--nodes 4] [--rate 400] [--seconds 20]`: four validators as processes, real libp2p
and LevelDB on loopback. Idle blocks first; then transfers at a steady rate, published by a peer that is no node.
The figures come from the blocks in a validator's database afterwards. Prints a table and one JSON line; it is no test.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

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

PER_ACCOUNT = 50
"""Transfers of one account: below the mempool's bound for a sender."""
PUBLISH_INTERVAL_S = 0.1


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


async def publish(cluster: Cluster, directory: Path, transfers: list[bytes], rate: int) -> None:
    """Join as a peer and gossip the transfers at the rate."""
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
        await trio.sleep(2)


def intervals(chain: Chain, first: int, last: int) -> list[int]:
    """Milliseconds between blocks of a range of heights."""
    times = [block.header.time_ms for height in range(first, last + 1) if (block := chain.block(height))]
    return [after - before for before, after in itertools.pairwise(times)]


def report(chain: Chain, idle: tuple[int, int], loaded: tuple[int, int], sent: int, rate: int) -> dict[str, object]:
    """Figures of the two ranges of heights."""
    counts = {h: len(block.transactions) for h in range(loaded[0], loaded[1] + 1) if (block := chain.block(h))}
    busy = [height for height, count in counts.items() if count]
    applied = sum(result.applied for height in busy for result in chain.results(height) or ())
    quiet = intervals(chain, *idle)
    under_load = intervals(chain, busy[0] - 1, busy[-1]) if busy else []
    seconds = sum(under_load) / 1000
    rounds = [commit.round for h in range(1, chain.head.height + 1) if (commit := chain.commit(h))]
    return {
        "idle_interval_ms_median": statistics.median(quiet) if quiet else None,
        "idle_interval_ms_max": max(quiet, default=None),
        "loaded_interval_ms_median": statistics.median(under_load) if under_load else None,
        "offered_per_s": rate,
        "sent": sent,
        "applied": applied,
        "applied_per_s": round(applied / seconds, 1) if seconds else None,
        "largest_block": max(counts.values(), default=0),
        "blocks": chain.head.height,
        "blocks_of_later_rounds": sum(number > 0 for number in rounds),
        "load_average": os.getloadavg()[0],
        "cores": os.cpu_count(),
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
            spent = cpu_s(nodes)
            trio.run(publish, cluster, Path(folder) / "peer", transfers, chosen.rate)
            loaded = (idle[1] + 1, nodes[0].wait_height(nodes[0].height() + 3))
            memory, spent = memory_mib(nodes), cpu_s(nodes) - spent
            for node in nodes:
                node.stop(signal.SIGTERM)
        figures = report(open_chain(cluster.settings[0]), idle, loaded, count, chosen.rate)
    figures["cpu_ms_per_transfer_and_node"] = round(
        1000 * spent / chosen.nodes / max(1, int(str(figures["applied"]))), 3
    )
    figures["cpu_share_of_idle_node"] = round(quiet_share, 3)
    figures["memory_mib_max"] = round(memory, 1)
    for name, value in figures.items():
        print(f"{name:<28}{value}")
    print(json.dumps({"bench": "chain", "nodes": chosen.nodes, **figures}))


if __name__ == "__main__":
    main()
