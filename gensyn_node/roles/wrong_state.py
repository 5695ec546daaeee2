"""The state of a forced error: one bit of one number differs, so that nothing short of re-execution tells it.

The number is one that the segment changed: a number that stood still for a segment and then moves back would show.
"""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from gensyn_node.primitives.errors import InvariantViolation
from proofs import tensors
from proofs.program.types import Program, program_id
from proofs.state import state_root

_LENGTH_BYTES = 8
_ITEM_BYTES = 4


def make_wrong_state(right: Path, before: Path | None, target: Path) -> None:
    """Write `target`: the state in `right` with the last bit of one number flipped, which differs from `before`.

    Where no number of the state moved, or there is no `before`, any finite one serves.
    """
    with safe_open(right, framework="numpy") as file:
        names = [name for name in file.keys() if file.get_tensor(name).dtype == np.float32]  # noqa: SIM118  (no mapping)
        secrets.SystemRandom().shuffle(names)
        for moved in (True, False):
            for name in names:
                value = file.get_tensor(name).reshape(-1)
                earlier = _earlier(before, name, value.size) if moved else None
                position = _position(value, earlier)
                if position is not None:
                    _write(right, target, name, position, value)
                    return
    raise InvariantViolation(f"{right.name} holds no finite number that could be changed")


def _earlier(before: Path | None, name: str, size: int) -> NDArray[np.float32]:
    if before is None or not before.exists():
        return np.full(size, np.nan, np.float32)
    with safe_open(before, framework="numpy") as file:
        earlier: NDArray[np.float32] = file.get_tensor(name).reshape(-1)
    return earlier


def _position(value: NDArray[np.float32], earlier: NDArray[np.float32] | None) -> int | None:
    """A random place of a number that is finite, not zero and differs from `earlier`; None when there is none."""
    usable = np.isfinite(value) & (value != 0)
    places = np.flatnonzero(usable if earlier is None else usable & (value != earlier))
    return int(places[secrets.randbelow(len(places))]) if len(places) else None


def _write(right: Path, target: Path, name: str, position: int, value: NDArray[np.float32]) -> None:
    aside = target.with_name(target.name + ".new")
    shutil.copyfile(right, aside)
    flipped = np.array([value[position]], "<f4").view("<u4") ^ np.uint32(1)
    with aside.open("r+b") as file:
        header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        begin = json.loads(file.read(header_bytes))[name]["data_offsets"][0]
        file.seek(_LENGTH_BYTES + header_bytes + begin + position * _ITEM_BYTES)
        file.write(flipped.tobytes())
    aside.replace(target)


def root_of_file(program: Program, step: int, path: Path) -> bytes:
    """The root of the state before `step` in a file that this machine wrote; one tensor is in memory at a time."""
    with safe_open(path, framework="numpy") as file:
        roots = [tensors.root_of(file.get_tensor(entry.name)) for entry in program.state]
    return state_root(program_id(program), step, [entry.name for entry in program.state], roots)
