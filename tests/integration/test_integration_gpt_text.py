"""A character model of English text, trained through the network by the commands that a person would type.

The text is the documentation of the Python language that every Python carries (`pydoc_data.topics`).
"""

from __future__ import annotations

import math
import pydoc_data.topics
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from integration_net import gensyn, recompute, wait_for

from gensyn_node.config.node_config import read_config
from gensyn_node.devnet.layout import NodePlan, create_devnet
from gensyn_node.devnet.processes import running
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.sdk.client import connect
from gensyn_node.sdk.datasets import list_datasets
from gensyn_node.sdk.evaluate import evaluate_model
from gensyn_node.sdk.task_file import read_task_file
from ml.data.dataset import open_dataset

pytestmark = pytest.mark.integration

CONTEXT = 32
STEPS = 160
TASK = f"""
name = "english"
[model]
preset = "gpt"
layers = 2
width = 32
heads = 4
context = {CONTEXT}
[data]
train = "english.txt"
[train]
steps = {STEPS}
batch_size = 8
optimizer = {{ name = "adamw", lr = 8e-3 }}
[verify]
segment = 20
samples = 1
instalments = 2
verifiers = 2
[price]
max = "100 GSN"
deadline = "1h"
"""
BOND_NANO = 1_000 * NANO_PER_GSN
"""A solver puts several times its price at stake: the least bond is too little for this task."""
MARGIN_NATS = 0.3
"""How far below the entropy of single characters the loss has to be: a model that learnt nothing but their frequencies
would be at it."""


def write_texts(folder: Path) -> str:
    """Nine parts of the topics to train on; the tenth, in the characters of the nine, is the result."""
    topics: dict[str, str] = pydoc_data.topics.topics
    texts = [text for _, text in sorted(topics.items())]
    train, held_out = "\n".join(texts[: len(texts) * 9 // 10]), "\n".join(texts[len(texts) * 9 // 10 :])
    (folder / "english.txt").write_text(train, "utf-8")
    known = set(train)
    return "".join(character for character in held_out if character in known)


def unigram_entropy(text: str) -> float:
    """Nats a character, by the characters' frequencies alone."""
    total = len(text)
    return -sum(count / total * math.log(count / total) for count in Counter(text).values())


def windows(text: str, vocabulary: tuple[str, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Records of the held-out text, as the model takes them."""
    number = {character: index for index, character in enumerate(vocabulary)}
    stream = np.array([number[character] for character in text], np.uint8)
    count = (len(stream) - 1) // CONTEXT
    return stream[np.arange(count)[:, None] * CONTEXT + np.arange(CONTEXT + 1)]


def test_a_person_trains_a_model_of_english_text(tmp_path: Path) -> None:
    held_out = write_texts(tmp_path)
    entropy = unigram_entropy(held_out)
    task_file = tmp_path / "task.toml"
    task_file.write_text(TASK, "utf-8")
    devnet = create_devnet(tmp_path / "net", (NodePlan(bond_nano=BOND_NANO),) * 3)
    me, node = devnet.client.path, devnet.homes[0].path
    token = ("--token-file", str(devnet.homes[0].token))
    added = gensyn(me, "data", "add", str(tmp_path / "english.txt"), "--context", str(CONTEXT), "--offline")
    with running(devnet), connect(devnet.homes[0]) as client:
        wait_for(lambda: len(client.call("providers")) == devnet.nodes, "all providers", devnet)
        quote = gensyn(me, "task", "quote", str(task_file), node=node)
        assert quote["problem"] == ""
        assert quote["solvers"] == devnet.nodes
        submitted = gensyn(me, "task", "submit", str(task_file), "--yes", *token, node=node)
        task_id = submitted["task_id"]
        watched = gensyn(me, "task", "watch", task_id, node=node)
        assert watched["state"] == "finished"
        waited = gensyn(me, "task", "wait", task_id, "--timeout", "60", node=node)
        assert waited["step"] == STEPS
        shown = gensyn(me, "task", "show", task_id, node=node)
        assert shown["disputes"] == []
        model = tmp_path / "model"
        downloaded = gensyn(me, "task", "download", task_id, "--to", str(model), *token, node=node)
        seeds = [part for one in read_config(devnet.homes[0]).p2p.seeds for part in ("--seeds", one)]
        proven = ("--light", "--trust-hours", "1", *seeds)
        audits = [
            gensyn(me, "task", "audit", task_id, "--segments", "2", "--no-challenge", *how, *token, node=node)
            for how in ((), proven)
        ]
    plain, light = audits
    assert plain["proven_at"] is None
    assert light["proven_at"] > 0
    for audit in audits:
        assert [one["result"] for one in audit["segments"]] == ["agrees"] * 2
        assert (audit["audited"], audit["committed"], audit["wrong"]) == (2, STEPS // 20, 0)
    verified = gensyn(
        tmp_path / "laptop",
        *("verify", downloaded["certificate"], "--model", downloaded["model"]),
        *("--genesis", str(devnet.client.genesis)),
    )
    assert (verified["valid"], verified["model_checked"], verified["genesis_trusted"]) == (True, True, True)
    assert verified["steps"] == STEPS

    datasets = {manifest.root.hex(): (folder, manifest) for folder, manifest in list_datasets(devnet.client)}
    folder, manifest = datasets[added["root"]]
    records = windows(held_out, manifest.vocabulary)
    task = read_task_file(task_file)
    result = evaluate_model(devnet.client, task, tmp_path, Path(downloaded["model"]), {"tokens": records})
    losses = [(step, round(loss, 3)) for step, loss in watched["losses"]]
    print(f"\ncharacters {len(held_out)}; entropy of single characters {entropy:.3f} nats; losses seen {losses}")
    print(f"held-out loss {result.loss:.3f} nats, next character right {result.accuracy:.3f}")
    assert result.loss < entropy - MARGIN_NATS
    told = [loss for _, loss in watched["losses"]]
    assert sum(told[-4:]) / 4 < told[0] - MARGIN_NATS, "each is of one batch, and batches differ"

    np.savez(tmp_path / "records.npz", tokens=open_dataset(folder).array("tokens"))
    alone = recompute(Path(downloaded["certificate"]), tmp_path / "records.npz", "kernels", threads=2)
    assert alone["root"] == verified["final_root"]
    assert watched["losses"][-1] == [STEPS, alone["loss"]], "what the chain was told"


def test_refusals_reach_the_person(tmp_path: Path) -> None:
    """Offline, with line, field and remedy."""
    (tmp_path / "english.txt").write_text("too short", "utf-8")
    task_file = tmp_path / "task.toml"
    task_file.write_text(TASK.replace("heads = 4", "heads = 5"), "utf-8")
    refused = gensyn(tmp_path / "home", "task", "validate", str(task_file), code=1)
    assert "heads = 5" in str(refused)
    assert "line 6" in str(refused)
