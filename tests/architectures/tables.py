"""Models of vectors and of tables of categories, written as a user would."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Autoencoder(nn.Module):
    """Squeezes an image through eight numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 64), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x))


class VariationalAutoencoder(nn.Module):
    """The same with a distribution in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 16))
        self.decoder = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 64))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, logvar = self.encoder(x).chunk(2, dim=-1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return self.decoder(z), mean, logvar


def evidence_bound(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Reconstruction plus divergence from the standard normal."""
    logits, mean, logvar = model(batch["x"])
    reconstruction = F.binary_cross_entropy_with_logits(logits, batch["x"], reduction="none").sum(-1).mean()
    divergence = -0.5 * (1 + logvar - mean.pow(2) - logvar.exp()).sum(-1).mean()
    return (reconstruction + divergence) / 64


class ResidualBlock(nn.Module):
    """Layer norm, two layers, dropout, and the input added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class ResidualMlp(nn.Module):
    """A deep perceptron that trains because of its shortcuts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 48)
        self.blocks = nn.Sequential(*[ResidualBlock(48) for _ in range(3)])
        self.head = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)))


class Recommender(nn.Module):
    """Embeddings of categories, numbers through a perceptron, products of all pairs (DLRM)."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(40, 8), nn.Embedding(30, 8, padding_idx=0)
        self.numbers = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8))
        self.top = nn.Sequential(nn.Linear(8 + 3, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, user: torch.Tensor, item: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        dense = self.numbers(numbers)
        features = torch.stack([self.users(user), self.items(item), dense], dim=1)
        products = torch.bmm(features, features.transpose(1, 2))
        rows, columns = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
        return self.top(torch.cat([dense, products[:, rows, columns]], dim=-1)).squeeze(-1)


class Siamese(nn.Module):
    """One encoder for two views, and a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.Mish(), nn.Linear(48, 16))
        self.temperature = nn.Parameter(torch.tensor(0.0))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.encoder(x), dim=-1)


def contrastive(model: Siamese, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Which of the others' second views belongs to this first one?"""
    first, second = model.embed(batch["x"]), model.embed(batch["x"] + 0.1 * torch.randn_like(batch["x"]))
    logits = first @ second.T * (5.0 * model.temperature.exp())
    return F.cross_entropy(logits, torch.arange(len(logits)))


class LoraLinear(nn.Module):
    """A frozen layer and a trained product of two thin ones."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + 2.0 * self.up(self.down(x))


def adapted() -> nn.Module:
    """A perceptron whose layers are frozen and adapted."""
    layers = [nn.Linear(64, 48), nn.Linear(48, 10)]
    return nn.Sequential(LoraLinear(layers[0], 4), nn.ReLU(), LoraLinear(layers[1], 4))


class MixtureOfExperts(nn.Module):
    """A soft choice between small networks."""

    def __init__(self, experts: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(64, experts)
        self.experts = nn.ModuleList(
            [nn.Sequential(nn.Linear(64, 24), nn.ELU(), nn.Linear(24, 10)) for _ in range(experts)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.gate(x), dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return torch.einsum("be,bec->bc", weights, outputs)
