"""A solver ended by kill -9 in mid-task, three times: whoever goes on, the final state is the same.

First its worker, then its node, which is started again: both resume. Then its node for good: another solver takes over
at the last settled instalment.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from integration_net import found_in, recompute, wait_for

from gensyn_node.devnet.account_book import addresses, read_book
from gensyn_node.devnet.genesis import patient_parameters
from gensyn_node.devnet.layout import CHEAP_ASK_NANO, DEAR_ASK_NANO, Devnet, NodePlan, create_devnet
from gensyn_node.devnet.processes import node_states, running, start_node
from gensyn_node.keys.keyring import ACCOUNT, Keyring
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.roles.materials import OWN
from gensyn_node.sdk.certificate import read_certificate
from gensyn_node.sdk.client import NodeClient, connect
from gensyn_node.sdk.task_build import build_task
from gensyn_node.sdk.task_file import parse_task_file
from gensyn_node.sdk.task_flow import download_verified, submit_task
from ml.worker.messages import state_path

pytestmark = pytest.mark.integration

BLOCK_MS = 400
WINDOW_BLOCKS = 3
HEARTBEAT_BLOCKS = 75
"""Without a heartbeat for so long a solver is replaced: more than a restart takes, less than the test can wait."""
STEPS, SEGMENT, INSTALMENTS = 600, 25, 3
PER_INSTALMENT = STEPS // INSTALMENTS
SOLVER = 3
TASK = f"""
name = "killed"
[model]
preset = "mlp"
widths = [192, 192]
classes = 10
[data]
train = "data.npz"
[train]
steps = {STEPS}
batch_size = 96
optimizer = {{ name = "sgd", lr = 0.05, momentum = 0.9 }}
[verify]
segment = {SEGMENT}
samples = 1
instalments = {INSTALMENTS}
verifiers = 2
[price]
max = "50 GSN"
deadline = "9000 blocks"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A task under way on a network whose last node is sure to be drawn as its solver, and never verifies."""

    devnet: Devnet
    client: NodeClient
    task_id: bytes

    def task(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.call("task", task_id=self.task_id.hex())
        return found

    def wait_mid_instalment(self, number: int) -> None:
        """Until the solver has written a state of this instalment, and has not committed it."""
        states = self.devnet.homes[SOLVER].work / self.task_id.hex() / OWN
        state = state_path(states, number * PER_INSTALMENT + SEGMENT)
        wait_for(state.is_file, f"{state.name} of the solver", poll_s=0.02)
        assert self.task()["record"]["committed"] <= number, "the instalment was over before the kill"

    def wait_settled(self, count: int) -> dict[str, Any]:
        """Until so many instalments are settled; the task."""
        return wait_for(
            lambda: task if (task := self.task())["record"]["settled"] >= count else None, f"{count} settled"
        )


@contextmanager
def running_task(folder: Path) -> Iterator[Run]:
    """Two verifiers, a dear solver and a cheap one; a task that trains for some seconds an instalment."""
    parameters = msgspec.structs.replace(
        patient_parameters(BLOCK_MS), heartbeat_blocks=HEARTBEAT_BLOCKS, window_blocks=WINDOW_BLOCKS
    )
    plans = (
        NodePlan(role="verifier"),
        NodePlan(role="verifier"),
        NodePlan(ask_nano_per_gigagas=DEAR_ASK_NANO),
        NodePlan(role="solver", ask_nano_per_gigagas=CHEAP_ASK_NANO),
    )
    # The one to be killed does not validate: how the chain goes on without a validator is seen elsewhere.
    devnet = create_devnet(folder / "net", plans, parameters=parameters, block_ms=BLOCK_MS, validators=SOLVER)
    random = np.random.default_rng(5)
    labels = random.integers(0, 10, 2000)
    np.savez(folder / "data.npz", x=random.standard_normal((2000, 64)).astype(np.float32), y=labels)
    built = build_task(devnet.client, parse_task_file(TASK), folder, BLOCK_MS)
    with running(devnet), connect(devnet.client, devnet.homes[0].endpoint.read_text(), devnet.homes[0].token) as client:
        wait_for(lambda: len(client.call("providers")) == len(plans), "all providers", devnet)
        outcome = submit_task(client, Keyring(devnet.client.keys).open(ACCOUNT), built)
        yield Run(devnet, client, outcome.transaction_id)


def kill_node(devnet: Devnet, number: int) -> None:
    """kill -9; its worker, which has lost its node, ends by itself."""
    pid = node_states(devnet)[number].pid
    assert pid is not None
    node = psutil.Process(pid)
    node.send_signal(signal.SIGKILL)
    wait_for(lambda: not found_in(devnet.homes[number].path), "the end of the node and its worker")


def signal_worker(devnet: Devnet, number: int, what: signal.Signals) -> None:
    """To the training process alone."""
    workers = [one for one in found_in(devnet.homes[number].path) if "ml.worker" in one.cmdline()]
    assert len(workers) == 1
    workers[0].send_signal(what)


def test_killed_solvers_resume_or_are_replaced_and_the_state_is_the_same(tmp_path: Path) -> None:
    with running_task(tmp_path) as run:
        names = addresses(run.devnet)
        first = names[f"node{SOLVER}"]
        before = read_book(run.client, run.devnet)
        run.wait_mid_instalment(0)
        seed = run.task()["record"]["seed"]
        assert run.task()["solver"] == first
        signal_worker(run.devnet, SOLVER, signal.SIGKILL)
        run.wait_mid_instalment(1)
        kill_node(run.devnet, SOLVER)
        start_node(run.devnet.homes[SOLVER])
        run.wait_mid_instalment(2)
        signal_worker(run.devnet, SOLVER, signal.SIGSTOP)  # what it committed is settled, and it is still half way
        settled = run.wait_settled(2)
        assert (settled["solver"], settled["record"]["committed"]) == (first, 2)
        signal_worker(run.devnet, SOLVER, signal.SIGKILL)
        kill_node(run.devnet, SOLVER)
        finished = wait_for(lambda: task if (task := run.task())["final"] else None, "the end of the task")
        assert finished["state"] == "finished"
        assert finished["record"]["seed"] == seed
        assert finished["record"]["attempt"] == 2
        files, verified = download_verified(run.client, run.task_id, tmp_path / "model", run.devnet.client)
        after = read_book(run.client, run.devnet)
        assert before.conserved
        assert after.conserved
    record = read_certificate(files.certificate).record
    assert verified.model_checked
    assert record.disputes == ()
    named = {address: name for name, address in names.items()}
    solvers = [named[encode_address(part.solver)] for part in record.instalments]
    print("settled by", solvers)
    assert solvers[:2] == [f"node{SOLVER}"] * 2
    assert solvers[2] == f"node{SOLVER - 1}"
    assert recompute(files.certificate, tmp_path / "data.npz", "kernels")["root"] == record.final_root.hex()
