"""A native task on real nodes: its noise is measured, a cheat is looked at and slashed, honest work is paid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration_net import wait_for

from consensus.ledger.messages import OFFERS_NATIVE
from gensyn_node.devnet.layout import CHEAP_ASK_NANO, DEAR_ASK_NANO, NodePlan, create_devnet
from gensyn_node.devnet.processes import running
from gensyn_node.keys.keyring import ACCOUNT, Keyring
from gensyn_node.sdk.client import NodeClient, connect
from gensyn_node.sdk.dispute_replay import replay_dispute
from gensyn_node.sdk.task_build import build_task
from gensyn_node.sdk.task_file import parse_task_file
from gensyn_node.sdk.task_flow import download_verified, quote_task, submit_task

pytestmark = pytest.mark.integration

BLOCK_MS = 500
CHEAT = "skip-step@step=13"
TASK = """
name = "native"
[model]
preset = "mlp"
widths = [16]
[data]
train = "points.npz"
[train]
steps = 30
batch_size = 16
optimizer = { name = "sgd", lr = 0.1, momentum = 0.9 }
arithmetic = "native"
[verify]
samples = "all"
verifiers = 2
[price]
max = "100 GSN"
deadline = "1h"
"""
"""Three segments of ten steps; every verifier looks at all of them."""


def write_points(folder: Path) -> None:
    """200 points in three classes."""
    generator = np.random.default_rng(3)
    x = generator.standard_normal((200, 12)).astype(np.float32)
    np.savez(folder / "points.npz", x=x, y=np.argmax(x[:, :3], axis=1).astype(np.int64))


def offers_native(provider: dict[str, Any]) -> bool:
    return bool(provider["roles"] & OFFERS_NATIVE)


def test_a_skipped_step_is_found_by_its_distance_proven_and_slashed_and_the_task_goes_on(tmp_path: Path) -> None:
    write_points(tmp_path)
    plans = (NodePlan(ask_nano_per_gigagas=DEAR_ASK_NANO),) * 3 + (NodePlan("solver", CHEAT, CHEAP_ASK_NANO),)
    devnet = create_devnet(tmp_path / "net", plans)
    built = build_task(devnet.client, parse_task_file(TASK), tmp_path, BLOCK_MS)
    key = Keyring(devnet.client.keys).open(ACCOUNT)
    with running(devnet), connect(devnet.homes[0]) as client:
        wait_for(lambda: [offers_native(one) for one in client.call("providers")] == [True] * 4, "offers", devnet)
        quote = quote_task(client, built)
        assert (quote.problem, quote.arithmetic) == ("", "native")
        task_id = submit_task(client, key, built).transaction_id
        task = wait_for(lambda: ended(client, task_id), "the task's end", devnet, poll_s=0.5)
        assert task["state"] == "finished", task
        disputes = client.call("disputes", task_id=task_id.hex())
        assert disputes, "the cheat was drawn: it asks next to nothing"
        dispute = client.call("dispute", dispute_id=disputes[0]["dispute_id"])
        replay = replay_dispute(client, dispute)
        _, verified = download_verified(client, task_id, tmp_path / "model", devnet.client)
        providers = {one["address"]: one for one in client.call("providers")}
    (cheat,) = task["record"]["removed_solvers"]
    assert (dispute["outcome"], dispute["defender"], dispute["record"]["how"]) == ("defender_wrong", cheat, "move")
    assert (replay.outcome, replay.step, replay.why) == ("defender_wrong", 13, "bad_entries")
    assert [move.mover for move in replay.moves] == ["challenger", "defender"]
    assert providers[cheat]["slashed_nano"] > 0
    assert all(one["slashed_nano"] == 0 for address, one in providers.items() if address != cheat)
    record = task["record"]
    assert record["solver"] != cheat and record["solver_paid_nano"] > 0 and record["verifiers_paid_nano"] > 0
    assert (verified.model_checked, verified.arithmetic, verified.segments_verified) == (True, "native", 3)


def ended(client: NodeClient, task_id: bytes) -> dict[str, Any] | None:
    """The task once it is over."""
    task: dict[str, Any] = client.call("task", task_id=task_id.hex())
    return task if task["final"] else None
