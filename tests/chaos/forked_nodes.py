"""Whole nodes as processes of their own that start in a moment: forked from a process that has imported everything.

Each runs `gensyn node run` on its home, with its own files, sockets and memory; what is saved is the start of Python
and the imports, two seconds of a processor each. A node's log tells what it does without asking it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from msgspec import structs
from node_cluster import Cluster

import cli.main
import gensyn_node.app.service  # noqa: F401  (imported here so that a forked node need not)
from gensyn_node.app.settings import NodeSettings
from gensyn_node.config.template import render_config
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, Keyring

WAIT_S = 180.0
POLL_S = 0.02
WATCH_MS = 1_000
"""How long a restarted validator listens when nothing happens: short, since all are stopped at once again and again."""


class RefusedCall(Exception):  # noqa: N818  (it names the event)
    """The node answered with an error."""


class Node:
    """One node: its process while it runs, and what its log has said so far."""

    def __init__(self, settings: NodeSettings, enter: Callable[[], None] | None = None) -> None:
        """`enter` is called in the new process before the node starts."""
        self.settings = settings
        self.pid = 0
        self.height = 0
        """The highest block that it said to have committed since it was started."""
        self.events: list[dict[str, Any]] = []
        """What it said since it was started."""
        self._enter = enter
        self._read = 0
        self._rest = b""
        home = settings.home
        consensus = structs.replace(settings.config.consensus, watch_ms=WATCH_MS)
        log = structs.replace(settings.config.log, level="debug")
        home.config.write_text(render_config(structs.replace(settings.config, consensus=consensus, log=log)), "utf-8")
        ring = Keyring(home.keys)
        ring.add(ACCOUNT, settings.account_key, None)
        ring.add(CONSENSUS, settings.consensus_key, None)
        ring.add(P2P, settings.p2p_key, None)

    # --- the process

    def start(self) -> None:
        """Start it."""
        assert not self.pid
        self.look()
        self.height, self.events = 0, []
        self.settings.home.endpoint.unlink(missing_ok=True)
        self.pid = os.fork()
        if not self.pid:
            self._be_a_node()

    def _be_a_node(self) -> None:
        """In the new process; never returns."""
        code = 1
        try:
            os.setsid()
            output = os.open(self.settings.home.log / "output.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
                os.dup2(source, descriptor)
            if self._enter is not None:
                self._enter()
            cli.main.main(["node", "run", "--home", str(self.settings.home.path)])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            os._exit(code)

    @property
    def runs(self) -> bool:
        """Whether it has not ended by itself."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        return bool(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.signal(signal.SIGTERM)
        return os.waitstatus_to_exitcode(self._reap())

    def _reap(self) -> int:
        status = os.waitpid(self.pid, 0)[1]
        self.pid = 0
        return status

    # --- what it says

    def look(self) -> list[dict[str, Any]]:
        """Read on in its log; what is new."""
        path = self.settings.home.log / "node.log"
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        self._read += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        new = []
        for line in lines:
            with contextlib.suppress(ValueError):  # the line in which the process was killed
                new.append(json.loads(line))
        self.events += new
        for event in new:
            if event["event"] == "block_committed":
                self.height = max(self.height, event["height"])
        return new

    def said(self, event: str) -> bool:
        """Whether it has said this since it was started."""
        return any(one["event"] == event for one in self.events)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One JSON-RPC call. Raises `RefusedCall`; `httpx.HTTPError` or `OSError` while it does not answer."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        headers = {"Authorization": f"Bearer {self.settings.home.token.read_text()}"}
        reply = httpx.post(self.settings.home.endpoint.read_text() + "/rpc", json=body, headers=headers, timeout=60)
        answer: dict[str, Any] = reply.json()
        if "error" in answer:
            raise RefusedCall(answer["error"]["message"])
        result: dict[str, Any] = answer["result"]
        return result

    def tail(self) -> str:
        """The end of its log and of what it printed."""
        files = (self.settings.home.log / name for name in ("node.log", "output.log"))
        return "".join(file.read_text("utf-8", "replace")[-2000:] for file in files if file.exists())


def wait_until(condition: Callable[[], bool], nodes: list[Node], what: str, within_s: float = WAIT_S) -> float:
    """Look at the logs until it holds; how long that took. Fails with the logs' ends."""
    begun = time.monotonic()
    while True:
        for node in nodes:
            node.look()
        if condition():
            return time.monotonic() - begun
        dead = [node for node in nodes if node.pid and not node.runs]
        if dead or time.monotonic() - begun > within_s:
            ends = "\n".join(f"--- {node.settings.home.path.name}\n{node.tail()}" for node in dead or nodes)
            raise AssertionError(f"{'a node ended' if dead else f'not within {within_s:g} s'}: {what}\n{ends}")
        time.sleep(POLL_S)


@contextmanager
def running(cluster: Cluster, enter: list[Callable[[], None]] | None = None) -> Iterator[list[Node]]:
    """All nodes of a cluster, started; none is left behind, stopped ones neither."""
    nodes = [Node(settings, enter[number] if enter else None) for number, settings in enumerate(cluster.settings)]
    try:
        for node in nodes:
            node.start()
        yield nodes
    finally:
        for node in nodes:
            if node.runs:
                node.kill()


def block_ids(node: Node, path: Path | None = None) -> dict[int, str]:
    """Height → block id, of every block that the node's log has ever named; fails if it named two for one height."""
    found: dict[int, str] = {}
    for line in (path or node.settings.home.log / "node.log").read_bytes().split(b"\n"):
        if b'"block_committed"' in line:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                assert found.setdefault(event["height"], event["id"]) == event["id"], event
    return found
