"""How much a program may have compiled for itself: the compiler's time is in no gas, and a stranger wrote the program.

Loops are counted, not seconds, so that a program is run the same way on every machine. The largest presets take some 50
units; what goes beyond the budget runs operator by operator in loops that all programs share, with the same bits.
"""

from __future__ import annotations

from collections.abc import Hashable

from ml.kernels.elementwise import Group

UNITS_MAX = 512
"""Of one plan: some ten seconds of compiling. 16,000 loops, as many as a program has room for, would take minutes."""
LONG = frozenset(("exp", "log", "tanh", "erf"))
"""Operators that are polynomials: each takes the compiler about as long as a whole loop without one."""


class CompileBudget:
    """What is left for one plan."""

    def __init__(self, units: int = UNITS_MAX) -> None:
        self._left = units
        self._seen: set[Hashable] = set()

    def admits(self, loop: Hashable, group: Group) -> bool:
        """Whether the loop of a group may be compiled; one that was admitted before costs nothing."""
        if loop in self._seen:
            return True
        units = 1 + sum(item.operator in LONG for item in group.operations)
        if units > self._left:
            return False
        self._left -= units
        self._seen.add(loop)
        return True
