"""The worker process: one request at a time from stdin, replies on stdout, gone the moment stdin ends.

A thread reads frames while a request is being done, so that `Cancel` stops it between two steps. States are written
atomically, so the process may die at any time. Anything wrong with a request is answered by `Failed`; a bug of ours
ends the process with a traceback on stderr.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence
from typing import BinaryIO, NoReturn

from gensyn_node.primitives.errors import Rejection
from ml.worker.frames import decode_request, frame, read_frame
from ml.worker.messages import Cancel, Failed, Measure, Ready, Reply, Request
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


def serve(inbox: Inbox, out: BinaryIO, sandbox: Sequence[Measure]) -> NoReturn:
    """Announce the worker, then answer requests one after the other."""

    def send(reply: Reply) -> None:
        out.write(frame(reply))
        out.flush()

    send(Ready(*versions(), tuple(sandbox)))
    while True:
        request, cancelled = inbox.requests.get()
        send(request if isinstance(request, Failed) else answer(request, send, cancelled))
