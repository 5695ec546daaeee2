"""A verifier behind a slow link: real sockets on loopback, through which so many bytes pass a block."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from ledger_world import ASK, GSN, Actor, World, key, spec
from roles_fakes import FakeChain, FakeWorker, account
from test_ledger_slow_links import STATE_BYTES, slow_parameters

from consensus.ledger.duties import DUTY_VERIFY, Duty, duties
from consensus.ledger.messages import APPROVED, ROLE_SOLVER, ROLE_VERIFIER, UNAVAILABLE, RegisterProvider
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles import materials as materials_module
from gensyn_node.roles.cheats import Cheats
from gensyn_node.roles.materials import Materials
from gensyn_node.roles.patience import fetch_patience, within
from gensyn_node.roles.reasons import STATE_UNAVAILABLE
from gensyn_node.roles.status import Activity
from gensyn_node.roles.verifier import Verifier
from ml.worker.messages import Job, Train, Trained, Verified
from p2p.api import BlobProgress

FLOOR = 10
"""Bytes a block that the chain waits for."""


class ThrottledBlobs:
    """States from a server on loopback that lets a budget of bytes through; every block adds to it."""

    def __init__(self, folder: Path, bytes_per_block: int) -> None:
        self._folder, self._bytes_per_block = folder, bytes_per_block
        self._budget, self._more = 0, trio.Event()
        self.sent = self.received = 0
        self._port = 0

    async def serve(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self._port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._send, listeners, task_status=task_status)

    async def _send(self, stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(STATE_BYTES):
            while not self._budget:
                await self._more.wait()
            self._budget -= 1
            self.sent += 1
            try:
                await stream.send_all(b"\x07")
            except trio.BrokenResourceError:
                return

    async def next_block(self) -> None:
        """Let more through, and wait until what was sent has arrived."""
        self._budget = self._bytes_per_block
        self._more.set()
        self._more = trio.Event()
        quiet = 0
        for _ in range(1_000):  # What was under way when somebody hung up never arrives.
            await trio.lowlevel.checkpoint()
            quiet = quiet + 1 if self.received >= self.sent else 0
            if quiet == 20:
                return

    async def fetch(self, blob_id: bytes, *, progress: Callable[[BlobProgress], None]) -> Path:
        path = self._folder / blob_id.hex()
        progress(BlobProgress(blob_id, 0, STATE_BYTES, 1))
        data = b""
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with stream:
            while len(data) < STATE_BYTES:
                part = await stream.receive_some(STATE_BYTES)
                self.received += len(part)
                data += part
        path.write_bytes(data)
        return path

    def has(self, blob_id: bytes) -> bool:
        return False

    def resolve(self, name: bytes) -> bytes:
        return name

    async def lookup(self, name: bytes) -> dict[bytes, tuple[str, ...]]:
        await trio.lowlevel.checkpoint()
        return {}


class StatesOnly(Materials):
    """Data are here already; states come over the link."""

    async def job(self, view: Any, task: Any, fault: Any = None) -> Job:
        await trio.lowlevel.checkpoint()
        return Job(b"", "", task.seed, "", 1)


def verifying(folder: Path, bytes_per_block: int) -> tuple[World, FakeChain, bytes, Verifier, ThrottledBlobs, Duty]:
    """bob has to verify alice's six segments over the link."""
    world = World(slow_parameters(FLOOR))
    world.actors["alice"] = Actor("alice", patient=True)
    for name, roles in (("alice", ROLE_SOLVER), ("bob", ROLE_VERIFIER)):
        world.do(name, RegisterProvider(roles, "cpu", 1 << 30, ASK, 300 * GSN, (name,), name))
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=6))

    def due() -> list[Duty]:
        return [d for d in duties(world.ledger, key("bob").address, world.height) if d.kind == DUTY_VERIFY]

    world.until(lambda: due())
    initial = world.task(task_id).initial_root

    def answer(request: Any) -> Any:
        if isinstance(request, Train):
            return Trained(0, 0, initial, initial, ())
        return Verified(agrees=True, step_roots=(), end_root=request.claimed_end_root, evidence_root=b"\x05" * 32)

    chain, blobs = FakeChain(world), ThrottledBlobs(folder, bytes_per_block)
    files = StatesOnly(folder, blobs, 1)  # type: ignore[arg-type]
    driver = Verifier(chain, account(chain, "bob"), files, FakeWorker(answer), Activity(), Cheats())  # type: ignore[arg-type]
    return world, chain, task_id, driver, blobs, due()[0]


@pytest.mark.parametrize(
    ("bytes_per_block", "verdict"), [(FLOOR, APPROVED), (3 * FLOOR, APPROVED), (2, UNAVAILABLE), (0, UNAVAILABLE)]
)
def test_a_slow_link_costs_no_bond(
    bytes_per_block: int, verdict: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the speed that is waited for, it verifies; below, it says in time what it could not fetch."""
    monkeypatch.setattr(materials_module, "DISK_RESERVE_BYTES", 0)
    world, _, task_id, driver, blobs, duty = verifying(tmp_path, bytes_per_block)
    told: list[int] = []
    drawn = world.instalment(task_id).verifications[0].drawn_height
    patience = fetch_patience(drawn, duty.due_height, world.task(task_id).fetch_blocks)

    async def verify() -> None:
        await driver.verify(duty)
        told.append(world.height)

    async def main() -> None:
        with trio.fail_after(10_000):  # Of the test's own clock.
            await verify_behind(blobs)

    async def verify_behind(blobs: ThrottledBlobs) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(blobs.serve)
            nursery.start_soon(verify)
            while not told:
                # Then time stands still: it has to speak without being waited for any longer.
                if world.height <= patience:
                    await blobs.next_block()
                    world.block()
                await trio.sleep(1)
            nursery.cancel_scope.cancel()

    # The clock runs on by itself only after a moment in which nothing happens: files are written in a thread.
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.003))
    assert told[0] <= patience + 2 <= duty.due_height
    slot = world.instalment(task_id).verifications[0]
    assert slot.state == "committed" and "verifier_missed" not in world.kinds()
    for file in tmp_path.rglob("verdict-*"):
        findings = trio.run(driver.own_findings, world.instalment(task_id))
        assert file.exists() and {one.verdict for one in findings if one.segment} == {verdict}


@pytest.mark.parametrize(
    ("drawn", "due", "fetching", "until"),
    [(100, 220, 0, 160), (100, 220, 30, 160), (100, 1_000, 700, 801), (100, 200, 95, 190), (100, 101, 0, 100)],
)
def test_patience_is_half_of_the_time_or_what_is_given_for_fetching(
    drawn: int, due: int, fetching: int, until: int
) -> None:
    assert fetch_patience(drawn, due, fetching) == until < due


def test_what_is_refused_within_the_time_is_refused_as_it_is(tmp_path: Path) -> None:
    chain = FakeChain(World())

    async def refuse() -> None:
        await trio.lowlevel.checkpoint()
        raise Rejection(STATE_UNAVAILABLE, "nobody has it")

    async def main() -> None:
        with pytest.raises(Rejection, match="nobody has it"):
            await within(chain, 10**6, refuse)
        assert await within(chain, 0, trio.sleep_forever) is None

    trio.run(main)
