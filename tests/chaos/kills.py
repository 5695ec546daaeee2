"""Nodes killed with -9 and frozen, one or all of them, at chance moments and at chosen ones, while money is sent.

Afterwards every home is opened: no block that anybody ever named and no acknowledged transfer is missing anywhere, all
have the same blocks, nobody has signed twice.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from forked_nodes import Node, RefusedCall, block_ids, running, wait_until
from node_cluster import Cluster, make_cluster, transfer
from test_node_processes import block_and_commit, check_homes, open_chain

from consensus.ledger import keys
from consensus.ledger.records import Account
from gensyn_node.primitives import codec
from gensyn_node.primitives.bech32 import encode_address

TARGET = b"\x77" * 20
AMOUNT_NANO = 11
TRANSFERS_A_TURN = 3
MOMENTS = ("", "node_started", "log_replayed", "watch_over", "round_entered", "block_committed", "interface_listens")
"""What the victim says just before it is killed; empty: any moment."""
MOMENT_S = 3.0
"""A moment that does not come so soon is not waited for."""


@dataclass(slots=True)
class Figures:
    """What happened."""

    kills: int = 0
    freezes: int = 0
    moments: Counter[str] = field(default_factory=Counter)
    first_height: int = 0
    last_height: int = 0
    acknowledged: list[bytes] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    """From the start of a killed node until it has committed what the others had, and may sign."""

    def summary(self) -> dict[str, Any]:
        """For people and for JSON."""
        times = sorted(self.back_s)
        return {
            "kills": self.kills,
            "freezes": self.freezes,
            "killed_after": dict(self.moments.most_common()),
            "heights": [self.first_height, self.last_height],
            "acknowledged_transfers": len(self.acknowledged),
            "back_p50_s": round(times[len(times) // 2], 2) if times else None,
            "back_p99_s": round(times[min(len(times) - 1, len(times) * 99 // 100)], 2) if times else None,
        }


class Load:
    """Transfers of one account, each acknowledged by the node it was given to once it is in a block."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._pending: list[bytes] = []
        self._sent: set[str] = set()

    def send(self, nodes: list[Node]) -> None:
        """Give some to a node that runs; what it does not take does not count."""
        node = self._chance.choice(nodes)
        try:
            account = node.call("account", address=self._address())
            for nonce in range(account["nonce"], account["nonce"] + TRANSFERS_A_TURN):
                data = transfer(self._cluster, 0, nonce, AMOUNT_NANO, TARGET)
                name = node.call("submit_transaction", transaction=data.hex())["transaction_id"]
                if name not in self._sent:  # the same bytes again, after the only node that had them was killed
                    self._sent.add(name)
                    self._pending.append(bytes.fromhex(name))
        except (httpx.HTTPError, OSError, RefusedCall):
            return

    def collect(self, node: Node) -> list[bytes]:
        """What became part of the chain; the rest was lost with the only node that had it, and may be sent again."""
        done = []
        with contextlib.suppress(httpx.HTTPError, OSError):  # it may be starting
            for name in self._pending:
                with contextlib.suppress(RefusedCall):  # in no block, yet
                    if node.call("transaction", transaction_id=name.hex())["accepted"]:
                        done.append(name)
        self._pending = [name for name in self._pending if name not in done]
        return done

    def _address(self) -> str:
        return encode_address(self._cluster.settings[0].account_key.address)


def campaign(
    folder: Path, *, count: int, nodes: int = 4, seed: int = 1, progress: Callable[[int], None] = lambda _: None
) -> Figures:
    """Kill `count` times; `AssertionError` says what was lost."""
    chance, figures = random.Random(seed), Figures()
    cluster = make_cluster(folder, nodes)
    load = Load(cluster, chance)
    with running(cluster) as group:
        wait_until(lambda: all(node.height >= 1 for node in group), group, "the chain begins")
        figures.first_height = max(node.height for node in group)
        turn = 0
        while figures.kills < count:
            load.send(group)
            victims = group if turn % 4 == 3 else chance.sample(group, chance.randint(1, (nodes - 1) // 3))
            if turn % 5 == 2:
                _freeze(group, victims, chance)
                figures.freezes += len(victims)
            else:
                _kill(group, victims, chance, figures)
            figures.acknowledged += load.collect(chance.choice(group))
            progress(figures.kills)
            turn += 1
        highest = max(node.height for node in group)
        wait_until(lambda: all(node.height >= highest + 2 for node in group), group, "the height goes on")
        figures.last_height = min(node.height for node in group)
        for node in group:
            assert node.stop() == 0, node.tail()
        _check(cluster, group, figures)
    return figures


def _kill(group: list[Node], victims: list[Node], chance: random.Random, figures: Figures) -> None:
    """Kill at a moment, start again, wait until the killed are back."""
    moment = chance.choice(MOMENTS)
    if moment in ("node_started", "log_replayed", "watch_over", "interface_listens"):
        # They come only with a start: killed while starting, again.
        for node in victims:
            node.kill()
            figures.kills += 1
            node.start()
    before = {node.pid: len(node.events) for node in victims}
    end = time.monotonic() + MOMENT_S
    while moment and time.monotonic() < end:
        for node in victims:
            node.look()
        if any(event["event"] == moment for node in victims for event in node.events[before[node.pid] :]):
            break
    if not moment:
        time.sleep(chance.random() * 0.5)
    figures.moments[moment or "any moment"] += len(victims)
    for node in victims:
        node.kill()
        figures.kills += 1
    goal = max(node.height for node in group)
    others = [node for node in group if node not in victims]
    if others and chance.random() < 0.5:
        wait_until(lambda: max(node.height for node in others) > goal, others, "the others go on")
        goal += 1
    for node in victims:
        node.start()
    figures.back_s.append(
        wait_until(
            lambda: all(node.said("watch_over") and _head(node) >= goal for node in victims), group, "they are back"
        )
    )
    wait_until(lambda: max(node.height for node in group) > goal, group, "the height goes on")


def _head(node: Node) -> int:
    """Its head: what it started with, or what it committed since."""
    started = [event["height"] for event in node.events if event["event"] == "node_started"]
    return max(node.height, *started, 0)


def _freeze(group: list[Node], victims: list[Node], chance: random.Random) -> None:
    """SIGSTOP some or all for a moment, then SIGCONT; the height goes on."""
    for node in victims:
        node.signal(signal.SIGSTOP)
    time.sleep(0.2 + 2 * chance.random())
    for node in victims:
        node.signal(signal.SIGCONT)
    goal = max(node.height for node in group) + 1
    wait_until(lambda: all(node.height >= goal for node in group), group, "all go on after the freeze")


def _check(cluster: Cluster, group: list[Node], figures: Figures) -> None:
    """What the homes hold, against everything that was ever said."""
    check_homes(cluster, figures.last_height, {}, figures.acknowledged)
    named: dict[int, str] = {}
    for node in group:
        for height, block in block_ids(node).items():
            assert named.setdefault(height, block) == block, f"two blocks of height {height} were committed"
    for settings in cluster.settings:
        chain = open_chain(settings)
        blocks = [block_and_commit(chain, height)[0] for height in range(1, chain.head.height + 1)]
        transfers = sum(len(block.transactions) for block in blocks)
        account: Account = codec.decode(Account, chain.view().get(keys.account(TARGET)) or codec.encode(Account()))
        assert account.balance_nano == transfers * AMOUNT_NANO
        assert transfers >= len(figures.acknowledged)
        for height, block in named.items():
            if height <= chain.head.height:
                assert blocks[height - 1].id.hex() == block
        chain.close()
