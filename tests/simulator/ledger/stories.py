"""Schedules for one kind of trouble each, on an otherwise calm market."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from tests.simulator.ledger.characters import FORCED_SOLVERS, TOLD, Character
from tests.simulator.ledger.market import draw

HONEST = [Character(watcher="honest")] * 2
CALM = replace(
    draw(2),
    characters=[Character()] * 5,
    bad_proposers=0,
    loss=0.0,
    slow=0.0,
    stalls=0.0,
    sleeps=0.0,
    submitters=1,
    tasks=2,
    fickle=False,
    deadline_blocks=60,
    small_pools=False,
    equivocations=0.0,
    absent=0.0,
    busy_blocks=25,
)
RING = [*[Character()] * 3, *[Character(disputant="silent", watcher="false")] * 3]
"""Solvers that let their accomplices' false challenges win."""
QUARRELS = replace(CALM, characters=[*HONEST, *[Character("wrong", "lying", watcher="false")] * 3])
SLOW_QUARRELS = replace(CALM, characters=[*HONEST, *[Character("wrong", "lying", "stalling", "false")] * 3])
COPIES = replace(CALM, characters=[Character(), Character(), *[Character(verifier="copying")] * 3])
OFFENCES = replace(CALM, tasks=0, equivocations=0.06, absent=0.4, delegators=6, busy_blocks=60)
FLOOD = replace(CALM, small_pools=True, traders=8, stalls=0.3)
DESERTED_CLAIMS = replace(
    CALM,
    characters=[
        *[Character("wrong", "lazy")] * 3,
        *[Character(disputant="silent", watcher="honest")] * 3,
        *HONEST,
    ],
)
"""True challenges whose first finder plays no move."""
LAZINESS = replace(
    CALM, loss=0.5, slow=0.4, characters=[*[Character(verifier="lazy")] * 3, *[Character(watcher="honest")] * 4]
)
LEAKS = replace(CALM, characters=[*[Character(verifier=TOLD)] * 3, *[Character(watcher="honest")] * 4])
"""Solvers that tell their accomplices all state roots."""
SELECTIVE_SERVING = replace(CALM, characters=[*HONEST, *[Character("wrong", "blind")] * 4])
"""Cheats whose accomplices say that the states cannot be had."""
FORCED_ERRORS = replace(
    CALM,
    forced_error_bps=6_000,
    characters=[*HONEST, *[Character()] * 2, *[Character(verifier="lazy")] * 2, Character(watcher="false")],
)
"""Lazy verifiers, and an accuser that makes things up, among honest parties."""
FORCED_FOUL = replace(
    CALM,
    forced_error_bps=6_000,
    characters=[
        *HONEST,
        Character(),
        *[Character(solver, "lying", watcher="griefing") for solver in FORCED_SOLVERS],
        Character("wrong", "lazy"),
    ],
)
"""Solvers that do not keep to what they sealed."""
WATCHED = replace(
    CALM,
    parameters=msgspec.structs.replace(CALM.parameters, watch_bps=10_000),
    characters=[
        *HONEST,
        *[Character()] * 2,
        Character(verifier="unrevealing"),
        Character(verifier="blind"),
        Character("wrong", "lying"),
    ],
)
"""Every instalment has a watch, if somebody is left; some who are drawn never show, or say that nothing is served."""
FORCED_WATCHED = replace(FORCED_ERRORS, parameters=msgspec.structs.replace(FORCED_ERRORS.parameters, watch_bps=10_000))
SILENCE = replace(CALM, characters=[Character(), *[Character(verifier="silent")] * 4])
"""Next to nobody verifies."""
