"""Named upgrades: what this program knows, and when it has to stop because the chain went on without it.

An upgrade is decided by vote: a name, a height, a protocol version. A program whose table has the name changes its
rules at that height; one that does not know it stops before it takes part in that height, and its data stays good.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from consensus.ledger.block import Reader
from consensus.ledger.proposal_messages import PlanUpgrade
from consensus.ledger.proposal_records import AppliedUpgrade
from consensus.ledger.reasons import UPGRADE_NEEDED
from consensus.ledger.view import State
from gensyn_node.primitives.errors import InvariantViolation, Rejection

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
PROTOCOL = 1
"""Protocol version of a chain without upgrades."""
APPLIED_KEPT = 32
"""Upgrades that the ledger remembers by name."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What a program does at an upgrade's height."""

    protocol: int
    """Protocol version in force from then on; rules ask `Governance.protocol`."""
    migrate: Callable[[State], None] | None = None
    """Changes stored records, before anything else of that block."""


Upgrades = Mapping[str, Upgrade]

KNOWN_UPGRADES: Upgrades = MappingProxyType({})
"""Every upgrade this program can go through, for ever: a node that begins at genesis meets them all."""


def check_known(reader: Reader, height: int, known: Upgrades = KNOWN_UPGRADES) -> None:
    """`Rejection` UPGRADE_NEEDED when block `height`, on top of the ledger given, is under rules not in `known`."""
    governance = State(reader).governance
    for applied in governance.upgrades:
        if applied.name not in known:
            raise _needed(applied.name, applied.height, governance.protocol, known)
    plan = governance.upgrade
    if plan is not None and plan.height <= height and not _knows(plan, known):
        raise _needed(plan.name, plan.height, plan.protocol, known)


def _knows(plan: PlanUpgrade, known: Upgrades) -> bool:
    return plan.name in known and known[plan.name].protocol == plan.protocol


def _needed(name: str, height: int, protocol: int, known: Upgrades) -> Rejection:
    mine = max((PROTOCOL, *(upgrade.protocol for upgrade in known.values())))
    return Rejection(
        UPGRADE_NEEDED,
        f"upgrade {name!r} begins at block {height} and needs a program that knows it (protocol {protocol}); "
        f"this one speaks protocol {mine}. Nothing was signed or stored at that height",
    )


def begin_block(state: State, height: int, known: Upgrades = KNOWN_UPGRADES) -> None:
    """Go through the upgrade of this height, if there is one. The node has asked `check_known` before."""
    plan = state.governance.upgrade
    if plan is None or plan.height > height:
        return
    if not _knows(plan, known):
        raise InvariantViolation(f"block {height} is executed without knowing the upgrade {plan.name!r}")
    migrate = known[plan.name].migrate
    if migrate is not None:
        migrate(state)
    applied = (*state.governance.upgrades, AppliedUpgrade(plan.name, height))[-APPLIED_KEPT:]
    state.change_governance(upgrade=None, protocol=plan.protocol, upgrades=applied)
    state.emit("upgrade_applied", b"", name=plan.name, protocol=plan.protocol)
