"""The runner: one try at a time for each duty, errors that stay in it, retries, work that nobody waits for any more."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from ledger_world import GSN, Actor, World, key, spec
from roles_fakes import FakeBlobs, FakeChain, FakeWorker

from consensus.ledger import queries
from consensus.ledger.duties import DUTY_START, DUTY_TRAIN, Duty
from consensus.ledger.messages import OFFERS_NATIVE, ROLE_SOLVER, ROLE_VERIFIER, ROLES_ALL, CancelTask, StartTask
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.roles.cheats import Cheats
from gensyn_node.roles.reasons import WORKER_DIED
from gensyn_node.roles.runner import CRASH_RETRY_BLOCKS, OBSOLETE_BLOCKS, RETRY_BLOCKS, RoleRunner, RoleSettings
from gensyn_node.roles.solver import Solver


def make_runner(chain: FakeChain, folder: Path, role: str = "solver", register: bool = False) -> RoleRunner:
    node = SimpleNamespace(chain=chain, blobs=FakeBlobs(folder))
    settings = RoleSettings(
        role, register, "alice", 10**14, 0, 1 << 30, 1, folder / "work", folder / "kernels", folder / "log", Cheats()
    )
    made = RoleRunner(node, key("alice"), "alice", settings)
    made._worker = FakeWorker(str)  # type: ignore[assignment]
    return made


@asynccontextmanager
async def running(runner: RoleRunner) -> Any:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await trio.testing.wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


async def blocks(chain: FakeChain, count: int) -> None:
    for _ in range(count):
        chain.next_block()
        await trio.testing.wait_all_tasks_blocked()


def assigned() -> tuple[World, bytes]:
    """A task whose solver is alice."""
    world = World()
    world.register(Actor("alice", silent=True, roles=ROLES_ALL | OFFERS_NATIVE))
    task_id = world.submit(spec(instalments=1))
    world.until(lambda: world.task(task_id).solver)
    return world, task_id


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (Rejection(WORKER_DIED, "gone"), RETRY_BLOCKS),
        (OSError(28, "no space"), RETRY_BLOCKS),
        (InvariantViolation("the worker answered nonsense"), CRASH_RETRY_BLOCKS),
        (KeyError("surprise"), CRASH_RETRY_BLOCKS),
        (OverflowError("float too large to pack"), CRASH_RETRY_BLOCKS),
        (ExceptionGroup("both", [Rejection(WORKER_DIED, "gone"), ValueError("and more")]), CRASH_RETRY_BLOCKS),
    ],
)
def test_no_error_of_a_duty_ends_the_node_and_the_duty_is_tried_again(
    error: Exception, wait: int, tmp_path: Path
) -> None:
    world, _ = assigned()
    chain, tries = FakeChain(world), []

    async def fail(duty: Duty) -> None:
        tries.append(world.height)
        await trio.lowlevel.checkpoint()
        raise error

    async def main() -> None:
        runner = make_runner(chain, tmp_path, role="auto")
        runner._actions = dict.fromkeys(runner._actions, fail)
        async with running(runner):
            await blocks(chain, wait + 2)
        assert runner.progress.failures

    trio.run(main)
    assert [later - tries[0] for later in tries] == [0, wait]


def test_a_duty_under_way_is_not_started_twice_and_is_given_up_when_nobody_waits_for_it(tmp_path: Path) -> None:
    world, task_id = assigned()
    chain, began, ended = FakeChain(world), [], []

    async def hang(duty: Duty) -> None:
        began.append(duty.kind)
        try:
            await trio.sleep_forever()
        finally:
            ended.append(world.height)

    async def main() -> None:
        runner = make_runner(chain, tmp_path)
        runner._actions = dict.fromkeys(runner._actions, hang)
        async with running(runner):
            await blocks(chain, 5)
            assert (began, ended) == ([DUTY_START], [])
            world.do("submitter", CancelTask(task_id))
            cancelled = world.height
            await blocks(chain, OBSOLETE_BLOCKS + 3)
            assert began == [DUTY_START] and len(ended) == 1
            assert ended[0] - cancelled <= OBSOLETE_BLOCKS + 2

    trio.run(main)


def test_a_changed_role_is_told_to_the_ledger_and_open_duties_stay(tmp_path: Path) -> None:
    world, _ = assigned()
    chain, began = FakeChain(world), []

    async def note(duty: Duty) -> None:
        began.append(duty.kind)
        await trio.sleep_forever()

    async def main() -> None:
        runner = make_runner(chain, tmp_path)
        runner._actions = dict.fromkeys(runner._actions, note)
        async with running(runner):
            await runner.set_role("none")
            await blocks(chain, 2)
            paused = queries.provider(world.ledger, key("alice").address)
            assert paused is not None and paused.state == "paused" and began == [DUTY_START]
            await runner.set_role("verifier")
            await blocks(chain, 2)
            with pytest.raises(Rejection):
                await runner.set_role("emperor")
        changed = queries.provider(world.ledger, key("alice").address)
        assert changed is not None and changed.roles == ROLE_VERIFIER | OFFERS_NATIVE

    trio.run(main)


@pytest.mark.parametrize("wanted", [False, True])
def test_registration_waits_for_no_test_and_is_sent_only_when_wanted(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Native tasks are offered once the kernels' test has passed; until then the node is there for all others."""
    world, tested = World(), trio.Event()
    chain = FakeChain(world)

    async def passing(*_: object) -> bool:
        await tested.wait()
        return True

    monkeypatch.setattr("gensyn_node.roles.runner.repeats_itself", passing)

    def roles() -> int:
        provider = queries.provider(world.ledger, key("alice").address)
        return provider.roles if provider is not None else 0

    async def main() -> None:
        async with running(make_runner(chain, tmp_path, register=wanted)):
            await blocks(chain, 25)
            assert (chain.sent, roles()) == ((["applied"], ROLE_SOLVER) if wanted else ([], 0))
            tested.set()
            await blocks(chain, 25)

    trio.run(main)
    assert (chain.sent, roles()) == ((["applied"] * 2, ROLE_SOLVER | OFFERS_NATIVE) if wanted else ([], 0))
    assert world.balance("alice") < 1_000 * GSN if wanted else world.balance("alice") == 1_000 * GSN


def test_a_node_that_comes_back_goes_on_offering_native_tasks_until_its_test_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = assigned()
    chain, tested = FakeChain(world), trio.Event()

    async def failing(*_: object) -> bool:
        await tested.wait()
        return False

    async def idle(_: Duty) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("gensyn_node.roles.runner.repeats_itself", failing)

    async def main() -> None:
        runner = make_runner(chain, tmp_path, role="auto")
        runner._actions = dict.fromkeys(runner._actions, idle)
        async with running(runner):
            await runner.set_role("verifier")
            await blocks(chain, 3)
            before = queries.provider(world.ledger, key("alice").address)
            assert before is not None and before.roles == ROLE_VERIFIER | OFFERS_NATIVE
            tested.set()
            await blocks(chain, 3)

    trio.run(main)
    after = queries.provider(world.ledger, key("alice").address)
    assert after is not None and after.roles == ROLE_VERIFIER


# --- the solver's signs of life


def test_a_solver_whose_step_takes_long_still_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes from the worker for longer than the chain waits for a heartbeat."""
    world, task_id = assigned()
    world.do("alice", StartTask(task_id))
    chain = FakeChain(world)
    runner = make_runner(chain, tmp_path)
    solver: Solver = runner._solver
    duty = Duty(DUTY_TRAIN, task_id, 1, 0, 0)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(solver._keep_alive, duty)
            for _ in range(2 * world.parameters.heartbeat_blocks):
                world.block()
                await trio.sleep(2)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert world.task(task_id).state == "training"
    assert "solver_timed_out" not in world.kinds()
    assert len(chain.sent) <= 12, "and few enough of them"
    world.do("submitter", CancelTask(task_id))


def test_it_stops_when_the_task_is_no_longer_its_own(tmp_path: Path) -> None:
    world, task_id = assigned()
    world.do("alice", StartTask(task_id))
    chain = FakeChain(world)
    runner = make_runner(chain, tmp_path)

    async def main() -> None:
        with trio.fail_after(1):
            await runner._solver._keep_alive(Duty(DUTY_TRAIN, task_id, 9, 0, 0))

    trio.run(main)
    assert chain.sent == []


def test_the_files_of_a_task_stay_as_long_as_it_is_audited(tmp_path: Path) -> None:
    """Its last window may end meanwhile: the audit then wrote into a folder that was gone."""
    world = World()
    world.crew("alice", "bob", "carol")
    task_id = world.submit(spec(instalments=1))
    assert world.finish(task_id).state == "finished"
    chain = FakeChain(world)

    async def play() -> None:
        runner, done = make_runner(chain, tmp_path, "whistleblower"), trio.Event()
        looks = [SimpleNamespace(audit=SimpleNamespace(task_id=task_id))]
        runner._whistleblower.next_look = lambda *_: looks.pop() if looks else None  # type: ignore[method-assign, assignment]
        runner._whistleblower.audit = lambda _: done.wait()  # type: ignore[method-assign]
        folder = runner._materials.task_folder(task_id)
        folder.mkdir(parents=True)
        async with running(runner):
            await blocks(chain, 3)
            assert folder.exists() and not looks
            done.set()
            await blocks(chain, 2)
            assert not folder.exists()

    trio.run(play)
