"""What a task's verification promises, in plain numbers: computed from its spec, nothing measured.

Chances are in parts per million, rounded down; they hold for verifiers who do their work. The drawn watch counts where
some do not. Everybody may look further in the window: what that adds is not counted.
"""

from __future__ import annotations

from fractions import Fraction
from math import comb

from consensus.ledger.messages import TaskSpec
from consensus.ledger.parameters import BASIS_POINTS, Parameters
from consensus.ledger.schedule import (
    instalment_segments,
    samples_of,
    segment_count,
    slot_bond,
    solver_bond,
    watch_bps_of,
)
from gensyn_node.primitives.codec import Struct

PPM = 1_000_000


class Guarantee(Struct):
    """How much is checked, and what a cheat risks."""

    segments: int
    """Of the whole task."""
    checked_least: int
    """Different segments that are re-executed at least: all verifiers may draw the same."""
    checked_most: int
    """And at most."""
    full: bool
    """Each verifier re-executes every segment."""
    one_bad_ppm: int
    """Chance to catch one wrong segment, in the instalment where it is smallest."""
    tenth_bad_ppm: int
    """Chance to catch a solver that gets a tenth of the segments of every instalment wrong, at least one of each."""
    solver_stake_nano: int
    """What the solver loses when it is caught."""
    verifier_stake_nano: int
    """What each verifier loses for made-up evidence or a wrong accusation."""
    gain_max_nano: int | None
    """One wrong segment pays its solver only when it gains more than this by it; None: it is always caught."""
    dishonest_bps: int
    """Share of the verifiers that is taken to be bought by the solver."""
    watch_bps: int = 0
    """Chance that an instalment has one of its verified segments re-executed once more, by a drawn whistleblower."""


def caught(count: int, samples: int, bad: int, verifiers: int, dishonest_bps: int = 0, watch_bps: int = 0) -> Fraction:
    """Chance that a verifier draws a bad segment among `count` and says so, or the watch finds that one did not.

    The watch looks at a segment of one of the verifiers, each alike: it finds what a bought one passed, and is as often
    bought itself.
    """
    missed = Fraction(comb(count - bad, samples), comb(count, samples))
    dishonest, watch = Fraction(dishonest_bps, BASIS_POINTS), Fraction(watch_bps, BASIS_POINTS)
    silent = dishonest + (1 - dishonest) * missed
    watched = watch * (1 - dishonest) * dishonest * Fraction(bad, count) * silent ** (verifiers - 1)
    return 1 - silent**verifiers + watched


def guarantee(
    spec: TaskSpec, gas_per_step: int, price_nano: int, parameters: Parameters, dishonest_bps: int = 0
) -> Guarantee:
    """The promise of a task whose solver asks `price_nano` a giga-gas."""
    counts = [len(instalment_segments(spec, number)) for number in range(spec.instalments)]
    samples = [samples_of(spec, number) for number in range(spec.instalments)]
    drawn, watch = list(zip(counts, samples, strict=True)), watch_bps_of(spec, parameters)
    one = min(caught(count, each, 1, spec.verifiers, dishonest_bps, watch) for count, each in drawn)
    escaped = Fraction(1)
    for count, each in drawn:
        escaped *= 1 - caught(count, each, -(-count // 10), spec.verifiers, dishonest_bps, watch)
    stake = solver_bond(spec, gas_per_step, price_nano, parameters)
    return Guarantee(
        segments=segment_count(spec),
        checked_least=sum(samples),
        checked_most=sum(min(count, each * spec.verifiers) for count, each in drawn),
        full=counts == samples,
        one_bad_ppm=int(one * PPM),
        tenth_bad_ppm=int((1 - escaped) * PPM),
        solver_stake_nano=stake,
        verifier_stake_nano=slot_bond(spec, gas_per_step, 0, price_nano, stake, parameters),
        gain_max_nano=None if one == 1 else int(one * stake / (1 - one)),
        dishonest_bps=dishonest_bps,
        watch_bps=watch,
    )
