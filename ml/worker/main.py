"""The worker process: one request at a time from stdin, replies on stdout, gone the moment stdin ends.

A thread reads frames while a request is being done, so that `Cancel` stops it between two steps. States are written
atomically, so the process may die at any time. Anything wrong with a request is answered by `Failed`; a bug of ours
ends the process with a traceback on stderr.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
from typing import BinaryIO, NoReturn

from gensyn_node.primitives.errors import Rejection
from ml.worker.frames import decode_request, frame, read_frame
from ml.worker.messages import Cancel, Failed, Ready, Reply, Request
from ml.worker.sandbox import forbid_network_and_programs, limit_resources, sandbox_level
from ml.worker.service import answer, versions


class Inbox:
    """Requests as they come in, each with the event that cancels it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.requests: queue.SimpleQueue[tuple[Request | Failed, threading.Event]] = queue.SimpleQueue()
        self._stream = stream

    def read(self) -> NoReturn:
        """Read until the stream ends or cannot be followed any more, then end the process (runs in a thread)."""
        latest = threading.Event()
        while True:
            try:
                data = read_frame(self._stream)
            except Rejection as refusal:
                os.write(2, f"{refusal}\n".encode())
                os._exit(1)
            if data is None:
                os._exit(0)
            try:
                request: Request | Failed = decode_request(data)
            except Rejection as refusal:
                request = Failed(refusal.reason.code, refusal.message)
            if isinstance(request, Cancel):
                latest.set()
                continue
            latest = threading.Event()
            self.requests.put((request, latest))


def serve(inbox: Inbox, out: BinaryIO, sandbox: str) -> NoReturn:
    """Announce the worker, then answer requests one after the other."""

    def send(reply: Reply) -> None:
        out.write(frame(reply))
        out.flush()

    send(Ready(*versions(), sandbox))
    while True:
        request, cancelled = inbox.requests.get()
        send(request if isinstance(request, Failed) else answer(request, send, cancelled))


def main() -> int:
    """Entry point. `--memory-bytes` and `--cpu-seconds` bound the process (0: no bound)."""
    parser = argparse.ArgumentParser(prog="ml.worker")
    parser.add_argument("--memory-bytes", type=int, default=0)
    parser.add_argument("--cpu-seconds", type=int, default=0)
    arguments = parser.parse_args()
    # Replies own the real stdout; whatever a library prints goes to stderr.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    limit_resources(arguments.memory_bytes, arguments.cpu_seconds)
    filtered = forbid_network_and_programs()
    inbox = Inbox(sys.stdin.buffer)
    threading.Thread(target=inbox.read, daemon=True).start()
    try:
        serve(inbox, out, sandbox_level(filtered, arguments.memory_bytes))
    except (BrokenPipeError, SystemExit):
        # The reading thread holds stdin's lock, so the interpreter cannot shut down by itself.
        os._exit(0)
