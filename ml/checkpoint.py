"""States in files: safetensors with exactly the entries of the program, checked against the state's root."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.files import replace_atomically
from ml.interpreter import canonical, has_odd_nan
from ml.kernels.hashing import TensorRoots
from ml.tensor_file import read_tensor_file
from proofs import tensors
from proofs.program.types import Given, Program, StateEntry, program_id
from proofs.state import checkpoint_root, state_root

State = list[torch.Tensor]
"""The state entries' tensors in program order."""
Shapes = tuple[tuple[int, ...], ...]


def root_of_state(program: Program, step: int, state: Sequence[torch.Tensor]) -> bytes:
    """The state's root before step `step`. NaNs count as canonical."""
    return StateRoots(program).of(step, state)


class StateRoots:
    """Roots of the states of one training. Tensors that the program passes on untouched are hashed once."""

    def __init__(self, program: Program) -> None:
        self._id = program_id(program)
        self._names = [entry.name for entry in program.state]
        self._passed = {number for number, value in enumerate(program.state_outputs) if number == value}
        self._known: dict[int, tuple[torch.Tensor, bytes]] = {}
        self._makers: dict[Shapes, TensorRoots] = {}

    def of(self, step: int, state: Sequence[torch.Tensor], together: bool = False) -> bytes:
        """The root of the state before step `step`; `together`: on all of the kernels' threads, not on this one."""
        known = {
            number: found[1]
            for number, item in enumerate(state)
            # The very tensor: nothing writes into a state that was given to a step.
            if (found := self._known.get(number)) is not None and found[0] is item
        }
        missing = [number for number in range(len(state)) if number not in known]
        hashed = roots_of_tensors([state[number] for number in missing], together, self._makers)
        for number, root in zip(missing, hashed, strict=True):
            known[number] = root
            if number in self._passed:
                self._known[number] = (state[number], root)
        return state_root(self._id, step, self._names, [known[number] for number in range(len(state))])


def roots_of_tensors(
    values: Sequence[torch.Tensor], together: bool = False, makers: dict[Shapes, TensorRoots] | None = None
) -> list[bytes]:
    """The tensors' roots. NaNs count as canonical. `together`: on all of the kernels' threads, not on this one.

    `makers` keeps for one thread what was prepared for tensors of such shapes.
    """
    plain = [value.cpu().contiguous() for value in values]
    quick = [number for number, value in enumerate(plain) if value.dtype == torch.float32 and value.numel()]
    shapes = tuple(tuple(plain[number].shape) for number in quick)
    makers = {} if makers is None else makers
    if shapes not in makers:
        makers[shapes] = TensorRoots(shapes)
    made = dict(zip(quick, makers[shapes].of([plain[number] for number in quick], together), strict=True))
    return [made.get(number) or tensors.root_of(value.numpy()) for number, value in enumerate(plain)]


def root_of_given(program: Program, state: Sequence[torch.Tensor]) -> bytes:
    """`checkpoint_root` of the entries that the task's initial checkpoint gives; empty when there are none."""
    given = [number for number, entry in enumerate(program.state) if isinstance(entry.initial, Given)]
    roots = [tensors.root_of(state[number].contiguous().numpy()) for number in given]
    return checkpoint_root([program.state[number].name for number in given], roots) if given else b""


def save_state(path: Path, entries: Sequence[StateEntry], state: Sequence[torch.Tensor], loss: float) -> None:
    """Write a state atomically; the loss of the step before travels as a note. NaNs are written canonical."""
    named = {entry.name: canonical(item).cpu().contiguous() for entry, item in zip(entries, state, strict=True)}
    # One allocation may back several entries (a constant, a view): the format wants each by itself.
    named = {name: item.clone() for name, item in named.items()}
    replace_atomically(path, lambda aside: save_file(named, aside, {"loss": float(loss).hex()}))


def load_state(path: Path, entries: Sequence[StateEntry]) -> tuple[State, float]:
    """Read a state and its noted loss (NaN without one).

    The file must hold exactly the entries' names, dtypes and shapes, and canonical NaNs only: a root stands for one
    sequence of bytes, and in a dispute these bytes are shown. Raises Rejection BAD_CHECKPOINT.
    """
    try:
        values, notes = read_tensor_file(path, {entry.name: entry.type for entry in entries})
        odd = next((name for name, value in values.items() if has_odd_nan(value)), None)
        if odd is not None:
            raise ValueError(f"{odd} has a NaN that is not 0x7fc00000")
    except FileNotFoundError:
        raise _bad(path, "it does not exist") from None
    except (OSError, ValueError) as error:
        raise _bad(path, str(error)) from None
    return [values[entry.name] for entry in entries], _loss(notes.get("loss", "nan"))


def load_verified_state(path: Path, program: Program, step: int, root: bytes) -> State:
    """Read the state before `step`; its root must be `root`. Raises Rejection BAD_CHECKPOINT."""
    state, _ = load_state(path, program.state)
    found = root_of_state(program, step, state)
    if found != root:
        raise _bad(path, f"root {found.hex()[:16]}, not {root.hex()[:16]}")
    return state


def _loss(note: str) -> float:
    try:
        return float.fromhex(note)
    except (ValueError, OverflowError):
        return math.nan


def _bad(path: Path, message: str) -> Rejection:
    return Rejection(reasons.BAD_CHECKPOINT, f"{path.name}: {message}")
