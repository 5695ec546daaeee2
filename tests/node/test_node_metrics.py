"""/metrics: valid text, numbers that are true, and a board that asks for nothing that is not there."""

from __future__ import annotations

import json
import math
import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from node_cluster import eventually, make_cluster, run, transfer

from gensyn_node.app.measures import Histogram, counters, gauge, histogram, render
from gensyn_node.app.metrics import render_metrics
from gensyn_node.app.node import open_node
from gensyn_node.primitives.errors import Rejection

BOARD = Path(__file__).parents[2] / "devnet" / "grafana" / "dashboard.json"
SAMPLE = re.compile(r'([a-z_0-9]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\+Inf|-?[0-9.e+-]+)')


def parse(text: str) -> dict[str, dict[str, float]]:
    """Samples by name and labels; fails on anything that is not the text format."""
    found: dict[str, dict[str, float]] = {}
    kinds: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            name = re.sub("_(bucket|sum|count)$", "", match[1])
            assert match[1] in kinds or kinds.get(name) == "histogram", line
            labels = match[2] or ""
            assert labels not in found.setdefault(match[1], {}), line
            found[match[1]][labels] = float(match[3])
    for name, kind in kinds.items():
        assert (kind == "counter") == name.endswith("_total"), name
    return found


def test_the_text_format() -> None:
    measured = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        measured.observe(value)
    text = render(
        [
            gauge("a_bytes", 'with "quotes" and\nlines', 1.5),
            counters("b_total", "by reason", "reason", {'x"y\\z': 2}),
            histogram("c_seconds", "times", measured),
        ]
    )
    found = parse(text)
    assert found["a_bytes"][""] == 1.5
    assert found["b_total"] == {'reason="x\\"y\\\\z"': 2}
    assert found["c_seconds_bucket"] == {'le="1"': 2, 'le="2"': 3, 'le="+Inf"': 4}
    assert (found["c_seconds_sum"][""], found["c_seconds_count"][""]) == (12.0, 4)
    assert math.inf not in found["a_bytes"].values()


@pytest.mark.integration
def test_a_node_s_metrics_are_true_and_the_board_asks_for_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 4)
        async with AsyncExitStack() as stack:
            nodes = [await stack.enter_async_context(open_node(one)) for one in cluster.settings[:3]]
            first = nodes[0]
            for nonce in range(3):
                await first.chain.submit_transaction(transfer(cluster, 0, nonce, 5, b"\2" * 20))
            with pytest.raises(Rejection):
                await first.chain.submit_transaction(transfer(cluster, 0, 0, 5, b"\2" * 20))
            await eventually(lambda: first.ledger.head.height >= 5 and len(first.pool) == 0, "blocks")
            text = await render_metrics(first)
        found = parse(text)
        assert found["gensyn_consensus_height"][""] >= 5
        assert found["gensyn_consensus_transactions_total"][""] == 3
        assert found["gensyn_consensus_validators"][""] == 4
        assert found["gensyn_consensus_missing_validators"][""] >= 1  # the fourth never ran
        assert found["gensyn_consensus_block_interval_seconds_count"][""] >= 4
        assert found["gensyn_consensus_quorum_precommit_delay_seconds_count"][""] >= 1
        assert found["gensyn_mempool_accepted_total"][""] == 3
        assert found.get("gensyn_mempool_failed_total") or found["gensyn_mempool_already_received_total"][""] == 1
        assert found["gensyn_p2p_peers"][""] == 2
        assert found["gensyn_storage_block_write_seconds_count"][""] >= 5
        assert found["process_resident_memory_bytes"][""] > 0
        assert any("proposal" in labels for labels in found["gensyn_p2p_gossip_received_bytes_total"])
        expressions = [
            target["expr"] for panel in json.loads(BOARD.read_text())["panels"] for target in panel["targets"]
        ]
        assert len(expressions) > 20
        names = {name for one in expressions for name in re.findall(r"\b(?:gensyn|process)_[a-z_0-9]+", one)}
        # A counter without any label value so far has no sample, but is declared.
        declared = set(re.findall("^# TYPE ([a-z_0-9]+) ", text, re.M))
        known = declared | {f"{name}{suffix}" for name in declared for suffix in ("_bucket", "_sum", "_count")}
        assert names - known == set()

    run(scenario)
