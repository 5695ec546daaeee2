"""Small random programs, their execution with faults, and games between two parties: what the game's tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gensyn_node.primitives.errors import Rejection
from proofs import tensors
from proofs.arithmetic.whole import compute_value
from proofs.dataset import DatasetTensor
from proofs.pinpoint import strategy
from proofs.pinpoint import types as t
from proofs.pinpoint.context import Context
from proofs.pinpoint.game import forfeit, open_game, play
from proofs.pinpoint.oracle import ArrayOracle, Oracle
from proofs.program.initial import initial_tensor
from proofs.program.operators import infer
from proofs.program.types import F32, I64, BatchInput, Fill, Given, Node, Program, Seed, StateEntry, TensorType, Uniform
from proofs.program.validate import validate_program
from proofs.sampling import batch_indices
from proofs.state import checkpoint_root, keyed_evidence_root
from proofs.tiled import TiledTensor, tiled
from tests.evidence_of_runs import samples_of

Array = np.ndarray[Any, np.dtype[Any]]
SEED = bytes(range(32))
KEY = b"\x4b" * 32
BOUND = int(np.float32(0.5).view(np.uint32))


@dataclass(frozen=True)
class Fault:
    """One flipped bit of one value of one step."""

    step: int
    value: int
    element: int
    bit: int


@dataclass
class Run:
    """An execution that keeps every step's values; `faults` are applied as the values come up."""

    context: Context
    initial: list[Array]
    arrays: list[Array]
    faults: tuple[Fault, ...] = ()
    steps: list[list[Array]] = field(default_factory=list)
    made_up: dict[int, bytes] = field(default_factory=dict)
    """Samples that it does not take from its steps."""

    def values(self, step: int) -> Sequence[Array]:
        while len(self.steps) <= step:
            self._execute(len(self.steps))
        return self.steps[step]

    def state_roots(self, first_step: int, steps: int) -> Sequence[bytes]:
        return [self.state_root(step) for step in range(first_step, first_step + steps + 1)]

    def evidence(self, first_step: int, steps: int, key: bytes) -> tuple[Sequence[bytes], Sequence[bytes]]:
        samples = samples_of(self, first_step, steps, key)
        own = [self.made_up.get(step, sample) for step, sample in enumerate(samples, first_step)]
        return self.state_roots(first_step, steps), own

    def state_root(self, step: int) -> bytes:
        return self.context.state_root(step, [tensors.root_of(array) for array in self._state(step)])

    def dataset(self, batch_input: int) -> TiledTensor:
        return tiled(self.arrays[batch_input])

    def _state(self, step: int) -> list[Array]:
        program = self.context.program
        if step == 0:
            return list(self.values(0)[: len(program.state)])
        before = self.values(step - 1)
        return [before[value] for value in program.state_outputs]

    def _execute(self, step: int) -> None:
        program = self.context.program
        start = self.initial if step == 0 else self._state(step)
        values = [self._fault(step, value, array) if step == 0 else array for value, array in enumerate(start)]
        records = len(self.arrays[0]) if self.arrays else 1
        indices = batch_indices(self.context.seed, step, program.batch_size, records)
        for array in self.arrays:
            values.append(self._fault(step, len(values), np.ascontiguousarray(array[indices])))
        values.append(np.array(step, np.int64))
        for node in program.nodes:
            result = compute_value(node, [values[value] for value in node.inputs])
            values.append(self._fault(step, len(values), result))
        self.steps.append(values)

    def _fault(self, step: int, value: int, array: Array) -> Array:
        for fault in self.faults:
            if (fault.step, fault.value) == (step, value):
                array = array.copy()
                if array.dtype == np.bool_:
                    array.reshape(-1)[fault.element] ^= True
                else:
                    array.reshape(-1).view(np.uint8)[
                        fault.element * array.itemsize + fault.bit // 8 % array.itemsize
                    ] ^= 1 << fault.bit % 8
        return array


@dataclass(frozen=True, repr=False)
class World:
    """A program with its data."""

    context: Context
    initial: list[Array]
    dataset: list[Array]

    def run(self, *faults: Fault) -> Run:
        return Run(self.context, self.initial, self.dataset, faults)

    def oracle(self, run: Run) -> ArrayOracle:
        return ArrayOracle(self.context.program, run)


def world_of(program: Program, dataset: list[Array], given: dict[int, Array] | None = None) -> World:
    validate_program(program)
    records = tuple(
        DatasetTensor(batch.name, batch.record, len(array), tensors.root_of(array))
        for batch, array in zip(program.batch, dataset, strict=True)
    )
    given = given or {}
    initial = [
        given[number] if number in given else initial_tensor(entry, number, SEED)
        for number, entry in enumerate(program.state)
    ]
    names = [program.state[number].name for number in sorted(given)]
    checkpoint = checkpoint_root(names, [tensors.root_of(given[number]) for number in sorted(given)]) if given else b""
    return World(Context(program, records, SEED, checkpoint), initial, dataset)


class Builder:
    """Nodes appended one by one, with their types."""

    def __init__(self, state: list[StateEntry], batch_size: int, batch: list[BatchInput]) -> None:
        self.state, self.batch_size, self.batch, self.nodes = state, batch_size, batch, list[Node]()
        self.types = [entry.type for entry in state]
        self.types += [TensorType(item.record.dtype, (batch_size, *item.record.shape)) for item in batch]
        self.types.append(TensorType(I64, ()))

    def add(self, operator: str, inputs: tuple[int, ...], attributes: tuple[int, ...] = ()) -> int:
        self.types.append(infer(operator, tuple(self.types[value] for value in inputs), attributes))
        self.nodes.append(Node(operator, inputs, attributes))
        return len(self.types) - 1

    def scalar(self, value: int) -> int:
        """The sum of a value's elements as an f32 scalar."""
        type_ = self.types[value]
        if type_.dtype != F32:
            value = self.add("cast", (value,), (0,))
        flat = self.add("reshape", (value,), (1, type_.elements))
        return self.add("reshape", (self.add("sum_last", (flat,)),), ())

    def program(self, outputs: list[int], loss: int) -> Program:
        return Program(
            1, tuple(self.state), self.batch_size, tuple(self.batch), tuple(self.nodes), tuple(outputs), loss
        )


UNARY = ("neg", "abs", "exp", "tanh", "sqrt", "sign", "reciprocal", "sum_last", "sum_first", "max_last", "argmax_last")
BINARY = ("add", "sub", "mul", "div", "maximum", "lt", "matmul", "embedding")


def random_world(seed: int, nodes: int = 8) -> World:
    """A random valid program over random small data; most values reach the next state."""
    rng = np.random.default_rng(seed)
    rows, width, wide = (int(rng.integers(1, high)) for high in (40, 70, 300))
    batch_size, records = int(rng.integers(1, 50)), int(rng.integers(1, 90))
    state = [
        StateEntry("parameter.w", TensorType(F32, (wide, width)), Uniform(BOUND)),
        StateEntry("parameter.v", TensorType(F32, (rows, wide)), Uniform(BOUND)),
        StateEntry("optimizer.m", TensorType(F32, (wide, width)), Fill(0)),
        StateEntry("buffer.count", TensorType(I64, ()), Fill(0)),
        StateEntry("constant.key", TensorType(I64, (2,)), Seed()),
        StateEntry("constant.given", TensorType(F32, (rows, width)), Given()),
        StateEntry("constant.mask", TensorType(F32, (width,)), Given()),
    ]
    batch = [BatchInput("x", TensorType(F32, (wide,))), BatchInput("y", TensorType(I64, ()))]
    builder = Builder(state, batch_size, batch)
    builder.add("matmul", (7, 0))
    builder.add("embedding", (0, 8))
    builder.add("uniform", (4, 9), (1, rows, width))
    tries = 0
    while len(builder.nodes) < nodes + 3 and tries < 300:
        tries += 1
        _random_node(builder, rng)
    used = {value for node in builder.nodes for value in node.inputs}
    ends = [value for value in range(10, len(builder.types)) if value not in used]
    total = builder.scalar(ends[0])
    for value in ends[1:]:
        total = builder.add("add", (total, builder.scalar(value)))
    scaled = builder.add("mul", (total, builder.scalar(6)))
    outputs = [builder.add("add", (0, scaled)), builder.add("sub", (1, total)), 0, 9, 4, 5, 6]
    program = builder.program(outputs, total)
    x = rng.standard_normal((records, wide)).astype(np.float32)
    y = rng.integers(-2, wide + 2, records)
    given = {5: rng.standard_normal((rows, width)).astype(np.float32), 6: np.ones(width, np.float32)}
    return world_of(program, [x, y], given)


def _random_node(builder: Builder, rng: np.random.Generator) -> None:
    count = len(builder.types)
    a, b = (int(value) for value in rng.integers(0, count, 2))
    type_ = builder.types[a]
    choices: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
        (str(rng.choice(UNARY)), (a,), ()),
        (str(rng.choice(BINARY)), (a, b), ()),
        ("permute", (a,), tuple(range(len(type_.shape)))[::-1]),
        ("reshape", (a,), (type_.elements,)),
        ("concatenate", (a, a, b), (0,)),
        ("concatenate", (a, a), (len(type_.shape) - 1,)),
        ("slice", (a,), tuple(n for size in type_.shape for n in (0, size, 2))),
        ("embedding_grad", (a, 8), (5,)),
        ("cast", (a,), (1,)),
    ]
    operator, inputs, attributes = choices[int(rng.integers(0, len(choices)))]
    try:
        if infer(operator, tuple(builder.types[value] for value in inputs), attributes).elements <= 20_000:
            builder.add(operator, inputs, attributes)
    except Rejection:
        pass


def random_fault(world: World, rng: np.random.Generator, steps: int) -> Fault:
    """A bit of a random listed value."""
    context = world.context
    value = context.value_of(int(rng.integers(0, context.listed_values)))
    type_ = context.types[value]
    return Fault(int(rng.integers(0, steps)), value, int(rng.integers(0, type_.elements)), int(rng.integers(0, 64)))


def tile_at(type_: TensorType, element: int) -> int:
    """The tile of an element."""
    row, column = divmod(element, type_.matrix[1])
    return row // 32 * tensors.tile_grid(type_)[1] + column // 32


def segment_claim(steps: int, defender: Run, challenger: Run, first: int = 0) -> t.Claim:
    """The two parties' ends of the first steps, from the defender's start (which both must share)."""
    start, end = defender.state_root(first), defender.state_root(first + steps)
    return t.Claim(t.SEGMENT, first, steps, start, end, b"", challenger.state_root(first + steps))


def evidence_claim(steps: int, defender: Run, challenger: Run) -> t.Claim:
    """Two different evidences of the same segment."""
    mine, other = (keyed_evidence_root(*run.evidence(0, steps, KEY)) for run in (defender, challenger))
    return t.Claim(t.EVIDENCE, 0, steps, defender.state_root(0), defender.state_root(steps), mine, other, KEY)


def initial_claim(defender: Run, challenger: Run) -> t.Claim:
    """Two different initial states."""
    return t.Claim(t.INITIAL, 0, 0, b"", defender.state_root(0), b"", challenger.state_root(0))


Player = Callable[[t.Game], t.Move | None]


def honest(oracle: Oracle, context: Context) -> Player:
    """Plays what `strategy` says."""
    return lambda game: strategy.respond(game, oracle, context)


def play_out(claim: t.Claim, context: Context, defender: Player, challenger: Player) -> t.Game:
    """The game until its outcome; a party that has no move, or makes an impossible one, loses by the clock."""
    game = open_game(claim, context)
    while game.turn is not None:
        mover = game.turn
        move = (defender, challenger)[mover](game)
        try:
            game = play(game, mover, move, context) if move is not None else forfeit(game, mover, "no move")
        except Rejection:
            game = forfeit(game, mover, "the clock ran out")
    return game
