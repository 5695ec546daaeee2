"""Power cuts while blocks are committed and signed: nothing acknowledged is lost, nothing is signed twice.

The states come from what a real run wrote and synced (`power_cut`). Here some hundred of them are opened;
`python -m tests.chaos power-cut --states 2000` opens as many as one likes.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import power_cut
import pytest
import system_trace
from crash_disk import Disk, Rule
from system_trace import Operation

SEED = 11
STATES = 75
needs_strace = pytest.mark.skipif(not system_trace.available(), reason="strace is not installed or may not trace")


@pytest.fixture(scope="module")
def trace(memory: Path) -> list[Operation]:
    """One traced run: three starts, small write buffers, so that logs are replaced and tables merged."""
    return power_cut.record(memory, sessions=3, blocks=4, transfers=12)


@needs_strace
def test_the_trace_rebuilds_the_folder(memory: Path) -> None:
    """What the disk model says the process sees is what is there, byte for byte."""
    folder = memory / "rebuilt"
    folder.mkdir()
    trace = power_cut.record(folder, sessions=2, blocks=2, transfers=2)
    disk = Disk("journal")
    for operation in trace:
        disk.take(operation)
    running = disk.running().files
    home = folder / "home"
    assert set(running) == {str(path.relative_to(home)) for path in home.rglob("*")}
    for path, content in running.items():
        assert content is None or (home / path).read_bytes() == content, path


@needs_strace
@pytest.mark.parametrize("rule", ["journal", "posix"])
def test_every_power_cut_leaves_a_correct_prefix_or_a_refusal(trace: list[Operation], rule: Rule, memory: Path) -> None:
    outcome = power_cut.campaign(trace, rule, SEED, STATES, memory / "state")
    assert outcome.states == STATES
    assert outcome.faults == []
    assert outcome.outcomes[power_cut.WENT_ON] > STATES // 2


@needs_strace
def test_losing_or_cutting_what_was_not_synced_never_needs_repair(trace: list[Operation], memory: Path) -> None:
    """Without zeros in files, on a file system with a journal, the node always goes on by itself."""
    whole = power_cut.digests(trace)
    outcomes: Counter[str] = Counter()
    for cut in power_cut.cuts(trace, "journal", SEED, 3 * STATES):
        if cut.data in ("none", "all", "cut") and cut.past.made:
            outcomes[power_cut.judge(cut, whole, memory / "state")] += 1
    assert set(outcomes) == {power_cut.WENT_ON}


@needs_strace
@pytest.mark.parametrize("bug", ["files are not synced", "folders are not synced", "blocks are not synced"])
def test_planted_bugs_are_found(bug: str, memory: Path) -> None:
    """With a journal and nothing zeroed a sound node always goes on by itself (the test above); these do not."""
    folder = memory / "planted" / bug.replace(" ", "-")
    folder.mkdir(parents=True)
    trace = power_cut.record(folder, sessions=1, blocks=9, transfers=12, bug=bug)
    whole = power_cut.digests(trace)
    for cut in power_cut.cuts(trace, "journal", SEED, 300):
        if cut.past.made and cut.data in ("all", "none", "cut"):
            try:
                if power_cut.judge(cut, whole, folder / "state") != power_cut.WENT_ON:
                    return
            except power_cut.Fault:
                return
    raise AssertionError("not found")


def names_after(rule: Rule, *operations: Operation) -> list[set[str]]:
    """What may be left of the names, for each kind of loss."""
    disk = Disk(rule)
    for operation in operations:
        disk.take(operation)
    return [set(disk.cut(names, "none", random.Random(1)).files) for names in ("none", "all")]


def test_a_synced_file_in_an_unsynced_folder_can_lose_its_name() -> None:
    steps = (
        Operation("open", path="new", file=0, create=True),
        Operation("write", file=0, data="00ff"),
        Operation("sync", file=0),
    )
    assert names_after("posix", *steps) == [{"new"}, set()]
    assert names_after("journal", *steps) == [{"new"}, {"new"}]
    folder = (Operation("open", path=".", file=1), Operation("sync", file=1))
    assert names_after("posix", *steps, *folder) == [{"new"}, {"new"}]


def test_a_rename_is_there_or_not_and_never_half() -> None:
    steps = (
        Operation("open", path="file", file=0, create=True),
        Operation("open", path="file.new", file=1, create=True),
        Operation("open", path=".", file=2),
        Operation("sync", file=2),
        Operation("rename", path="file.new", to="file"),
    )
    for rule in ("posix", "journal"):
        assert names_after(rule, *steps) == [{"file"}, {"file", "file.new"}]


def test_each_loss_of_data_is_a_possible_one() -> None:
    """Synced bytes stay whatever happens to the ones after them."""
    disk = Disk("journal")
    for operation in (
        Operation("open", path="file", file=0, create=True),
        Operation("write", file=0, data=b"synced".hex()),
        Operation("sync", file=0),
        Operation("write", file=0, at=6, data=b"first".hex()),
        Operation("write", file=0, at=11, data=b"second".hex()),
    ):
        disk.take(operation)
    seen = set()
    for number in range(300):
        content = disk.cut("none", "mixed", random.Random(number)).files["file"]
        assert content is not None
        assert content.startswith(b"synced")
        assert len(content) <= len(b"syncedfirstsecond")
        assert all(byte == 0 or byte == sound for byte, sound in zip(content, b"syncedfirstsecond", strict=False))
        seen.add(content)
    assert {b"synced", b"syncedfirstsecond", b"syncedfi", b"synced\0\0\0\0\0second"} <= seen


def test_interrupted_calls_and_other_folders_are_read_right() -> None:
    def text(value: str) -> str:
        return '"' + "".join(f"\\x{byte:02x}" for byte in value.encode()) + '"'

    lines = [
        f"7 openat(AT_FDCWD, {text('/home/log')}, O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0600) = 5",
        f"7 openat(AT_FDCWD, {text('/elsewhere')}, O_WRONLY|O_CREAT, 0600) = 6",
        f"7 write(5, {text('ab')}, 2) = 2",
        "8 fdatasync(5 <unfinished ...>",
        f"7 write(6, {text('no')}, 2) = 2",
        f"7 write(5, {text('cd')}, 2) = 1",
        "8 <... fdatasync resumed>) = 0",
        f"7 rename({text('/home/log')}, {text('/home/old')}) = 0",
        "7 close(5) = 0",
    ]
    assert list(system_trace.parse(lines, Path("/home"), Path("/said"))) == [
        Operation("open", path="log", file=0, create=True, append=True),
        Operation("write", file=0, at=0, data=b"ab".hex()),
        Operation("write", file=0, at=2, data=b"c".hex()),
        Operation("sync", file=0),
        Operation("rename", path="log", to="old"),
        Operation("close", file=0),
    ]


def test_a_descriptor_is_free_from_the_begin_of_its_closing() -> None:
    """Another thread may get the number before strace writes that the closing has ended."""

    def opened(path: str) -> str:
        return "openat(AT_FDCWD, " + '"' + "".join(f"\\x{byte:02x}" for byte in path.encode()) + '", O_RDONLY)'

    lines = [
        f"7 {opened('/home/log')} = 5",
        "7 close(5 <unfinished ...>",
        f"8 {opened('/home/signer')} = 5",
        "7 <... close resumed>) = 0",
        "8 fsync(5) = 0",
        "8 close(5) = 0",
    ]
    assert [(done.do, done.file) for done in system_trace.parse(lines, Path("/home"), Path("/said"))] == [
        ("open", 0),
        ("close", 0),
        ("open", 1),
        ("sync", 1),
        ("close", 1),
    ]


@needs_strace
def test_the_record_of_a_signature_is_safe_before_the_signature_is_said(trace: list[Operation]) -> None:
    """By the system calls: content synced, renamed into place, folder synced, and only then does a signature leave."""
    calls: list[str] = []
    paths: dict[int, str] = {}
    said = 0
    for operation in trace:
        if operation.do == "open":
            paths[operation.file] = operation.path
        if operation.do == "sync" and paths[operation.file] in ("signer", "signer/last_signed.new"):
            calls.append(f"sync {paths[operation.file]}")
        elif operation.do == "rename" and operation.path == "signer/last_signed.new":
            calls.append("rename")
        elif operation.do == "write" and paths[operation.file] == "signer/last_signed.new":
            calls = ["write"]
        elif operation.do == "say" and operation.text.startswith("signed "):
            assert calls == ["write", "sync signer/last_signed.new", "rename", "sync signer"], operation.text[:20]
            said += 1
    assert said >= 3 * 12


@needs_strace
def test_a_trace_file_is_read_back(trace: list[Operation], tmp_path: Path) -> None:
    system_trace.save(tmp_path / "trace", trace)
    assert system_trace.load(tmp_path / "trace") == trace


@needs_strace
@pytest.mark.soak
def test_power_cuts_of_a_new_seed(memory: Path) -> None:
    (memory / "soak").mkdir()
    trace = power_cut.record(memory / "soak", sessions=4, blocks=6, transfers=12)
    for rule in ("journal", "posix"):
        outcome = power_cut.campaign(trace, rule, time.time_ns(), 1_000, memory / "state")
        assert outcome.faults == []
