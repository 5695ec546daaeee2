"""Random single-bit faults over all operators and architectures, each disputed twice: by a lying solver and by a liar
who accuses an honest one; and lies about the samples of evidence.

A fault is one flipped bit of one element of one value of one step. Faults that leave the segment's end as it is (they
were rounded away) are counted and set aside: there is nothing to dispute. Every other one must end in an arbitration of
the very operator and tile that it is in, lost by the liar, after exactly the computed number of moves. Fault number n
of a seed is the same whatever came before it, so a campaign goes on where it stopped.

Beside each fault evidence is disputed, by a key of its own: a sample that is made up, which the drawn tiles decide, and
a flipped bit of a drawn tile, which ends at the operator that it is in whether or not it reaches the segment's end.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX
from ml.worker.messages import Fault
from proofs.arithmetic.jobs import element_numbers
from proofs.pinpoint.arbitration import pieces_of
from proofs.pinpoint.game import open_game, play
from proofs.pinpoint.oracle import ArrayOracle, Oracle
from proofs.pinpoint.strategy import SAMPLE_MOVES, expected_moves, respond
from proofs.pinpoint.types import (
    CHALLENGER_WRONG,
    DEFENDER_WRONG,
    EVIDENCE,
    SEGMENT,
    Arbitrate,
    AwaitEvidence,
    Claim,
    Game,
    Move,
    OpenSample,
    Target,
)
from proofs.state import keyed_evidence_root
from proofs.tensors import tile_grid
from tests.disputes.architectures import ARCHITECTURES, FIRST_STEP, SEGMENT_STEPS, World

TRIES_MAX = 200
"""Faults that are drawn for one number until one reaches the segment's end."""


class Failed(Exception):  # noqa: N818  (it says what happened)
    """A dispute that did not go as it must."""


@dataclass
class Figures:
    """What a campaign saw."""

    faults: int = 0
    games: int = 0
    rounded_away: int = 0
    operators: Counter[str] = field(default_factory=Counter)
    architectures: Counter[str] = field(default_factory=Counter)
    most_moves: int = 0
    largest_arbitration_bytes: int = 0
    slowest_arbitration_ms: float = 0.0
    slowest_arbitration_cpu_ms: float = 0.0
    sample_games: int = 0
    """Disputes over evidence."""
    opened_samples: int = 0
    """Of them, those that ended with the drawn tiles."""
    largest_sample_bytes: int = 0
    slowest_sample_cpu_ms: float = 0.0

    def as_json(self) -> dict[str, object]:
        """One object."""
        rounded = {name: round(value, 2) for name, value in vars(self).items() if isinstance(value, float)}
        return vars(self) | rounded | {"operators": dict(self.operators), "architectures": dict(self.architectures)}


class Worlds:
    """The worlds of the architectures, each made when it is first needed."""

    def __init__(self, folder: Path, names: tuple[str, ...] = ()) -> None:
        self.names = tuple(sorted(names or ARCHITECTURES))
        self._folder = folder
        self._made: dict[str, World] = {}

    def __getitem__(self, name: str) -> World:
        if name not in self._made:
            folder = self._folder / name
            folder.mkdir(parents=True)
            self._made[name] = ARCHITECTURES[name](folder)
        return self._made[name]


def drawn(world: World, chance: random.Random) -> Fault:
    """A random bit of a random element: half of the time of a random value, else of a random operator's."""
    if chance.random() < 0.5:
        value = chance.choice([value for values in world.listed.values() for value in values])
    else:
        value = chance.choice(world.listed[chance.choice(sorted(world.listed))])
    return Fault(chance.choice(world.steps), value, chance.randrange(1 << 30), chance.randrange(64))


def place(world: World, fault: Fault) -> tuple[int, int]:
    """The tile that a fault is in, and its last piece, where the first accumulator differs from what was posted."""
    type_ = world.context.types[fault.value]
    row, column = divmod(fault.element % type_.elements, type_.matrix[1])
    tile = row // 32 * tile_grid(type_)[1] + column // 32
    claim = Claim(SEGMENT, FIRST_STEP, SEGMENT_STEPS, b"", b"", b"", b"")
    return tile, pieces_of(claim, Target(fault.step, fault.value, (), b""), tile, world.context) - 1


def played(
    world: World,
    claim: Claim,
    parties: tuple[Oracle, Oracle],
    defender_lies: bool,
    ruled: Callable[[Move, float, float], None],
) -> tuple[Game, AwaitEvidence | None]:
    """One dispute from its claim to its outcome, which the liar must lose: the game, where it was arbitrated.

    `ruled(move, milliseconds, milliseconds of processor)` after each move.
    """
    game, found = open_game(claim, world.context), None
    while game.turn is not None:
        move = respond(game, parties[game.turn], world.context)
        if move is None:
            raise Failed(f"party {game.turn} has no move in {type(game.phase).__name__}")
        if isinstance(game.phase, AwaitEvidence):
            found = game.phase
        started, used = time.perf_counter(), time.process_time()
        game = play(game, game.turn, move, world.context)
        ruled(move, (time.perf_counter() - started) * 1000, (time.process_time() - used) * 1000)
    if game.outcome != (DEFENDER_WRONG if defender_lies else CHALLENGER_WRONG):
        raise Failed(f"outcome {game.outcome}: {game.why}")
    return game, found


def disputed(world: World, liar: ArrayOracle, wrong: bytes, fault: Fault, solver_lies: bool, figures: Figures) -> None:
    """One dispute from its claim to its outcome. `Failed` when anything is not as it must be."""
    honest = world.roots[-1]
    ends = (wrong, honest) if solver_lies else (honest, wrong)
    oracles = (liar, world.honest) if solver_lies else (world.honest, liar)
    claim = Claim(SEGMENT, FIRST_STEP, SEGMENT_STEPS, world.roots[0], ends[0], b"", ends[1])

    def ruled(move: Move, taken_ms: float, cpu_ms: float) -> None:
        if isinstance(move, Arbitrate):
            figures.slowest_arbitration_ms = max(figures.slowest_arbitration_ms, taken_ms)
            figures.slowest_arbitration_cpu_ms = max(figures.slowest_arbitration_cpu_ms, cpu_ms)
            figures.largest_arbitration_bytes = max(figures.largest_arbitration_bytes, len(encode(move)))

    game, found = played(world, claim, oracles, solver_lies, ruled)
    tile, piece = place(world, fault)
    if found is None or (found.target.step, found.target.value, found.tile) != (fault.step, fault.value, tile):
        raise Failed(f"arbitrated {found}, the fault is in tile {tile}")
    moves = expected_moves(claim, world.context, fault.step, fault.value, tile, piece)
    if game.moves != moves:
        raise Failed(f"{game.moves} moves, computed were {moves}")
    figures.games += 1
    figures.most_moves = max(figures.most_moves, moves)


def evidence_disputed(
    world: World, parties: tuple[Oracle, Oracle], defender_lies: bool, key: bytes, figures: Figures
) -> tuple[Game, AwaitEvidence | None]:
    """One dispute over evidence: the finished game, and where it was arbitrated if it came to an operator."""
    shown = [party.evidence(FIRST_STEP, SEGMENT_STEPS, key) for party in parties]
    (roots, _), (mine, other) = shown[0], (keyed_evidence_root(*each) for each in shown)
    claim = Claim(EVIDENCE, FIRST_STEP, SEGMENT_STEPS, roots[0], roots[-1], mine, other, key)

    def ruled(move: Move, _: float, cpu_ms: float) -> None:
        if isinstance(move, OpenSample):
            figures.opened_samples += 1
            figures.slowest_sample_cpu_ms = max(figures.slowest_sample_cpu_ms, cpu_ms)
            figures.largest_sample_bytes = max(figures.largest_sample_bytes, len(encode(move)))

    game, found = played(world, claim, parties, defender_lies, ruled)
    figures.sample_games += 1
    return game, found


class _MadeUp:
    """A party that knows everything and makes one sample up."""

    def __init__(self, known: ArrayOracle, step: int, sample: bytes) -> None:
        self._known, self._step, self._sample = known, step, sample

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[Sequence[bytes], Sequence[bytes]]:
        roots, samples = self._known.evidence(first_step, steps, key)
        return roots, [self._sample if step == self._step else one for step, one in enumerate(samples, first_step)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._known, name)


def samples_disputed(world: World, chance: random.Random, figures: Figures) -> None:
    """A sample made up, or of another step; then a bit of a drawn tile, by both sides each."""
    key, step = chance.randbytes(32), FIRST_STEP + chance.randrange(SEGMENT_STEPS)
    own = world.honest.evidence(FIRST_STEP, SEGMENT_STEPS, key)[1]
    sample = chance.choice((chance.randbytes(32), own[(step + 1 - FIRST_STEP) % SEGMENT_STEPS]))
    liar: Any = _MadeUp(world.honest, step, sample)
    for defender_lies in (True, False):
        parties = (liar, world.honest) if defender_lies else (world.honest, liar)
        game, _ = evidence_disputed(world, parties, defender_lies, key, figures)
        if game.moves != SAMPLE_MOVES:
            raise Failed(f"{game.moves} moves over a sample made up in step {step}: {game.why}")
    step = chance.choice(world.steps)
    value, tile = chance.choice(world.context.points(key, step))
    if world.context.list_index_of(value) is None:
        return
    element = int(chance.choice(element_numbers(world.context.types[value], tile)))
    fault = Fault(step, value, element, chance.randrange(32))
    faulty = world.oracle(replace(world.run, fault=fault))
    if faulty.evidence(FIRST_STEP, SEGMENT_STEPS, key)[1] == own:
        return  # Another NaN, which is the same.
    for defender_lies in (True, False):
        parties = (faulty, world.honest) if defender_lies else (world.honest, faulty)
        game, found = evidence_disputed(world, parties, defender_lies, key, figures)
        at, piece = place(world, fault)
        if found is None or (found.target.step, found.target.value, found.tile) != (step, value, at):
            raise Failed(f"arbitrated {found}, the fault in a drawn tile is {fault}")
        if game.moves != expected_moves(game.claim, world.context, step, value, at, piece):
            raise Failed(f"{game.moves} moves over {fault}")


def campaign(
    worlds: Worlds, seed: int, first: int, count: int, progress: Callable[[int, Figures], None] = lambda _, __: None
) -> Figures:
    """Faults `first` … `first + count - 1` of a seed. `Failed` names the first that did not go as it must."""
    figures = Figures()
    for number in range(first, first + count):
        chance = random.Random(f"{seed}/{number}")
        name = worlds.names[number % len(worlds.names)]
        world = worlds[name]
        for _ in range(TRIES_MAX):
            fault = drawn(world, chance)
            liar = world.oracle(replace(world.run, fault=fault))
            wrong = liar.state_roots(FIRST_STEP, SEGMENT_STEPS)[-1]
            if wrong != world.roots[-1]:
                break
            figures.rounded_away += 1
        else:
            raise Failed(f"fault {number} of seed {seed}, {name}: {TRIES_MAX} faults were rounded away")
        node = world.context.node_of(fault.value)
        operator = node.operator if node else "batch"
        for solver_lies in (True, False):
            try:
                disputed(world, liar, wrong, fault, solver_lies, figures)
            except Failed as failure:
                who = "solver" if solver_lies else "challenger"
                raise Failed(
                    f"fault {number} of seed {seed}, {name}, {operator}, {fault}, {who} lies: {failure}"
                ) from None
        try:
            samples_disputed(world, chance, figures)
        except Failed as failure:
            raise Failed(f"samples of number {number} of seed {seed}, {name}: {failure}") from None
        figures.faults += 1
        figures.operators[operator] += 1
        figures.architectures[name] += 1
        progress(number, figures)
    if max(figures.largest_arbitration_bytes, figures.largest_sample_bytes) > ARBITRATION_BYTES_MAX:
        raise Failed(f"{figures.largest_arbitration_bytes} and {figures.largest_sample_bytes} bytes of evidence")
    return figures
