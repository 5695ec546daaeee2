"""A worker that misbehaves: the real entry and sandbox, but for every request it does what its first words say.

Run as a program by the tests in the place of `ml.worker`. A request is `PredictMemory` whose program is a probe's name
and argument; the answer is `Failed` with what became of the attempt.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from ml.worker.frames import decode_request, frame, read_frame
from ml.worker.main import Serve, bounds_of, enter
from ml.worker.messages import Failed, Measure, PredictMemory, Progress, Ready

LIBC = ctypes.CDLL(None, use_errno=True)
CALLS = {
    # name: number on x86-64, on aarch64, arguments of a harmless attempt
    "ptrace": (101, 117, (0, 0, 0, 0)),
    "process_vm_readv": (310, 270, (1, 0, 0, 0, 0, 0)),
    "io_uring_setup": (425, 425, (1, 0)),
    "mount": (165, 40, (0, 0, 0, 0, 0)),
    "unshare": (272, 97, (0x10000000,)),
    "bpf": (321, 280, (0, 0, 0)),
    "perf_event_open": (298, 241, (0, 0, -1, -1, 0)),
    "keyctl": (250, 219, (0, -3, 0)),
    "userfaultfd": (323, 282, (0,)),
    "memfd_create": (319, 279, (b"x", 0)),
    "pidfd_open": (434, 434, (1, 0)),
    "symlinkat": (266, 36, (b"/etc/passwd", -100, b"link")),
    "linkat": (265, 37, (-100, b"a", -100, b"b", 0)),
    "setsid": (112, 157, ()),
    "init_module": (175, 105, (0, 0, b"")),
    "clone3": (435, 435, (0, 0)),
    "a call of tomorrow": (463, 463, ()),
}


def call(name: str) -> str:
    number = CALLS[name][0 if os.uname().machine == "x86_64" else 1]
    ctypes.set_errno(0)
    arguments = [ctypes.c_long(item) if isinstance(item, int) else ctypes.c_char_p(item) for item in CALLS[name][2]]
    LIBC.syscall(ctypes.c_long(number), *arguments)
    return os.strerror(ctypes.get_errno())


def fork_for_ever(_: str) -> str:
    made = 0
    while True:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
        if made > 50:
            return f"made {made}"


def threads_for_ever(_: str) -> str:
    end = threading.Event()
    try:
        while threading.active_count() < 1_000_000:
            threading.Thread(target=end.wait, daemon=True).start()
    finally:
        end.set()
    return "a million"


def allocate_for_ever(_: str) -> str:
    kept = []
    while True:
        kept.append(mmap.mmap(-1, 64 << 20))
        for place in range(0, 64 << 20, 4096):
            kept[-1][place] = 1


def write_for_ever(name: str) -> str:
    with open(name, "wb") as file:
        while True:
            file.write(bytes(1 << 20))


def chatter(_: str) -> str:
    while True:
        OUT.write(frame(Progress(0, 0.0, 0.0)))


def scribble(_: str) -> str:
    while True:
        os.write(2, b"x" * 65536)
        time.sleep(0.001)  # Else a node that gets little of the processor sees the bound on a file's size first.


def spin(_: str) -> str:
    while True:
        sum(range(10_000))


def spin_later(_: str) -> str:
    threading.Thread(target=spin, args=("",), daemon=True).start()
    return "begun"


def listing(place: str) -> str:
    return ",".join(os.listdir(place)[:3])


PROBES: dict[str, Callable[[str], str]] = {
    "read": lambda path: Path(path).read_text()[:20],
    "write": lambda path: str(Path(path).write_text("mine")),
    "append": lambda path: str(os.write(os.open(path, os.O_WRONLY | os.O_APPEND), b"x")),
    "list": listing,
    "remove": lambda path: str(os.unlink(path)),
    "link": lambda path: str(os.symlink(path, "key")),
    "chmod": lambda path: str(os.chmod(path, 0o666)),
    "tcp": lambda port: str(socket.create_connection(("127.0.0.1", int(port)))),
    "unix": lambda path: str(socket.socket(socket.AF_UNIX).connect(path)),
    "udp": lambda _: str(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "spawn": lambda program: str(subprocess.run([program], check=False)),
    "exec": lambda program: str(os.execv(program, [program])),
    "signal": lambda process: str(os.kill(int(process), 0)),
    "limits": lambda process: str(__import__("resource").prlimit(int(process), 7, (10, 10))),
    "environment": lambda _: ",".join(sorted(os.environ)),
    "descriptors": lambda _: ",".join(sorted(os.listdir("/proc/self/fd"))),
    "fork": fork_for_ever,
    "threads": threads_for_ever,
    "allocate": allocate_for_ever,
    "fill": write_for_ever,
    "chatter": chatter,
    "scribble": scribble,
    "spin": spin,
    "spin later": spin_later,
    "call": call,
}


def serve(requests: BinaryIO, out: BinaryIO, measures: Sequence[Measure]) -> NoReturn:
    global OUT
    OUT = out

    def send(reply: Ready | Failed) -> None:
        out.write(frame(reply))
        out.flush()

    send(Ready("probe", "none", tuple(measures)))
    while (data := read_frame(requests)) is not None:
        request = decode_request(data)
        assert isinstance(request, PredictMemory)
        name, _, argument = request.program.decode().partition(":")
        try:
            became = "done " + PROBES[name](argument)
        except (OSError, MemoryError, RuntimeError) as error:
            became = f"stopped {type(error).__name__}"
        send(Failed("E1", became))
    raise SystemExit


def load() -> Serve:
    return serve


if __name__ == "__main__":
    enter(bounds_of(sys.argv[1:]), load)
