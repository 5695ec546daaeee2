"""The system calls that a worker may make, as a seccomp filter: a list of what is allowed, everything else fails.

No sockets, programs, processes, tracing, kernel modules, mounts, rings (io_uring), keys, shared memory or messages. A
call that is known and not listed fails with EPERM; one newer than this list fails with ENOSYS, so that a later libc
falls back to what it did before. Numbers: Linux's `arch/x86/entry/syscalls/syscall_64.tbl` and
`include/uapi/asm-generic/unistd.h`.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass

PR_SET_NAME, PR_GET_NAME, PR_SET_SECCOMP = 15, 16, 22
SECCOMP_MODE_FILTER = 2
RETURN_ALLOW, RETURN_ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, AT_LEAST, ABOVE, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets into the kernel's `struct seccomp_data`."""
X32 = 0x40000000
"""x86-64 accepts the numbers of the x32 interface too: from this bit on."""
CLONE_THREAD = 0x10000
F_SETOWN, F_SETOWN_EX, F_SETSIG = 8, 15, 10
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
NEWEST = 462
"""The last number that this list has judged (Linux 6.9): later ones do not exist for a worker."""
CLONE3 = 435
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

CALLS: dict[str, tuple[int, int]] = {
    # name: number on x86-64, on aarch64; -1 where the architecture has no such call
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "open": (2, -1),
    "openat": (257, 56),
    "close": (3, 57),
    "close_range": (436, 436),
    "stat": (4, -1),
    "fstat": (5, 80),
    "lstat": (6, -1),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "access": (21, -1),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, -1),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "lseek": (8, 62),
    "mkdir": (83, -1),
    "mkdirat": (258, 34),
    "rmdir": (84, -1),
    "unlink": (87, -1),
    "unlinkat": (263, 35),
    "rename": (82, -1),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "fadvise64": (221, 223),
    "flock": (73, 32),
    "umask": (95, 166),
    "utimensat": (280, 88),
    "dup": (32, 23),
    "dup2": (33, -1),
    "dup3": (292, 24),
    "poll": (7, -1),
    "ppoll": (271, 73),
    "select": (23, -1),
    "pselect6": (270, 72),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "msync": (26, 227),
    "brk": (12, 214),
    "mbind": (237, 235),
    "get_mempolicy": (239, 236),
    "set_mempolicy": (238, 237),
    "membarrier": (324, 283),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigsuspend": (130, 133),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, -1),
    "times": (100, 153),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "getpriority": (140, 141),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "getcpu": (309, 168),
    "arch_prctl": (158, -1),
    # Allowed with the arguments of `_conditions` only:
    "clone": (56, 220),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
}


@dataclass(frozen=True)
class _Condition:
    """What the low 32 bits of an argument must be."""

    argument: int
    values: tuple[int, ...]
    kind: str = "one of"
    """`one of` the values, `none of` them, or has `a bit of` the first."""


def _conditions(process: int) -> dict[str, _Condition]:
    own = _Condition(0, (process,))
    return {
        "clone": _Condition(0, (CLONE_THREAD,), "a bit of"),
        "kill": own,
        "tgkill": own,
        # The main thread's number is the process's; other threads are signalled by tgkill.
        "tkill": own,
        "prctl": _Condition(0, (PR_SET_NAME, PR_GET_NAME)),
        "prlimit64": _Condition(0, (0, process)),
        "sched_setaffinity": _Condition(0, (0,)),
        "fcntl": _Condition(1, (F_SETOWN, F_SETOWN_EX, F_SETSIG), "none of"),
        "ioctl": _Condition(1, (TIOCSTI, TIOCLINUX), "none of"),
    }


def filter_system_calls(libc: ctypes.CDLL, process: int) -> bool:
    """Hold this thread, and threads it starts, to the list; whether this architecture and kernel can.

    `process`: its own number. New privileges must have been given up before.
    """
    if platform.machine() not in AUDIT_ARCHITECTURES:
        return False
    code = filter_code(platform.machine(), process)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0)


def filter_code(machine: str, process: int) -> bytes:
    """The filter as classic BPF for an architecture."""
    column = list(AUDIT_ARCHITECTURES).index(machine)
    denied, absent = RETURN_ERRNO | errno.EPERM, RETURN_ERRNO | errno.ENOSYS
    conditions = _conditions(process)
    lines = [
        _line(LOAD, ARCHITECTURE),
        _line(EQUAL, AUDIT_ARCHITECTURES[machine], 1, 0),
        _line(RETURN, denied),
        _line(LOAD, NUMBER),
        _line(AT_LEAST, X32, 0, 1),
        _line(RETURN, denied),
    ]
    for name, numbers in CALLS.items():
        number = numbers[column]
        if number < 0:
            continue
        block = [_line(RETURN, RETURN_ALLOW)]
        if name in conditions:
            block = _checked(conditions[name], denied)
        lines += [_line(EQUAL, number, 0, len(block)), *block]
    lines += [
        # clone3 keeps its flags in memory, where no filter can look: libc then uses clone.
        _line(EQUAL, CLONE3, 1, 0),
        _line(ABOVE, NEWEST, 0, 1),
        _line(RETURN, absent),
        _line(RETURN, denied),
    ]
    return b"".join(lines)


def _checked(condition: _Condition, denied: int) -> list[bytes]:
    inside, outside = (denied, RETURN_ALLOW) if condition.kind == "none of" else (RETURN_ALLOW, denied)
    test = ANY_BIT if condition.kind == "a bit of" else EQUAL
    return [
        _line(LOAD, FIRST_ARGUMENT + 8 * condition.argument),
        *_tests(test, condition.values, inside),
        _line(RETURN, outside),
    ]


def _tests(test: int, values: Iterable[int], result: int) -> list[bytes]:
    return [line for value in values for line in (_line(test, value, 0, 1), _line(RETURN, result))]


def _line(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)
