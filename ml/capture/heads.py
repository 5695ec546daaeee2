"""Multi-head attention written out with the records first; the library's rows are of (place, record).

Only so can a sum over a batch of sequences be made some records at a time (`ml/microbatch`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Result = tuple[torch.Tensor, torch.Tensor | None]


def multi_head_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: torch.Tensor | None,
    in_proj_bias: torch.Tensor | None,
    bias_k: torch.Tensor | None,
    bias_v: torch.Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: torch.Tensor,
    out_proj_bias: torch.Tensor | None,
    training: bool = True,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: torch.Tensor | None = None,
    k_proj_weight: torch.Tensor | None = None,
    v_proj_weight: torch.Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    **more: Any,
) -> Result:
    """As torch.nn.functional.multi_head_attention_forward; a few rare forms are left to the library's."""
    places, records, width = query.shape if query.dim() == 3 else (0, 0, 0)
    if not places or bias_k is not None or bias_v is not None or add_zero_attn or more or width != embed_dim_to_check:
        return _LIBRARY(
            *(query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v),
            *(add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training, key_padding_mask, need_weights),
            *(attn_mask, use_separate_proj_weight, q_proj_weight, k_proj_weight, v_proj_weight),
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            **more,
        )

    def split(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(records, x.shape[1], num_heads, width // num_heads).transpose(1, 2)

    weights: tuple[torch.Tensor | None, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight and in_proj_weight is not None:
        weights = in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (
        split(functional.linear(x.transpose(0, 1), weight, bias))  # type: ignore[arg-type]
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    mask = _mask(attn_mask, key_padding_mask, records, num_heads, q.dtype)
    seen = None
    if need_weights:
        scores = (q * math.sqrt(1.0 / (width // num_heads))) @ k.transpose(-1, -2)
        seen = torch.softmax(scores if mask is None else scores + mask, -1)
        if dropout_p > 0 and training:
            seen = functional.dropout(seen, dropout_p)
        mixed = seen @ v
        seen = seen.mean(1) if average_attn_weights else seen
    else:
        causal = is_causal and key_padding_mask is None
        rate = dropout_p if training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, None if causal else mask, rate, causal)
    out = functional.linear(mixed.transpose(1, 2).reshape(records, places, width), out_proj_weight, out_proj_bias)
    return out.transpose(0, 1), seen


def _mask(
    given: torch.Tensor | None, padding: torch.Tensor | None, records: int, heads: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """What is added to the scores (records, heads, places, keys): both masks, True as -∞."""
    mask = None if given is None else _added(given, dtype)
    if mask is not None and mask.dim() == 3:
        mask = mask.reshape(records, heads, *mask.shape[1:])
    if padding is None:
        return mask
    hidden = _added(padding, dtype).reshape(records, 1, 1, -1)
    return hidden if mask is None else mask + hidden


def _added(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(mask, -math.inf)


_LIBRARY: Callable[..., Result] = functional.multi_head_attention_forward
REPLACED: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (functional, "multi_head_attention_forward", multi_head_attention),
)
"""(owner, name, formula)."""
