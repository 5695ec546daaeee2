"""How far two results of a segment are apart, tensor by tensor, as a share of what the segment changed.

For an f32 entry: ‖W' - W‖ / ‖W - W0‖ in fp64, W0 the agreed start, W one's own end, W' the claimed one; in parts per
2^32, rounded up. Normalised by the size of the weights instead, a skipped step would be invisible. What a segment
leaves as it is, and what is no f32, has to be equal: 0, or the most there is.

A parameter whose gradient is mathematically zero (a convolution's bias before batch norm, a key's bias) moves by noise
alone: its distance is near 1 between honest machines. Profiling finds these; see `proofs.native.profile`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from proofs.native.profile import DISTANCE_MAX, PARTS


def distance(start: torch.Tensor, own: torch.Tensor, claimed: torch.Tensor) -> int:
    """Distance of one entry, in parts per 2^32 of its update, at most DISTANCE_MAX."""
    if own.dtype != torch.float32:
        return 0 if torch.equal(own, claimed) else DISTANCE_MAX
    if bool(((own == claimed) | (torch.isnan(own) & torch.isnan(claimed))).all()):
        return 0
    apart = float(torch.linalg.vector_norm(claimed.double() - own.double()))
    update = float(torch.linalg.vector_norm(own.double() - start.double()))
    if not apart < DISTANCE_MAX / PARTS * update:
        return DISTANCE_MAX  # also where the update is zero, or something is not finite
    return min(DISTANCE_MAX, -int(-apart / update * PARTS // 1))


def distances(
    start: Sequence[torch.Tensor], own: Sequence[torch.Tensor], claimed: Sequence[torch.Tensor]
) -> tuple[int, ...]:
    """Distance of every state entry, in the program's order."""
    return tuple(distance(*entry) for entry in zip(start, own, claimed, strict=True))
