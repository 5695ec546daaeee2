"""Drives the choice of `auto` on a running node, and keeps what people want to see of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import structlog

from gensyn_node.primitives.codec import Struct
from gensyn_node.roles.api import ChainApi
from gensyn_node.roles.auto import Choice, Machine, RoleReason, choose, looks_at, words_of
from gensyn_node.roles.hardware import BlockTime, Speed, battery
from gensyn_node.roles.market import NO_MARKET, Market, market
from gensyn_node.roles.policy import AUTO, mask_of

CHANGES_KEPT = 50

log = structlog.get_logger()


class RoleChange(Struct):
    """A change of what is offered."""

    height: int
    before: str
    after: str
    why: str


class RoleReport(Struct):
    """What a node offers and why, for people and programs."""

    wanted: str
    """The word of the owner."""
    offered: str
    """Roles offered now, in words."""
    since_height: int
    reasons: tuple[RoleReason, ...]
    """Of `auto`; empty where the owner chose."""
    draining: tuple[str, ...]
    """Duties under way that the present offer would not bring any more; they are finished."""
    working: str
    """What the accelerator does now; empty when it is free."""
    waiting: tuple[str, ...]
    """What waits for it, the next first."""
    machine: Machine
    market: Market
    changes: tuple[RoleChange, ...]
    """Newest last."""
    failures: tuple[str, ...]
    """The last things that went wrong, newest last."""


class Chooser:
    """The mask of roles that a node offers, from block to block."""

    def __init__(
        self,
        chain: ChainApi,
        address: bytes,
        role: str,
        machine: Machine,
        speed_path: Path,
        power: Callable[[], tuple[bool, bool]] = battery,
    ) -> None:
        self._chain = chain
        self._address = address
        self.machine = machine
        """As it was last measured."""
        self._power = power
        self.speed = Speed(speed_path)
        self._blocks = BlockTime()
        self._choice: Choice | None = None
        self.seen: Market = NO_MARKET
        """As it was last looked at."""
        self._changes: deque[RoleChange] = deque(maxlen=CHANGES_KEPT)
        self._since = 0
        self.role = role
        self.mask = 0 if role == AUTO else mask_of(role)

    def want(self, role: str) -> None:
        """The owner chose anew. `Rejection` UNKNOWN_ROLE."""
        mask = mask_of(role)
        self.role, self._choice = role, None
        if role == AUTO:
            self._choose(self._chain.head_height())
        else:
            self._change(mask, self._chain.head_height(), "the owner chose it")

    def new_block(self, height: int, now_s: float) -> None:
        """Think it over, where it is time to."""
        self._blocks.note(height, now_s)
        if self.seen is NO_MARKET or looks_at(self._address, height) or self._power_changed():
            self.speed.save()
            if self.role == AUTO:
                self._choose(height)
            else:
                self.seen, self.machine = market(self._chain.view(), self._address), self._measured()

    @property
    def why(self) -> str:
        """The reasons of `auto`, in one line; empty where the owner chose."""
        reasons = self._choice.reasons if self._choice else ()
        return "; ".join(f"{one.role} {'yes' if one.offered else 'no'}: {one.why}" for one in reasons)

    def report(
        self, draining: Iterable[str], working: str, waiting: tuple[str, ...], failures: Iterable[str] = ()
    ) -> RoleReport:
        """All of it."""
        return RoleReport(
            wanted=self.role,
            offered=words_of(self.mask),
            since_height=self._since,
            reasons=self._choice.reasons if self._choice else (),
            draining=tuple(draining),
            working=working,
            waiting=waiting,
            machine=self._measured(),
            market=self.seen,
            changes=tuple(self._changes),
            failures=tuple(failures),
        )

    def _power_changed(self) -> bool:
        return self._power()[1] != self.machine.on_battery

    def _measured(self) -> Machine:
        has, on = self._power()
        gas = self._blocks.gas_per_block(self.speed)
        return msgspec.structs.replace(self.machine, has_battery=has, on_battery=on, gas_per_block=gas)

    def _choose(self, height: int) -> None:
        self.seen, self.machine = market(self._chain.view(), self._address), self._measured()
        self._choice = choose(self.machine, self.seen, self._chain.parameters, self._choice, height)
        self._change(self._choice.mask, height, self.why)

    def _change(self, mask: int, height: int, why: str) -> None:
        if mask == self.mask and self._since:
            return
        change = RoleChange(height, words_of(self.mask), words_of(mask), why)
        self._changes.append(change)
        self.mask, self._since = mask, max(1, height)
        log.info("roles_chosen", before=change.before, after=change.after, why=why, height=height)
