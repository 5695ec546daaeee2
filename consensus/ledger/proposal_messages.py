"""What a proposal can ask for, and the two messages of governance: propose and vote."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from consensus.ledger.fields import Address, Count, Nano, Small, Text
from gensyn_node.primitives.codec import Struct

CHANGES_MAX = 16
"""Parameters that one proposal changes."""
SUMMARY_CHARACTERS_MAX = 1_024

Summary = Annotated[str, Meta(max_length=SUMMARY_CHARACTERS_MAX)]

YES = 0
NO = 1
ABSTAIN = 2
VETO = 3
CHOICES = ("yes", "no", "abstain", "veto")
"""Words of the choices. A veto is a no that can also cost the proposer its deposit."""


class NewValue(Struct):
    """One parameter and what it becomes."""

    name: Text
    value: Count


class ChangeParameters(Struct, tag=0):
    """Set parameters; what is not named stays as it is then."""

    changes: Annotated[tuple[NewValue, ...], Meta(max_length=CHANGES_MAX)]


class PlanUpgrade(Struct, tag=1):
    """From `height` on, only programs that know the upgrade `name` go on."""

    name: Text
    height: Count
    """First block under the new rules."""
    protocol: Small
    """Protocol version in force from then on."""


class CancelUpgrade(Struct, tag=2):
    """Drop the planned upgrade of that name."""

    name: Text


class Grant(Struct, tag=3):
    """Pay from the treasury."""

    to: Address
    amount_nano: Nano


class Statement(Struct, tag=4):
    """A question put to the vote: title and summary are all of it."""


Content = ChangeParameters | PlanUpgrade | CancelUpgrade | Grant | Statement


class Propose(Struct, tag=50):
    """Open a proposal; its deposit is held until the vote has ended."""

    title: Text
    summary: Summary
    content: Content


class CastVote(Struct, tag=51):
    """Vote with the stake at one validator: all of it as its operator, the own part as a delegator.

    A delegator's vote takes its part out of the operator's. Voting again replaces the vote before.
    """

    proposal: Count
    validator: Address
    choice: Small
    """YES, NO, ABSTAIN or VETO."""
