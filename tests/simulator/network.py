"""The simulated network: what is lost, late, doubled or cut off. Nothing is ever altered: signatures see to that."""

from __future__ import annotations

import random
from typing import Any

from consensus.tendermint.types import Certificate, FullProposal, HeightStatus, Vote
from tests.simulator.node import Gossip, StoredBlocks
from tests.simulator.schedule import Schedule

DELAY_MS = (5, 40)
"""Of a message on a good day."""
SLOW_MS = 40
"""Scale of the heavy tail (Pareto with an infinite mean)."""
DELAY_MS_MAX = 20_000


class Network:
    """Between so many nodes."""

    def __init__(self, nodes: int, schedule: Schedule, rng: random.Random) -> None:
        self.nodes, self.schedule, self.rng = nodes, schedule, rng
        self.healed = False
        self.cut: set[tuple[int, int]] = set()
        """(sender, receiver) pairs between which nothing arrives."""
        self._clogged: list[int] = []
        self._filters: dict[tuple[int, int, int, str], bool] = {}

    def delays(self, sender: int, receiver: int, message: Any) -> list[int]:
        """After how long each copy of this message arrives; none when it is lost."""
        schedule, rng = self.schedule, self.rng
        delay = rng.randint(*DELAY_MS)
        if self.healed:
            return [delay]
        if schedule.scripted and not self._in_one_group(sender, receiver, message):
            return []
        if (sender, receiver) in self.cut or rng.random() < schedule.drop or self._filtered(receiver, message):
            return []
        if schedule.slow and rng.random() < schedule.slow:
            delay = min(int(SLOW_MS * rng.paretovariate(0.8)), DELAY_MS_MAX)
        if schedule.duplicate and rng.random() < schedule.duplicate:
            return [delay, delay + rng.randint(0, 500)]
        return [delay]

    def _filtered(self, receiver: int, message: Any) -> bool:
        """One roll for all messages of one kind, height and round to one receiver."""
        if not self.schedule.filter:
            return False
        match message:
            case Vote(kind, height, round):
                place = (receiver, height, round, kind.name.lower())
            case Certificate(_, height, round):
                place = (receiver, height, round, "certificate")
            case FullProposal(proposal):
                place = (receiver, proposal.height, proposal.round, "proposal")
            case StoredBlocks(sealed):
                place = (receiver, sealed[0][0].header.height, 0, "stored blocks")
            case HeightStatus() | Gossip():
                return False
            case _:
                raise TypeError(f"no such message: {type(message)}")
        if place[3] not in self.schedule.filtered:
            return False
        if place not in self._filters:
            self._filters[place] = self.rng.random() < self.schedule.filter
        return self._filters[place]

    def _in_one_group(self, sender: int, receiver: int, message: Any) -> bool:
        """Of the script for the message's round; after the last round of the script everybody is."""
        match message:
            case Vote(_, _, round) | Certificate(_, _, round):
                pass
            case FullProposal(proposal):
                round = proposal.round
            case _:
                return False
        if round >= len(self.schedule.scripted):
            return True
        group = self.schedule.scripted[round]
        return group[sender] == group[receiver]

    def change(self) -> None:
        """Cut the network in another way, or let it be whole."""
        kind = self.rng.choice(self.schedule.partitions)
        if kind == "swizzle":
            self._swizzle()
        else:
            self._clogged = []
            self.cut = self._pairs(kind)

    def _pairs(self, kind: str) -> set[tuple[int, int]]:
        nodes, rng = range(self.nodes), self.rng
        if kind == "ring":  # everybody hears two neighbours only
            order = rng.sample(nodes, self.nodes)
            place = {node: position for position, node in enumerate(order)}
            far = range(2, self.nodes - 1)
            return {(a, b) for a in nodes for b in nodes if (place[a] - place[b]) % self.nodes in far}
        if kind == "bridge":  # two halves that only one node hears and reaches
            middle, group = rng.randrange(self.nodes), [rng.randrange(2) for _ in nodes]
            return {(a, b) for a in nodes for b in nodes if group[a] != group[b] and middle not in (a, b)}
        group = [rng.randrange(rng.choice([1, 2, 2, 3])) for _ in nodes]
        if kind == "one way":
            return {(a, b) for a in nodes for b in nodes if group[a] < group[b]}
        return {(a, b) for a in nodes for b in nodes if group[a] != group[b]}

    def _swizzle(self) -> None:
        """Clog one node more each time; when most are clogged, let them go in another order, one by one."""
        if self._clogged and (len(self._clogged) > self.nodes // 2 or self.rng.random() < 0.4):
            self._clogged.remove(self.rng.choice(self._clogged))
        else:
            self._clogged.append(self.rng.choice([n for n in range(self.nodes) if n not in self._clogged]))
        nodes = range(self.nodes)
        self.cut = {(a, b) for a in nodes for b in nodes if a in self._clogged or b in self._clogged}

    def heal(self) -> None:
        """From now on everything arrives, once and soon."""
        self.healed = True
        self.cut, self._clogged = set(), []
