"""All values of one step in a file: what a solver serves when it is suspected, and what a dispute is played from.

The file holds every value by its number but the step index: state entries, batch values, nodes, NaNs canonical.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.files import replace_atomically
from ml.interpreter import has_odd_nan
from ml.tensor_file import read_tensor_file
from proofs.program.types import Program, TensorType
from proofs.program.validate import validate_program


def _types(program: Program) -> Mapping[str, TensorType]:
    types = validate_program(program).types
    return {str(number): type_ for number, type_ in enumerate(types) if number != program.step_index_value}


def save_values(path: Path, program: Program, values: Sequence[torch.Tensor]) -> None:
    """Write the values of a step, by number, atomically."""
    # One allocation may back several values (a view is a node as well): the format wants each by itself.
    named = {str(number): value.cpu().contiguous().clone() for number, value in enumerate(values)}
    del named[str(program.step_index_value)]
    replace_atomically(path, lambda aside: save_file(named, aside))


def load_values(path: Path, program: Program, step: int) -> list[torch.Tensor]:
    """The values by number. Raises Rejection BAD_CHECKPOINT when the file is not exactly that."""
    try:
        found, _ = read_tensor_file(path, _types(program))
        odd = next((name for name, value in found.items() if has_odd_nan(value)), None)
        if odd is not None:
            raise ValueError(f"value {odd} has a NaN that is not 0x7fc00000")
    except (OSError, ValueError) as error:
        raise Rejection(reasons.BAD_CHECKPOINT, f"{path.name}: {error}") from None
    found[str(program.step_index_value)] = torch.tensor(step, dtype=torch.int64)
    return [found[str(number)] for number in range(program.value_count)]
