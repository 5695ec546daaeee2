"""Whose turn it is to propose: CometBFT's weighted round robin, exactly (its published sequences are our tests).

Every turn each validator's priority grows by its power; the highest priority proposes (ties: lower address, which is
the earlier position only among equal powers, so addresses are compared) and pays the total power. Before, priorities
are rescaled into a window of twice the total power and centred around zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.tendermint.types import Validator, ValidatorSet

PRIORITY_WINDOW_FACTOR = 2


def rescale(priorities: Sequence[int], total_power: int) -> tuple[int, ...]:
    """Shrink the spread to at most twice the total power. Division truncates toward zero (Python's `//` floors)."""
    window = PRIORITY_WINDOW_FACTOR * total_power
    spread = max(priorities) - min(priorities)
    if window <= 0 or spread <= window:
        return tuple(priorities)
    ratio = (spread + window - 1) // window
    return tuple(priority // ratio if priority >= 0 else -(-priority // ratio) for priority in priorities)


def centre(priorities: Sequence[int]) -> tuple[int, ...]:
    """Subtract the average, rounded down."""
    average = sum(priorities) // len(priorities)
    return tuple(priority - average for priority in priorities)


def turn(validators: Sequence[Validator], priorities: Sequence[int], total_power: int) -> tuple[tuple[int, ...], int]:
    """One turn: the new priorities and the proposer's position."""
    grown = [priority + validator.power for validator, priority in zip(validators, priorities, strict=True)]
    chosen = 0
    for position in range(1, len(grown)):
        better = grown[position] - grown[chosen]
        if better > 0 or (better == 0 and validators[position].address < validators[chosen].address):
            chosen = position
    grown[chosen] -= total_power
    return tuple(grown), chosen


def rotate(validators: ValidatorSet, turns: int) -> ValidatorSet:
    """The set after so many turns (at least one): rescaled and centred once, then turned."""
    priorities = centre(rescale(validators.priorities, validators.total_power))
    chosen = 0
    for _ in range(turns):
        priorities, chosen = turn(validators.validators, priorities, validators.total_power)
    return ValidatorSet(validators.validators, priorities, validators.validators[chosen].address)


class ProposerSchedule:
    """The proposers of the rounds of one height, found one turn at a time."""

    def __init__(self, validators: ValidatorSet) -> None:
        self.validators = validators
        self._addresses = [validators.proposer]
        self._priorities: tuple[int, ...] = validators.priorities

    def of(self, round: int) -> bytes:
        """Address of the proposer of a round (the set of round 0 rotated by that many turns)."""
        validators, total = self.validators.validators, self.validators.total_power
        if len(self._addresses) == 1 and round > 0:
            self._priorities = centre(rescale(self._priorities, total))
        while len(self._addresses) <= round:
            self._priorities, chosen = turn(validators, self._priorities, total)
            self._addresses.append(validators[chosen].address)
        return self._addresses[round]
