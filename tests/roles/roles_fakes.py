"""What a role needs of a node, played: a chain that makes a block of every transaction, blobs, and a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from ledger_world import CHAIN, World, id_of, key

from consensus.ledger import queries
from consensus.ledger.memory import MemoryLedger
from consensus.ledger.parameters import Parameters
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.account import NodeAccount
from gensyn_node.roles.api import TransactionOutcome
from gensyn_node.roles.materials import Materials
from gensyn_node.roles.reasons import STATE_UNAVAILABLE
from ml.worker.messages import ExamineNative, Job, NativeExamined
from p2p.api import BlobProgress, BlobUnavailable


class FakeChain:
    """Puts each transaction into a block of its own at once; `lost` transactions never get into one."""

    chain_id = CHAIN

    def __init__(self, world: World) -> None:
        self.world = world
        self.lost = False
        self.sent: list[str] = []
        self._outcomes: dict[bytes, TransactionOutcome] = {}
        self._send, self._receive = trio.open_memory_channel[int](100)

    @property
    def parameters(self) -> Parameters:
        return self.world.parameters

    def head_height(self) -> int:
        return self.world.height

    def syncing(self) -> bool:
        return False

    def view(self) -> MemoryLedger:
        return self.world.ledger.copy()

    def next_nonce(self, address: bytes) -> int:
        return queries.account(self.world.ledger, address).nonce

    async def submit_transaction(self, data: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.lost:
            result = self.world.raw_block(data)[0]
            self.sent.append(result.code or "applied")
            self._outcomes[id_of(data)] = TransactionOutcome(
                id_of(data), self.world.height, result.applied, result.code, result.message
            )
        return id_of(data)

    async def wait_transaction(self, transaction_id: bytes, timeout_s: float) -> TransactionOutcome | None:
        await trio.lowlevel.checkpoint()
        return self._outcomes.get(transaction_id)

    def next_block(self) -> None:
        """One empty block, told to whoever reads `blocks`."""
        self.world.block()
        self._send.send_nowait(self.world.height)

    def blocks(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[int]]:
        return self._blocks()

    @asynccontextmanager
    async def _blocks(self) -> AsyncIterator[trio.MemoryReceiveChannel[int]]:
        yield self._receive


class FakeBlobs:
    """Blobs of any announced size; only small ones are ever written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sizes: dict[bytes, int] = {}
        self.fetched: list[bytes] = []

    def put(self, name: bytes, data: bytes, size: int | None = None) -> bytes:
        (self._folder / name.hex()).write_bytes(data)
        self.sizes[name] = len(data) if size is None else size
        return name

    def has(self, blob_id: bytes) -> bool:
        return False

    async def fetch(self, blob_id: bytes, *, progress: Callable[[BlobProgress], None]) -> Path:
        if blob_id not in self.sizes:
            raise BlobUnavailable("nobody has it")
        progress(BlobProgress(blob_id, 0, self.sizes[blob_id], 1))
        await trio.lowlevel.checkpoint()
        self.fetched.append(blob_id)
        return self._folder / blob_id.hex()

    def resolve(self, name: bytes) -> bytes | None:
        return None

    async def lookup(self, name: bytes) -> dict[bytes, tuple[str, ...]]:
        await trio.lowlevel.checkpoint()
        return {}


class FakeWorker:
    """Answers every request by what the test says, but for the self-test of vendor kernels: that one passes."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self._answer = answer
        self.busy = False
        self.sandbox = ()

    async def final(self, request: Any, fresh: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        return NativeExamined(()) if isinstance(request, ExamineNative) else self._answer(request)

    async def warm_up(self) -> None:
        await trio.lowlevel.checkpoint()

    async def supervise(self) -> None:
        await trio.sleep_forever()

    async def stop(self) -> None:
        await trio.lowlevel.checkpoint()


class HandyMaterials(Materials):
    """Materials without data: the job is empty, and states are there or not as the test says."""

    served = True

    async def job(self, view: Any, task: Any, fault: Any = None) -> Job:
        await trio.lowlevel.checkpoint()
        return Job(b"", "", task.seed, "", 1)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[tuple[bytes, bytes, int]] = []
        """(root, blob, step) of the states asked for."""

    async def fetch_state(self, *arguments: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(arguments[1:4])
        if not self.served:
            raise Rejection(STATE_UNAVAILABLE, "nobody has it")


def materials(folder: Path) -> HandyMaterials:
    folder.mkdir(exist_ok=True)
    return HandyMaterials(folder, FakeBlobs(folder), 1)  # type: ignore[arg-type]


def account(chain: FakeChain, name: str) -> NodeAccount:
    return NodeAccount(chain, key(name))
