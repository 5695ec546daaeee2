"""Two hundred disputes over real programs: either party flips a random bit of a random operator of a random step.

The honest party always wins, in exactly the computed number of moves, with an arbitration within its bound. Programs
are the presets; each party re-executes by itself, as its worker would.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX
from ml.checkpoint import root_of_state
from ml.data.manifest import write_dataset
from ml.oracle import Reexecution, dispute_context
from ml.presets import build
from ml.trainer import Run, Stepper, initial_state, open_run
from ml.worker.messages import Fault, Job
from proofs.pinpoint.arbitration import pieces_of
from proofs.pinpoint.game import open_game, play
from proofs.pinpoint.oracle import ArrayOracle
from proofs.pinpoint.strategy import expected_moves, respond
from proofs.pinpoint.types import CHALLENGER_WRONG, DEFENDER_WRONG, SEGMENT, Arbitrate, Claim, Target
from proofs.tensors import tile_grid

DISPUTES = 200
SEGMENT_STEPS = 4
FIRST_STEP = 3
SEED = bytes(range(32))

SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9}
ADAMW = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01}
MLP = {"name": "mlp", "inputs": 70, "classes": 10}
GPT = {"name": "gpt", "context": 12, "vocabulary": 50, "heads": 2}
PRESETS = {
    "mlp-sgd": (MLP | {"inputs": 300, "widths": [64, 40]}, SGD, 48),
    "mlp-adamw": (MLP | {"widths": [64], "activation": "gelu"}, ADAMW, 40),
    "gpt-sgd": (GPT | {"layers": 1, "width": 32}, SGD, 6),
    "gpt-adamw": (GPT | {"layers": 2, "width": 24}, ADAMW, 4),
}


@dataclass(frozen=True)
class World:
    """One preset with its data, trained up to the disputed segment's start."""

    run: Run
    states: Path
    roots: tuple[bytes, ...]
    """Honest state roots of the segment."""


def _data(folder: Path, name: str) -> None:
    generator = np.random.default_rng(7)
    if name.startswith("mlp"):
        x = generator.standard_normal((200, 300 if name == "mlp-sgd" else 70)).astype(np.float32)
        write_dataset(folder, {"x": x, "y": generator.integers(0, 10, 200)}, shard_bytes=8192)
    else:
        write_dataset(folder, {"tokens": generator.integers(0, 50, (80, 13)).astype(np.uint8)}, shard_bytes=4096)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    torch.set_num_threads(1)
    made = {}
    for name, (preset, optimizer, batch_size) in PRESETS.items():
        folder = tmp_path_factory.mktemp(name)
        _data(folder / "data", name)
        program = build(preset, optimizer, batch_size).program
        run = open_run(Job(encode(program), str(folder / "data"), SEED, "", 1))
        roots = Reexecution(run, folder).state_roots(FIRST_STEP, SEGMENT_STEPS)
        made[name] = World(run, folder, tuple(roots))
    return made


def _random_fault(world: World, chance: random.Random) -> Fault:
    program = world.run.program
    listed = [
        *range(len(program.state), program.step_index_value),
        *range(program.first_node_value, program.value_count),
    ]
    return Fault(
        chance.randrange(FIRST_STEP, FIRST_STEP + SEGMENT_STEPS),
        chance.choice(listed),
        chance.randrange(1 << 20),
        chance.randrange(64),
    )


def _end_root(run: Run) -> bytes:
    stepper = Stepper(run, initial_state(run), 0)
    while stepper.step < FIRST_STEP + SEGMENT_STEPS:
        stepper.advance()
    return root_of_state(run.program, stepper.step, stepper.state)


def _expected(world: World, fault: Fault, claim: Claim) -> int:
    """Moves by the formula: the fault's value is the first that differs, its tile the first tile, its last piece."""
    context = dispute_context(world.run)
    type_ = context.types[fault.value]
    element = fault.element % type_.elements
    row, column = divmod(element, type_.matrix[1])
    tile = row // 32 * tile_grid(type_)[1] + column // 32
    pieces = pieces_of(claim, Target(fault.step, fault.value, (), b""), tile, context)
    return expected_moves(claim, context, fault.step, fault.value, tile, pieces - 1)


def test_the_honest_party_wins_every_one_of_200_disputes(worlds: dict[str, World]) -> None:
    chance = random.Random(20_260_101)
    operators: Counter[str] = Counter()
    harmless, largest, longest = 0, 0, 0
    for number in range(DISPUTES):
        name = sorted(worlds)[number % len(worlds)]
        world = worlds[name]
        solver_lies = number // len(worlds) % 2 == 0
        while True:
            fault = _random_fault(world, chance)
            liar = replace(world.run, fault=fault)
            wrong = _end_root(liar)
            if wrong != world.roots[-1]:
                break
            harmless += 1  # The flipped bit was rounded away: no fault, and nothing to dispute.
        defender_end, challenger_end = (wrong, world.roots[-1]) if solver_lies else (world.roots[-1], wrong)
        claim = Claim(SEGMENT, FIRST_STEP, SEGMENT_STEPS, world.roots[0], defender_end, b"", challenger_end)
        runs = (liar, world.run) if solver_lies else (world.run, liar)
        context = dispute_context(world.run)
        oracles = [ArrayOracle(run.program, Reexecution(run, world.states)) for run in runs]
        game = open_game(claim, context)
        while game.outcome is None:
            assert game.turn is not None
            move = respond(game, oracles[game.turn], context)
            assert move is not None
            if isinstance(move, Arbitrate):
                largest = max(largest, len(encode(move)))
            game = play(game, game.turn, move, context)
        label = f"{name}, dispute {number}, {fault}, {'solver' if solver_lies else 'challenger'} lies: {game.why}"
        assert game.outcome == (DEFENDER_WRONG if solver_lies else CHALLENGER_WRONG), label
        assert game.moves == _expected(world, fault, claim), label
        longest = max(longest, game.moves)
        node = context.node_of(fault.value)
        operators[node.operator if node else "batch"] += 1
    assert largest <= ARBITRATION_BYTES_MAX
    assert len(operators) >= 12, operators
    print(
        f"\n{DISPUTES} disputes over {len(operators)} operators; {harmless} flips were rounded away; "
        f"largest arbitration {largest} bytes; longest game {longest} moves; {dict(operators.most_common())}"
    )
