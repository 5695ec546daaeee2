"""What goes wrong in one run: a schedule, drawn from its seed.

Every kind of fault is on in some seeds and off in others (swarm testing), so that combinations of few are as common as
storms of everything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

BYZANTINE_KINDS = (
    "twins",
    "random",
    "silent",
)
"""What a Byzantine validator does; `byzantine` has them."""

PARTITIONS = ("groups", "one way", "ring", "bridge", "swizzle")
"""Ways to cut a network; `network` has them."""


@dataclass
class Schedule:
    """The faults of one run."""

    powers: list[int]
    """Voting power at genesis by position; 0 for a node that only follows at first."""
    byzantine: dict[int, str]
    """Position -> kind; together less than a third of the power in every validator set of the run."""
    fault_ms: int
    """How long things go wrong; then everything heals."""
    application: str = "toy"
    """What the validators agree on: a name in `applications.APPLICATIONS`."""
    drop: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    """Share of messages with a heavy-tailed delay."""
    filter: float = 0.0
    """Chance that one receiver gets none of one kind of message of one round: what hides a polka or a decision."""
    partition_every_ms: int = 0
    partitions: tuple[str, ...] = ("groups",)
    """Kinds of partition, of `PARTITIONS`."""
    crash_probability: float = 0.0
    """At each effect boundary."""
    crash_every_ms: int = 0
    damages: tuple[str, ...] = ("lost",)
    """What crashes do to the unsynced end of the log, of `disk.DAMAGES`."""
    skew_ms: int = 0
    real_signatures: bool = False
    set_changes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Height whose block orders it -> (position, new power); it takes effect two heights later."""


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(f"schedule {seed}")
    count = rng.choice([4, 4, 4, 5, 7])
    powers = [rng.choice([1, 1, 1, 2, 3]) for _ in range(count)] if rng.random() < 0.4 else [1] * count
    byzantine: dict[int, str] = {}
    for position in rng.sample(range(count), count):
        share = sum(powers[p] for p in byzantine) + powers[position]
        if 3 * share < sum(powers) and rng.random() < 0.6:
            byzantine[position] = rng.choice(["twins", "twins", "random", "silent"])
    return Schedule(
        powers,
        byzantine,
        fault_ms=rng.choice([4_000, 8_000, 12_000]),
        drop=rng.choice([0.0, 0.05, 0.2, 0.4]),
        duplicate=rng.choice([0.0, 0.1]),
        slow=rng.choice([0.0, 0.05, 0.3]),
        partition_every_ms=rng.choice([0, 600, 2_500]),
        partitions=rng.choice([PARTITIONS[:1], PARTITIONS[:1], PARTITIONS[1:2], PARTITIONS, PARTITIONS[2:]]),
        crash_probability=rng.choice([0.0, 0.0, 0.01]),
        crash_every_ms=rng.choice([0, 0, 900, 3_000]),
        damages=rng.choice([("lost",), ("lost", "torn", "zeroed")]),
        skew_ms=rng.choice([0, 80]),
        real_signatures=rng.random() < 0.02,
        filter=rng.choice([0.0, 0.0, 0.3, 0.6]),
    )
