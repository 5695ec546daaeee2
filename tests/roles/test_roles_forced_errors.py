"""A solver's part in forced errors: the wrong state, what is on disk before a message, a restart at every point."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from ledger_world import PROGRAM, Actor, Run, World, key, spec
from roles_fakes import FakeChain, FakeWorker, HandyMaterials, account
from safetensors.numpy import load_file, save_file

from consensus.ledger import queries
from consensus.ledger.duties import DUTY_CONTEST, DUTY_OPEN, DUTY_START, DUTY_TRAIN, DUTY_UNSEAL, Duty, duties
from consensus.ledger.messages import CommitInstalment, RegisterProvider, StartTask, decode_transaction
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.cheats import Cheats
from gensyn_node.roles.forced_errors import OPENING_AFTER_BLOCKS, ForcedErrors
from gensyn_node.roles.materials import OWN
from gensyn_node.roles.reasons import SECRET_LOST
from gensyn_node.roles.status import Activity
from gensyn_node.roles.verifier import Verifier
from gensyn_node.roles.wrong_state import make_wrong_state, root_of_file
from ml.worker.messages import state_path
from proofs import tensors

# --- the wrong state


def bits(path: Path) -> dict[str, Any]:
    return {name: value.reshape(-1).view(np.uint32) for name, value in load_file(path).items()}


def test_a_wrong_state_differs_in_the_last_bit_of_one_number_that_moved(tmp_path: Path) -> None:
    before, right, wrong = (tmp_path / name for name in ("before", "right", "wrong"))
    still, moving = np.ones(64, np.float32), np.zeros((8, 8), np.float32)
    moving[3, 4] = moving[5, 5] = 2
    save_file({"a": still, "b": moving, "step": np.array(7)}, before)
    moving[3, 4] = 3
    save_file({"a": still, "b": moving, "step": np.array(8)}, right)
    make_wrong_state(right, before, wrong)
    assert np.flatnonzero(bits(right)["b"] ^ bits(wrong)["b"]).tolist() == [3 * 8 + 4]
    assert (bits(right)["b"] ^ bits(wrong)["b"]).max() == 1
    assert load_file(wrong)["step"] == 8 and np.array_equal(load_file(wrong)["a"], still)
    assert right.stat().st_size == wrong.stat().st_size


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.0])
def test_numbers_that_would_show_are_left_alone(tmp_path: Path, value: float) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    numbers = np.full(16, value, np.float32)
    numbers[7] = 1
    save_file({"a": numbers}, right)
    make_wrong_state(right, None, wrong)
    assert np.flatnonzero(bits(right)["a"] ^ bits(wrong)["a"]).tolist() == [7]


def test_the_root_of_a_file_is_the_states(tmp_path: Path) -> None:
    run = Run(bytes(32))
    save_file({"parameter.w": run.state(3)}, tmp_path / "state")
    assert root_of_file(PROGRAM, 3, tmp_path / "state") == run.state_roots(3, 0)[0]


# --- the duties, against the ledger


class Kept(HandyMaterials):
    """Materials whose published states are remembered."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, None, 1)
        self.published: dict[bytes, Path] = {}

    async def publish_state(self, root: bytes, path: Path) -> bytes:
        await trio.lowlevel.checkpoint()
        self.published[root] = path
        return tensors.blake3(root).digest()


class Rehearsal:
    """alice solves by the real driver, made anew for every duty; bob and carol verify as the ledger's actors."""

    def __init__(self, folder: Path, rate: int) -> None:
        self.world = World()
        for actor in (Actor("bob"), Actor("carol")):
            self.world.actors[actor.name] = actor
        for name, roles in (("alice", 1), ("bob", 2), ("carol", 2)):
            self.world.do(name, RegisterProvider(roles, "cpu", 1 << 30, 10**14, 300 * 10**9, (name,), name))
        self.order = spec(instalments=2, samples=6, forced_error_bps=rate, max_price_nano=40 * 10**9)
        self.task_id = self.world.submit(self.order)
        self.chain: FakeChain = FakeChain(self.world)
        self.materials = Kept(folder)
        # A secret of which the chain of this test draws an error at once, and none when errors are rare.
        (self.materials.states(self.task_id, OWN) / "secret-1").write_bytes(sha256(b"secret 2").digest())

    @property
    def driver(self) -> ForcedErrors:
        return ForcedErrors(self.chain, account(self.chain, "alice"), self.materials)  # type: ignore[arg-type]

    @property
    def run(self) -> Run:
        return Run(self.world.task(self.task_id).seed)

    def duty(self) -> Duty | None:
        kinds = (DUTY_START, DUTY_TRAIN, DUTY_OPEN, DUTY_UNSEAL)
        found = duties(self.world.ledger, key("alice").address, self.world.height)
        return next((duty for duty in found if duty.kind in kinds), None)

    async def answer(self, duty: Duty) -> None:
        """What the runner would do, by a driver that knows nothing but the disk."""
        task, driver = self.world.task(self.task_id), self.driver
        match duty.kind:
            case "start":
                self.world.do("alice", StartTask(self.task_id, await driver.anchor(task, self.order)))
            case "train":
                states = self.materials.states(self.task_id, OWN)
                for step in range(duty.first_step, duty.first_step + duty.steps + 1):
                    save_file({"parameter.w": self.run.state(step)}, state_path(states, step))
                roots = Actor("alice").roots(self.run, self.order, duty.instalment)
                seal = await driver.seal(duty, self.order, roots, (1, 2, 3))
                initial = b"" if duty.instalment else self.run.state_roots(0, 0)[0]
                commit = CommitInstalment(self.task_id, duty.instalment, initial, (), (), (), ("alice",), seal)
                self.world.do("alice", commit)
            case "open":
                await driver.open(duty)
            case "unseal":
                await driver.unseal(duty)

    async def play(self) -> None:
        while not self.world.task(self.task_id).ended_height:
            duty = self.duty()
            if duty is not None:
                with suppress(KilledError):
                    await self.answer(duty)
            self.world.step()
            assert self.world.height < 600


@pytest.mark.parametrize("rate", [100, 9_000])
def test_a_solver_that_is_restarted_for_every_duty_loses_nothing(tmp_path: Path, rate: int) -> None:
    rehearsal = Rehearsal(tmp_path, rate)
    trio.run(rehearsal.play)
    world, task = rehearsal.world, rehearsal.world.task(rehearsal.task_id)
    assert task.state == "finished" and task.attempt == 1 and "slashed" not in world.kinds()
    assert task.settled_root == rehearsal.run.state_roots(12, 0)[0]
    outcomes = [world.instalment(rehearsal.task_id, number).outcome for number in range(2)]
    assert outcomes == ["right" if rate == 100 else "forced"] * 2
    jackpots = [event.get("amount_nano") for event in world.events if event.kind == "jackpot_paid"]
    assert len(jackpots) == 2 * outcomes.count("forced") and all(jackpots)
    for number in range(2):
        instalment = world.instalment(rehearsal.task_id, number)
        assert all(tensors.blake3(root).digest() in instalment.state_blobs for root in instalment.segment_roots)
        assert instalment.losses == (1, 2, 3)


class KilledError(Exception):
    """kill -9: nothing of the driver is left but its files."""


class Mortal(FakeChain):
    """Its node is killed when it first sends a message of each kind: before that is out, or right after."""

    def __init__(self, world: World, out: bool) -> None:
        super().__init__(world)
        self.killed: list[str] = []
        self._out = out

    async def submit_transaction(self, data: bytes) -> bytes:
        kind = type(decode_transaction(data).message).__name__
        if kind in self.killed:
            return await super().submit_transaction(data)
        self.killed.append(kind)
        if self._out:
            await super().submit_transaction(data)
        raise KilledError(kind)


@pytest.mark.parametrize("out", [False, True], ids=["before it is out", "right after"])
@pytest.mark.parametrize("rate", [100, 9_000])
def test_a_solver_killed_at_its_opening_and_at_its_secret_goes_on_and_is_whole(
    tmp_path: Path, rate: int, out: bool
) -> None:
    rehearsal = Rehearsal(tmp_path, rate)
    mortal = rehearsal.chain = Mortal(rehearsal.world, out)
    trio.run(rehearsal.play)
    assert mortal.killed == ["OpenInstalment", "RevealSecret"]
    task = rehearsal.world.task(rehearsal.task_id)
    assert task.state == "finished" and task.attempt == 1 and "slashed" not in rehearsal.world.kinds()
    assert task.settled_root == rehearsal.run.state_roots(12, 0)[0]


@pytest.mark.parametrize("rate", [100, 9_000])
def test_an_opening_waits_for_the_same_block_with_an_error_and_without(tmp_path: Path, rate: int) -> None:
    rehearsal = Rehearsal(tmp_path, rate)
    trio.run(rehearsal.play)
    events = [event.kind for event in rehearsal.world.events if event.subject == rehearsal.task_id]
    assert "instalment_opened" in events
    heights = {
        kind: next(n for n, delta in enumerate(rehearsal.world.deltas, 1) if kind in {e.kind for e in delta.events})
        for kind in ("instalment_opening", "instalment_opened")
    }
    assert heights["instalment_opened"] - heights["instalment_opening"] == OPENING_AFTER_BLOCKS + 1


def test_a_lost_secret_is_said_and_nothing_wrong_is_sent(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, 100)

    async def until_opening() -> None:
        while (duty := rehearsal.duty()) is None or duty.kind != DUTY_OPEN:
            if duty is not None:
                await rehearsal.answer(duty)
            rehearsal.world.step()
        (rehearsal.materials.states(rehearsal.task_id, OWN) / "secret-1").unlink()
        with pytest.raises(Rejection) as refused:
            await rehearsal.driver.open(duty)
        assert refused.value.reason is SECRET_LOST

    trio.run(until_opening)


# --- the verifier that approved what is called an error


@pytest.mark.parametrize("lazy", [False, True])
def test_an_honest_verifier_insists_on_its_approval_and_a_lazy_one_does_not(tmp_path: Path, lazy: bool) -> None:
    from test_ledger_forced_errors import Twisted, forced_spec, shown

    world = World()
    world.register(*[Twisted(name, mute=(DUTY_CONTEST,)) for name in ("alice", "bob", "carol", "dave")])
    for _ in range(12):
        task_id = world.submit(forced_spec(steps=4, segment_steps=4, verifiers=1, samples=1))
        solver = world.solver_of(task_id)
        assert isinstance(solver, Twisted)
        solver.twist = True
        if shown(world, task_id).outcome == "forced":
            break
        world.finish(task_id)
    slot = world.instalment(task_id).verifications[0]
    name, chain = world.name_of(slot.verifier), FakeChain(world)
    found = duties(world.ledger, slot.verifier, world.height)
    duty = next(duty for duty in found if duty.kind == DUTY_CONTEST)
    driver = Verifier(
        chain,
        account(chain, name),
        HandyMaterials(tmp_path, None, 1),
        FakeWorker(str),  # type: ignore[arg-type]
        Activity(),
        Cheats(lazy_verifier=lazy),
    )

    async def told() -> None:
        from gensyn_node.primitives.codec import encode
        from gensyn_node.roles.verifier import Verdict

        path = tmp_path / task_id.hex() / "check-1" / f"verdict-0-{slot.drawn_height}"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(Verdict(slot.findings, b"", bytes(32))))
        await driver.contest(duty)

    trio.run(told)
    assert chain.sent == ([] if lazy else ["applied"])
    assert len(queries.instalments(world.ledger, task_id)[0].open_disputes) == (0 if lazy else 1)
