"""What torch is told before a native step: repeat itself, keep f32 products whole, keep denormals."""

from __future__ import annotations

import torch


def deterministic_settings() -> None:
    """Set them for this process; an operator that has no repeatable kernel on a device raises RuntimeError there."""
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(False)
    # No TF32 on CUDA, no bf16 inside oneDNN: every product has the 24 bits that the bounds are about.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
