"""A whole node as one context: files, network, consensus, catch-up, roles, RPC."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from consensus.ledger.genesis import genesis_hash
from consensus.ledger.reasons import UPGRADE_NEEDED
from consensus.tendermint.core import ConsensusCore
from consensus.tendermint.parameters import ConsensusParameters
from gensyn_node.app import wire
from gensyn_node.app.block_sync import BlockSync
from gensyn_node.app.broadcaster import Broadcaster
from gensyn_node.app.catch_up import CatchUp
from gensyn_node.app.chain import CommittedBlock
from gensyn_node.app.chain_api import NodeChain
from gensyn_node.app.doppelganger import Watch
from gensyn_node.app.driver import Driver, SigningAllowed
from gensyn_node.app.equivocation import Broadcast, voting_twice
from gensyn_node.app.evidence_exchange import EvidenceExchange
from gensyn_node.app.executor import BUSY_MS, Executor, Pace
from gensyn_node.app.history import History
from gensyn_node.app.intake import Intake
from gensyn_node.app.light_service import LightService
from gensyn_node.app.pool import Pool
from gensyn_node.app.pool_keeper import PoolKeeper
from gensyn_node.app.pruning import Pruner
from gensyn_node.app.reannouncer import Reannouncer
from gensyn_node.app.room import Room
from gensyn_node.app.settings import DAMAGED_FILE, EVIDENCE_FILE, SNAPSHOT_FOLDER, NodeSettings
from gensyn_node.app.snapshots import Snapshots
from gensyn_node.app.startup import Opened, open_or_begin_again
from gensyn_node.app.state_sync import join_by_snapshot, wants_state_sync
from gensyn_node.app.telemetry import Telemetry
from gensyn_node.config.home import lock_home
from gensyn_node.config.node_config import check_cheat
from gensyn_node.light import wire as light_wire
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.cheats import parse_cheat
from gensyn_node.storage.mempool_journal import MempoolJournal
from gensyn_node.storage.reasons import STORE_CORRUPT
from gensyn_node.storage.snapshots import SnapshotFolder
from p2p.api import Blobs, Network, NetworkConfig
from p2p.network import open_network

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from gensyn_node.roles.chooser import RoleReport

STANDSTILL_MARGIN_S = 0.7
"""Beyond the idle block interval: what a round takes on a busy machine before a node begins to ask."""

FAREWELL_S = 3.0
"""A node that stops for an upgrade serves its last block and votes so long: its neighbours need them to get there."""

MEMPOOL_FILE = "mempool.journal"
"""What waits, in the data folder of a home."""

STORE_LOOK_S = 0.5
"""How often it is looked whether a read of the database has met damage."""

log = structlog.get_logger()


def wall_clock_ms() -> int:
    """Milliseconds since 1970: block times, never a rule of the ledger."""
    return int(time.time() * 1000)


class RoleSeat(Protocol):
    """The roles that run on a node, as its interface shows and changes them."""

    @property
    def role(self) -> str:
        """The role in force."""

    @property
    def activity(self) -> str:
        """What it does now, or why it is idle, in one sentence."""

    def report(self) -> RoleReport:
        """What it offers and why, what it still finishes, what it changed lately."""

    async def set_role(self, role: str) -> str:
        """Change the role after draining what it does; the role that is then in force. `Rejection` for no role."""


class Node:
    """The parts of a running node. `open_node` makes it."""

    def __init__(self, settings: NodeSettings, opened: Opened, network: Network) -> None:
        self.settings = settings
        self.network = network
        self.files = opened
        self.ledger = opened.chain
        self.pool = Pool(opened.chain)
        self.history = History()
        self.roles: RoleSeat | None = None
        """Set by the service that runs the roles."""
        gossip = network.gossip if settings.gossip else None
        self.broadcaster = Broadcaster(gossip)
        times = settings.config.consensus
        pace = Pace(idle_ms=times.commit_ms, busy_ms=min(times.commit_ms, BUSY_MS))
        self.room = Room(settings.home.data, settings.config.storage.low_water_mib * limits.MIB)
        self.executor = Executor(
            room=self.room,
            chain=opened.chain,
            pool=self.pool,
            key=settings.consensus_key if opened.signer else None,
            pace=pace,
            clock_ms=wall_clock_ms,
            on_commit=self._committed,
            upgrades=settings.upgrades,
            evidence_file=settings.home.data / EVIDENCE_FILE,
        )
        parameters = ConsensusParameters(
            propose_ms=times.propose_ms,
            propose_growth_ms=times.delta_ms,
            vote_ms=times.vote_ms,
            vote_growth_ms=times.delta_ms,
        )
        address = settings.consensus_key.address if opened.signer else None
        chain_id = settings.genesis.chain_id
        broadcast: Broadcast = self.broadcaster.consensus_message
        self.watch = (
            Watch(chain_id, opened.signer, heights=times.watch_heights, wait_s=times.watch_ms / 1000)
            if opened.signer
            else None
        )
        if parse_cheat(settings.config.devnet.cheat).equivocates:
            check_cheat(settings.config, chain_id)
            # A rehearsed liar looks for nobody who signs with its key: it would find itself.
            self.watch, broadcast = None, voting_twice(broadcast, settings.consensus_key, chain_id)
        self.driver = Driver(
            room=self.room,
            chain_id=settings.genesis.chain_id,
            core=ConsensusCore(settings.genesis.chain_id, parameters, address),
            ledger=self.executor,
            wal=opened.wal,
            signer=opened.signer,
            broadcast=broadcast,
            clock_ms=wall_clock_ms,
            watch=self.watch,
        )
        self.intake = Intake(
            chain=opened.chain,
            driver=self.driver,
            pool=self.pool,
            requests=network.requests,
            peers=network.peers,
            clock_ms=wall_clock_ms,
            watch=self.watch,
        )
        self.sync = BlockSync(
            chain=opened.chain,
            driver=self.driver,
            executor=self.executor,
            requests=network.requests,
            peers=network.peers,
        )
        self.catch_up = CatchUp(
            chain=opened.chain,
            driver=self.driver,
            intake=self.intake,
            sync=self.sync,
            broadcaster=self.broadcaster,
            requests=network.requests,
            peers=network.peers,
            patience_s=pace.idle_ms / 1000 + STANDSTILL_MARGIN_S,
        )
        self.evidence = EvidenceExchange(
            keeper=self.executor.evidence, gossip=gossip, requests=network.requests, peers=network.peers
        )
        self.executor.on_evidence = self.evidence.announce
        self.snapshots = Snapshots(
            chain=opened.chain,
            folder=SnapshotFolder(settings.home.data / SNAPSHOT_FOLDER),
            config=settings.config.storage,
        )
        self.pool_keeper = PoolKeeper(
            self.pool, MempoolJournal(settings.home.data / MEMPOOL_FILE), self.broadcaster.transaction
        )
        self.reannouncer = Reannouncer(self.pool, lambda: opened.chain.head.height, self.broadcaster.transaction)
        self.light = LightService(chain=opened.chain, pool=self.pool, broadcaster=self.broadcaster)
        self.pruner = Pruner(opened.chain, settings.config.storage, self.snapshots.folder)
        self.chain = NodeChain(
            chain=opened.chain,
            pool=self.pool,
            sync=self.sync,
            broadcaster=self.broadcaster,
            account_key=settings.account_key,
        )

    async def _watch_store(self) -> None:
        """`Rejection` (STORE_CORRUPT) once a read has met damage, whoever asked for it; the next start begins again."""
        damage = self.ledger.store.database.damage
        while not damage.found:  # noqa: ASYNC110  (reads happen on threads)
            await trio.sleep(STORE_LOOK_S)
        raise Rejection(STORE_CORRUPT, damage.found)

    # --- what the watch asks

    @property
    def others(self) -> int:
        """Validators of the chain beside this node."""
        own = self.settings.consensus_key.address
        return sum(member.address != own for member in self.ledger.state.validators.validators)

    @property
    def head(self) -> int:
        """This node's own height."""
        return self.ledger.head.height

    @property
    def genesis_age_ms(self) -> int:
        """Milliseconds since the chain's genesis, below 0 before it."""
        return wall_clock_ms() - self.settings.genesis.time_ms

    @property
    def heads(self) -> tuple[int, ...]:
        """What each connected peer says its head is."""
        return tuple(info.head_height for info in self.network.peers.connected())

    @property
    def syncing(self) -> bool:
        """Whether peers have shown to be far ahead."""
        return self.sync.syncing

    @property
    def telemetry(self) -> Telemetry:
        """What is counted of consensus."""
        return self.driver.telemetry

    @property
    def blobs(self) -> Blobs:
        """Content-addressed files."""
        return self.network.blobs

    async def run(self) -> None:
        """Take part until cancelled. An `InvariantViolation` of any part ends all of them."""
        self._serve_requests()
        self.network.set_head(self.ledger.head.height)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._drive)
            nursery.start_soon(self.broadcaster.run)
            nursery.start_soon(self.intake.run, self.network.gossip if self.settings.gossip else None)
            nursery.start_soon(self.catch_up.run)
            nursery.start_soon(self.sync.run)
            nursery.start_soon(self._watch_store)
            if self.watch is not None:
                nursery.start_soon(self.watch.run, self, partial(self.driver.offer, SigningAllowed()))
            nursery.start_soon(self.evidence.run)
            nursery.start_soon(self.snapshots.run)
            nursery.start_soon(self.pool_keeper.run)
            nursery.start_soon(self.reannouncer.run)
            nursery.start_soon(self.pruner.run)

    async def _drive(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run consensus. At a height whose rules are unknown here, stay a moment for the neighbours, then end."""
        try:
            await self.driver.run(self.files.records, task_status=task_status)
        except BaseExceptionGroup as group:
            error = _only_error(group)
            if isinstance(error, Rejection) and error.reason == UPGRADE_NEEDED:
                log.critical("upgrade_needed", code=error.reason.code, why=error.message)
                await trio.sleep(FAREWELL_S)
            raise

    def _serve_requests(self) -> None:
        requests = self.network.requests
        requests.serve(wire.METHOD_STATUS, self.catch_up.serve_status, max_request_bytes=limits.MIB, per_second=10.0)
        # A reply is up to 4 MiB to read, decode and encode; the asker takes longer to check it.
        requests.serve(wire.METHOD_BLOCKS, self.sync.serve_blocks, timeout_s=15.0, per_second=5.0)
        requests.serve(wire.METHOD_TRANSACTIONS, self.intake.serve_transactions, max_request_bytes=limits.MIB)
        # Up to 16 commits of 128 signatures to check.
        requests.serve(
            wire.METHOD_EVIDENCE, self.evidence.serve, max_request_bytes=2 * wire.EXCHANGED_BYTES_MAX, per_second=1.0
        )
        self.snapshots.serve(requests)
        requests.serve(
            light_wire.METHOD_REPORT,
            self.evidence.serve_report,
            max_request_bytes=wire.EVIDENCE_ITEM_BYTES_MAX,
            per_second=0.5,
        )
        self.light.serve(requests)

    def _committed(self, committed: CommittedBlock) -> None:
        self.snapshots.after_block()
        self.pruner.after_block()
        self.network.set_head(committed.head.height)
        self.history.add(committed)
        self.telemetry.committed(
            committed.block,
            len(codec.encode(committed.block)),
            self.driver.round,
            self.ledger.validators(committed.head.height - 1),
        )
        self.chain.publish(committed)
        log.info(
            "block_committed",
            height=committed.head.height,
            transactions=len(committed.block.transactions),
            round=self.driver.round,
            id=committed.head.block_id.hex(),
        )


@asynccontextmanager
async def open_node(settings: NodeSettings) -> AsyncIterator[Node]:
    """Start a node; it works until the block is left. `Rejection` when the home cannot be used."""
    async with AsyncExitStack() as stack:
        stack.enter_context(lock_home(settings.home))
        network = None
        if wants_state_sync(settings):
            network = await stack.enter_async_context(open_network(network_config(settings)))
            await join_by_snapshot(settings, network, wall_clock_ms)
        opened = open_or_begin_again(settings)
        stack.callback(opened.chain.close)
        stack.callback(opened.wal.close)
        if network is None:
            network = await stack.enter_async_context(open_network(network_config(settings)))
        node = Node(settings, opened, network)
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        nursery.start_soon(node.run)
        yield node


def network_config(settings: NodeSettings) -> NetworkConfig:
    """The network's part of the settings."""
    p2p = settings.config.p2p
    return NetworkConfig(
        chain_id=settings.genesis.chain_id,
        genesis_hash=genesis_hash(settings.genesis),
        identity_seed=settings.p2p_key.seed,
        directory=settings.home.path,
        listen=p2p.listen,
        seeds=p2p.seeds,
        peers_max=p2p.peers_max,
    )


Service = Callable[[Node], Awaitable[None]]
"""Something that runs beside the chain until cancelled: the RPC server, the roles."""


async def run_node(settings: NodeSettings, services: tuple[Service, ...] = ()) -> None:
    """Run a node until SIGTERM or SIGINT. What is half done then is found again at the next start.

    Raises `Rejection` when the home cannot be used, `InvariantViolation` when the node halted itself.
    """
    failed: BaseException | None = None
    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with open_node(settings) as node, trio.open_nursery() as nursery:
                for service in services:
                    nursery.start_soon(service, node)
                log.info("node_started", chain=settings.genesis.chain_id, height=node.ledger.head.height)
                number = await anext(signals)
                log.info("node_stopping", signal=signal.Signals(number).name)
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The nurseries wrap one error in groups; the caller gets the error.
        failed = _only_error(group)
    if isinstance(failed, Rejection) and failed.reason is STORE_CORRUPT:
        (settings.home.data / DAMAGED_FILE).touch()  # opening checks less than reading does
    if failed is not None:
        raise failed


def _only_error(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
