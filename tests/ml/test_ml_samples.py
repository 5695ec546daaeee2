"""Tiles taken while a step runs: those of the same values made one after the other, in every way to run a program."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ml_jobs import job_of, run_of
from test_ml_plan import random_program, state_of
from torch import nn

from gensyn_node.primitives.errors import Rejection
from ml import plan as plan_module
from ml import reasons
from ml.capture.optimizers import Sgd
from ml.capture.trace import capture
from ml.interpreter import Interpreter, canonical
from ml.kernels.threads import set_threads
from ml.microbatch.parts import PartsInterpreter
from ml.oracle import dispute_context, next_move
from ml.presets import Built
from ml.samples import Collector
from ml.segment import verify_segment
from ml.trainer import open_run, train
from ml.worker.messages import Fault
from proofs.arithmetic.jobs import element_numbers
from proofs.classes import NATIVE
from proofs.pinpoint import CHALLENGER, DEFENDER, DEFENDER_WRONG, Claim
from proofs.pinpoint.game import open_game, play
from proofs.pinpoint.types import EVIDENCE, OpenSample, PostStates
from proofs.program.types import BatchInput, Fill, Node, Program, StateEntry, TensorType
from proofs.samples import Point, sample_of, sampled_values
from proofs.state import keyed_evidence_root
from proofs.tensors import tile_bytes, tile_count
from tests.native.models import MODELS

KEY = b"\x4b" * 32


class Images(nn.Module):
    """Convolutions with and without bias and batch norm, grouped ones, a pooling, and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.second, self.third = nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Conv2d(4, 4, 1)
        self.pool, self.out = nn.MaxPool2d(2), nn.Linear(4 * 9, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = self.pool(x + self.third(torch.relu(self.second(x))))
        out: torch.Tensor = self.out(x.flatten(1))
        return out


class Plain(nn.Module):
    """Convolutions with biases, without anything over the whole batch, so that a step has parts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=4, bias=False)
        self.out = nn.Linear(4 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.out(torch.relu(self.second(torch.relu(self.first(x)))).flatten(1))
        return out


def images(module: nn.Module) -> Program:
    """A step of it."""
    return capture(
        module, lambda call, batch: call(batch["x"]).square().mean(), Sgd(0.01), {"x": torch.randn(4, 1, 6, 6)}
    )


def without_products() -> Program:
    """A step without a matrix product: a mean of the batch."""
    scalar, wide = TensorType("f32", ()), TensorType("f32", (40,))
    nodes = (
        Node("sum_first", (2,), ()),
        Node("reshape", (4,), (40,)),
        Node("add", (0, 5), ()),
        Node("sum_last", (6,), ()),
        Node("reshape", (7,), ()),
    )
    state = (StateEntry("buffer.mean", wide, Fill(0)), StateEntry("buffer.same", scalar, Fill(0)))
    return Program(1, state, 8, (BatchInput("x", wide),), nodes, (6, 1), 8)


def inputs_of(program: Program) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Any state and batch."""
    generator = torch.Generator().manual_seed(1)

    def any_of(type_: TensorType, high: int) -> torch.Tensor:
        if type_.dtype == "f32":
            return torch.randn(type_.shape, generator=generator) * 0.3
        kinds = {"i64": torch.int64, "u8": torch.uint8, "bool": torch.bool}
        return torch.randint(0, high, type_.shape, generator=generator).to(kinds[type_.dtype])

    batch = [TensorType(item.record.dtype, (program.batch_size, *item.record.shape)) for item in program.batch]
    return [any_of(entry.type, 2) for entry in program.state], [any_of(type_, 3) for type_ in batch]


def all_points(interpreter: Interpreter) -> list[Point]:
    """The first, the middle and the last tile of everything that is drawn from."""
    counts = {value: tile_count(interpreter.info.types[value]) for value in sampled_values(interpreter.program)}
    return [Point(value, tile) for value, count in counts.items() for tile in sorted({0, count // 2, count - 1})]


def expected_tiles(interpreter: Interpreter, points: list[Point]) -> list[bytes]:
    """The same tiles out of the plain way."""
    state, batch = inputs_of(interpreter.program)
    values = dict(enumerate(state))

    def keep(number: int, value: torch.Tensor) -> torch.Tensor:
        values[number] = value.clone()
        return value

    interpreter.observed_step(state, batch, 3, keep)
    found = []
    for value, tile in points:
        flat = canonical(values[value]).contiguous().numpy().reshape(-1)
        found.append(tile_bytes(flat[element_numbers(interpreter.info.types[value], tile)]))
    return found


def taken_tiles(interpreter: Interpreter, points: list[Point]) -> list[bytes]:
    """The tiles that a sampled step gives, whose results are those of a step."""
    state, batch = inputs_of(interpreter.program)
    after, loss = interpreter.step(state, batch, 3)
    expected = [canonical(item).clone() for item in (*after, loss)]
    collector = Collector(points, interpreter.info.types)
    after, loss = interpreter.sampled_step(state, batch, 3, collector)
    for one, other in zip((*after, loss), expected, strict=True):
        assert canonical(one).contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()
    return collector.tiles()


PROGRAMS = {model.name: model.program for model in MODELS} | {
    "convolutions": lambda: images(Images()),
    "convolutions of single records": lambda: images(Plain()),
    "no product": without_products,
}


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "mlp-sgd"])
def test_fused_steps_give_the_tiles_of_plain_ones(name: str) -> None:
    interpreter = Interpreter(PROGRAMS[name]())
    points = all_points(interpreter)
    results = {*interpreter.program.state_outputs, interpreter.program.loss}
    assert all(interpreter._plan().makes(value) for value, _ in points if value not in results), "always at hand"
    expected = expected_tiles(interpreter, points)
    for threads in (1, 2) if name.startswith("convolutions") else (1,):
        set_threads(threads)
        assert taken_tiles(interpreter, points) == expected
    set_threads(1)
    # One point alone, and one twice: nothing depends on what else is drawn.
    for at in range(0, len(points), 1 + len(points) // 3):
        assert taken_tiles(interpreter, [points[at], points[at]]) == [expected[at]] * 2


@pytest.mark.parametrize("name", ["mlp-sgd", "gpt-adamw", "convolutions of single records", "no product"])
def test_steps_in_parts_give_the_same_tiles(name: str) -> None:
    program = PROGRAMS[name]()
    points = all_points(Interpreter(program))
    parts = PartsInterpreter(program, 2)
    collector = Collector(points, parts.info.types)
    assert parts._cut(strict=False).makes(collector), "never the whole step"
    assert taken_tiles(parts, points) == expected_tiles(Interpreter(program), points)


def test_a_value_that_no_fused_step_makes_is_taken_from_a_plain_one() -> None:
    """No rule draws such a value; were the way to run a program to change, evidence would be the same."""
    interpreter = Interpreter(PROGRAMS["mlp-adamw"]())
    plan, first = interpreter._plan(), interpreter.program.first_node_value
    unmade = [value for value in range(first, interpreter.program.value_count) if not plan.makes(value)]
    points = [Point(value, 0) for value in unmade[:20]]
    assert points and taken_tiles(interpreter, points) == expected_tiles(interpreter, points)


def test_nans_are_canonical() -> None:
    interpreter = Interpreter(PROGRAMS["mlp-sgd"]())
    points = all_points(interpreter)
    state, batch = inputs_of(interpreter.program)
    odd = torch.tensor([0x7FC12345], dtype=torch.int32).view(torch.float32)
    state = [
        torch.where(torch.rand(item.shape) < 0.5, odd, item) if item.dtype == odd.dtype else item for item in state
    ]
    collector = Collector(points, interpreter.info.types)
    interpreter.sampled_step(state, batch, 0, collector)
    assert any(b"\x00\x00\xc0\x7f" in tile for tile in collector.tiles())
    assert not any(b"\x45\x23\xc1\x7f" in tile for tile in collector.tiles())


def test_evidence_follows_the_key_and_nothing_else(gpt_adamw: Built, token_data: Path, tmp_path: Path) -> None:
    run = run_of(gpt_adamw, token_data)
    roots = [one.root for one in train(run, tmp_path, 0, 6, 3, lambda *_: None)]
    place = (tmp_path, 3, 3, roots[1], lambda *_: None)
    found = verify_segment(run, *place, KEY)
    assert found.end_root == roots[2] and len(found.samples) == 3 == len(set(found.samples))
    assert found.evidence_root == keyed_evidence_root(found.step_roots, found.samples)
    other = verify_segment(run, *place, bytes(32))
    assert other.step_roots == found.step_roots and not {*other.samples} & {*found.samples}
    assert verify_segment(run, *place).samples == ()
    batch = gpt_adamw.program.batch_size
    for changes in ({"threads": 2}, {"records": 1}, {"records": batch // 2}):
        again = open_run(job_of(gpt_adamw, token_data, **changes))
        assert verify_segment(again, *place, KEY) == found, changes
    set_threads(1)
    vendor = open_run(job_of(gpt_adamw, token_data, arithmetic=NATIVE))
    with pytest.raises(Rejection) as refusal:
        verify_segment(vendor, *place, KEY)
    assert refusal.value.reason is reasons.BAD_REQUEST


@pytest.mark.parametrize("skip", [False, True])
def test_a_faulty_run_stands_for_its_own_samples(skip: bool, mlp_sgd: Built, table_data: Path, tmp_path: Path) -> None:
    value = sampled_values(mlp_sgd.program)[-1]
    honest, faulty = run_of(mlp_sgd, table_data), run_of(mlp_sgd, table_data, fault=Fault(1, value, 3, 29, skip))
    start, *_ = [one.root for one in train(honest, tmp_path, 0, 3, 3, lambda *_: None)]
    own, false = (verify_segment(run, tmp_path / "no", 0, 3, start, lambda *_: None, KEY) for run in (honest, faulty))
    assert own.samples[0] == false.samples[0]
    assert own.step_roots[2] != false.step_roots[2]
    if skip:
        assert false.samples[1] == sample_of(KEY, 1, ())
    claim = Claim(EVIDENCE, 0, 3, start, false.end_root, false.evidence_root, own.evidence_root, KEY)
    context = dispute_context(honest)
    game = open_game(claim, context)
    while game.turn is not None:
        run = faulty if game.turn == DEFENDER else honest
        game = play(game, game.turn, next_move(run, tmp_path / "no", game), context)
    assert game.outcome == DEFENDER_WRONG, game.why


def test_leaked_state_roots_are_no_evidence(gpt_adamw: Built, token_data: Path, tmp_path: Path) -> None:
    """A solver handed all its state roots to a verifier, who makes up the samples: anybody who did the work wins."""
    run = run_of(gpt_adamw, token_data)
    start, *_ = [one.root for one in train(run, tmp_path, 0, 3, 3, lambda *_: None)]
    own = verify_segment(run, tmp_path, 0, 3, start, lambda *_: None, KEY)
    made_up = [sample_of(KEY, step, [bytes(4096)] * 4) for step in range(3)]
    lazy = keyed_evidence_root(own.step_roots, made_up)
    context = dispute_context(run)
    game = open_game(Claim(EVIDENCE, 0, 3, start, own.end_root, lazy, own.evidence_root, KEY), context)
    game = play(game, DEFENDER, PostStates(b"".join(own.step_roots), b"".join(made_up)), context)
    game = play(game, CHALLENGER, next_move(run, tmp_path, game), context)
    game = play(game, DEFENDER, next_move(run, tmp_path, game), context)
    move = next_move(run, tmp_path, game)
    assert isinstance(move, OpenSample)
    assert play(game, CHALLENGER, move, context).outcome == DEFENDER_WRONG


class Refusing:
    """A budget that compiles no loop of its own: groups fall apart into many tasks."""

    def admits(self, *_: object) -> bool:
        return False


@pytest.mark.parametrize("apart", [False, True])
def test_any_value_of_a_step_can_be_looked_at(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that nothing needs, and one of a group: its memory is another's only after the look."""
    if apart:
        monkeypatch.setattr(plan_module, "CompileBudget", Refusing)
    taken = 0
    for seed in range(60):
        program = random_program(seed, 20 + seed % 40)
        interpreter, state = Interpreter(program), state_of(program, seed)
        values: dict[int, torch.Tensor] = {}

        def keep(number: int, value: torch.Tensor, values: dict[int, torch.Tensor] = values) -> torch.Tensor:
            values[number] = value.clone()
            return value

        interpreter.observed_step(state, [], 3, keep)
        plan, types = interpreter._plan(), interpreter.info.types
        made = [value for value in range(program.first_node_value, program.value_count) if plan.makes(value)]
        points = [Point(value, tile_count(types[value]) - 1) for value in made]
        collector = Collector(points, types)
        interpreter.sampled_step(state, [], 3, collector)
        for point, tile in zip(points, collector.tiles(), strict=True):
            flat = canonical(values[point.value]).contiguous().numpy().reshape(-1)
            assert tile == tile_bytes(flat[element_numbers(types[point.value], point.tile)]), (seed, point)
            taken += plan.copies(point.value)
    assert taken > 100
