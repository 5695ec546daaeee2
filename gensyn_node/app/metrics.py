"""Everything that `/metrics` shows of a node, gathered when it is asked for. Names are in the field's habit."""

from __future__ import annotations

import time
from collections.abc import Mapping

import psutil
import trio

from gensyn_node.app.measures import Family, counter, counters, gauge, histogram, render
from gensyn_node.app.node import Node
from gensyn_node.app.room import used_bytes

_REJECTED = "rejected_"
"""Begins the names of the network's counters of rejections."""
_STARTED = time.time()


async def render_metrics(node: Node) -> str:
    """The text that Prometheus reads."""
    disk = await trio.to_thread.run_sync(used_bytes, node.settings.home.data)
    return render([*_chain(node), *_mempool(node), *_network(node), *_storage(node, disk), *_process()])


def _chain(node: Node) -> list[Family]:
    chain = node.ledger
    return [
        gauge("gensyn_consensus_height", "Height of the last committed block.", chain.head.height),
        gauge("gensyn_consensus_head_time_seconds", "Time of the last block, since 1970.", chain.state.time_ms / 1000),
        gauge("gensyn_consensus_base_height", "Lowest block that is kept.", chain.base),
        *node.telemetry.families(chain.state.validators),
        gauge("gensyn_sync_syncing", "1 while the node is far behind its peers.", node.sync.syncing),
    ]


def _mempool(node: Node) -> list[Family]:
    pool, m = node.pool, "gensyn_mempool_"
    return [
        gauge(f"{m}transactions", "Pending transactions.", len(pool)),
        gauge(f"{m}size_bytes", "Their bytes.", pool.total_bytes),
        counter(f"{m}accepted_total", "Transactions taken.", pool.accepted),
        gauge(f"{m}open", "1 while transactions are taken, 0 while a block is overdue.", pool.admission.is_open),
        counter(f"{m}refused_behind_total", "Refused because a block was overdue.", pool.admission.refused),
        counter(f"{m}gossip_waits_total", "Times gossip waited for an overdue block.", pool.admission.waits),
        counters(f"{m}failed_total", "Transactions refused.", "reason", dict(pool.refusals)),
        counter(f"{m}already_received_total", "Transactions that came again while pending.", pool.already_received),
        counter(f"{m}evicted_total", "Transactions replaced or pushed out by better paying ones.", pool.displaced),
        counter(f"{m}dropped_total", "Transactions that expired or that a block made impossible.", pool.dropped),
        counter(f"{m}signatures_checked_total", "Signatures verified.", pool.signatures.checked),
        counter(f"{m}signatures_spared_total", "Verifications that were not needed again.", pool.signatures.spared),
    ]


def _network(node: Node) -> list[Family]:
    counted, peers = node.network.counters(), node.network.peers
    families = [
        gauge("gensyn_p2p_peers", "Connected peers.", len(peers.connected())),
        gauge("gensyn_p2p_banned_peers", "Peers that are banned.", len(peers.bans())),
        counters("gensyn_p2p_rejections_total", "Refused inputs of peers.", "reason", _with_prefix(counted, _REJECTED)),
    ]
    by_label = (("gossip_received_bytes", "topic"), ("gossip_sent_bytes", "topic"), ("request_bytes", "method"))
    for name, label in by_label:
        values = _with_prefix(counted, f"{name}:")
        families.append(counters(f"gensyn_p2p_{name}_total", f"Bytes by {label}.", label, values))
    plain = {name: count for name, count in counted.items() if ":" not in name and not name.startswith(_REJECTED)}
    return [*families, counters("gensyn_p2p_events_total", "What else the network counts.", "event", plain)]


def _with_prefix(counted: Mapping[str, int], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): count for name, count in counted.items() if name.startswith(prefix)}


def _storage(node: Node, disk: int) -> list[Family]:
    return [
        gauge("gensyn_storage_disk_bytes", "Bytes of database, logs and snapshots.", disk),
        gauge("gensyn_storage_free_bytes", "Free bytes of the disk, when last looked at.", node.room.free),
        gauge("gensyn_storage_paused", "1 while the disk is too full to go on.", node.room.paused),
        histogram("gensyn_storage_block_write_seconds", "Writing a block.", node.executor.write_seconds),
        histogram("gensyn_storage_block_execute_seconds", "Executing a block.", node.executor.execute_seconds),
    ]


def _process() -> list[Family]:
    process = psutil.Process()
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        descriptors, threads = process.num_fds(), process.num_threads()
    return [
        counter("process_cpu_seconds_total", "Processor time.", times.user + times.system),
        gauge("process_resident_memory_bytes", "Resident memory.", memory.rss),
        gauge("process_open_fds", "Open file descriptors.", descriptors),
        gauge("process_threads", "Threads.", threads),
        gauge("process_start_time_seconds", "When the process started, since 1970.", _STARTED),
    ]
