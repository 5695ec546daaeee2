"""What holds a worker in, applied by the worker to itself before it loads a library and reads a byte from outside.

Programs are data, never code; the sandbox is for the day when a kernel or a parser has a bug. Each measure says whether
it is in force and why not: `gensyn node doctor` shows them.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ml.worker.landlock import PR_SET_NO_NEW_PRIVS, restrict_files
from ml.worker.messages import Measure
from ml.worker.system_calls import filter_system_calls

OPEN_FILES_MAX = 256
MORE_TASKS = 2048
"""Processes and threads that the user may have beyond what runs now: the kernel counts all of a user's."""
NICENESS = 5
"""The node's consensus goes first."""
LIKELY_TO_END = 800
"""How much the kernel prefers this process, of 1000, when it has to end one for memory."""
CAPABILITIES_VERSION = 0x20080522

SYSTEM_FOLDERS = ("/usr", "/lib", "/lib64", "/opt", "/nix/store")
SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
DEVICES = {
    "cuda": ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia0", "/dev/nvidia1"),
    "cpu": (),
    "mps": (),
}
"""Files that the driver of a device needs to write to."""
OWN_PACKAGES = ("ml", "proofs", "consensus", "gensyn_node")


@dataclass(frozen=True)
class Bounds:
    """What a worker may use; 0: no bound."""

    folders: tuple[Path, ...] = ()
    """The only places where it may write, and beside the libraries the only ones where it may read."""
    memory_bytes: int = 0
    """Address space beyond what the libraries map."""
    file_bytes: int = 0
    """Of one file."""
    cpu_seconds: int = 0
    device: str = "cpu"


def confine(bounds: Bounds) -> tuple[Measure, ...]:
    """Everything that can be in force before the libraries are loaded; they add nothing that it would have to allow."""
    measures = [Measure("environment", active=True, detail="own process group, no secrets, no inherited files")]
    with suppress(OSError):
        os.nice(NICENESS)
    _set_limits(bounds)
    if not sys.platform.startswith("linux"):
        return (*measures, *_other_system())
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(LIKELY_TO_END), encoding="ascii")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return (*measures, _drop_capabilities(libc), _files(libc, bounds), _system_calls(libc))


def limit_memory(bounds: Bounds) -> tuple[Measure, ...]:
    """The bounds on memory, files and processor time, with the libraries loaded: they map far more than they use."""
    if bounds.memory_bytes:
        _lower(resource.RLIMIT_AS, bounds.memory_bytes + _mapped_bytes())
    return (
        _bound("memory", bounds.memory_bytes, f"{bounds.memory_bytes >> 20} MiB beyond the libraries"),
        _bound("file size", bounds.file_bytes, f"{bounds.file_bytes >> 20} MiB"),
        _bound("processor time", bounds.cpu_seconds, f"{bounds.cpu_seconds} s"),
    )


def readable_paths(device: str = "cpu") -> tuple[list[Path], list[Path]]:
    """What a worker reads beside its folders: the libraries and a few of the system's tables; (whole, names only)."""
    root = Path(__file__).resolve().parents[2]
    whole = [Path(place) for place in (*SYSTEM_FOLDERS, *SYSTEM_FILES, sys.prefix, sys.base_prefix)]
    whole += [Path(place) for place in sys.path if place and Path(place) != root]
    whole += [Path(place) for place in os.environ.get("LD_LIBRARY_PATH", "").split(":") if place]
    whole += [root / package for package in (*OWN_PACKAGES, "gensyn.egg-info")]
    if device == "cuda":
        whole += [Path("/proc/driver/nvidia"), Path("/sys/bus/pci"), Path("/sys/devices"), Path("/sys/module/nvidia")]
    return [place for place in whole if place.is_absolute() and place != Path("/")], [root]


def in_words(measures: Sequence[Measure]) -> str:
    """One line for a log."""
    return "; ".join(f"{item.name}: {item.detail}" if item.active else f"no {item.name}" for item in measures)


def _set_limits(bounds: Bounds) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES_MAX)
    if bounds.file_bytes:
        _lower(resource.RLIMIT_FSIZE, bounds.file_bytes)
    if bounds.cpu_seconds:
        _lower(resource.RLIMIT_CPU, bounds.cpu_seconds)
    tasks = _tasks_of_user()
    if tasks:
        _lower(resource.RLIMIT_NPROC, tasks + MORE_TASKS)


def _lower(what: int, amount: int) -> None:
    hard = resource.getrlimit(what)[1]
    bound = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(what, (bound, bound))


def _bound(name: str, amount: int, detail: str) -> Measure:
    return Measure(name, active=amount > 0, detail=detail if amount else "not limited")


def _tasks_of_user() -> int:
    """Threads of this user's processes now; 0 where the system does not tell."""
    own, total = os.getuid(), 0
    with suppress(OSError):
        for entry in os.scandir("/proc"):
            with suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == own:
                    total += len(os.listdir(f"/proc/{entry.name}/task"))
    return total


def _mapped_bytes() -> int:
    """Address space in use; 0 where the system does not tell (the bound is then the tighter one)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return 0
    return pages * resource.getpagesize()


def _drop_capabilities(libc: ctypes.CDLL) -> Measure:
    """Root without any of root's powers; for everybody else nothing changes."""
    header = struct.pack("<Ii", CAPABILITIES_VERSION, 0)
    dropped = libc.capset(header, bytes(24)) == 0
    return Measure("privileges", active=dropped, detail="none, and none to be gained" if dropped else "kept")


def _files(libc: ctypes.CDLL, bounds: Bounds) -> Measure:
    if not bounds.folders:
        return Measure("files", active=False, detail="no folder was named")
    whole, names = readable_paths(bounds.device)
    writable = [*bounds.folders, Path("/dev/null"), *map(Path, DEVICES[bounds.device])]
    try:
        version = restrict_files(libc, whole, names, writable)
    except OSError as error:
        return Measure("files", active=False, detail=str(error))
    if not version:
        return Measure("files", active=False, detail="this kernel has no Landlock (5.13 and later, if switched on)")
    return Measure("files", active=True, detail=f"its folder alone, libraries read-only (Landlock {version})")


def _system_calls(libc: ctypes.CDLL) -> Measure:
    if filter_system_calls(libc, os.getpid()):
        detail = "an allow-list: no sockets, programs, processes, tracing (seccomp)"
        return Measure("system calls", active=True, detail=detail)
    return Measure("system calls", active=False, detail=f"no filter for {platform.machine()} on this kernel")


def _other_system() -> list[Measure]:
    """What the process that started this one has put around it (macOS: a profile), found by trying."""
    try:
        with socket.socket() as attempt:
            attempt.bind(("127.0.0.1", 0))
    except PermissionError:
        held, detail = True, "a sandbox-exec profile: no network, programs or processes, writes in its folder alone"
    else:
        held, detail = False, f"{platform.system()} has no sandbox that this program can use"
    return [Measure("files", active=held, detail=detail), Measure("system calls", active=held, detail=detail)]
