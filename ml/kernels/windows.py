"""Windows of a tensor as a tensor of their own, for where no kernel reads them in place."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch

Slices = tuple[slice, slice] | None


def windows(x: torch.Tensor, attributes: tuple[int, ...], fill: torch.Tensor) -> torch.Tensor:
    """(…, S1 … Sn) → (…, k1 … kn, o1 … on); `fill` is the scalar that stands outside."""
    axes = len(attributes) // 6
    numbers = [attributes[1 + 6 * axis : 7 + 6 * axis] for axis in range(axes)]
    lead = x.shape[: x.ndim - axes]
    sizes, counts = [each[0] for each in numbers], [each[1] for each in numbers]
    out = fill.expand((*lead, *sizes, *counts)).contiguous()
    for within in itertools.product(*map(range, sizes)):
        parts = [
            _overlap(x.shape[len(lead) + axis], each, k)
            for axis, (each, k) in enumerate(zip(numbers, within, strict=True))
        ]
        places = [part for part in parts if part is not None]
        if len(places) == axes:
            source: tuple[Any, ...] = (..., *(part[1] for part in places))
            target: tuple[Any, ...] = (..., *within, *(part[0] for part in places))
            out[target] = x[source]
    return out


def _overlap(length: int, numbers: tuple[int, ...], within: int) -> Slices:
    """Which windows see an element at this place of theirs, and which elements: two slices; None when none does."""
    _, count, start, step, dilation, interior = numbers
    first = start + dilation * within
    # start + dilation k + step o is a multiple of the interior for every `period`-th o, if for any.
    shared = math.gcd(step, interior)
    if first % shared:
        return None
    period, stride = interior // shared, step // shared
    origin = -(first // shared) * pow(stride, -1, period) % period if period > 1 else 0
    position = (first + step * origin) // interior
    if position < 0:
        skipped = -(position // stride)
        origin, position = origin + skipped * period, position + skipped * stride
    if origin >= count or position >= length:
        return None
    taken = min((count - 1 - origin) // period, (length - 1 - position) // stride) + 1
    return (
        slice(origin, origin + (taken - 1) * period + 1, period),
        slice(position, position + (taken - 1) * stride + 1, stride),
    )
