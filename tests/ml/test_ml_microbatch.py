"""Steps in parts of the batch: the same bits over every divisor, or a refusal that names the node."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.check import check_against_eager
from ml.capture.optimizers import Sgd
from ml.capture.trace import capture
from ml.interpreter import Interpreter, canonical
from ml.kernels.elementwise import TORCH_DTYPES
from ml.microbatch.parts import PartsInterpreter
from ml.microbatch.records import RULES, MixesRecords, find_records
from ml.presets import Built
from proofs.program.initial import initial_tensor
from proofs.program.operators import OPERATORS, infer
from proofs.program.types import BatchInput, Fill, Given, Node, Program, Seed, StateEntry, TensorType
from proofs.program.validate import validate_program

SEED = bytes(range(32))


def weighted(call: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A loss to which every output contributes differently."""
    y = call(batch["x"])
    return (y * torch.linspace(0.5, 1.5, y.shape[-1])).square().mean()


def captured(module: nn.Module, x: torch.Tensor) -> Program:
    """A step of a module with that loss."""
    return capture(module, weighted, Sgd(0.01, momentum=0.9), {"x": x})


def divisors(batch: int) -> list[int]:
    return [size for size in range(1, batch + 1) if batch % size == 0]


def batch_of(program: Program, seed: int) -> list[torch.Tensor]:
    """Normal numbers, small labels."""
    generator = torch.Generator().manual_seed(seed)
    batch = []
    for item in program.batch:
        shape = (program.batch_size, *item.record.shape)
        if item.record.dtype == "f32":
            batch.append(torch.randn(shape, generator=generator))
        else:
            numbers = torch.randint(0, 5, shape, generator=generator)
            batch.append(numbers.to(torch.uint8) if item.record.dtype == "u8" else numbers)
    return batch


def state_of(program: Program) -> list[torch.Tensor]:
    """Any values will do; second moments are positive."""
    generator = torch.Generator().manual_seed(1)
    state = []
    for number, entry in enumerate(program.state):
        if isinstance(entry.initial, Given):
            state.append(torch.randn(entry.type.shape, generator=generator).to(TORCH_DTYPES[entry.type.dtype]) * 0.3)
        else:
            state.append(torch.from_numpy(initial_tensor(entry, number, SEED).copy()))
    return state


def bytes_of(state: list[torch.Tensor], loss: torch.Tensor) -> list[bytes]:
    """As they leave the interpreter for a file: NaNs canonical."""
    return [canonical(item).contiguous().numpy().tobytes() for item in (*state, loss)]


def same_in_parts(
    program: Program, sizes: list[int], strict: bool = False, state: list[torch.Tensor] | None = None
) -> None:
    """Two steps by parts of these sizes have the bits of two whole steps."""
    whole = Interpreter(program)
    moved, expected = state or state_of(program), []
    start = moved
    for step in range(2):
        moved, loss = whole.step(moved, batch_of(program, step), step)
        moved = [item.clone() for item in moved]
        expected.append(bytes_of(moved, loss))
    for size in sizes:
        parts, moved = PartsInterpreter(program, size), start
        for step in range(2):
            moved, loss = parts.step(moved, batch_of(program, step), step, strict)
            assert bytes_of(moved, loss) == expected[step], (size, step)
            moved = [item.clone() for item in moved]


@pytest.mark.parametrize("strict", [False, True])
def test_perceptrons_and_transformers(mlp_sgd: Built, mlp_adamw: Built, gpt_adamw: Built, strict: bool) -> None:
    for built in (mlp_sgd, mlp_adamw, gpt_adamw):
        same_in_parts(built.program, divisors(built.program.batch_size), strict)


class Recurrent(nn.Module):
    """The last output of a recurrent layer over a sequence."""

    def __init__(self, layer: nn.Module, width: int = 5) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layer(x)[0][:, -1])
        return out


class PlacesFirst(nn.Module):
    """A layer that takes (place, record, …), in a model whose data has records first."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layer(x.transpose(0, 1))[0][-1])
        return out


class SelfAttention(nn.Module):
    """nn.MultiheadAttention over a sequence, with its mean weights in the output or a mask."""

    def __init__(self, weights: bool, batch_first: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=batch_first)
        self.weights, self.batch_first = weights, batch_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.batch_first:
            x = x.transpose(0, 1)
        mask = None if self.weights else nn.Transformer.generate_square_subsequent_mask(x.shape[self.batch_first])
        out, seen = self.attention(x, x, x, attn_mask=mask, need_weights=self.weights, is_causal=mask is not None)
        out = out.mean(1 if self.batch_first else 0)
        return out + seen.mean((1, 2)).unsqueeze(-1) if self.weights else out


class Cells(nn.Module):
    """A recurrent cell, step by step over a sequence."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.cell(x[:, 0])
        for place in range(1, x.shape[1]):
            hidden = self.cell(x[:, place], hidden)
        out: torch.Tensor = self.head(hidden[0] if isinstance(hidden, tuple) else hidden)
        return out


class Decoder(nn.Module):
    """A decoder layer of which a sequence looks at itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(6, 2, 8, 0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x, x * 0.5)  # type: ignore[no-any-return]


def convolutional(*more: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), *more, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 4)
    )


ARCHITECTURES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "lstm cells": (Cells(nn.LSTMCell(3, 5)), (6, 4, 3)),
    "gru cells": (Cells(nn.GRUCell(3, 5)), (6, 4, 3)),
    "lstm": (Recurrent(nn.LSTM(3, 5, batch_first=True)), (4, 3, 3)),
    "encoder": (nn.TransformerEncoderLayer(6, 2, 8, 0.1, batch_first=True), (4, 3, 6)),
    "cnn": (convolutional(), (4, 2, 6, 6)),
    "group norm": (convolutional(nn.GroupNorm(2, 4)), (4, 2, 6, 6)),
    "layer norm, gelu": (nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 3)), (6, 5)),
    "dropout": (nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 3)), (6, 5)),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures(name: str) -> None:
    torch.manual_seed(0)
    module, shape = ARCHITECTURES[name]
    same_in_parts(captured(module, torch.randn(shape)), divisors(shape[0]))


LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "lstm, two layers": (Recurrent(nn.LSTM(3, 5, 2, batch_first=True, dropout=0.2)), (6, 4, 3)),
    "lstm, projected": (Recurrent(nn.LSTM(3, 7, batch_first=True, proj_size=5)), (4, 3, 3)),
    "gru, two ways": (Recurrent(nn.GRU(3, 5, bidirectional=True, batch_first=True), 10), (6, 4, 3)),
    "gru, places first": (PlacesFirst(nn.GRU(3, 5, bias=False)), (4, 4, 3)),
    "rnn": (Recurrent(nn.RNN(3, 5, batch_first=True, nonlinearity="relu")), (4, 3, 3)),
    "attention": (SelfAttention(weights=True), (6, 4, 6)),
    "attention, masked": (SelfAttention(weights=False), (4, 3, 6)),
    "attention, places first": (SelfAttention(weights=True, batch_first=False), (4, 3, 6)),
    "decoder": (Decoder(), (4, 3, 6)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_sequences_equal_eager_and_have_parts(name: str) -> None:
    torch.manual_seed(0)
    module, shape = LAYERS[name]
    batch = {"x": torch.randn(shape)}
    rule = Sgd(0.01, momentum=0.9)
    program = capture(module, weighted, rule, batch)
    assert check_against_eager(program, module, weighted, rule, batch).worst_ratio <= 1
    assert find_records(program, validate_program(program).types).sums


# --- what has no parts


def refusal(program: Program) -> str:
    with pytest.raises(MixesRecords) as caught:
        find_records(program, validate_program(program).types)
    return str(caught.value)


def test_batch_norm_is_refused_by_its_node() -> None:
    program = captured(convolutional(nn.BatchNorm2d(4)), torch.randn(4, 2, 6, 6))
    found = re.fullmatch(r"node (\d+), (\w+): it needs value (\d+), which is known only .*", refusal(program))
    assert found is not None
    node = program.nodes[int(found[1])]
    assert node.operator == found[2] and int(found[3]) in node.inputs


class TimeFirst(nn.Module):
    """A linear layer over rows of (place, record)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.transpose(0, 1)).mean(0)  # type: ignore[no-any-return]


def test_rows_of_places_before_records_are_refused() -> None:
    assert "reshape: " in refusal(captured(TimeFirst(), torch.randn(4, 3, 3)))


def one(*nodes: Node, record: TensorType = TensorType("f32", (3,)), batch: int = 4) -> Program:
    """Value 0 is a state entry w (3, 3), value 1 the batch x, 2 the step index; the loss is w's first element."""
    entry = StateEntry("parameter.w", TensorType("f32", (3, 3)), Fill(0))
    taken = (Node("slice", (0,), (0, 1, 1, 0, 1, 1)), Node("reshape", (3,), ()))
    return Program(1, (entry,), batch, (BatchInput("x", record),), (*taken, *nodes), (0,), 4)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (one(Node("permute", (1,), (1, 0)), Node("matmul", (1, 5), ())), "node 3, matmul: every record meets"),
        (one(Node("permute", (1,), (1, 0)), Node("max_last", (5,), ())), "node 3, max_last: it compares"),
        (one(Node("permute", (1,), (1, 0)), Node("reshape", (5,), (12,))), "node 3, reshape: it joins"),
        (one(Node("slice", (1,), (0, 2, 1, 0, 3, 1))), "node 2, slice: it takes some"),
        (one(Node("pad", (1,), (1, 0, 0, 0, 0, 0))), "node 2, pad: it adds"),
        (one(Node("concatenate", (1, 1), (0,))), "node 2, concatenate: it puts records"),
        (one(Node("sum_first", (1,), ()), Node("sub", (1, 5), ())), "node 3, sub: it needs value 5"),
        (one(batch=1), "one record"),
    ],
)
def test_what_mixes_records_is_refused(program: Program, says: str) -> None:
    assert says in refusal(program)


def test_a_state_that_has_a_place_for_each_record_is_refused() -> None:
    entry = StateEntry("buffer.h", TensorType("f32", (4, 3)), Fill(0))
    nodes = (Node("slice", (0,), (0, 1, 1, 0, 1, 1)), Node("reshape", (3,), ()), Node("add", (0, 1), ()))
    program = Program(1, (entry,), 4, (BatchInput("x", TensorType("f32", (3,))),), nodes, (5,), 4)
    assert "buffer.h becomes a value that has a place for each record" in refusal(program)


def test_every_operator_has_a_rule() -> None:
    assert RULES.keys() == OPERATORS.keys()


# --- small random programs

ELEMENTWISE = ("add", "sub", "mul", "maximum")


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Operators on a batch and a state, anything that types allow; every sum flows into the state or the loss."""
    batch = draw(st.sampled_from((2, 3, 4, 6)))
    width = draw(st.sampled_from((2, 3)))
    state = (
        StateEntry("parameter.w", TensorType("f32", (width, width)), Given()),
        StateEntry("constant.key", TensorType("i64", (2,)), Seed()),
    )
    inputs = (BatchInput("x", TensorType("f32", (width,))), BatchInput("ids", TensorType("i64", ())))
    types = [*(entry.type for entry in state), TensorType("f32", (batch, width)), TensorType("i64", (batch,))]
    types.append(TensorType("i64", ()))
    nodes: list[Node] = []

    def add(operator: str, taken: tuple[int, ...], attributes: tuple[int, ...] = ()) -> int:
        types.append(infer(operator, tuple(types[item] for item in taken), attributes))
        nodes.append(Node(operator, taken, attributes))
        return len(types) - 1

    def pick(*ranks: int) -> int:
        fitting = [n for n, t in enumerate(types) if t.dtype == "f32" and (not ranks or len(t.shape) in ranks)]
        return fitting[draw(st.integers(0, len(fitting) - 1))]

    add("uniform", (1, 4), (7, batch, width))
    add("full", (), (0, 0x3F000000, batch, width))
    for _ in range(draw(st.integers(3, 12))):
        kind = draw(st.sampled_from(("elementwise", "matmul", "turn", "sums", "reshape", "lookup", "rows")))
        if kind == "elementwise":
            first = pick()
            second = draw(
                st.sampled_from([n for n, t in enumerate(types) if t in (types[first], TensorType("f32", ()))])
            )
            add(draw(st.sampled_from(ELEMENTWISE)), (first, second))
        elif kind == "matmul":
            first = pick(2)
            fitting = [
                n
                for n, t in enumerate(types)
                if t.dtype == "f32" and len(t.shape) == 2 and t.shape[0] == types[first].shape[1]
            ]
            if fitting:
                add("matmul", (first, draw(st.sampled_from(fitting))))
        elif kind == "turn":
            add("permute", (pick(2),), (1, 0))
        elif kind == "sums":
            add(draw(st.sampled_from(("sum_first", "sum_last"))), (pick(2, 3),))
        elif kind == "reshape":
            value = pick(2)
            rows, columns = types[value].shape
            shapes = [
                (rows * columns,),
                (rows, columns, 1),
                (1, rows, columns),
                (rows * columns, 1),
                (1, rows * columns),
            ]
            add("reshape", (value,), draw(st.sampled_from(shapes)))
        elif kind == "lookup":
            gradients = [
                n for n, t in enumerate(types) if t.dtype == "f32" and len(t.shape) == 2 and t.shape[0] == batch
            ]
            add("embedding", (0, 3))
            add("embedding_grad", (draw(st.sampled_from(gradients)), 3), (width,))
        else:
            add("max_last", (pick(2),))
    rows = [n for n, t in enumerate(types) if t == types[2]]
    left, right = draw(st.sampled_from(rows)), draw(st.sampled_from(rows))
    add("matmul", (add("permute", (left,), (1, 0)), right))
    add("sum_last", (add("sum_first", (right,)),))
    outputs = [n for n, t in enumerate(types) if t == types[0] and n]
    losses = [add("reshape", (n,), ()) for n, t in list(enumerate(types)) if t.dtype == "f32" and t.elements == 1]
    if not losses:
        losses = [add("reshape", (add("slice", (pick(2),), (0, 1, 1, 0, 1, 1)),), ())]
    loss = losses[0]
    for item in losses[1:]:
        loss = add("add", (loss, item))
    return Program(1, state, batch, inputs, tuple(nodes), (draw(st.sampled_from(outputs)), 1), loss)


@given(programs())
@settings(max_examples=60, deadline=None)
def test_random_programs_have_the_same_bits_or_are_refused(program: Program) -> None:
    types = validate_program(program).types
    try:
        find_records(program, types)
    except MixesRecords as why:
        assert re.match(r"node \d+, \w+: |parameter\.w becomes", str(why))
        return
    same_in_parts(program, [size for size in divisors(program.batch_size) if size < program.batch_size])


def test_parts_must_divide_the_batch(mlp_sgd: Built) -> None:
    for records in (-1, 5, 7):
        with pytest.raises(Rejection) as caught:
            PartsInterpreter(mlp_sgd.program, records)
        assert caught.value.reason is reasons.NO_PARTS
