"""Four validators, each in a network of its own, cut off from each other in many ways and joined again.

Never two blocks at one height; a part with more than two thirds of the power goes on, one with less stands still; after
the cables are whole again all go on within a bound.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from forked_nodes import WAIT_S, Node, block_ids, running, wait_until
from msgspec import structs
from net_rooms import Rooms, rooms
from node_cluster import Cluster, key, make_cluster, peer_id
from test_node_processes import check_homes

NODES = 4
PORT = 26600
HEAL_S = 120.0
"""All have new blocks by then. Reconnecting waits up to a minute between its attempts."""
KINDS = ("one alone", "two and two", "one way", "ring", "all alone", "flapping")


@dataclass(slots=True)
class Figures:
    """What happened."""

    cuts: list[str] = field(default_factory=list)
    heal_s: list[float] = field(default_factory=list)
    """From the repair until every node has two new blocks."""
    last_height: int = 0

    def summary(self) -> dict[str, Any]:
        """For people and for JSON."""
        times = sorted(self.heal_s)
        return {
            "cuts": len(self.cuts),
            "kinds": {kind: self.cuts.count(kind) for kind in KINDS if kind in self.cuts},
            "height": self.last_height,
            "heal_p50_s": round(times[len(times) // 2], 1),
            "heal_max_s": round(times[-1], 1),
        }


def campaign(
    folder: Path,
    *,
    count: int,
    seed: int = 1,
    kinds: tuple[str, ...] = KINDS,
    cut_s: float = 6.0,
    progress: Callable[[int], None] = lambda _: None,
) -> Figures:
    """Cut `count` times, kind after kind; `AssertionError` says what went wrong."""
    chance, figures = random.Random(seed), Figures()
    with rooms(NODES) as net:
        cluster = _housed(make_cluster(folder, NODES), net)
        with running(cluster, [net.enter(room) for room in range(NODES)]) as group:
            wait_until(lambda: all(node.height >= 2 for node in group), group, "the chain begins")
            for number in range(count):
                kind = kinds[number % len(kinds)]
                with _cut(net, kind, chance) as parts:
                    _watch_parts(group, parts, cut_s)
                goal = max(node.height for node in group) + 2
                figures.heal_s.append(_wait_height(group, group, goal, f"after {kind}", HEAL_S))
                figures.cuts.append(kind)
                progress(number + 1)
            figures.last_height = min(node.height for node in group)
            for node in group:
                assert node.stop() == 0, node.tail()
        check_homes(cluster, figures.last_height, {}, [])
        named: dict[int, str] = {}
        for node in group:
            for height, block in block_ids(node).items():
                assert named.setdefault(height, block) == block, f"two blocks of height {height} were committed"
    return figures


def _housed(cluster: Cluster, net: Rooms) -> Cluster:
    """The same nodes at the addresses of their rooms."""
    places = [f"/ip4/{net.address(room)}/tcp/{PORT}" for room in range(NODES)]
    settings = []
    for room, one in enumerate(cluster.settings):
        seeds = tuple(
            f"{place}/p2p/{peer_id(key('p2p', other))}" for other, place in enumerate(places) if other != room
        )
        p2p = structs.replace(one.config.p2p, listen=(places[room],), seeds=seeds)
        settings.append(replace(one, config=structs.replace(one.config, p2p=p2p)))
    return replace(cluster, settings=tuple(settings))


@contextmanager
def _cut(net: Rooms, kind: str, chance: random.Random) -> Iterator[list[list[int]]]:
    """Cut cables; the parts within which everybody can still talk to everybody. Repairs them at the end."""
    order = chance.sample(range(NODES), NODES)
    unplugged: list[int] = []
    blocked: list[tuple[int, int]] = []
    match kind:
        case "one alone" | "flapping":
            unplugged, parts = order[:1], [order[:1], order[1:]]
        case "all alone":
            unplugged, parts = order, [[one] for one in order]
        case "two and two":
            parts = [order[:2], order[2:]]
            blocked = [(a, b) for a in range(NODES) for b in range(NODES) if (a in parts[0]) != (b in parts[0])]
        case "one way":
            blocked, parts = [(order[0], other) for other in order[1:]], [order[:1], order[1:]]
        case "ring":
            blocked, parts = [(order[0], order[2]), (order[2], order[0])], []
        case _:
            raise AssertionError(kind)
    try:
        for room in unplugged:
            net.unplug(room)
        for pair in blocked:
            net.block(*pair)
        if kind == "flapping":
            for _ in range(4):
                time.sleep(0.3)
                net.plug_in(order[0])
                time.sleep(0.3)
                net.unplug(order[0])
        yield parts
    finally:
        for room in unplugged:
            net.plug_in(room)
        for pair in blocked:
            net.unblock(*pair)


def _wait_height(nodes: list[Node], group: list[Node], goal: int, what: str, within_s: float) -> float:
    return wait_until(lambda: all(node.height >= goal for node in nodes), group, what, within_s)


def _watch_parts(group: list[Node], parts: list[list[int]], cut_s: float) -> None:
    """Parts with a quorum go on; parts without one stand still after what was on its way."""
    big = [part for part in parts if 3 * len(part) > 2 * NODES]
    small = [part for part in parts if 3 * len(part) <= 2 * NODES]
    time.sleep(1.0)
    for node in group:
        node.look()
    before = [node.height for node in group]
    for part in big:
        goal = max(before[one] for one in part) + 2
        _wait_height([group[one] for one in part], group, goal, f"{part} have a quorum and go on", WAIT_S)
    if not big:
        time.sleep(cut_s)
    for node in group:
        node.look()
    reached = max(before)
    for part in small:
        for one in part:
            assert group[one].height <= reached + 1, f"{part} have no quorum and went on"
