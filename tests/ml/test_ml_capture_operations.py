"""What modules are written with: functions, layers, randomness; each against PyTorch, many in one program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.check import check_against_eager
from ml.capture.optimizers import AdamW, Sgd
from ml.capture.randomness import KEY
from ml.capture.step import make_step
from ml.capture.trace import capture
from ml.interpreter import Interpreter
from proofs.program.types import Program, Seed

Function = Callable[[torch.Tensor], torch.Tensor]


def weighted(call: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A loss to which every output element contributes differently."""
    outputs = call(batch["x"])
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = torch.zeros(())
    for place, output in enumerate(outputs):
        weights = torch.linspace(0.5, 1.5, output.shape[-1]) if output.dim() else torch.ones(())
        total = total + (output.float() * weights).square().mean() * (1.0 + 0.1 * place)
    return total


def checked(module: nn.Module, shape: tuple[int, ...] = (4, 8), optimizer: Any = None) -> Program:
    """The program of a module on random input, compared with PyTorch."""
    torch.manual_seed(1)
    batch = {"x": torch.randn(shape)}
    rule = optimizer or Sgd(0.1)
    program = capture(module, weighted, rule, batch)
    check_against_eager(program, module, weighted, rule, batch)
    return program


class Several(nn.Module):
    """Functions on outputs of one linear layer."""

    def __init__(self, functions: list[Function]) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.functions = functions

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(function(self.linear(x)) for function in self.functions)


NUMBERS = [1.0, 2.0, 3.0, 3.0, 3.0, 2.0, 1.0, 0.5]
GROUPS: dict[str, list[Function]] = {
    "activations": [
        *(F.elu, F.selu, F.celu, F.softplus, F.hardswish, F.hardsigmoid, F.hardtanh, F.mish, F.softsign, F.logsigmoid),
        *(F.relu6, F.tanhshrink, F.softshrink, F.hardshrink, F.gelu, F.silu, F.glu, F.leaky_relu),
        lambda y: F.gelu(y, approximate="tanh"),
    ],
    "reductions": [
        *(lambda y: y.log_softmax(-1), lambda y: y.logsumexp(-1, keepdim=True), lambda y: y.softmax(0)),
        *(lambda y: y - y.std(-1, keepdim=True), lambda y: y.var(0, unbiased=False), lambda y: F.normalize(y, dim=-1)),
        *(lambda y: y.norm(p=1, dim=-1), lambda y: y.norm(p=math.inf, dim=0), lambda y: y * y.max(), lambda y: y.min()),
        *(
            lambda y: y.min(-1).values,
            lambda y: y.amax((0, 1), keepdim=True) * y,
            lambda y: F.cosine_similarity(y, y + 1),
        ),
        *(lambda y: y * (y > 0).any(-1, keepdim=True), lambda y: y * (y > 1).all(-1, keepdim=True), lambda y: y.mean()),
        *(
            lambda y: y.cumsum(-1),
            lambda y: y.cumsum(0),
            lambda y: F.layer_norm(y, (8,)),
            lambda y: F.rms_norm(y, (8,)),
        ),
    ],
    "movement": [
        *(lambda y: y.roll(1, -1), lambda y: y.roll(3), lambda y: y.flip(-1), lambda y: y.flip((0, 1))),
        *(
            lambda y: torch.stack([y, y * 2], 1),
            lambda y: y.chunk(2, -1)[1],
            lambda y: y.unbind(1)[3],
            lambda y: y.tile(2),
        ),
        *(lambda y: torch.tril(y @ y.T), lambda y: (y @ y.T).triu(1), lambda y: y.repeat_interleave(2, 1)),
        *(lambda y: F.pad(y, (1, 2), value=1.0), lambda y: y.unfold(1, 4, 2), lambda y: torch.diag_embed(y)),
        *(
            lambda y: torch.diagonal(y @ y.T, 1),
            lambda y: y.narrow(1, 2, 3),
            lambda y: y.reshape(4, 2, 4).movedim(1, 2),
        ),
    ],
    "indexing": [
        *(
            lambda y: y[:, torch.tensor([1, 0, 3])],
            lambda y: y[torch.tensor([1, -1, 3, 3])],
            lambda y: y.index_select(1, ids()),
        ),
        *(lambda y: y[torch.arange(4), torch.tensor([1, 0, 3, 2])], lambda y: y.reshape(4, 2, 4)[:, :, ids()]),
        *(lambda y: y.gather(1, torch.tensor([[1, 2], [0, 3], [2, 2], [3, 1]])), lambda y: y * torch.tensor(NUMBERS)),
        *(lambda y: y.reshape(2, 2, 8)[ids(), :, ids()], lambda y: torch.zeros(3, 8).index_add(0, ids(4), y)),
        *(lambda y: y * F.one_hot(y.argmax(-1), 8), lambda y: torch.take_along_dim(y, y.argmin(-1, keepdim=True), -1)),
        *(
            lambda y: torch.zeros(4, 8).scatter_add(1, torch.tensor([[0, 1, 1, 7, 2, 2, 0, 3]] * 4), y),
            lambda y: y.masked_fill(y > 0, 2),
        ),
    ],
    "arithmetic": [
        *(
            lambda y: (y.abs() + 1) ** 1.5,
            lambda y: (y.abs() + 1) ** -0.5,
            lambda y: 2.0**y,
            lambda y: (y.abs() + 1) ** y,
        ),
        *(torch.exp2, lambda y: torch.log2(y.abs() + 1), lambda y: torch.log10(y.abs() + 1), torch.sinh, torch.cosh),
        *(lambda y: y + y.round(), lambda y: y + (3 * y).ceil(), lambda y: y + (3 * y).trunc(), torch.nan_to_num),
        *(
            lambda y: torch.einsum("bi,bj->bij", y, y),
            lambda y: torch.lerp(y, y * 2, 0.3),
            lambda y: y + torch.arange(8) // 3,
        ),
        *(lambda y: torch.addcmul(y, y, y, value=0.5), lambda y: y.clamp(torch.zeros(8), torch.ones(8))),
    ],
}


def ids(count: int = 2) -> torch.Tensor:
    """A few indices."""
    return torch.tensor([1, 0, 1, 2][:count])


@pytest.mark.parametrize("group", GROUPS)
def test_functions_equal_pytorch(group: str) -> None:
    checked(Several(GROUPS[group]))


class First(nn.Module):
    """The first output of a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(x)[0]
        return output


class SelfAttention(nn.Module):
    """A library attention of a sequence with itself, in every way of calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(8, 2, batch_first=True)
        self.plain = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        y = self.plain(x)
        odd = torch.tensor([False, True] * 3)
        return (
            self.layer(x, x, x)[0],
            self.layer(x, x, x, need_weights=False, attn_mask=causal)[0],
            F.scaled_dot_product_attention(y, y, y, is_causal=True),
            F.scaled_dot_product_attention(y, y, y, attn_mask=odd.expand(6, 6) & ~causal, scale=0.7),
            F.scaled_dot_product_attention(y, y, y, attn_mask=torch.zeros(6, 6).masked_fill(causal, -math.inf)),
        )


class Decoded(nn.Module):
    """A decoder layer over its own input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        output: torch.Tensor = self.layer(x, x, tgt_mask=mask)
        return output


class Cells(nn.Module):
    """Recurrent cells, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(8, 5), nn.GRUCell(8, 5), nn.RNNCell(8, 5)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = []
        for cell in self.cells:
            state: Any = None
            for place in range(x.shape[1]):
                state = cell(x[:, place], state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return tuple(outputs)


class Embedded(nn.Module):
    """Embeddings with a padding row, tied to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 8, padding_idx=0)
        self.out = nn.Linear(8, 10, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.table((x * 2).abs().to(torch.int64) % 10))
        return logits


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: First(nn.LSTM(8, 5, 2, bidirectional=True)),
    "gru": lambda: First(nn.GRU(8, 5, 2, batch_first=True)),
    "rnn": lambda: First(nn.RNN(8, 5, bidirectional=True)),
    "cells": Cells,
    "attention": SelfAttention,
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2),
    "decoder": Decoded,
    "embedding": Embedded,
    "norms": lambda: nn.Sequential(nn.Linear(8, 8), nn.RMSNorm(8), nn.LayerNorm((6, 8))),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_pytorch(name: str) -> None:
    torch.manual_seed(2)
    program = checked(LAYERS[name](), (4, 6, 8), AdamW(1e-2))
    if name == "embedding":
        assert [entry.name for entry in program.state if entry.name.startswith("parameter.")] == [
            "parameter.table.weight"
        ]


class Noisy(nn.Module):
    """Every way of drawing random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.drops = nn.ModuleList([nn.Dropout(0.3), nn.Dropout1d(0.5), nn.AlphaDropout(0.2)])
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.2, batch_first=True)
        self.recurrent = nn.GRU(8, 8, 2, dropout=0.3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.linear(x)
        noise = torch.randn_like(y) + torch.rand(8) + torch.randn(6, 1) + torch.randint(0, 5, (4, 1, 1))
        noise = (
            noise
            + torch.empty(8).uniform_(-1, 1)
            + torch.empty(8).normal_(0.5, 2)
            + torch.bernoulli(torch.full((8,), 0.3))
        )
        return (
            *(drop(y) for drop in self.drops),
            y + noise,
            F.gumbel_softmax(y, dim=-1),
            self.attention(x),
            self.recurrent(x)[0],
        )


def test_random_numbers_are_the_same_in_both_and_new_in_every_step() -> None:
    program = checked(Noisy(), (4, 6, 8))
    (key,) = (entry for entry in program.state if entry.name == KEY)
    assert key.initial == Seed()
    module = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5))
    batch = {"x": torch.ones(2, 8)}
    program = capture(module, weighted, Sgd(0.0), batch)
    state = [make_step(module, weighted, Sgd(0.0)).state[entry.name] for entry in program.state]
    interpreter = Interpreter(program)

    def loss(key: list[int], step: int) -> float:
        return float(interpreter.step([*state[:-1], torch.tensor(key)], list(batch.values()), step)[1])

    assert loss([1, 2], 3) == loss([1, 2], 3)
    assert len({loss([1, 2], 3), loss([1, 2], 4), loss([1, 3], 3)}) == 3


def test_what_is_drawn_has_the_right_distribution() -> None:
    class Draws(nn.Module):
        """Losses that are means of what was drawn."""

        def __init__(self, draw: Callable[[], torch.Tensor]) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.draw = draw

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.draw() * self.weight

    cases: list[tuple[Callable[[], torch.Tensor], float, float]] = [
        (lambda: torch.rand(20000), 0.5, math.sqrt(1 / 12)),
        (lambda: torch.randn(20000), 0.0, 1.0),
        (lambda: F.dropout(torch.ones(20000), 0.2), 1.0, 0.5),
        (lambda: torch.empty(20000).exponential_(2.0), 0.5, 0.5),
        (lambda: torch.randint(2, 6, (20000,)).float(), 3.5, math.sqrt(1.25)),
    ]
    for draw, mean, deviation in cases:
        found = []
        for power in (1, 2):
            module = Draws(draw)
            batch = {"x": torch.zeros(1)}

            def moment(call: Any, items: Mapping[str, torch.Tensor], power: int = power) -> torch.Tensor:
                output: torch.Tensor = call(items["x"])
                return output.pow(power).mean()

            program = capture(module, moment, Sgd(0.0), batch)
            state = [torch.ones(1), torch.tensor([7, 8])]
            found.append(float(Interpreter(program).step(state, [torch.zeros(1)], 0)[1]))
        assert found[0] == pytest.approx(mean, abs=0.03)
        assert math.sqrt(found[1] - found[0] ** 2) == pytest.approx(deviation, abs=0.03)


class Once(nn.Module):
    """A function after a linear layer."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.linear(x))


REFUSED: list[tuple[Function, Any, str]] = [
    (lambda y: y.topk(2).values, reasons.NOT_LOWERABLE, "sort"),
    (lambda y: y.median(-1).values, reasons.NOT_LOWERABLE, "use mean"),
    (lambda y: y.prod(-1), reasons.NOT_LOWERABLE, "exp(sum(log(x)))"),
    (lambda y: torch.linalg.inv(y @ y.T), reasons.NOT_LOWERABLE, "factorisations"),
    (lambda y: torch.fft.rfft(y).abs(), reasons.NOT_LOWERABLE, "complex"),
    (lambda y: y.double(), reasons.FOREIGN_DTYPE, "float32"),
    (lambda y: y.half().float(), reasons.FOREIGN_DTYPE, "autocast"),
    (lambda y: y[y > 0].sum(), reasons.DATA_DEPENDENT, "mask"),
    (lambda y: y if y.sum() > 0 else -y, reasons.DATA_DEPENDENT, "torch.where"),
    (lambda y: y * y.sum().item(), reasons.DATA_DEPENDENT, "tensor"),
    (lambda y: y[torch.randperm(4)], reasons.RANDOM, "order the records"),
    (lambda y: torch.multinomial(y.softmax(-1), 1), reasons.RANDOM, "Gumbel"),
]


@pytest.mark.parametrize(("function", "reason", "advice"), REFUSED)
def test_a_refusal_says_where_and_what_to_write_instead(function: Function, reason: Any, advice: str) -> None:
    with pytest.raises(Rejection) as refusal:
        checked(Once(function))
    assert refusal.value.reason is reason, refusal.value.message
    assert advice in refusal.value.message
    assert "Once" in refusal.value.message
    assert "test_ml_capture_operations.py:" in refusal.value.message


def test_a_tensor_that_is_no_buffer_is_refused() -> None:
    class Held(nn.Module):
        """Holds a large tensor as a plain attribute."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)
            self.noise = torch.randn(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.linear(x) @ self.noise
            return output

    with pytest.raises(Rejection) as refusal:
        checked(Held())
    assert refusal.value.reason is reasons.CLOSED_OVER
    assert "register_buffer" in refusal.value.message
