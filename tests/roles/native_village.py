"""Whole nodes' roles around one ledger, without processes or sockets: runners, real files, a worker in this process."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing
from ledger_world import GSN, World, key, spec
from roles_fakes import FakeChain

from consensus.ledger.messages import PublishProgram, SubmitTask
from consensus.ledger.records import TASK_ENDED, Task
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles import runner as runner_module
from gensyn_node.roles.cheats import Cheats
from gensyn_node.roles.materials import Materials
from gensyn_node.roles.reasons import WORKER_REFUSED
from gensyn_node.roles.runner import RoleRunner, RoleSettings
from gensyn_node.roles.scheduler import Turnstile
from ml.data.manifest import write_dataset
from ml.presets import Built, build
from ml.worker.messages import Failed, Reply, Request
from ml.worker.service import answer
from p2p.api import BlobProgress, BlobUnavailable
from proofs.program.types import program_id

ASK = 50_000_000


class Worker:
    """Does every request at once, in this process."""

    def __init__(self, settings: Any) -> None:
        self.turnstile = Turnstile()
        self.on_step: Callable[[int, float], None] = lambda gas, seconds: None
        self.sandbox = ()
        self.asked: list[str] = []

    @property
    def busy(self) -> bool:
        return False

    async def run(self, request: Request, fresh: bool = False) -> AsyncIterator[Reply]:
        self.asked.append(type(request).__name__)
        replies: list[Reply] = []
        last = answer(request, replies.append, threading.Event())
        for reply in replies:
            await trio.lowlevel.checkpoint()
            yield reply
        if isinstance(last, Failed):
            raise Rejection(WORKER_REFUSED, f"{last.code} {last.message}")
        yield last

    async def final(self, request: Request, fresh: bool = False) -> Reply:
        return [reply async for reply in self.run(request, fresh)][-1]

    async def warm_up(self) -> None:
        await trio.lowlevel.checkpoint()

    async def supervise(self) -> None:
        await trio.sleep_forever()

    async def stop(self) -> None:
        await trio.lowlevel.checkpoint()


class Blobs:
    """One store that everybody reads; what is `hidden` nobody gets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._aliases: dict[bytes, bytes] = {}
        self.hides: Callable[[Path], bool] = lambda _: False
        self.hidden: set[bytes] = set()

    def _path(self, blob_id: bytes) -> Path:
        return self._folder / blob_id.hex()

    def has(self, blob_id: bytes) -> bool:
        return blob_id not in self.hidden and self._path(blob_id).exists()

    async def add_file(self, source: Path) -> bytes:
        await trio.lowlevel.checkpoint()
        data = await trio.Path(source).read_bytes()
        blob_id = sha256(data).digest()
        self._path(blob_id).write_bytes(data)
        if self.hides(source):
            self.hidden.add(blob_id)
        return blob_id

    async def fetch(self, blob_id: bytes, *, progress: Callable[[BlobProgress], None]) -> Path:
        await trio.lowlevel.checkpoint()
        if not self.has(blob_id):
            raise BlobUnavailable("nobody has it")
        size = self._path(blob_id).stat().st_size
        progress(BlobProgress(blob_id, 0, size, 1))
        return self._path(blob_id)

    async def remove(self, blob_id: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._path(blob_id).unlink(missing_ok=True)

    def count(self) -> int:
        return len(list(self._folder.iterdir()))

    def add_alias(self, name: bytes, blob_id: bytes) -> None:
        self._aliases[name] = blob_id

    def resolve(self, name: bytes) -> bytes | None:
        return self._aliases.get(name)

    async def lookup(self, name: bytes) -> dict[bytes, tuple[str, ...]]:
        await trio.lowlevel.checkpoint()
        return {}


class Chain(FakeChain):
    """The same ledger for everybody, with one channel a runner."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._readers: list[trio.MemorySendChannel[int]] = []

    def next_block(self) -> None:
        self.world.block()
        for reader in self._readers:
            reader.send_nowait(self.world.height)

    @asynccontextmanager
    async def _blocks(self) -> AsyncIterator[trio.MemoryReceiveChannel[int]]:
        send, receive = trio.open_memory_channel[int](1_000)
        self._readers.append(send)
        yield receive


class Village:
    """Nodes with roles. `cheats` by name; data and program are a small perceptron's."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, folder: Path, world: World, built: Built, cheats: dict[str, Cheats]
    ) -> None:
        self.world, self.chain, self.built = world, Chain(world), built
        self.blobs = Blobs(folder / "blobs")
        data = folder / "data"
        self.manifest = write_dataset(data, table())

        async def dataset(self: Materials, task_id: bytes, order: Any) -> Path:
            await trio.lowlevel.checkpoint()
            return data

        monkeypatch.setattr(Materials, "_dataset", dataset)
        monkeypatch.setattr(runner_module, "Worker", Worker)
        self.runners = {name: self._runner(name, folder / name, cheats.get(name, Cheats())) for name in NAMES}

    def _runner(self, name: str, folder: Path, cheats: Cheats) -> RoleRunner:
        folder.mkdir()
        node = SimpleNamespace(chain=self.chain, blobs=self.blobs)
        places = (folder / "work", folder / "kernels", folder / "log")
        settings = RoleSettings("auto", True, name, ASK, 0, 1 << 40, 1, *places, cheats)
        return RoleRunner(node, key(name), name, settings)

    def submit(self, **changes: Any) -> bytes:
        """A native task of 4 segments of 3 steps; its id."""
        tensors = {tensor.name: tensor for tensor in self.manifest.dataset}
        order = spec(
            arithmetic="native",
            program_id=program_id(self.built.program),
            dataset=tuple(tensors[item.name] for item in self.built.program.batch),
            segment_steps=3,
            samples=4,
            instalments=1,
            **changes,
        )
        self.world.do("submitter", PublishProgram(encode(self.built.program)))
        return self.world.do("submitter", SubmitTask(order)).transaction_id

    def finish(self, task_id: bytes, blocks: int = 600) -> Task:
        """Let everybody work until the task has ended."""

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for runner in self.runners.values():
                    nursery.start_soon(runner.run)
                await trio.testing.wait_all_tasks_blocked()
                for _ in range(blocks):
                    if self.world.task(task_id).state in TASK_ENDED:
                        break
                    self.chain.next_block()
                    await trio.testing.wait_all_tasks_blocked()
                for _ in range(3):
                    self.chain.next_block()
                    await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=3600))
        return self.world.task(task_id)


NAMES = ("alice", "bob", "carol", "dave")
BOND = 300 * GSN


def table() -> dict[str, Any]:
    """100 records that a line separates."""
    generator = np.random.default_rng(1)
    x = generator.standard_normal((100, 12)).astype(np.float32)
    return {"x": x, "y": np.argmax(x[:, :3], axis=1).astype(np.int64)}


def perceptron() -> Built:
    """Small enough to be trained many times over in a test."""
    preset = {"name": "mlp", "inputs": 12, "classes": 3, "widths": [9]}
    return build(preset, {"name": "sgd", "lr": 0.1, "momentum": 0.9}, 10)
