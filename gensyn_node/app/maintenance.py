"""Work on the chain of a node that does not run: back to an earlier block (the sign state stays), or a snapshot now."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from consensus.statesync.manifest import Manifest
from gensyn_node.app.chain import Chain
from gensyn_node.app.settings import CHAIN_FOLDER, LOG_FOLDER, SNAPSHOT_FOLDER
from gensyn_node.app.startup import check_chain
from gensyn_node.config.genesis import read_genesis
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import read_config
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.chain_store import Head
from gensyn_node.storage.rollback import rollback
from gensyn_node.storage.snapshots import SnapshotFolder
from gensyn_node.storage.wal import log_heights, log_path, quarantine

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ChainHeights:
    """What of the chain is on this disk."""

    head: int
    base: int
    """The lowest block."""
    oldest_state: int
    """The lowest height one can go back to."""


def chain_heights(home: Home) -> ChainHeights:
    """The heights of a home's chain; the caller holds the home."""
    chain = Chain.open(home.data / CHAIN_FOLDER, read_genesis(home.genesis))
    try:
        return ChainHeights(chain.head.height, chain.base, max(chain.store.oldest_state, chain.base))
    finally:
        chain.close()


def snapshot_now(home: Home) -> Manifest:
    """A snapshot of the head; the caller holds the home."""
    kept = read_config(home).storage.snapshots_kept
    chain = Chain.open(home.data / CHAIN_FOLDER, read_genesis(home.genesis))
    try:
        return SnapshotFolder(home.data / SNAPSHOT_FOLDER).create(chain.snapshot_source(), keep=kept)
    finally:
        chain.close()


def roll_back(home: Home, target: int) -> Head:
    """Make block `target` the head of the home's chain; the caller holds the home. Raises `Rejection` (E20…).

    The blocks above come again from peers. Logs of later heights are set aside first: a crash after that leaves a node
    that sits its height out, never one that signs without its log.
    """
    genesis = read_genesis(home.genesis)
    chain = Chain.open(home.data / CHAIN_FOLDER, genesis)
    try:
        head = chain.head.height
        oldest = max(chain.store.oldest_state, chain.base)
        if not oldest <= target < head:
            raise Rejection(
                reasons.CANNOT_ROLL_BACK, f"to {target}: states are kept from {oldest} on, and the head is {head}"
            )
        names = [chain.names(height) for height in range(head, target, -1)]
        for height in log_heights(home.data / LOG_FOLDER):
            if height > target + 1:
                aside = quarantine(log_path(home.data / LOG_FOLDER, height))
                log.warning("log_set_aside", height=height, path=str(aside))
        snapshots = SnapshotFolder(home.data / SNAPSHOT_FOLDER)
        for height in snapshots.heights():
            if height > target:  # whoever goes back doubts what came after; others would be shown it
                snapshots.remove(height)
        rollback(chain.store, target, names)
    finally:
        chain.close()
    chain = Chain.open(home.data / CHAIN_FOLDER, genesis)
    try:
        check_chain(chain)
        return chain.head
    finally:
        chain.close()
