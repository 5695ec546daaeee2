"""Keeps unlocked keys out of core dumps and out of reach of other programs of the same user."""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid_dumps() -> bool:
    """No core file of this process, and no reading of its memory by others of its user; whether the system agreed.

    Core files are forbidden everywhere; the second is Linux alone (PR_SET_DUMPABLE, prctl(2)), root excepted.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
