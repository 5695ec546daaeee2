"""What the integration tests share: stories, networks of their own, the command line, offline recomputation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from gensyn_node.devnet.layout import Devnet
from gensyn_node.devnet.processes import check_alive
from gensyn_node.devnet.scenario import read_scenario
from gensyn_node.devnet.story import Ending, run_story
from gensyn_node.sdk.certificate import Certificate, read_certificate

REPOSITORY = Path(__file__).resolve().parents[2]
SCENARIOS = REPOSITORY / "devnet" / "scenarios"
WAIT_S = 240.0
"""Far more than anything takes on an idle machine: a bound, not an expectation."""
Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """A story that was told."""

    ending: Ending
    folder: Path
    events: tuple[tuple[str, Any], ...]

    @property
    def certificate_path(self) -> Path:
        """The file that the client downloaded."""
        return self.folder / "model" / "model.cert"

    @property
    def certificate(self) -> Certificate:
        """Its content."""
        return read_certificate(self.certificate_path)

    def last(self, kind: str) -> Any:
        """What was told last of a kind."""
        return [data for told, data in self.events if told == kind][-1]


def tell_story(name: str, folder: Path) -> Told:
    """Run a scenario in an empty folder."""
    events: list[tuple[str, Any]] = []
    scenario = read_scenario(SCENARIOS / f"{name}.toml")
    ending = run_story(scenario, SCENARIOS, folder, lambda kind, data: events.append((kind, data)))
    return Told(ending, folder, tuple(events))


def processes_of(folder: Path) -> list[str]:
    """Running processes that work in a folder or were told of it, as text. This process is none of them."""
    return [str(process) for process in found_in(folder)]


def found_in(folder: Path) -> list[psutil.Process]:
    """The same, as processes."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            places = [process.cwd(), *process.cmdline()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in place for place in places):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_for(ask: Callable[[], T | None], what: str, devnet: Devnet | None = None, poll_s: float = 0.1) -> T:
    """Ask until the answer is neither None nor False. A node of `devnet` that ends meanwhile is a failure."""
    end = time.monotonic() + WAIT_S
    while (answer := ask()) is None or answer is False:
        assert time.monotonic() < end, f"not within {WAIT_S:g} s: {what}"
        if devnet is not None:
            check_alive(devnet)
        time.sleep(poll_s)
    return answer


def gensyn(home: Path, *arguments: str, node: Path | None = None, code: int = 0) -> Any:
    """Run a command with --json in a process of its own, as a user would; its answer. `node` is the node's home."""
    command = [sys.executable, "-m", "cli", *arguments, "--home", str(home), "--json"]
    if node is not None:
        command += ["--node", (node / "rpc.address").read_text().strip()]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def gensyn_alone(*arguments: str) -> Json:
    """Run a command that needs no home; its answer with --json."""
    command = [sys.executable, "-m", "cli", *arguments, "--json"]
    done = subprocess.run(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    found: Json = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def recompute(certificate: Path, data: Path, how: str, threads: int = 1, **environment: str) -> Json:
    """Train the certified task again, offline, in a process of its own."""
    script = Path(__file__).with_name("plain_training.py")
    done = subprocess.run(
        [sys.executable, str(script), str(certificate), str(data), str(threads), how],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Json = json.loads(done.stdout.strip().splitlines()[-1])
    return found
