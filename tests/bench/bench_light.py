"""How many headers a light client fetches to trust a head, and what it costs: stable and changing validator sets.

Headers are linked and sealed with real keys, every signature is checked; only what is fetched is ever signed.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "light"))

from light_world import CHAIN, OPTIONS, Members, World, members

from consensus.light.skipping import Fetch, Skipping, Verified
from gensyn_node.primitives.codec import encode

COLUMNS = ("headers", "bound", "ms", "KiB")
SetOf = Callable[[int], Members]


@cache
def _named(size: int, generations: tuple[int, ...]) -> Members:
    return members([f"v{number}-{generations[number]}" for number in range(size)])


def stable(size: int, heights: int, turnovers: int, height: int) -> Members:
    """The same set at every height."""
    return _named(size, (0,) * size)


def rolling(size: int, heights: int, turnovers: int, height: int) -> Members:
    """One member after the other is replaced, everybody `turnovers` times over the whole chain."""
    replaced = (height - 1) * turnovers * size // heights
    return _named(size, tuple((replaced + size - 1 - number) // size for number in range(size)))


def abrupt(size: int, heights: int, turnovers: int, height: int) -> Members:
    """Everybody at once, `turnovers` times."""
    return _named(size, ((height - 1) * (turnovers + 1) // heights,) * size)


CASES: tuple[tuple[Callable[[int, int, int, int], Members], int, int, int], ...] = (
    (stable, 2_000, 4, 0),
    (stable, 2_000, 100, 0),
    (stable, 65_536, 4, 0),
    (rolling, 2_000, 20, 1),
    (rolling, 2_000, 20, 4),
    (rolling, 2_000, 20, 16),
    (abrupt, 2_000, 4, 2),
    (abrupt, 2_000, 4, 4),
    (abrupt, 2_000, 4, 16),
    (abrupt, 65_536, 4, 4),
)


def measure(set_of: SetOf, heights: int, turnovers: int) -> dict[str, float]:
    """One verification of the head from the genesis."""
    world = World(set_of, heights)
    world.header(heights)
    now_ms = heights * 1_000 + 5_000
    skipping = Skipping(CHAIN, world.genesis(), heights, OPTIONS)
    effect, seconds, size = skipping.start(now_ms), 0.0, 0
    while isinstance(effect, Fetch):
        block = world.block(effect.height)
        size += len(encode(block))
        started = time.perf_counter()
        effect = skipping.step(block, now_ms)
        seconds += time.perf_counter() - started
    if not isinstance(effect, Verified) or effect.trusted.block_id != world.header(heights).id:
        raise SystemExit(f"the head is not trusted: {effect}")
    bound = 1 + turnovers * math.ceil(math.log2(heights))
    return dict(zip(COLUMNS, (skipping.fetched, bound, round(seconds * 1000, 1), round(size / 1024, 1)), strict=True))


def main() -> None:
    """Print a table, and the figures as one line of JSON."""
    print("headers fetched from the genesis to the head; bound: 1 + complete turnovers x log2(heights)")
    print(f"{'':<52}" + "".join(f"{column:>10}" for column in COLUMNS))
    figures = {}
    for shape, heights, size, turnovers in CASES:
        name = f"{heights} heights, {size} validators, {turnovers} turnovers {shape.__name__}".replace(
            " 0 turnovers", ""
        )
        figures[name] = measure(partial(shape, size, heights, turnovers), heights, turnovers)
        print(f"{name:<52}" + "".join(f"{figures[name][column]:>10}" for column in COLUMNS))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
