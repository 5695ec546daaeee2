"""Disputes by operator: moves, bytes, and the time that parties and referee take, down to the arbitrated piece.

Each program is one operator over random tensors, its result kept in the state; the defender flips a bit of it in the
last tile. Parties hold their values in memory: what is measured is the game, not the training before it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.limits import ARBITRATION_BYTES_MAX
from proofs import tensors
from proofs.arithmetic.whole import compute_value
from proofs.pinpoint.context import Context
from proofs.pinpoint.game import open_game, play
from proofs.pinpoint.oracle import ArrayOracle
from proofs.pinpoint.strategy import respond
from proofs.pinpoint.types import DEFENDER_WRONG, SEGMENT, Arbitrate, Claim
from proofs.program.initial import initial_tensor
from proofs.program.operators import infer
from proofs.program.types import F32, I64, OPSET, Fill, Node, Program, StateEntry, TensorType, Uniform
from proofs.tensors import Array
from proofs.tiled import TiledTensor

SEED = bytes(range(32))
ONE_BITS = 0x3F800000
Shape = tuple[int, ...]
CASES: tuple[tuple[str, str, tuple[Shape, ...], tuple[int, ...]], ...] = (
    ("add 1024x1024", "add", ((1024, 1024), (1024, 1024)), ()),
    ("exp 1024x1024", "exp", ((1024, 1024),), ()),
    ("permute 1024x1024", "permute", ((1024, 1024),), (1, 0)),
    ("sum_last 256x8192", "sum_last", ((256, 8192),), ()),
    ("sum_first 8192x256", "sum_first", ((8192, 256),), ()),
    ("max_last 256x8192", "max_last", ((256, 8192),), ()),
    ("matmul 256x256 by 256x256", "matmul", ((256, 256), (256, 256)), ()),
    ("matmul 256x8192 by 8192x256", "matmul", ((256, 8192), (8192, 256)), ()),
    ("matmul 512x4608 by 4x4608x64", "matmul", ((512, 4608), (4, 4608, 64)), ()),
    ("matmul 10x576 by 64x576x49", "matmul", ((10, 576), (64, 576, 49)), ()),
    ("windows 3x3 of 4x64x32x32", "windows", ((4, 64, 32, 32),), (0, *(3, 32, -1, 1, 1, 1) * 2)),
    ("windows 3x3 back to 4x64x32x32", "windows", ((4, 64, 16, 16),), (0, *(3, 32, 1, 1, -1, 2) * 2)),
    ("windows 7 of 8x8192", "windows", ((1, 8, 8192),), (0, 7, 8192, -3, 1, 1, 1)),
    ("embedding_grad 4096x128 into 1024 rows", "embedding_grad", ((4096, 128),), (1024,)),
)
COLUMNS = ("moves", "bytes", "evidence", "defender ms", "challenger ms", "referee ms", "arbitration ms")


@dataclass(frozen=True)
class Memory:
    """An execution of two steps that has all its values."""

    context: Context
    steps: tuple[tuple[Array, ...], ...]

    def state_roots(self, first_step: int, steps: int) -> Sequence[bytes]:
        program = self.context.program
        entries = [list(values[: len(program.state)]) for values in self.steps]
        entries.append([self.steps[-1][value] for value in program.state_outputs])
        roots = [self.context.state_root(step, list(map(tensors.root_of, state))) for step, state in enumerate(entries)]
        return roots[first_step : first_step + steps + 1]

    def values(self, step: int) -> Sequence[Array]:
        return self.steps[step]

    def dataset(self, batch_input: int) -> TiledTensor:
        raise IndexError(batch_input)


def program_of(operator: str, shapes: tuple[Shape, ...], attributes: tuple[int, ...]) -> Program:
    """state' = (inputs, operator(inputs)); ids for operators that need them; a constant loss."""
    entries = [
        StateEntry(f"parameter.x{n}", TensorType(F32, shape), Uniform(ONE_BITS)) for n, shape in enumerate(shapes)
    ]
    if operator == "embedding_grad":
        entries.append(StateEntry("constant.ids", TensorType(I64, shapes[0][:1]), Fill(7)))
    inputs = tuple(range(len(entries)))
    result = infer(operator, tuple(entry.type for entry in entries), attributes)
    entries.append(StateEntry("parameter.result", result, Fill(0)))
    first_node = len(entries) + 1
    nodes = (Node(operator, inputs, attributes), Node("full", (), (0, 0)))
    return Program(OPSET, tuple(entries), 1, (), nodes, (*inputs, first_node), first_node + 1)


def execute(context: Context, lies: bool) -> Memory:
    """Two steps; a liar flips a bit of the second one's result, in its last tile."""
    program = context.program
    state = [initial_tensor(entry, number, SEED) for number, entry in enumerate(program.state)]
    result = compute_value(program.nodes[0], [state[value] for value in program.nodes[0].inputs])
    steps = []
    for step in range(2):
        made = result.copy()
        if lies and step == 1:
            made.reshape(-1).view(np.uint32)[-1] ^= 1 << 20
        values = (*state, np.array(step, np.int64), made, np.zeros((), np.float32))
        steps.append(tuple(values))
        state = [values[value] for value in program.state_outputs]
    return Memory(context, tuple(steps))


def measure(operator: str, shapes: tuple[Shape, ...], attributes: tuple[int, ...]) -> dict[str, float]:
    """Play one dispute."""
    context = Context(program_of(operator, shapes, attributes), (), SEED)
    honest, liar = execute(context, False), execute(context, True)
    roots, wrong = honest.state_roots(0, 2), liar.state_roots(0, 2)
    game = open_game(Claim(SEGMENT, 0, 2, roots[0], wrong[-1], b"", roots[-1]), context)
    oracles = (ArrayOracle(context.program, liar), ArrayOracle(context.program, honest))
    thinking, referee, judged = [0.0, 0.0], 0.0, 0.0
    size = evidence = 0
    while game.outcome is None:
        mover = game.turn
        started = time.perf_counter()
        move = None if mover is None else respond(game, oracles[mover], context)
        if mover is None or move is None:
            raise SystemExit("a party had nothing to say")
        thinking[mover] += time.perf_counter() - started
        size += len(encode(move))
        started = time.perf_counter()
        game = play(game, mover, move, context)
        taken = time.perf_counter() - started
        referee += taken
        if isinstance(move, Arbitrate):
            evidence, judged = len(encode(move)), taken
    if game.outcome != DEFENDER_WRONG or not 0 < evidence <= ARBITRATION_BYTES_MAX:
        raise SystemExit(f"{operator}: {game.why}, {evidence} bytes of evidence")
    times = (round(seconds * 1000, 2) for seconds in (*thinking, referee, judged))
    return dict(zip(COLUMNS, (game.moves, size, evidence, *times), strict=True))


def main() -> None:
    """Print a table, and the figures as one line of JSON."""
    print(f"{'':<42}" + "".join(f"{column:>15}" for column in COLUMNS))
    figures = {}
    for name, operator, shapes, attributes in CASES:
        figures[name] = measure(operator, shapes, attributes)
        print(f"{name:<42}" + "".join(f"{figures[name][column]:>15}" for column in COLUMNS))
    print(json.dumps({"disputes": figures}))


if __name__ == "__main__":
    main()
