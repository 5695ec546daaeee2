"""The three kinds of error, never mixed.

`Rejection`: a peer's or a user's fault; scored or told to the user, never a crash.
Operating errors (disk, network) stay ordinary Python exceptions and are handled in drivers only.
`InvariantViolation`: our bug; the node logs it, dumps its state and halts before it can sign anything wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

REASONS: dict[str, Reason] = {}
"""Every declared reason by its code; `gensyn explain CODE` reads it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A stable, documented cause of a rejection."""

    code: str
    """`E` and four digits; never reused. E10 primitives, E11 consensus, E12 ledger money and accounts, E13 tasks,
    E14 disputes, E15 programs and capture, E16 network, E17 RPC, E18 command line, task file and configuration,
    E19 worker and data, E20 storage, keys and signer."""
    name: str
    """Short snake_case name, stable as well (metrics label)."""
    meaning: str
    """What happened, one sentence."""
    remedy: str
    """What to do next, one sentence."""


def reason(code: str, name: str, meaning: str, remedy: str) -> Reason:
    """Declare a reason; a code or a name can be declared once only."""
    declared = Reason(code, name, meaning, remedy)
    if code in REASONS or any(other.name == name for other in REASONS.values()):
        raise InvariantViolation(f"reason {code} {name} is declared twice")
    REASONS[code] = declared
    return declared


class Rejection(Exception):  # noqa: N818  (it names the event; peers and users caused it)
    """Input from outside that is refused, with a stable reason and a message that says what exactly was wrong."""

    def __init__(self, why: Reason, message: str) -> None:
        super().__init__(f"{why.code} {why.name}: {message}")
        self.reason = why
        self.message = message


class InvariantViolation(Exception):  # noqa: N818  (it names the event, not an error a caller handles)
    """A bug of ours: a state that must never be reached was reached."""
