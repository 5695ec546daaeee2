"""The modules of the presets: ordinary `nn.Module`s, written with explicit formulas where a library call is opaque."""

from __future__ import annotations

import math

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


class Mlp(nn.Module):
    """f32 (batch, inputs) → logits f32 (batch, classes) through layers of the given widths."""

    def __init__(self, inputs: int, widths: tuple[int, ...], classes: int, activation: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width_out in zip((inputs, *widths), widths, strict=False):
            layers += [nn.Linear(width_in, width_out), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1] if widths else inputs, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x)
        return logits


class Attention(nn.Module):
    """Self-attention by its formula; the fused library call decomposes into wrong gradients."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, context, width = x.shape

        def split(part: nn.Linear) -> torch.Tensor:
            heads: torch.Tensor = part(x).view(batch, context, self.heads, width // self.heads)
            return heads.transpose(1, 2)

        scores = split(self.query) @ split(self.key).transpose(-1, -2) * (1.0 / math.sqrt(width // self.heads))
        if self.causal:
            places = torch.arange(context)
            scores = torch.where(places[:, None] >= places[None, :], scores, -1e9)
        mixed = (torch.softmax(scores, -1) @ split(self.value)).transpose(1, 2).reshape(batch, context, width)
        out: torch.Tensor = self.out(mixed)
        return out


class Block(nn.Module):
    """Pre-norm transformer block with a GELU of four times the width."""

    def __init__(self, width: int, heads: int, causal: bool = True) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.forward_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        hidden = torch.nn.functional.gelu(self.up(self.forward_norm(x)), approximate="tanh")
        moved: torch.Tensor = x + self.down(hidden)
        return moved


class Gpt(nn.Module):
    """i64 tokens (batch, context) → logits f32 (batch, context, vocabulary)."""

    def __init__(self, layers: int, width: int, heads: int, context: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(context, width))  # as nn.Embedding begins
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


class Lstm(nn.Module):
    """i64 tokens (batch, context) → logits f32 (batch, context, vocabulary) through LSTM layers over embeddings."""

    def __init__(self, layers: int, width: int, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.recurrent = nn.LSTM(width, width, layers, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states, _ = self.recurrent(self.tokens(tokens))
        logits: torch.Tensor = self.head(states)
        return logits
