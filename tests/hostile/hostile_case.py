"""One hostile input: how its file is made, how the product opens it, and the code with which it must be refused.

To extend the corpus, add rows to the `CASES` of a module `hostile_*.py`, or a module to `MODULES` of the table test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ACCEPTED = ""
"""The code of an input that is strange and yet has one meaning: it is taken, and memory stays bounded all the same."""


@dataclass(frozen=True)
class Case:
    """A row of the corpus."""

    name: str
    make: Callable[[Path], None]
    """Writes the input under this path (a file, or a folder it makes)."""
    open: Callable[[Path], object]
    """Gives it to the product."""
    code: str
    """Of the refusal."""
    growth_mib: int = 96
    """By how much resident memory may grow at its peak."""
