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
    "amnesia",
    "equivocator",
    "withholder",
    "selective",
    "bad proposer",
    "double proposer",
    "valid round liar",
    "time bender",
    "answer liar",
    "forger",
)
"""What a Byzantine validator does; `byzantine` has them."""
PARTITIONS = ("groups", "one way", "ring", "bridge", "swizzle")
"""Ways to cut a network; `network` has them."""
DAMAGES = ("lost", "torn", "zeroed", "reordered", "rotten")
"""What a crash does to a log, the last to its synced part as well; `disk` has them."""
FILTERED = ("prevote", "precommit", "proposal", "certificate", "stored blocks")
"""Kinds of message that `filter` takes from a receiver."""
NODES_MAX = 10
MACHINES_MAX = 2 * NODES_MAX
"""Twins are two."""


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
    real_signatures: bool = False
    set_changes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Height whose block orders it -> (position, new power); it takes effect two heights later."""
    late: dict[int, int] = field(default_factory=dict)
    """Position -> ms after the start at which this node first runs."""

    drop: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    """Share of messages with a heavy-tailed delay."""
    filter: float = 0.0
    """Chance that one receiver gets none of one kind of message of one round: what hides a polka or a decision."""
    filtered: tuple[str, ...] = FILTERED
    partition_every_ms: int = 0
    partitions: tuple[str, ...] = ("groups",)
    scripted: tuple[tuple[int, ...], ...] = ()
    """By round, the group of each machine: messages of that round pass within a group only, whenever they are sent."""

    crash_probability: float = 0.0
    """At each effect boundary."""
    crash_every_ms: int = 0
    blackout: float = 0.0
    """Share of the crashes that take all machines at once."""
    damages: tuple[str, ...] = ("lost",)
    fragile: tuple[int, ...] = ()
    """Positions whose disks may also rot. Such a validator sits out a height, so it counts as faulty: together with the
    Byzantine ones less than a third."""
    pause_every_ms: int = 0
    full_every_ms: int = 0

    skew_ms: int = 0
    drift: float = 0.0
    """Largest error of a clock's rate."""
    jump_every_ms: int = 0
    hasty: bool = False
    """Time-outs that are at first shorter than the network's delay."""


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(f"schedule {seed}")
    count = rng.choice([4, 4, 4, 4, 5, 5, 6, 7, 7, 8, 9, NODES_MAX])
    powers = [rng.choice([1, 1, 1, 2, 3, 10]) for _ in range(count)] if rng.random() < 0.4 else [1] * count
    byzantine: dict[int, str] = {}
    for position in rng.sample(range(count), count):
        if _below_a_third(powers, [*byzantine, position]) and rng.random() < 0.6:
            byzantine[position] = rng.choice(BYZANTINE_KINDS)
    followers = rng.choice([0, 0, 0, 1, 2]) if count < NODES_MAX - 1 else 0
    powers += [0] * followers
    set_changes = _draw_set_changes(rng, powers, byzantine) if rng.random() < 0.4 else {}
    fault_ms = rng.choice([4_000, 8_000, 12_000])
    late = {position: rng.randint(500, fault_ms) for position in range(len(powers)) if rng.random() < 0.05}
    fragile = [position for position in range(count) if position not in byzantine]
    rng.shuffle(fragile)
    while fragile and (set_changes or not _below_a_third(powers, [*byzantine, *fragile])):
        fragile.pop()
    return Schedule(
        powers,
        byzantine,
        fault_ms,
        real_signatures=rng.random() < 0.01,
        set_changes=set_changes,
        late=late,
        drop=rng.choice([0.0, 0.05, 0.2, 0.4]),
        duplicate=rng.choice([0.0, 0.1]),
        slow=rng.choice([0.0, 0.05, 0.3]),
        filter=rng.choice([0.0, 0.0, 0.3, 0.6]),
        filtered=rng.choice([FILTERED, FILTERED[:1], FILTERED[1:3]]),
        partition_every_ms=rng.choice([0, 600, 2_500]),
        partitions=rng.choice([PARTITIONS[:1], *((kind,) for kind in PARTITIONS), PARTITIONS]),
        crash_probability=rng.choice([0.0, 0.0, 0.005, 0.02]),
        crash_every_ms=rng.choice([0, 0, 900, 3_000]),
        blackout=rng.choice([0.0, 0.0, 0.2]),
        damages=rng.choice([DAMAGES[:1], DAMAGES, DAMAGES[-1:]]),
        fragile=tuple(fragile),
        pause_every_ms=rng.choice([0, 0, 2_000]),
        full_every_ms=rng.choice([0, 0, 0, 3_000]),
        skew_ms=rng.choice([0, 80]),
        drift=rng.choice([0.0, 0.0, 0.1]),
        jump_every_ms=rng.choice([0, 0, 0, 3_000]),
        hasty=rng.random() < 0.1,
        scripted=_draw_script(rng) if rng.random() < 0.2 else (),
    )


def _draw_script(rng: random.Random) -> tuple[tuple[int, ...], ...]:
    """A few rounds, each with some machines cut off from most: what makes polkas that not everybody sees."""
    alone = rng.choice([0.15, 0.25, 0.35])
    return tuple(tuple(int(rng.random() < alone) for _ in range(MACHINES_MAX)) for _ in range(rng.randint(2, 6)))


def _below_a_third(powers: list[int], positions: list[int]) -> bool:
    return 3 * sum(powers[position] for position in positions) < sum(powers)


def _draw_set_changes(
    rng: random.Random, powers: list[int], byzantine: dict[int, str]
) -> dict[int, list[tuple[int, int]]]:
    """Changes at a few heights, often in a row; never such that the Byzantine would become too strong."""
    changes: dict[int, list[tuple[int, int]]] = {}
    now = list(powers)
    for height in sorted(rng.sample(range(1, 9), rng.randint(1, 4))):
        for position in rng.sample(range(len(now)), rng.randint(1, 2)):
            power = rng.choice([0, 1, 2, 3])
            after = [*now[:position], power, *now[position + 1 :]]
            if power != now[position] and sum(map(bool, after)) >= 4 and _below_a_third(after, list(byzantine)):
                changes.setdefault(height, []).append((position, power))
                now = after
    return changes
