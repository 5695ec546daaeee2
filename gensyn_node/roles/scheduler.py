"""Whose turn it is at the accelerator: one job at a time, the most urgent of those that wait, never mid-segment.

A training asks for its turn anew for every segment, so a verification that came meanwhile goes first at the segment's
end and the training goes on from there. Nothing under way is interrupted: a segment that is half done is worth nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import trio

from consensus.ledger.duties import (
    DUTY_DISCLOSE,
    DUTY_MOVE,
    DUTY_PROFILE,
    DUTY_START,
    DUTY_TRAIN,
    DUTY_VERIFY,
    Duty,
)

DISPUTE, VERIFICATION, PREPARATION, TRAINING, AUDIT = range(5)
"""Urgencies, most urgent first: a lost clock costs the whole bond, a missed verdict a part of it; the chain waits long
for a training as long as there are heartbeats; nobody waits for an audit."""
WORDS = ("dispute", "verification", "preparation", "training", "audit")
_URGENCIES = {
    DUTY_MOVE: DISPUTE,
    DUTY_VERIFY: VERIFICATION,
    DUTY_PROFILE: VERIFICATION,
    DUTY_DISCLOSE: VERIFICATION,
    DUTY_START: PREPARATION,
    DUTY_TRAIN: TRAINING,
}


NEED_ACCELERATOR = frozenset(_URGENCIES)
"""Kinds of duties that compute."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody wants the accelerator for."""

    urgency: int
    due_height: int = 0
    """Last block at which the work counts; 0: none."""
    gas_per_step: int = 0
    """Of the program that is run; 0 where that is not known. The machine's speed is learnt from it."""


IDLE_CLAIM = Claim(AUDIT)
CLAIM: ContextVar[Claim] = ContextVar("claim", default=IDLE_CLAIM)
"""The claim of the piece of work under way; tasks started for it inherit it."""


def claim_of(duty: Duty, gas_per_step: int) -> Claim:
    """The claim of a duty. What needs no accelerator makes none that anybody waits behind."""
    return Claim(_URGENCIES.get(duty.kind, AUDIT), duty.due_height, gas_per_step)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One who waits."""

    claim: Claim
    number: int
    """In the order of their coming."""


def first_of(waiting: list[Waiting]) -> Waiting | None:
    """Who is next: by urgency; verifications and moves by what is due first; else by the order of their coming."""
    return min(waiting, key=_order, default=None)


def _order(one: Waiting) -> tuple[int, int, int]:
    due = one.claim.due_height if one.claim.urgency in (DISPUTE, VERIFICATION) else 0
    return one.claim.urgency, due, one.number


class Turnstile:
    """Lets one in at a time, in the order of `first_of`."""

    def __init__(self) -> None:
        self._inside: Waiting | None = None
        self._waiting: dict[Waiting, trio.Event] = {}
        self._coming = 0

    @property
    def busy(self) -> bool:
        """Whether somebody is inside."""
        return self._inside is not None

    @property
    def holder(self) -> str:
        """What the accelerator does now, in one word; empty when it is free."""
        return WORDS[self._inside.claim.urgency] if self._inside else ""

    @property
    def queue(self) -> tuple[str, ...]:
        """What waits, first come first."""
        return tuple(WORDS[one.claim.urgency] for one in sorted(self._waiting, key=_order))

    @asynccontextmanager
    async def turn(self, claim: Claim) -> AsyncIterator[None]:
        """Wait for one's turn, and hold it."""
        me = Waiting(claim, self._coming)
        self._coming += 1
        await self._enter(me)
        try:
            yield
        finally:
            self._leave(me)

    async def _enter(self, me: Waiting) -> None:
        await trio.lowlevel.checkpoint()
        if self._inside is None and not self._waiting:
            self._inside = me
            return
        self._waiting[me] = trio.Event()
        try:
            await self._waiting[me].wait()
        except trio.Cancelled:
            self._waiting.pop(me, None)
            if self._inside is me:  # let in at the very moment of giving up
                self._leave(me)
            raise

    def _leave(self, me: Waiting) -> None:
        if self._inside is not me:
            return
        self._inside = first_of(list(self._waiting))
        if self._inside is not None:
            self._waiting.pop(self._inside).set()
