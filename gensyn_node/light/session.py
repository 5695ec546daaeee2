"""A light client over a network of its own: an ephemeral identity, connections to seeds, nothing served."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from consensus.ledger.genesis import genesis_hash
from consensus.ledger.records import Genesis
from consensus.light.types import Anchor, LightBlock
from gensyn_node.light import reasons
from gensyn_node.light.client import LightClient
from gensyn_node.light.peers import LightPeers
from gensyn_node.light.trust import default_options, load_block, save_block, start_of
from gensyn_node.primitives.errors import Rejection
from p2p.api import Network, NetworkConfig
from p2p.network import BOOK_FILE, open_network

TRUST_FILE = "trusted"
CONNECT_S = 20.0
"""How long peers are waited for before what is there has to do."""
PEERS_WANTED = 6
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class LightSettings:
    """What a session needs to know."""

    genesis: Genesis
    folder: Path
    """Holds the trusted header and the addresses of peers."""
    seeds: tuple[str, ...]
    witnesses: int = 1
    anchor: Anchor | None = None
    """Where trust begins, instead of at the last run's header or the genesis."""
    trust_period_ms: int | None = None
    """Instead of the one that follows from the chain's unbonding time."""


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


@asynccontextmanager
async def open_light(settings: LightSettings) -> AsyncIterator[LightClient]:
    """A client with peers. `Rejection` NO_PEER when none could be reached, BAD_TRUST_FILE."""
    genesis, directory = settings.genesis, settings.folder / "network"
    if not settings.seeds and not (directory / BOOK_FILE).exists():
        raise Rejection(reasons.NO_PEER, "no seed is configured, and no peer is known from an earlier run")
    path = settings.folder / TRUST_FILE
    stored = load_block(path, genesis) if settings.anchor is None else None

    def keep(block: LightBlock) -> None:
        save_block(path, genesis, block)

    config = NetworkConfig(
        chain_id=genesis.chain_id,
        genesis_hash=genesis_hash(genesis),
        identity_seed=secrets.token_bytes(32),
        directory=directory,
        listen=("/ip4/127.0.0.1/tcp/0",),
        seeds=settings.seeds,
        peers_wanted=PEERS_WANTED,
    )
    async with open_network(config) as network:
        await _connect(network, min(settings.witnesses + 1, PEERS_WANTED))
        yield LightClient(
            chain_id=genesis.chain_id,
            peers=LightPeers(network.requests, network.peers),
            start=start_of(genesis, stored, settings.anchor),
            options=default_options(genesis, settings.trust_period_ms),
            witnesses=settings.witnesses,
            clock_ms=wall_clock_ms,
            stored=stored,
            on_verified=keep,
        )


async def _connect(network: Network, wanted: int) -> None:
    """Wait for enough peers, a while; for one at least."""
    with trio.move_on_after(CONNECT_S):
        while len(network.peers.connected()) < wanted:  # noqa: ASYNC110  (peers come one by one, also by exchange)
            await trio.sleep(_POLL_S)
    if not network.peers.connected():
        why = "; ".join(
            [*(f"{seed.address}: {seed.last_error}" for seed in network.peers.seeds() if seed.last_error)]
            or network.peers.refused_handshakes()
        )
        raise Rejection(reasons.NO_PEER, why[:400] or "no seed is configured")
