"""A node that is only an answer book, behind the real server on a real socket."""

from __future__ import annotations

import queue
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.proposal_messages import PlanUpgrade
from consensus.ledger.stake_queries import Candidate, DelegationView
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import reasons
from gensyn_node.rpc.backend import (
    AccountView,
    BlobInfo,
    BlockView,
    Cause,
    ChangeText,
    Event,
    GovernanceView,
    ProposalView,
    StandingText,
    Status,
    TransactionView,
    ValidatorView,
    VotingPlaceView,
    WhyView,
)
from gensyn_node.rpc.operator_backend import DryRunView, HeaderView, Health, PendingPage
from gensyn_node.rpc.server import RpcSettings, serve_rpc
from proofs.blobs import chunk_count

TOKEN = "5a" * 32
ADDRESS = bytes(range(20))


class FakeNode:
    """Answers without a chain; remembers what was written."""

    def __init__(self) -> None:
        self.submitted: list[bytes] = []
        self.chunks: dict[tuple[bytes, int], bytes] = {}
        self.lengths: dict[bytes, int] = {}
        self.chunks_until_failure = 1_000_000
        self.outcome: TransactionView | None = None
        self.current_role = "auto"
        self.report: object | None = None
        self.why_view = WhyView(
            sentence="No work: it has no peers.",
            causes=(Cause("no_peers", "it has no peers", "gensyn node peers"),),
            wanted=1,
            eligible=0,
            standings=(
                StandingText(
                    provider=ADDRESS,
                    name="node",
                    role="solver",
                    task_id=bytes(32),
                    instalment=0,
                    eligible=False,
                    chance_bps=0,
                    reasons=("its memory is 5 MiB short",),
                ),
            ),
            changes=(ChangeText("more_memory", 5 << 20, 1, "5 MiB more memory", "raise worker.memory_mib"),),
        )
        self.records: dict[bytes, bytes] = {}
        self.found: TransactionView | None = None
        self.shown_proof: object = None
        self.data_root: bytes | None = None
        """Of the header that it shows."""
        self.consensus: object = {"height": 8}
        self.validators_listed = 1
        self.candidates_listed: tuple[Candidate, ...] = ()
        self.delegated: dict[bytes, tuple[DelegationView, ...]] = {}
        self.proposed: tuple[ProposalView, ...] = ()
        self.places: tuple[VotingPlaceView, ...] = ()
        self.senders: set[trio.MemorySendChannel[Event]] = set()

    async def status(self) -> Status:
        return Status(
            version="0.1.0",
            chain_id="devnet-test",
            genesis_hash=bytes(32),
            node_id="12D3KooWtest",
            address=ADDRESS,
            height=7,
            head_time_ms=1_700_000_000_000,
            head_id=b"\x01" * 32,
            app_hash=b"\x02" * 32,
            syncing=False,
            peers=3,
            mempool=0,
            validator=True,
            role=self.current_role,
            activity="idle: no task is waiting",
            started_ms=1_700_000_000_000,
            block_interval_ms=1000,
        )

    async def health(self) -> Health:
        return Health(healthy=True, height=7, syncing=False, paused="")

    async def headers(self, first: int, limit: int) -> tuple[HeaderView, ...]:
        return tuple(HeaderView(b"\x01" * 32, None, number) for number in range(first, first + limit))

    async def header(self, height: int | None) -> HeaderView | None:
        return (
            None
            if height is not None and height > 7
            else HeaderView(
                b"\x01" * 32, None if self.data_root is None else {"height": 7, "data_root": self.data_root.hex()}, 3
            )
        )

    async def height_of(self, block_id: bytes) -> int | None:
        return 7 if block_id == b"\x01" * 32 else None

    async def block_results(self, height: int | None) -> None:
        return None

    async def commit(self, height: int | None) -> None:
        return None

    async def consensus_state(self) -> object:
        return self.consensus

    async def unconfirmed_transactions(self, offset: int, limit: int) -> PendingPage:
        return PendingPage(total=(1 << 64) - 1, total_bytes=offset, transactions=())

    async def check_transaction(self, data: bytes) -> DryRunView:
        return DryRunView(True, "", "", len(data), 1)

    async def transaction_proof(self, transaction_id: bytes) -> object:
        return self.shown_proof

    async def submit_evidence(self, data: bytes) -> bool:
        return len(data) == 1

    async def metrics(self) -> str:
        return (
            "# HELP gensyn_consensus_height Height.\n# TYPE gensyn_consensus_height gauge\ngensyn_consensus_height 7\n"
        )

    async def peers(self) -> tuple[object, ...]:
        return ()

    async def seeds(self) -> tuple[object, ...]:
        return ()

    async def validators(self, height: int | None) -> tuple[ValidatorView, ...]:
        return tuple(ValidatorView(ADDRESS, b"\x03" * 32, 10 - at) for at in range(self.validators_listed))

    async def candidates(self) -> tuple[object, ...]:
        return self.candidates_listed

    async def delegations(self, address: bytes) -> tuple[object, ...]:
        return self.delegated.get(address, ())

    async def block(self, height: int | None) -> BlockView | None:
        if height is not None and height > 7:
            return None
        return BlockView(
            height=7 if height is None else height,
            block_id=b"\x01" * 32,
            time_ms=1_700_000_000_000,
            proposer=ADDRESS,
            app_hash=b"\x02" * 32,
            header=None,
            transactions=(),
            commit_round=0,
            signatures=4,
            bytes=300,
        )

    async def transaction(self, transaction_id: bytes) -> TransactionView | None:
        return self.found

    async def account(self, address: bytes) -> AccountView:
        return AccountView(address=address, balance_nano=5_000_000_000, nonce=2, bonded_nano=0, locked_nano=0)

    async def submit_transaction(self, data: bytes) -> bytes:
        if data == b"\xff":
            raise Rejection(reasons.BAD_PARAMETERS, "no transaction")
        self.submitted.append(data)
        return b"\x07" * 32

    async def wait_transaction(self, transaction_id: bytes, timeout_s: float) -> TransactionView | None:
        return self.outcome

    async def tasks(self, offset: int, limit: int) -> tuple[object, ...]:
        return ()

    async def task(self, task_id: bytes) -> None:
        return None

    async def duties(self) -> tuple[object, ...]:
        return ()

    async def why(self, task_id: bytes) -> tuple[object, ...]:
        return ()

    async def disputes(self, task_id: bytes | None) -> tuple[object, ...]:
        return ()

    async def dispute(self, dispute_id: bytes) -> None:
        raise RuntimeError("the secret of the node is 1234")

    async def providers(self) -> tuple[object, ...]:
        return ()

    async def parameters(self) -> object:
        return devnet_parameters()

    async def governance(self) -> GovernanceView:
        plan = PlanUpgrade("v2", 500, 2)
        return GovernanceView(
            protocol=1, treasury_nano=7_000_000_000, voting=(1,), upgrade=plan, upgrade_known=False, upgrades=()
        )

    async def proposals(self, offset: int, limit: int) -> tuple[ProposalView, ...]:
        return self.proposed[offset : offset + limit]

    async def proposal(self, number: int) -> ProposalView | None:
        return next((one for one in self.proposed if one.number == number), None)

    async def voting_places(self, number: int, address: bytes) -> tuple[VotingPlaceView, ...]:
        return self.places

    async def genesis(self) -> bytes:
        return b"genesis"

    async def supply(self) -> dict[str, int]:
        return {"minted_nano": 1}

    async def program(self, program_id: bytes) -> bytes | None:
        return None

    async def proof(self, key: bytes, height: int | None) -> bytes | None:
        return None

    async def certificate(self, task_id: bytes) -> bytes | None:
        return None

    async def role(self) -> str:
        return self.current_role

    async def why_task(self, task_id: bytes) -> WhyView:
        return self.why_view

    async def why_node(self) -> WhyView:
        return self.why_view

    async def record(self, key: bytes) -> bytes | None:
        return self.records.get(key)

    async def role_report(self) -> object | None:
        return self.report

    async def set_role(self, role: str) -> str:
        self.current_role = role
        return role

    async def blob_info(self, blob_id: bytes) -> BlobInfo | None:
        length = self.lengths.get(blob_id)
        if length is None:
            return None
        chunks, received = chunk_count(length), sum(known == blob_id for known, _ in self.chunks)
        return BlobInfo(blob_id=blob_id, length=length, chunks=chunks, received=received, complete=received == chunks)

    async def blob_put(self, blob_id: bytes, length: int, chunk: int, data: bytes) -> BlobInfo:
        if self.chunks_until_failure == 0:
            raise Rejection(reasons.BAD_PARAMETERS, "the disk is full")
        self.chunks_until_failure -= 1
        self.lengths[blob_id] = length
        self.chunks[blob_id, chunk] = data
        info = await self.blob_info(blob_id)
        assert info is not None
        return info

    async def blob_fetch(self, blob_id: bytes) -> BlobInfo | None:
        return await self.blob_info(blob_id)

    async def blob_get(self, blob_id: bytes, chunk: int) -> bytes | None:
        return self.chunks.get((blob_id, chunk))

    @asynccontextmanager
    async def events(self) -> AsyncIterator[trio.MemoryReceiveChannel[Event]]:
        sender, receiver = trio.open_memory_channel[Event](16)
        self.senders.add(sender)
        try:
            async with receiver:
                yield receiver
        finally:
            self.senders.discard(sender)


@asynccontextmanager
async def serving(node: FakeNode, **settings: object) -> AsyncIterator[str]:
    """The server on a free port; yields its address."""
    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve_rpc, node, RpcSettings(token=TOKEN, **settings))
        yield address
        nursery.cancel_scope.cancel()


@contextmanager
def serving_in_thread(node: FakeNode) -> Iterator[str]:
    """The server in a thread of its own, for clients that block; yields its address."""
    ready: queue.Queue[tuple[str, trio.lowlevel.TrioToken, trio.Event]] = queue.Queue()

    async def main() -> None:
        stop = trio.Event()
        async with serving(node) as address:
            ready.put((address, trio.lowlevel.current_trio_token(), stop))
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(main,), daemon=True)
    thread.start()
    address, token, stop = ready.get(timeout=20)
    try:
        yield address
    finally:
        token.run_sync_soon(stop.set)
        thread.join(timeout=20)
