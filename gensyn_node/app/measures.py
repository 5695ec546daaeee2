"""What is counted, and how it is written: the text format that Prometheus reads. No clock, no registry, no threads."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of histograms of times."""

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, kind, meaning, and a number for each set of labels."""

    name: str
    kind: str
    """`counter`, `gauge` or `histogram`."""
    meaning: str
    samples: tuple[tuple[str, Labels, float], ...]
    """(suffix of the name, labels, number)."""


@dataclass(slots=True)
class Histogram:
    """How often a quantity was at most each bound."""

    bounds: Sequence[float] = SECONDS
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def samples(self, labels: Labels = ()) -> list[tuple[str, Labels, float]]:
        """As Prometheus wants it: cumulated, with sum and count."""
        found: list[tuple[str, Labels, float]] = []
        cumulated = 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            cumulated += count
            found.append(("_bucket", (*labels, ("le", _number(bound))), cumulated))
        return [*found, ("_sum", labels, self.total), ("_count", labels, cumulated)]


def gauge(name: str, meaning: str, value: float) -> Family:
    """A number that goes up and down."""
    return Family(name, "gauge", meaning, (("", (), value),))


def counter(name: str, meaning: str, value: float) -> Family:
    """A number that only rises; its name ends in `_total`."""
    return Family(name, "counter", meaning, (("", (), value),))


def counters(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Family:
    """Rising numbers told apart by one label."""
    return Family(name, "counter", meaning, tuple(("", ((label, key),), values[key]) for key in sorted(values)))


def histogram(name: str, meaning: str, measured: Histogram) -> Family:
    """A distribution."""
    return Family(name, "histogram", meaning, tuple(measured.samples()))


def histograms(name: str, meaning: str, label: str, measured: Mapping[str, Histogram]) -> Family:
    """Distributions told apart by one label."""
    samples = [sample for key in sorted(measured) for sample in measured[key].samples(((label, key),))]
    return Family(name, "histogram", meaning, tuple(samples))


def render(families: Iterable[Family]) -> str:
    """The text format 0.0.4."""
    lines: list[str] = []
    for family in families:
        lines += [f"# HELP {family.name} {_escaped(family.meaning)}", f"# TYPE {family.name} {family.kind}"]
        for suffix, labels, value in family.samples:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
            lines.append(f"{family.name}{suffix}{'{' + inside + '}' if inside else ''} {_number(value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
