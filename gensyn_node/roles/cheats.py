"""Dishonest behaviour for rehearsals on local networks: a node plays the liar so that its defeat can be watched.

Configured as `[devnet] cheat` and refused on any chain whose id does not begin with `devnet`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.reasons import BAD_CHEAT
from ml.worker.messages import Fault
from proofs.program.types import Program

LAZY_VERIFIER = "lazy-verifier"
_SKIP_STEP = re.compile(r"^skip-step@step=([0-9]{1,9})$")
_FLIP_BIT = re.compile(r"^flip-bit@step=([0-9]{1,9})$")
FLIPPED_BIT = 22
"""The highest bit of the fraction: the value changes by half, no NaN, no overflow."""


@dataclass(frozen=True, slots=True)
class Cheats:
    """What this node does wrong on purpose; the default is nothing."""

    flip_bit_step: int | None = None
    """As solver: flip one bit of one operator's output in this step, and stand by the result."""
    skip_step: int | None = None
    """As solver: leave this step out, and stand by the state that it did not change."""
    lazy_verifier: bool = False
    """As verifier: approve everything without work, with made-up evidence."""


def parse_cheat(text: str) -> Cheats:
    """The cheat in the configuration's words; `Rejection` BAD_CHEAT otherwise."""
    if not text:
        return Cheats()
    if text == LAZY_VERIFIER:
        return Cheats(lazy_verifier=True)
    if match := _FLIP_BIT.match(text):
        return Cheats(flip_bit_step=int(match[1]))
    if match := _SKIP_STEP.match(text):
        return Cheats(skip_step=int(match[1]))
    raise Rejection(BAD_CHEAT, f"{text!r} is neither flip-bit@step=N, skip-step@step=N nor {LAZY_VERIFIER}")


def fault_for(cheats: Cheats, program: Program) -> Fault | None:
    """The fault of a solver that cheats; None of an honest one.

    A bit is flipped in the first operator that sums over the batch: that is the gradient nearest to the loss. Deeper
    ones may be exactly zero (a unit that no record of the batch activates), and a bit flipped in a zero rounds away:
    then nothing was done wrong and there is nothing to find.
    """
    if cheats.skip_step is not None:
        return Fault(cheats.skip_step, 0, 0, 0, skip=True)
    if cheats.flip_bit_step is None:
        return None
    operators = [node.operator for node in program.nodes]
    known = [operators.index(name) for name in ("sum_first", "matmul") if name in operators]
    target = known[0] if known else len(operators) - 1
    return Fault(cheats.flip_bit_step, program.first_node_value + target, 0, FLIPPED_BIT)
