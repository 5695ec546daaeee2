"""Roles against the real ledger: what a restart, a second draw, a lost transaction or a slow peer may not cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from ledger_world import ASK, DATA, GSN, Actor, World, key, spec
from roles_fakes import FakeBlobs, FakeChain, FakeWorker, account, materials
from test_ledger_disputes import cheated, right_root

from consensus.ledger.duties import DUTY_REVEAL, DUTY_REVEAL_CHALLENGE, DUTY_VERIFY, Duty, duties
from consensus.ledger.messages import (
    APPROVED,
    DISAGREED,
    ROLE_SOLVER,
    ROLE_VERIFIER,
    UNAVAILABLE,
    Finding,
    RegisterProvider,
)
from consensus.ledger.records import Instalment
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles import materials as materials_module
from gensyn_node.roles import whistleblower as whistleblower_module
from gensyn_node.roles.account import Unconfirmed
from gensyn_node.roles.auto import Machine
from gensyn_node.roles.cheats import Cheats
from gensyn_node.roles.market import market
from gensyn_node.roles.materials import Materials, write_durably
from gensyn_node.roles.reasons import BLOB_TOO_LARGE, DISK_FULL, NO_LONGER_OURS, STATE_UNAVAILABLE, WORKER_REFUSED
from gensyn_node.roles.status import Activity
from gensyn_node.roles.verifier import Verifier
from gensyn_node.roles.whistleblower import Whistleblower
from ml.data.manifest import manifest_path, shard_path, write_dataset
from ml.reasons import BAD_CHECKPOINT
from ml.worker.messages import Train, Trained, Verified, Verify

# --- verifier


def verifying(tmp_path: Path, answer: Any) -> tuple[World, FakeChain, bytes, Verifier, Any]:
    """bob, driven by a real Verifier, is the only one who can verify alice's work."""
    world = World()
    world.actors["alice"] = Actor("alice", patient=True)
    for name, roles in (("alice", ROLE_SOLVER), ("bob", ROLE_VERIFIER)):
        world.do(name, RegisterProvider(roles, "cpu", 1 << 30, ASK, 300 * GSN, (name,), name))
    task_id = world.submit(spec(instalments=1, verifiers=1, samples=6))
    chain = FakeChain(world)
    files = materials(tmp_path / "work")
    driver = Verifier(chain, account(chain, "bob"), files, FakeWorker(answer), Activity(), Cheats())  # type: ignore[arg-type]
    return world, chain, task_id, driver, files


def duty_of(world: World, name: str, kind: str) -> Duty:
    world.until(lambda: any(duty.kind == kind for duty in duties(world.ledger, key(name).address, world.height)))
    return next(duty for duty in duties(world.ledger, key(name).address, world.height) if duty.kind == kind)


def agreeing(world_of: dict[str, Any]) -> Any:
    """A worker that computes what the solver claims."""

    def answer(request: Any) -> Any:
        if isinstance(request, Train):
            return Trained(0, 0, world_of["initial"], world_of["initial"], ())
        return Verified(agrees=True, step_roots=(), end_root=request.claimed_end_root, evidence_root=b"\x05" * 32)

    return answer


async def rejection(action: Any, *arguments: Any) -> Rejection:
    with pytest.raises(Rejection) as caught:
        await action(*arguments)
    return caught.value


def test_a_verifier_that_is_cut_off_for_a_while_does_not_blame_the_solver_and_is_drawn_again_afresh(
    tmp_path: Path,
) -> None:
    facts: dict[str, Any] = {}
    world, _, task_id, driver, files = verifying(tmp_path, agreeing(facts))
    duty = duty_of(world, "bob", DUTY_VERIFY)
    facts["initial"] = world.task(task_id).initial_root
    files.served = False

    async def first_draw() -> None:
        assert (await rejection(driver.verify, duty)).reason is STATE_UNAVAILABLE
        assert world.instalment(task_id).verifications[0].state == "drawn"
        while (
            2 * (world.height - world.instalment(task_id).verifications[0].drawn_height)
            < world.parameters.verify_blocks_base
        ):
            world.block()
        await driver.verify(duty)
        await driver.reveal(duty_of(world, "bob", DUTY_REVEAL))

    trio.run(first_draw)
    assert world.instalment(task_id).refusers, "all verdicts were that the states cannot be fetched"
    files.served = True
    again = duty_of(world, "bob", DUTY_VERIFY)

    async def second_draw() -> None:
        await driver.verify(again)
        await driver.reveal(duty_of(world, "bob", DUTY_REVEAL))

    trio.run(second_draw)
    slot = world.instalment(task_id).verifications[0]
    assert slot.state == "revealed" and {finding.verdict for finding in slot.findings} == {APPROVED}
    assert "verifier_missed" not in world.kinds()


def test_a_verdict_survives_a_restart_between_commit_and_reveal(tmp_path: Path) -> None:
    facts: dict[str, Any] = {}
    world, chain, task_id, driver, _ = verifying(tmp_path, agreeing(facts))
    duty = duty_of(world, "bob", DUTY_VERIFY)
    facts["initial"] = world.task(task_id).initial_root
    trio.run(driver.verify, duty)
    restarted = Verifier(
        chain,
        account(chain, "bob"),
        materials(tmp_path / "work"),
        FakeWorker(str),  # type: ignore[arg-type]
        Activity(),
        Cheats(),
    )
    trio.run(restarted.reveal, duty_of(world, "bob", DUTY_REVEAL))
    assert chain.sent == ["applied", "applied"]
    trio.run(lambda: rejection(restarted.reveal, Duty(DUTY_REVEAL, task_id, 2, 0, 0)))


def test_what_is_approved_is_held_to_its_end_for_whoever_comes_after_the_solver(tmp_path: Path) -> None:
    """The last state of an instalment starts the next solver, or is the model: its root is checked, and it is kept."""
    facts: dict[str, Any] = {}
    world, _, task_id, driver, files = verifying(tmp_path, agreeing(facts))
    duty = duty_of(world, "bob", DUTY_VERIFY)
    facts["initial"] = world.task(task_id).initial_root
    trio.run(driver.verify, duty)
    last_step = max(work.first_step + work.steps for work in duty.segments)
    assert (world.instalment(task_id).segment_roots[-1], last_step) in [(root, step) for root, _, step in files.asked]


def test_an_instalment_whose_last_state_is_another_one_is_not_approved(tmp_path: Path) -> None:
    facts: dict[str, Any] = {}
    agree = agreeing(facts)

    def answer(request: Any) -> Any:
        if isinstance(request, Verify) and request.start_root == world.instalment(task_id).segment_roots[-1]:
            raise Rejection(WORKER_REFUSED, f"{BAD_CHECKPOINT.code} another state")
        return agree(request)

    world, _, task_id, driver, _ = verifying(tmp_path, answer)
    duty = duty_of(world, "bob", DUTY_VERIFY)
    facts["initial"] = world.task(task_id).initial_root

    async def judge() -> None:
        await driver.verify(duty)
        await driver.reveal(duty_of(world, "bob", DUTY_REVEAL))

    trio.run(judge)
    assert world.instalment(task_id).refusers, "the verdict was that the states cannot be fetched"


def test_a_verification_of_another_attempt_is_left(tmp_path: Path) -> None:
    world, chain, task_id, driver, _ = verifying(tmp_path, None)
    duty_of(world, "bob", DUTY_VERIFY)
    stale = Duty(DUTY_VERIFY, task_id, 7, 0, 1_000)
    assert trio.run(rejection, driver.verify, stale).reason is NO_LONGER_OURS
    assert chain.sent == []


# --- whistleblower


class Auditor:
    """A verifier that finds a given end root in every segment it is asked about; it was never drawn as a watch."""

    watched_s = 0.0

    def __init__(self, world: World, task_id: bytes) -> None:
        self._world, self._task_id = world, task_id

    async def examine_segment(self, task: Any, attempt: int, job: Any, work: Any) -> Finding:
        await trio.lowlevel.checkpoint()
        right = right_root(self._world, self._task_id, work.segment)
        return (
            Finding(work.segment, DISAGREED, right)
            if right != work.end_root
            else Finding(work.segment, UNAVAILABLE, b"")
        )


def whistleblower(chain: FakeChain, name: str, folder: Path, task_id: bytes) -> Whistleblower:
    finder = Auditor(chain.world, task_id)
    return Whistleblower(chain, account(chain, name), materials(folder), finder, Activity())  # type: ignore[arg-type]


MACHINE = Machine(1 << 40, "cpu", False, False, 0, 1)


async def audit_until_sent(chain: FakeChain, node: Whistleblower, name: str) -> None:
    """The segment is drawn at random: look until the wrong one was found, never at one twice."""
    while (look := node.next_look(MACHINE, market(chain.view(), key(name).address), chain.head_height())) is not None:
        await node.audit(look)
        if chain.sent:
            return
    raise AssertionError("never found")


async def look_everywhere(node: Whistleblower, chain: FakeChain, name: str, task_id: bytes) -> None:
    await node.cross_check(task_id, 0)
    while (look := node.next_look(MACHINE, market(chain.view(), key(name).address), chain.head_height())) is not None:
        await node.audit(look)


def test_a_finder_that_restarts_between_announcing_and_showing_keeps_its_find(tmp_path: Path) -> None:
    world, task_id, _, others = cheated()
    chain, name = FakeChain(world), others[0].name
    folder = tmp_path / "work"
    trio.run(audit_until_sent, chain, whistleblower(chain, name, folder, task_id), name)
    assert chain.sent == ["applied"]

    trio.run(look_everywhere, whistleblower(chain, name, folder, task_id), chain, name, task_id)
    assert chain.sent == ["applied"], "the pending challenge is not announced again"
    world.block()
    restarted = whistleblower(chain, name, folder, task_id)
    trio.run(restarted.reveal, duty_of(world, name, DUTY_REVEAL_CHALLENGE))
    assert chain.sent == ["applied", "applied"]
    trio.run(look_everywhere, whistleblower(chain, name, folder, task_id), chain, name, task_id)
    assert chain.sent == ["applied", "applied"], "what was shown is not announced again"


def test_an_announcement_that_got_lost_is_sent_again_as_it_was(tmp_path: Path) -> None:
    world, task_id, _, others = cheated()
    chain, name = FakeChain(world), others[0].name
    node = whistleblower(chain, name, tmp_path / "work", task_id)

    async def lose_one() -> None:
        chain.lost = True
        with pytest.raises(Unconfirmed):
            await audit_until_sent(chain, node, name)
        chain.lost = False

    trio.run(lose_one)
    written = {path: path.read_bytes() for path in (tmp_path / "work").rglob("challenge-*")}
    assert len(written) == 1

    async def look_again() -> None:
        look = node.next_look(MACHINE, market(chain.view(), key(name).address), chain.head_height())
        assert look is not None, "it is looked at again"
        await node.audit(look)

    trio.run(look_again)
    assert chain.sent == ["applied"]
    assert written == {path: path.read_bytes() for path in written}


class Drawn(Auditor):
    """A verifier that was drawn, with what it showed."""

    def __init__(self, world: World, task_id: bytes, shown: tuple[Finding, ...]) -> None:
        super().__init__(world, task_id)
        self._shown = shown

    async def own_findings(self, instalment: Instalment) -> tuple[Finding, ...]:
        await trio.lowlevel.checkpoint()
        return self._shown


@pytest.mark.parametrize("same_draw", [True, False])
def test_own_evidence_is_held_against_whoever_was_drawn_with_it(
    same_draw: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others were drawn after both had shown theirs, so that the instalment has another key by now."""
    world = World()
    world.crew("alice", "bob", "carol", "dave")
    task_id = world.submit(spec(instalments=1, verifiers=2, samples=6))
    world.until(lambda: world.task(task_id).committed == 1 and world.instalment(task_id).state == "window")
    instalment = world.instalment(task_id)
    own, other = (slot for slot in instalment.verifications if not slot.watch)
    made_up = tuple(msgspec.structs.replace(one, root=b"\x05" * 32) for one in other.findings)
    drawn_with = own.evidence_beacon if same_draw else b"\x08" * 32
    lazy = msgspec.structs.replace(other, findings=made_up, evidence_beacon=drawn_with)
    later = msgspec.structs.replace(instalment, verifications=(own, lazy), evidence_beacon=b"\x07" * 32)
    monkeypatch.setattr(whistleblower_module, "_instalment", lambda *_: later)
    chain, name = FakeChain(world), world.name_of(own.verifier)
    finder = Drawn(world, task_id, own.findings)
    node = Whistleblower(chain, account(chain, name), materials(tmp_path), finder, Activity())  # type: ignore[arg-type]
    trio.run(node.cross_check, task_id, 0)
    assert chain.sent == (["applied"] if same_draw else [])


# --- materials


def test_what_strangers_name_is_not_downloaded_beyond_what_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    world.register(Actor("alice", silent=True))
    order = spec(dataset_manifest=b"\x09" * 32)
    task_id = world.submit(order)
    blobs = FakeBlobs(tmp_path)
    blobs.put(b"\x09" * 32, b"", size=1 << 40)
    files = Materials(tmp_path, blobs, 1)  # type: ignore[arg-type]
    task = world.task(task_id)
    assert trio.run(rejection, files.job, world.ledger, task).reason is BLOB_TOO_LARGE
    state = blobs.put(b"\x08" * 32, b"", size=1 << 30)

    async def fetch(bytes_max: int) -> None:
        await files.fetch_state(task, b"", state, 2, files.states(task_id, "own"), bytes_max)

    assert trio.run(rejection, fetch, 1 << 20).reason is BLOB_TOO_LARGE
    assert blobs.fetched == []
    assert trio.run(rejection, fetch, 1 << 62).reason is DISK_FULL
    monkeypatch.setattr(materials_module, "DISK_RESERVE_BYTES", 0)
    trio.run(fetch, 1 << 30)
    assert blobs.fetched == [state]


def test_two_duties_of_one_task_may_lay_out_its_data_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verifying two instalments: the second had the first one's half-made manifest under its hands."""
    world = World()
    world.register(Actor("alice", silent=True))
    source = tmp_path / "source"
    manifest = write_dataset(source, {"x": DATA})
    data = manifest_path(source).read_bytes()
    blobs = FakeBlobs(tmp_path)
    blobs.put(b"\x09" * 32, data)
    for shard in manifest.blobs:
        blobs.put(shard.blob_id, shard_path(source, shard.blob_id).read_bytes())
    task_id = world.submit(spec(dataset_manifest=b"\x09" * 32))
    files = Materials(tmp_path / "work", blobs, 1)  # type: ignore[arg-type]
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(materials_module, "DISK_RESERVE_BYTES", 0)
    write, written = trio.Path.write_bytes, trio.Event()
    writing: list[trio.Path] = []

    async def slowly(self: trio.Path, content: bytes) -> None:
        await write(self, content)
        writing.append(self)
        if len(writing) == 2:
            written.set()
        await written.wait()

    monkeypatch.setattr(trio.Path, "write_bytes", slowly)

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(files.job, world.ledger, world.task(task_id))

    trio.run(both)
    folder = files.task_folder(task_id) / "data"
    assert manifest_path(folder).read_bytes() == data
    assert not [path.name for path in folder.iterdir() if "new" in path.name]


def test_only_task_folders_are_taken_for_tasks(tmp_path: Path) -> None:
    files = materials(tmp_path)
    for name in ("z" * 64, "ab" * 32, "cache", "AB" * 32):
        (tmp_path / name).mkdir()
    assert files.tasks() == [b"\xab" * 32]
    files.forget(b"\xab" * 32)
    files.forget(b"\xcd" * 32)
    assert files.tasks() == []


def test_a_durable_write_replaces_the_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "verdict"
    write_durably(target, b"first, longer")
    write_durably(target, b"second")
    assert target.read_bytes() == b"second" and [path.name for path in tmp_path.iterdir()] == ["verdict"]
