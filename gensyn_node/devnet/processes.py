"""The processes of a devnet: started, watched, stopped. None stays behind, whatever happens.

A process is known by its id *and* its start time, so that a stale file never stops a stranger. Every node runs in a
session of its own: Ctrl-C reaches only the launcher, which then ends them in order, with whatever they started.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gensyn_node.config.home import Home
from gensyn_node.devnet import reasons
from gensyn_node.devnet.layout import Devnet
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk.client import NodeClient, connect
from ml.kernels.sources import STORE_VARIABLE
from ml.worker.kernels import compile_kernels, kernel_store

PID_FILE = "node.pid"
LOG_FILE = "node.log"
"""Written by the node itself."""
OUTPUT_FILE = "output.log"
"""What the process prints: a traceback, if it ever comes to that."""
TAIL_BYTES = 65_536
STOP_S = 10.0
ORPHAN_S = 1.0
"""A worker ends by itself when its node is gone; one that does not has this long."""
READY_S = 120.0
_POLL_S = 0.2
_START_TIME_SLACK_S = 0.05


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node of a devnet, as it is now."""

    name: str
    home: Path
    pid: int | None
    """None when it does not run."""
    rpc: str


def start_nodes(devnet: Devnet, but: Collection[str] = ()) -> None:
    """Start every node but those of these names; DEVNET_RUNS when one runs already. Returns at once."""
    if any(_process(home) for home in devnet.homes):
        raise Rejection(reasons.DEVNET_RUNS, f"nodes of {devnet.path} are running")
    compile_kernels(_kernels(devnet.homes[0]))
    try:
        for home in devnet.homes:
            if home.path.name not in but:
                start_node(home)
    except BaseException:
        stop_nodes(devnet)
        raise


def _kernels(home: Home) -> Path:
    """All nodes of a devnet share compiled kernels: else each would compile them, all at the same time."""
    return kernel_store(home.path.parent / "kernels")


def start_node(home: Home) -> int:
    """Start one node in the background; its process id."""
    home.endpoint.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GENSYN_")}
    environment[STORE_VARIABLE] = str(_kernels(home))
    with (home.log / OUTPUT_FILE).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "node", "run", "--home", str(home.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
            cwd=home.path,
            env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    started = psutil.Process(process.pid).create_time()
    (home.path / PID_FILE).write_text(json.dumps({"pid": process.pid, "started": started}))
    return process.pid


def stop_nodes(devnet: Devnet) -> None:
    """End every node and everything it started; returns when all are gone."""
    stop_homes(devnet.homes)


def stop_homes(homes: tuple[Home, ...], *, kill: bool = False) -> None:
    """End the nodes of these homes: politely first, or with `kill` at once; then what they left behind."""
    nodes = [process for home in homes if (process := _process(home))]
    children = [child for process in nodes for child in _children(process)]
    for process in nodes:
        _signal(process, signal.SIGKILL if kill else signal.SIGTERM)
    _kill_after(nodes, STOP_S)
    _kill_after(children, ORPHAN_S)
    for home in homes:
        (home.path / PID_FILE).unlink(missing_ok=True)


def freeze_worker(home: Home) -> bool:
    """Stop the worker of a node, which goes on without noticing; whether there was one that still ran."""
    node = _process(home)
    for child in _children(node) if node else ():
        try:
            if "ml.worker" in child.cmdline() and child.status() != psutil.STATUS_STOPPED:
                child.suspend()
                return True
        except psutil.NoSuchProcess:
            continue
    return False


def _kill_after(processes: list[psutil.Process], patience_s: float) -> None:
    """Wait for processes that were told to end; kill those that do not, and wait for these as well."""
    _, left = psutil.wait_procs(processes, timeout=patience_s)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=STOP_S)


def node_states(devnet: Devnet) -> tuple[NodeState, ...]:
    """Which nodes run, and where they answer."""
    found = []
    for home in devnet.homes:
        process = _process(home)
        try:
            rpc = home.endpoint.read_text("ascii").strip()
        except OSError:
            rpc = ""
        found.append(NodeState(home.path.name, home.path, process.pid if process else None, rpc if process else ""))
    return tuple(found)


def check_alive(devnet: Devnet, but: Collection[str] = ()) -> None:
    """NODE_DIED when a node has ended that is not in `but`, with the last lines of its log."""
    for home in devnet.homes:
        if home.path.name not in but and _process(home) is None:
            raise Rejection(reasons.NODE_DIED, f"{home.path.name} ended; its log ends with:\n{log_tail(home)}")


def wait_ready(devnet: Devnet, *, height: int = 1, timeout_s: float = READY_S, but: Collection[str] = ()) -> None:
    """Wait until every node not in `but` answers and has `height` blocks; NODE_DIED or NOT_READY otherwise."""
    end = time.monotonic() + timeout_s
    waiting = [home for home in devnet.homes if home.path.name not in but]
    while waiting:
        check_alive(devnet, but)
        status = _status(waiting[0])
        if status is not None and status["height"] >= height:
            waiting.pop(0)
        elif time.monotonic() > end:
            tail = log_tail(waiting[0])
            raise Rejection(
                reasons.NOT_READY, f"{waiting[0].path.name} is not ready after {timeout_s:g} s; its log ends:\n{tail}"
            )
        else:
            time.sleep(_POLL_S)


@contextmanager
def running(devnet: Devnet, but: Collection[str] = ()) -> Iterator[Devnet]:
    """The devnet's nodes, up and ready inside the block, gone after it. Those named in `but` are started by nobody."""
    start_nodes(devnet, but)
    try:
        wait_ready(devnet, but=but)
        yield devnet
    finally:
        stop_nodes(devnet)


def client_of(devnet: Devnet, node: int = 0) -> NodeClient:
    """A client of one node."""
    return connect(devnet.homes[node])


def log_tail(home: Home, lines: int = 12) -> str:
    """The end of a node's log; what it printed besides, if anything, comes last."""
    logged = _tail(home.log / LOG_FILE, lines)
    printed = _tail(home.log / OUTPUT_FILE, lines)
    return "\n".join([*logged, *printed]) or "(there is no log)"


def _tail(path: Path, lines: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []


def _status(home: Home) -> dict[str, Any] | None:
    try:
        with connect(home) as client:
            found: dict[str, Any] = client.call("status", timeout_s=5)
            return found
    except Rejection:
        return None


def _process(home: Home) -> psutil.Process | None:
    """The running process of a home, if it is still the one that was started."""
    try:
        noted = json.loads((home.path / PID_FILE).read_text())
        process = psutil.Process(int(noted["pid"]))
        same = abs(process.create_time() - float(noted["started"])) < _START_TIME_SLACK_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return None


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
