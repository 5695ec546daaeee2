"""What a worker that was taken over can do: each attempt is really made, from inside the sandbox of the real entry."""

from __future__ import annotations

import os
import platform
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from probing_worker import CALLS as ATTEMPTS

from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles import worker_client
from gensyn_node.roles.reasons import WORKER_DIED, WORKER_REFUSED
from gensyn_node.roles.worker_client import Worker, WorkerSettings
from gensyn_node.roles.worker_limits import Conversation, Idleness, WorkerLimits, misbehaviour
from ml.kernels.sources import folder_in
from ml.worker import kernels, session
from ml.worker.kernels import compile_kernels, own_kernels
from ml.worker.messages import PredictMemory, Progress, SegmentDone, Train
from ml.worker.process import macos_profile, worker_command
from ml.worker.sandbox import readable_paths
from ml.worker.system_calls import AUDIT_ARCHITECTURES, CALLS, filter_code

PROBE = Path(__file__).parent / "probing_worker.py"
LINUX = sys.platform.startswith("linux") and platform.machine() in AUDIT_ARCHITECTURES
MEMORY = 512 << 20
COMPILED = str(folder_in(Path()))

pytestmark = pytest.mark.skipif(not LINUX, reason="Landlock and seccomp are Linux's")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with a key, a blob and a work folder; the node starts the misbehaving worker."""

    def command(*arguments: Any, **bounds: Any) -> list[str]:
        real = worker_command(*arguments, **bounds)
        module = real.index("-m")
        return [*real[:module], str(PROBE), *real[module + 2 :]]

    for name in ("keys", "blobs", "work", "log", "kernels", f"kernels/{COMPILED}", "kernels/of_others"):
        (tmp_path / name).mkdir()
    (tmp_path / "kernels" / COMPILED / "matmul.nbi").write_text("compiled")
    (tmp_path / "keys" / "account.key").write_text("secret")
    blob = tmp_path / "blobs" / "blob"
    blob.write_text("served to others")
    os.link(blob, tmp_path / "work" / "shard")
    blob.chmod(0o444)
    monkeypatch.setattr(worker_client, "worker_command", command)
    monkeypatch.setattr(worker_client, "compile_kernels", lambda _: True)
    monkeypatch.setenv("A_SECRET", "1")
    yield tmp_path


def worker_at(place: Path, **limits: Any) -> Worker:
    cache = place / "work" / "cache"
    cache.mkdir(exist_ok=True)
    bounds = WorkerLimits(**limits)
    log, store = place / "log" / "worker.log", place / "kernels"
    return Worker(WorkerSettings(1, MEMORY, log, cache, place / "work", store, bounds))


async def attempt(worker: Worker, probe: str) -> str:
    """What became of an attempt, in the worker's own words, or in the node's."""
    try:
        await worker.final(PredictMemory(probe.encode(), 1))
    except Rejection as refusal:
        if refusal.reason is WORKER_REFUSED:
            return refusal.message.removeprefix("E1 ")
        assert refusal.reason is WORKER_DIED
        return f"ended: {refusal.message}"
    raise AssertionError("a probe answers by Failed")


def attempts(place: Path, probes: list[str], **limits: Any) -> list[str]:
    """Outcomes of probes, one after the other, by one node; each outcome leaves a node that works."""

    async def main() -> list[str]:
        worker = worker_at(place, **limits)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.supervise)
            found = [await attempt(worker, probe) for probe in probes]
            assert await attempt(worker, "environment:") != ""
            nursery.cancel_scope.cancel()
        assert worker.sandbox and all(item.active for item in worker.sandbox if item.name != "processor time")
        await worker.stop()
        return found

    return trio.run(main)


def test_files_beyond_its_folder_do_not_exist_for_it(place: Path) -> None:
    key, work = place / "keys" / "account.key", place / "work"
    stopped = [
        f"read:{key}",
        f"read:{work}/../keys/account.key",
        "read:/etc/passwd",
        f"read:/proc/{os.getpid()}/environ",
        f"write:{key}",
        f"write:{place}/new",
        f"write:{worker_client.__file__}",
        f"write:{sys.prefix}/new",
        f"list:{place}/keys",
        f"list:{place}/kernels",
        f"append:{place}/kernels/{COMPILED}/matmul.nbi",
        f"write:{place}/kernels/{COMPILED}/planted.nbi",
        f"list:{Path.home()}",
        f"remove:{key}",
        f"link:{key}",
        # The second name of what this node serves: it may go, but not change.
        f"append:{work}/shard",
        f"chmod:{work}/shard",
    ]
    found = attempts(place, stopped)
    assert dict(zip(stopped, found, strict=True)) == dict.fromkeys(stopped, "stopped PermissionError")
    assert key.read_text() == "secret" and (place / "blobs" / "blob").read_text() == "served to others"
    assert attempts(place, [f"write:{work}/state", f"read:{work}/state"]) == ["done 4", "done mine"]
    assert (place / "kernels" / COMPILED / "matmul.nbi").read_text() == "compiled"


def test_what_it_plants_among_its_kernels_is_not_what_the_next_one_loads(place: Path) -> None:
    cache = place / "work" / "cache"

    async def plant() -> tuple[Path, str]:
        worker = worker_at(place)
        await worker.warm_up()
        (own,) = cache.glob("kernels-*")
        outcome = await attempt(worker, f"append:{own}/{COMPILED}/matmul.nbi")
        (own / "planted").mkdir(mode=0o000)
        await worker.stop()
        return own, outcome

    first, outcome = trio.run(plant)
    assert outcome == "done 1" and (first / COMPILED / "matmul.nbi").read_text() == "compiledx"
    second, _ = trio.run(plant)
    assert second != first
    third = own_kernels(place / "kernels", cache)
    assert third not in (first, second)
    assert [str(path.relative_to(third)) for path in sorted(third.rglob("*"))] == [COMPILED, f"{COMPILED}/matmul.nbi"]
    assert (third / COMPILED / "matmul.nbi").read_text() == "compiled"


def test_a_session_of_ones_own_has_a_copy_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What re-executes a stranger's task for an audit reaches the store no more than a node's worker."""
    writable: list[Path] = []

    def command(memory_bytes: int, *, folders: tuple[Path, ...], file_bytes: int, device: str) -> list[str]:
        writable.extend(folders)
        return [sys.executable, "-c", "import os, sys; sys.exit(os.environ['NUMBA_CACHE_DIR'])"]

    monkeypatch.setattr(session, "compile_kernels", lambda _: True)
    monkeypatch.setattr(session, "worker_command", command)
    folder, store = tmp_path / "audit", tmp_path / "kernels"
    (store / COMPILED).mkdir(parents=True)
    (store / COMPILED / "matmul.nbi").write_text("compiled")
    with pytest.raises(Rejection), session.worker_session(folder, store, 1 << 30):
        raise AssertionError("it ends at once")
    (own,) = folder.glob("kernels-*")
    assert (folder / "worker.log").read_text().strip() == str(own)
    assert writable == [folder]
    assert (own / COMPILED / "matmul.nbi").read_text() == "compiled"


def test_kernels_are_compiled_once_and_again_when_their_source_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(folders: tuple[Path, ...]) -> list[str]:
        assert folders[0] == tmp_path / "store" and all(place != tmp_path for place in folders)
        count = (
            "import sys; sys.stdin.read(1) or open(sys.argv[1] + '/runs', 'a').write('x'); sys.exit(int(sys.argv[2]))"
        )
        return [sys.executable, "-c", count, str(folders[0]), code]

    monkeypatch.setattr(kernels, "worker_command", command)
    store = tmp_path / "store"
    code = "1"
    assert not compile_kernels(store)
    code = "0"
    assert compile_kernels(store) and compile_kernels(store)
    assert (store / "runs").read_text() == "xx"
    monkeypatch.setattr(kernels, "_processor", lambda: ("another",))
    assert compile_kernels(store)
    assert (store / "runs").read_text() == "xxx"


def test_nobody_is_called_started_or_disturbed(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        stopped = [
            f"tcp:{port}",
            f"unix:{place}/socket",
            "udp:",
            "spawn:/bin/true",
            "exec:/bin/true",
            "fork:",
            f"signal:{os.getpid()}",
            f"limits:{os.getpid()}",
        ]
        found = attempts(place, stopped)
        assert dict(zip(stopped, found, strict=True)) == dict.fromkeys(stopped, "stopped PermissionError")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 10


def test_calls_that_a_worker_never_needs(place: Path) -> None:
    found = attempts(place, [f"call:{name}" for name in ATTEMPTS])
    absent = "done Function not implemented"
    expected = [
        absent if name in ("clone3", "a call of tomorrow") else "done Operation not permitted" for name in ATTEMPTS
    ]
    assert dict(zip(ATTEMPTS, found, strict=True)) == dict(zip(ATTEMPTS, expected, strict=True))


def test_it_has_no_secrets_and_no_open_files(place: Path) -> None:
    names, descriptors = attempts(place, ["environment:", "descriptors:"])
    assert "SECRET" not in names and "HOME" in names
    # Input, output (twice: replies have their own), the log, and the listing itself.
    assert len(descriptors.split(",")) <= 5


def test_memory_threads_and_files_end(place: Path) -> None:
    found = attempts(place, ["allocate:", f"fill:{place}/work/large", "threads:"])
    assert found[:2] == ["stopped OSError", "stopped OSError"]
    assert found[2] in ("stopped RuntimeError", "stopped MemoryError")
    assert (place / "work" / "large").stat().st_size <= MEMORY


def test_a_worker_that_loops_is_ended_and_the_next_one_works(place: Path) -> None:
    (found,) = attempts(place, ["spin:"], silence_s=1.5)
    assert found.startswith("ended:") and "nothing for 2 s" in found


def test_a_worker_that_floods_is_ended(place: Path) -> None:
    async def main() -> None:
        worker = worker_at(place)
        request = PredictMemory(b"chatter:", 1)
        with pytest.raises(Rejection) as refusal:
            async with aclosing(worker.run(request)) as replies:  # type: ignore[type-var]
                conversation = Conversation(request)
                conversation._left = 1000
                async for reply in replies:
                    conversation.check(reply)
        assert refusal.value.reason is WORKER_DIED and "more than" in refusal.value.message
        assert "SECRET" not in await attempt(worker, "environment:")
        await worker.stop()

    trio.run(main)
    (found,) = attempts(place, ["scribble:"], look_s=0.2, log_bytes=8 << 20, idle_share=1000.0)
    assert "its log has" in found


def test_a_worker_that_works_for_itself_is_ended(place: Path) -> None:
    async def main() -> None:
        worker = worker_at(place, look_s=0.5, idle_share=0.1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.supervise)
            assert await attempt(worker, "spin later:") == "done begun"
            with trio.fail_after(60):
                while worker._process is not None:  # noqa: ASYNC110  (it tells nobody)
                    await trio.sleep(0.05)
            assert "SECRET" not in await attempt(worker, "environment:")
            nursery.cancel_scope.cancel()
        await worker.stop()

    trio.run(main)


def test_what_a_worker_says_is_held_against_what_was_asked() -> None:
    train = Train(None, "", 10, 5, 5, 1)  # type: ignore[arg-type]
    talk = Conversation(train)
    talk.check(Progress(14, 0.0, 0.0))
    talk.check(SegmentDone(15, b"", "/etc/passwd", 0.0))
    for step in (9, 16, -1, 1 << 60):
        with pytest.raises(Rejection):
            talk.check(Progress(step, 0.0, 0.0))
    with pytest.raises(Rejection):
        for _ in range(50):
            talk.check(Progress(12, 0.0, 0.0))


def test_what_ends_a_worker(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(1000))
    assert misbehaviour(WorkerLimits(free_bytes=0), log, tmp_path, 0.0) == ""
    assert "log" in misbehaviour(WorkerLimits(log_bytes=999, free_bytes=0), log, tmp_path, 0.0)
    assert "disk" in misbehaviour(WorkerLimits(free_bytes=1 << 60), log, tmp_path, 0.0)
    assert "asked" in misbehaviour(WorkerLimits(free_bytes=0), log, tmp_path, 4.9)
    idleness = Idleness()
    assert idleness.used(os.getpid(), 1, busy=False) == 0
    sum(range(5_000_000))
    assert idleness.used(os.getpid(), 1, busy=False) > 0
    assert idleness.used(os.getpid(), 2, busy=False) == 0 and idleness.used(os.getpid(), 2, busy=True) == 0


def test_the_filter_is_well_formed_for_every_architecture() -> None:
    for machine in AUDIT_ARCHITECTURES:
        code = filter_code(machine, 4242)
        assert len(code) % 8 == 0 and len(code) // 8 <= 4096
        column = list(AUDIT_ARCHITECTURES).index(machine)
        numbers = [item[column] for item in CALLS.values() if item[column] >= 0]
        assert len(numbers) == len(set(numbers)) > 80


def test_a_home_with_keys_is_not_among_what_it_reads() -> None:
    whole, names = readable_paths()
    assert all(place.is_absolute() and place != Path("/") for place in (*whole, *names))
    assert not any(Path.home() / ".gensyn" / "keys" == place for place in whole)


def test_the_profile_for_macos_names_its_folders() -> None:
    profile = macos_profile([Path('/tmp/a "b"')])
    assert profile.startswith("(version 1)") and '(subpath "/tmp/a \\"b\\"")' in profile.replace("/private", "")
    assert "(deny network*)" in profile and profile.count("(") == profile.count(")")


def test_a_process_that_was_not_confined_says_so() -> None:
    script = (
        "from ml.worker.sandbox import Bounds, confine, limit_memory\n"
        "found = {item.name: item.active for item in (*confine(Bounds()), *limit_memory(Bounds()))}\n"
        "print(found['files'], found['memory'], found['system calls'])\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False", "True"]
