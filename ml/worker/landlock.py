"""Landlock, the Linux kernel's per-process view of the file system: a worker sees its folder and the libraries.

What is not listed can neither be read nor written nor run, even by root, and stays so for every thread started later
(Documentation/userspace-api/landlock.rst). Called through ctypes: the three system calls have no wrapper in libc.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System call numbers, equal on every architecture."""
VERSION_FLAG, PATH_BENEATH = 1, 1
PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << place for place in range(6))
MAKE_DIR, MAKE_REG = 1 << 7, 1 << 8
REFER, TRUNCATE = 1 << 13, 1 << 14
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights over files that a version of the interface knows; later versions know those of 5."""
NETWORK_VERSION, SCOPE_VERSION = 4, 6
TCP = 3
"""Binding and connecting TCP sockets."""
SCOPES = 3
"""No abstract sockets and no signals beyond the process's own kind."""

READ_ONLY = READ_FILE | READ_DIR
OF_FILES = WRITE_FILE | READ_FILE | EXECUTE | TRUNCATE | 1 << 15
"""Rights that a rule on a file, not a folder, may name."""
READ_WRITE = READ_ONLY | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
"""No links, devices, pipes or sockets can be made, and nothing be run."""


def landlock_version(libc: ctypes.CDLL) -> int:
    """The version of the kernel's interface; 0 where there is none or it is switched off."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION_FLAG)))


def restrict_files(
    libc: ctypes.CDLL, readable: Iterable[Path], listable: Iterable[Path], writable: Iterable[Path]
) -> int:
    """From now on this thread, and threads it starts, reach only these folders; the version used, 0: not restricted.

    `listable`: names may be read, contents not. Paths that do not exist are left out. Raises `OSError` when the kernel
    has the interface and refuses its use.
    """
    version = landlock_version(libc)
    if not version:
        return 0
    rights = RIGHTS[min(version, max(RIGHTS))]
    attributes = struct.pack("<Q", rights)
    if version >= NETWORK_VERSION:
        attributes += struct.pack("<Q", TCP)
    if version >= SCOPE_VERSION:
        attributes += struct.pack("<Q", SCOPES)
    ruleset = _checked(libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0))
    try:
        for paths, allowed in ((readable, READ_ONLY), (listable, READ_DIR), (writable, READ_WRITE)):
            for path in paths:
                _allow(libc, ruleset, path, allowed & rights)
        _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return version


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        allowed = rights if path.is_dir() else rights & OF_FILES
        _checked(libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, struct.pack("<Qi", allowed, descriptor), 0))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"landlock: {errno.errorcode.get(number, number)}")
    return result
