"""What holds a worker in: resource limits, no new privileges, a seccomp filter against the network where Linux allows.

Programs are data, never code; the sandbox is for the day when a kernel has a bug. `sandbox_level` says what is in
force.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import resource
import struct
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22
SECCOMP_MODE_FILTER = 2
RETURN_ALLOW, RETURN_ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, ABOVE, RETURN = 0x20, 0x15, 0x35, 0x06
_ARCHITECTURES = {
    # machine: (audit architecture, numbers of socket, connect, bind, listen, ptrace, execve, execveat)
    "x86_64": (0xC000003E, (41, 42, 49, 50, 101, 59, 322)),
    "aarch64": (0xC00000B7, (198, 203, 200, 201, 117, 221, 281)),
}


def limit_resources(memory_bytes: int, cpu_seconds: int) -> None:
    """Bounds (0: none) on memory beyond what is mapped now and on processor time; few files, no core dumps."""
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 256}
    if memory_bytes:
        wanted[resource.RLIMIT_AS] = memory_bytes + _mapped_bytes()
    if cpu_seconds:
        wanted[resource.RLIMIT_CPU] = cpu_seconds
    for what, amount in wanted.items():
        hard = resource.getrlimit(what)[1]
        bound = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(what, (bound, bound))


def _mapped_bytes() -> int:
    """Address space in use; 0 where the system does not tell (the bound is then the tighter one)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return 0
    return pages * resource.getpagesize()


def forbid_network_and_programs() -> bool:
    """No new sockets and no new programs for this process from now on; whether the kernel agreed."""
    known = _ARCHITECTURES.get(platform.machine())
    if not sys.platform.startswith("linux") or known is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    code = _filter(*known)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0)


def _filter(architecture: int, calls: tuple[int, ...]) -> bytes:
    """Classic BPF: the calls fail with EPERM, others (and a foreign architecture's: all) are allowed (denied)."""

    def instruction(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    denied = RETURN_ERRNO | errno.EPERM
    lines = [
        instruction(LOAD, 0, 0, 4),
        instruction(EQUAL, 1, 0, architecture),
        instruction(RETURN, 0, 0, denied),
        instruction(LOAD, 0, 0, 0),
        # x86-64 accepts the numbers of the x32 interface too: from bit 30 on.
        instruction(ABOVE, len(calls) + 1, 0, 0x40000000),
    ]
    lines += [instruction(EQUAL, len(calls) - place, 0, number) for place, number in enumerate(calls)]
    lines += [instruction(RETURN, 0, 0, RETURN_ALLOW), instruction(RETURN, 0, 0, denied)]
    return b"".join(lines)


def sandbox_level(filtered: bool, memory_bytes: int) -> str:
    """In words, what holds this process in."""
    parts = ["separate process, bare environment"]
    parts.append(f"address space of {memory_bytes >> 20} MiB" if memory_bytes else "address space not limited")
    parts.append("seccomp: no sockets, no programs" if filtered else "no system call filter on this system")
    return "; ".join(parts)
