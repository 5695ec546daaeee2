"""Evidence of executions that keep every value of every step: what the small worlds of several tests share."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Protocol

from proofs import tensors
from proofs.pinpoint.context import Context
from proofs.samples import sample_of


class KeepsValues(Protocol):
    """Such an execution."""

    @property
    def context(self) -> Context: ...

    def values(self, step: int) -> Sequence[Any]: ...


def samples_of(run: KeepsValues, first_step: int, steps: int, key: bytes) -> list[bytes]:
    """What a key draws in each step."""
    made = []
    for step in range(first_step, first_step + steps):
        values = run.values(step)
        drawn = [tensors.tile_of(values[value], tile) for value, tile in run.context.points(key, step)]
        made.append(sample_of(key, step, [tensors.tile_bytes(tile) for tile in drawn]))
    return made


def made_up_samples(first_step: int, steps: int, key: bytes) -> list[bytes]:
    """What somebody shows who was told the state roots and has done no work."""
    return [sha256(key + step.to_bytes(8, "little")).digest() for step in range(first_step, first_step + steps)]
