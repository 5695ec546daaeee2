"""What the ledger stores of a native task's profiling. States are words; `records.py` has the rest of a task."""

from __future__ import annotations

from consensus.ledger.fields import Address, Count, Hash, Nano, OptionalHash, Small, Text
from consensus.ledger.messages import Distances
from gensyn_node.primitives.codec import Struct

PROFILE_DRAWING = "drawing"
"""Waits for profilers to be drawn."""
PROFILE_COMMITTING = "committing"
"""Measurements must be committed by `due_height`."""
PROFILE_REVEALING = "revealing"
"""Measurements must be shown by `due_height`."""
PROFILE_DONE = "done"
"""Its thresholds are known."""
PROFILE_FAILED = "failed"
"""No thresholds could be had; the task expired."""


class ProfileSlot(Struct):
    """One profiler's measurements."""

    profiler: Address
    state: Text
    """One of the VERIFICATION_ words: drawn, committed, revealed, missed, released, paid."""
    device_class: Text
    """As registered when it was drawn."""
    price_nano: Nano
    bond_nano: Nano
    seed: Hash
    """What it has to start from: initial values and batches."""
    commitment: OptionalHash
    distances: Distances
    fee_nano: Nano
    """Paid for it."""


class Profile(Struct):
    """How far honest machines are apart on a native task."""

    task_id: Hash
    state: Text
    """One of the PROFILE_ words."""
    wanted: Small
    """Profilers to draw."""
    due_height: Count
    """Last height of the present phase."""
    patience_height: Count
    """From here on a majority of the profilers wanted suffices."""
    draws: Small
    """Draws of profilers so far."""
    slots: tuple[ProfileSlot, ...]
    missed: tuple[Address, ...]
    """Profilers replaced for missing their duty."""
    limits: Distances
    """The threshold of every state entry once it is done; the largest number there is: not measured."""
