"""Opens every case of some modules in a process with little memory: `python hostile_runner.py FOLDER MODULE…`.

Prints one JSON object: module → name → code (of another exception: its name), message, peak growth in MiB, seconds.
"""

from __future__ import annotations

import importlib
import json
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hostile_case import Case

from gensyn_node.primitives.errors import Rejection

SECONDS = 20
MEMORY = 1 << 30
"""Address space beyond what the libraries map."""


def status(field: str) -> int:
    """A value of /proc/self/status, in KiB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split(f"{field}:")[1].split()[0])


@contextmanager
def given_up_after(seconds: int) -> Iterator[None]:
    """A case that waits for ever fails by itself."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def play(case: Case, path: Path) -> dict[str, object]:
    """Make and open one case."""
    case.make(path)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # The peak is counted anew.
    before, started, code, message = status("VmRSS"), time.perf_counter(), "", ""
    try:
        with given_up_after(SECONDS):
            case.open(path)
    except Rejection as refusal:
        code, message = refusal.reason.code, refusal.message
    except Exception as error:  # noqa: BLE001  (the table test compares it with the code that was wanted)
        code, message = type(error).__name__, str(error)
    return {
        "code": code,
        "message": message[:200],
        "growth_mib": (status("VmHWM") - before) >> 10,
        "seconds": round(time.perf_counter() - started, 3),
    }


def main() -> None:
    """Play the modules' cases."""
    folder, modules = Path(sys.argv[1]), [importlib.import_module(name) for name in sys.argv[2:]]
    bound = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0]) + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    found: dict[str, dict[str, object]] = {}
    for module in modules:
        played = found[module.__name__] = {}
        for number, case in enumerate(module.CASES):
            path = folder / f"{module.__name__}-{number}"
            played[case.name] = play(case, path)
            with suppress(OSError):
                path.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
