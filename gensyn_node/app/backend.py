"""Implements `gensyn_node.rpc.backend.NodeBackend`: the node, as its RPC server sees it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import trio

from consensus.ledger import proposal_queries, queries, stake_queries
from consensus.ledger.duties import duties
from consensus.tendermint.types import Vote
from gensyn_node.app import certify, governance_views, views, why_reads
from gensyn_node.app.chain import CommittedBlock
from gensyn_node.app.driver import StepEntered
from gensyn_node.app.event_bus import Feed
from gensyn_node.app.metrics import render_metrics
from gensyn_node.app.node import Node
from gensyn_node.app.operator_reads import DISK_FULL, OperatorReads
from gensyn_node.app.room import used_bytes
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import backend as rpc
from gensyn_node.rpc.operator_backend import HeaderView
from gensyn_node.rpc.reasons import NOT_FOUND
from gensyn_node.sdk.certificate import pack_certificate
from p2p.api import BlobUnavailable, Direction, SeedInfo
from p2p.api import SeedState as Seed
from proofs.blobs import chunk_count

DISPUTES_SHOWN_MAX = 200
STEPS_KEPT = 4_096
"""Steps and votes that wait for a slow subscriber; then the oldest are lost to it."""
Item = TypeVar("Item")
NO_ROLES = "none"
REJECTED = "rejected_"
"""Begins the names of the network's counters of rejections."""


def software_version() -> str:
    """The installed version."""
    try:
        return version("gensyn")
    except PackageNotFoundError:
        return "0.1.0"


class Backend(OperatorReads):
    """Reads the chain at its head; writes go through the mempool and the blob store."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._started_ms = int(time.time() * 1000)
        self._uploads: dict[bytes, int] = {}
        """Chunks that are here of blobs under way."""

    # --- the node

    async def status(self) -> rpc.Status:
        """The node in one screen."""
        node, chain = self._node, self._node.ledger
        address = node.settings.account_key.address
        validator = chain.state.validators.by_address(node.settings.consensus_key.address)
        return rpc.Status(
            version=software_version(),
            chain_id=chain.chain_id,
            genesis_hash=chain.store.genesis_hash,
            node_id=node.network.peer_id,
            address=address,
            height=chain.head.height,
            head_time_ms=chain.state.time_ms,
            head_id=chain.head.block_id,
            app_hash=chain.head.app_hash,
            syncing=node.sync.syncing,
            peers=len(node.network.peers.connected()),
            mempool=len(node.pool),
            validator=validator is not None and node.files.signer is not None,
            role=await self.role(),
            activity=node.roles.activity if node.roles else "follows the chain",
            started_ms=self._started_ms,
            block_interval_ms=node.history.block_interval_ms(),
            balance_nano=queries.account(chain.view(), address).balance_nano,
            rejections=self._rejections(),
            round=node.driver.round,
            paused=DISK_FULL if node.room.paused else "",
            disk_used_bytes=await trio.to_thread.run_sync(used_bytes, node.settings.home.data),
            disk_free_bytes=node.room.free,
            lowest_block=chain.base,
        )

    async def metrics(self) -> str:
        """What Prometheus reads, in its text format."""
        return await render_metrics(self._node)

    def _rejections(self) -> dict[str, int]:
        """What peers sent and what became no pending transaction, by reason name."""
        from_peers = self._node.network.counters()
        named = {name: count for name, count in from_peers.items() if name.startswith(REJECTED)}
        total = Counter({name.removeprefix(REJECTED): count for name, count in named.items()})
        return dict(total + self._node.pool.refusals)

    async def peers(self) -> tuple[rpc.Peer, ...]:
        """Connected peers, then banned ones."""
        peers = self._node.network.peers
        known = [
            rpc.Peer(
                peer_id=info.peer,
                addresses=(info.address,),
                connected=True,
                inbound=info.direction is Direction.INBOUND,
                height=info.head_height,
                version=info.software_version,
                score=info.score,
            )
            for info in peers.connected()
        ]
        banned = [rpc.Peer(ban.peer, (), False, note=f"banned: {ban.code} {ban.message}") for ban in peers.bans()]
        return (*known, *banned)

    async def seeds(self) -> tuple[rpc.SeedState, ...]:
        """Every configured seed."""
        return tuple(_seed(info) for info in self._node.network.peers.seeds())

    async def validators(self, height: int | None) -> tuple[rpc.ValidatorView, ...]:
        """The set that signs block `height` (the next block when None). `Rejection` NOT_FOUND for unknown heights."""
        chain = self._node.ledger
        members = chain.validators(chain.head.height + 1 if height is None else height)
        if members is None:
            raise Rejection(NOT_FOUND, f"the validator set of block {height} is not known")
        return tuple(rpc.ValidatorView(one.address, one.public_key, one.power) for one in members.validators)

    async def candidates(self) -> tuple[object, ...]:
        """Everybody with a place in the registry of validators, the strongest first."""
        return tuple(stake_queries.candidates(self._node.ledger.view()))

    async def delegations(self, address: bytes) -> tuple[object, ...]:
        """What an account has staked with which validator."""
        return tuple(stake_queries.delegations(self._node.ledger.view(), address))

    async def role(self) -> str:
        """The role in force."""
        return self._node.roles.role if self._node.roles else NO_ROLES

    async def role_report(self) -> object | None:
        """What it offers and why; None for a node that runs without roles."""
        return self._node.roles.report() if self._node.roles else None

    async def set_role(self, role: str) -> str:
        """Change the role. `Rejection` NOT_FOUND for a node that runs without roles."""
        if self._node.roles is None:
            raise Rejection(NOT_FOUND, "this node runs without roles")
        return await self._node.roles.set_role(role)

    # --- blocks and transactions

    async def block(self, height: int | None) -> rpc.BlockView | None:
        """A committed block, the head when `height` is None."""
        chain = self._node.ledger
        return views.block_view(chain, chain.head.height if height is None else height)

    async def transaction(self, transaction_id: bytes) -> rpc.TransactionView | None:
        """A transaction that is in a block."""
        chain = self._node.ledger
        place = chain.place_of(transaction_id)
        block = chain.block(place.height) if place else None
        results = chain.results(place.height) if place else None
        if place is None or block is None or results is None:
            return None
        data = block.transactions[place.index]
        return views.transaction_view(data, place.height, place.index, results[place.index])

    async def submit_transaction(self, data: bytes) -> bytes:
        """Check, keep, spread; the transaction's id. `Rejection` NODE_BEHIND while the node cannot keep up."""
        self._node.pool.admission.check()
        return await self._node.chain.submit_transaction(data)

    async def wait_transaction(self, transaction_id: bytes, timeout_s: float) -> rpc.TransactionView | None:
        """The transaction once it is in a block; None when `timeout_s` passes first."""
        await self._node.chain.wait_transaction(transaction_id, timeout_s)
        return await self.transaction(transaction_id)

    # --- the ledger

    async def account(self, address: bytes) -> rpc.AccountView:
        """An account; one that nobody paid yet is all zero."""
        return views.account_view(self._node.ledger.view(), address, self._node.pool.next_nonce(address))

    async def tasks(self, offset: int, limit: int) -> tuple[rpc.TaskView, ...]:
        """Newest first."""
        view = self._node.ledger.view()
        found = queries.tasks(view, limit=limit, before=offset)
        return tuple(views.task_view(view, task, self._node.history.losses(task.task_id)) for task in found)

    async def task(self, task_id: bytes) -> rpc.TaskView | None:
        """A task."""
        view = self._node.ledger.view()
        found = queries.task(view, task_id)
        return None if found is None else views.task_view(view, found, self._node.history.losses(task_id))

    async def duties(self) -> tuple[rpc.DutyView, ...]:
        """What this node has to do, and for each task that draws somebody now, whether it can be drawn."""
        view, address = self._node.ledger.view(), self._node.settings.account_key.address
        own = [views.duty_view(duty) for duty in duties(view, address, self._node.ledger.head.height)]
        if queries.provider(view, address) is None:
            return (*own, rpc.DutyView(None, "", "not registered", "this account is not registered as a provider"))
        return (*own, *(views.eligibility_view(entry) for entry in queries.why_provider(view, address)))

    async def why(self, task_id: bytes) -> tuple[rpc.DutyView, ...]:
        """Who is eligible for the task's next draw, and what excludes the others."""
        view = self._node.ledger.view()
        if not views.has_task(view, task_id):
            raise Rejection(NOT_FOUND, f"there is no task {task_id.hex()}")
        return tuple(views.eligibility_view(entry) for entry in queries.why_task(view, task_id))

    async def why_task(self, task_id: bytes) -> rpc.WhyView:
        """What a task waits for, everybody's standing in its draw, what would help."""
        return why_reads.task_why(self._node, task_id)

    async def why_node(self) -> rpc.WhyView:
        """Why this node has no work, and what would help."""
        return why_reads.node_why(self._node)

    async def disputes(self, task_id: bytes | None) -> tuple[rpc.DisputeView, ...]:
        """Disputes, newest first; those of one task when it is named."""
        view = self._node.ledger.view()
        found = queries.disputes(view, limit=DISPUTES_SHOWN_MAX)
        return tuple(views.dispute_view(view, one) for one in found if task_id in (None, one.task_id))

    async def dispute(self, dispute_id: bytes) -> rpc.DisputeView | None:
        """A dispute."""
        view = self._node.ledger.view()
        found = queries.dispute(view, dispute_id)
        return None if found is None else views.dispute_view(view, found)

    async def providers(self) -> tuple[object, ...]:
        """The registered providers' records."""
        return tuple(queries.providers(self._node.ledger.view()))

    async def parameters(self) -> object:
        """The protocol parameters in force."""
        return queries.parameters(self._node.ledger.view())

    async def governance(self) -> rpc.GovernanceView:
        """What governance has under way."""
        return governance_views.governance_view(self._node.ledger.view(), self._node.settings.upgrades)

    async def proposals(self, offset: int, limit: int) -> tuple[rpc.ProposalView, ...]:
        """Newest first."""
        view, height = self._node.ledger.view(), self._node.ledger.head.height
        found = proposal_queries.proposals(view, limit=limit, before=offset)
        return tuple(governance_views.proposal_view(view, one, height) for one in found)

    async def proposal(self, number: int) -> rpc.ProposalView | None:
        """A proposal."""
        view, height = self._node.ledger.view(), self._node.ledger.head.height
        found = proposal_queries.proposal(view, number)
        return None if found is None else governance_views.proposal_view(view, found, height)

    async def voting_places(self, number: int, address: bytes) -> tuple[rpc.VotingPlaceView, ...]:
        """Where an account can vote on a proposal, and what it voted."""
        view = self._node.ledger.view()
        if proposal_queries.proposal(view, number) is None:
            raise Rejection(NOT_FOUND, f"there is no proposal {number}")
        return governance_views.voting_places(view, number, address)

    async def genesis(self) -> bytes:
        """The genesis, encoded."""
        return codec.encode(self._node.ledger.genesis)

    async def supply(self) -> dict[str, int]:
        """Where all money is, in nano."""
        return views.supply_view(self._node.ledger.view())

    async def program(self, program_id: bytes) -> bytes | None:
        """A published program, encoded."""
        return views.program_bytes(self._node.ledger.view(), program_id)

    async def record(self, key: bytes) -> bytes | None:
        """What the ledger holds at a key at the head."""
        return self._node.ledger.view().get(key)

    async def proof(self, key: bytes, height: int | None) -> bytes | None:
        """The encoded `MapProof` of a ledger key under the app hash after block `height`."""
        found = certify.prove_key(self._node.ledger, key, height)
        return None if found is None else codec.encode(found)

    async def certificate(self, task_id: bytes) -> bytes | None:
        """The task's certificate file; None until a block has signed the task's end."""
        found = certify.certificate(self._node.ledger, task_id)
        return None if found is None else pack_certificate(found)

    # --- blobs

    async def blob_info(self, blob_id: bytes) -> rpc.BlobInfo | None:
        """What is here of a blob."""
        if self._node.blobs.has(blob_id):
            length = self._node.blobs.path(blob_id).stat().st_size
            return rpc.BlobInfo(blob_id, length, chunk_count(length), chunk_count(length), True)
        return None

    async def blob_put(self, blob_id: bytes, length: int, chunk: int, data: bytes) -> rpc.BlobInfo:
        """Store one chunk of an upload, in order; the last one makes it a blob."""
        known = await self.blob_info(blob_id)
        if known is not None:
            return known
        chunks, upload = chunk_count(length), blob_id.hex()
        await self._node.blobs.add_chunk(upload, chunk, data)
        received = self._uploads[blob_id] = max(self._uploads.get(blob_id, 0), chunk + 1)
        if received < chunks:
            return rpc.BlobInfo(blob_id, length, chunks, received, False)
        await self._node.blobs.finish_upload(upload, expected_blob_id=blob_id)
        del self._uploads[blob_id]
        return rpc.BlobInfo(blob_id, length, chunks, chunks, True)

    async def blob_fetch(self, blob_id: bytes) -> rpc.BlobInfo | None:
        """Get a whole blob from the network unless it is here."""
        try:
            await self._node.blobs.fetch(blob_id)
        except BlobUnavailable:
            return None
        return await self.blob_info(blob_id)

    async def blob_get(self, blob_id: bytes, chunk: int) -> bytes | None:
        """One chunk of a blob that is here."""
        if not self._node.blobs.has(blob_id):
            return None
        return await self._node.blobs.read_chunk(blob_id, chunk)

    # --- events

    def events(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[rpc.Event]]:
        """What happens from now on; a subscriber that does not keep up loses the oldest, and is told how many."""
        return self._events()

    @asynccontextmanager
    async def _events(self) -> AsyncIterator[trio.MemoryReceiveChannel[rpc.Event]]:
        send, receive = trio.open_memory_channel[rpc.Event](0)
        chain, driver = self._node.chain, self._node.driver
        with chain.committed_feed() as blocks, driver.seen.feed(STEPS_KEPT) as seen:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(translate, blocks, block_events, "blocks", send)
                nursery.start_soon(translate, seen, consensus_events, "consensus", send)
                yield receive
                nursery.cancel_scope.cancel()


async def translate(
    feed: Feed[Item], events_of: Callable[[Item], list[rpc.Event]], source: str, send: trio.MemorySendChannel[rpc.Event]
) -> None:
    """Items of a feed as events; where some were lost, a `gap` says how many."""
    async for item in feed.channel:
        events = events_of(item)
        if lost := feed.take_lost():
            events.insert(0, rpc.Event("gap", events[0].height, {"of": source, "lost": lost}))
        for event in events:
            await send.send(event)


def consensus_events(item: StepEntered | Vote) -> list[rpc.Event]:
    """A step or a vote, as an event."""
    if isinstance(item, StepEntered):
        data = {"round": item.round, "step": item.step, "proposer": item.proposer}
        return [rpc.Event("round_step", item.height, data)]
    vote = {"type": item.kind, "round": item.round, "validator": item.validator, "block_id": item.block_id}
    return [rpc.Event("vote", item.height, vote)]


def block_events(committed: CommittedBlock) -> list[rpc.Event]:
    """A block, its transactions and what the ledger did, as events."""
    height, block = committed.head.height, committed.block
    data = {
        "block_id": committed.head.block_id,
        "time_ms": block.header.time_ms,
        "proposer": block.header.proposer,
        "transactions": len(block.transactions),
    }
    header = HeaderView(block.id, block.header, len(block.transactions))
    events = [rpc.Event("block", height, data), rpc.Event("header", height, header)]
    if block.header.next_validators_hash != block.header.validators_hash:
        members = committed.state.next_validators.validators
        found = tuple(rpc.ValidatorView(one.address, one.public_key, one.power) for one in members)
        events.append(rpc.Event("validator_set_update", height, {"validators": found}))
    events += [rpc.Event("evidence", height, item) for item in block.evidence]
    for index, (raw, result) in enumerate(zip(block.transactions, committed.delta.results, strict=True)):
        events.append(rpc.Event("transaction", height, views.transaction_view(raw, height, index, result)))
    for event in committed.delta.events:
        fields = {"event": event.kind, "subject": event.subject, **dict(event.fields)}
        events.append(rpc.Event(_stream_of(event.kind), height, fields))
    return events


def _stream_of(kind: str) -> str:
    """The stream that an event of the ledger belongs to."""
    if kind == "heartbeat":
        return "heartbeat"
    if kind.startswith(("proposal", "vote", "parameter", "grant", "upgrade")):
        return "governance"
    return "dispute" if kind.startswith(("dispute", "challenge")) else "task"


def _seed(info: SeedInfo) -> rpc.SeedState:
    return rpc.SeedState(
        address=info.address,
        connected=info.state is Seed.CONNECTED,
        attempts=info.attempts,
        next_attempt_s=int(info.next_retry_s or 0),
        note=info.last_error,
    )
