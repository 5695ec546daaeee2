"""Library functions that are replaced by explicit formulas while a step is recorded.

The fused attention of the library decomposes into wrong gradients: it is written out, and where a call does not pass
through here (a mask of floats, grouped queries, a name imported elsewhere) the library's own plain form is recorded.
Layers that take places before records are written out the other way round (`recurrent`, `heads`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import transformer

from ml.capture import heads, recurrent

_MASKED = -1e30
"""A score that is certainly not taken; finite, so that a row without any other is no NaN."""


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """softmax(query · scale @ keyᵀ, masked) @ value, as torch.nn.functional.scaled_dot_product_attention."""
    if enable_gqa or (attn_mask is not None and attn_mask.dtype != torch.bool):
        return _ATTENTION(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    scaled = query * (1.0 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = scaled @ key.transpose(-1, -2)
    seen = attn_mask
    if is_causal:
        rows, columns = torch.arange(scores.shape[-2]), torch.arange(scores.shape[-1])
        seen = rows[:, None] >= columns[None, :]
    if seen is not None:
        scores = torch.where(seen, scores, _MASKED)
    weights = torch.softmax(scores, -1)
    if attn_mask is not None and not is_causal:
        # As in the library, a query that may look at nothing gets zeros.
        weights = torch.where(attn_mask.any(-1, keepdim=True), weights, 0.0)
    if dropout_p > 0:
        weights = functional.dropout(weights, dropout_p)
    return weights @ value


def one_hot(tensor: torch.Tensor, num_classes: int = -1) -> torch.Tensor:
    """Comparison with every class; the library's looks at the values first."""
    if num_classes < 0:
        return _ONE_HOT(tensor, num_classes)
    return (tensor.unsqueeze(-1) == torch.arange(num_classes)).to(torch.int64)


def is_causal_mask(mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None) -> bool:
    """Whether the caller says that a mask is causal (a hint, the mask is applied); the library's compares values."""
    return is_causal is True


_ATTENTION: Callable[..., torch.Tensor] = functional.scaled_dot_product_attention
_ONE_HOT: Callable[..., torch.Tensor] = functional.one_hot
_REPLACED: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (functional, "scaled_dot_product_attention", attention),
    (functional, "one_hot", one_hot),
    (transformer, "_detect_is_causal_mask", is_causal_mask),
    *heads.REPLACED,
    *recurrent.REPLACED,
)


@contextlib.contextmanager
def formulas() -> Iterator[None]:
    """While it is active, the library's functions are the formulas of this module."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _REPLACED]
    with sdpa_kernel(SDPBackend.MATH):
        try:
            for owner, name, own in _REPLACED:
                setattr(owner, name, own)
            yield
        finally:
            for owner, name, theirs in before:
                setattr(owner, name, theirs)
