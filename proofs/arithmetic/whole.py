"""Every operator on whole tensors: the entry to the definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.arithmetic.opset import ARITHMETIC
from proofs.program.operators import infer
from proofs.program.types import Node
from proofs.tensors import type_of

Array = npt.NDArray[Any]


def compute_value(node: Node, inputs: Sequence[Array]) -> Array:
    """The output of a node on whole input arrays, C-contiguous. Rejection when the operator is not defined on them."""
    output = infer(node.operator, tuple(type_of(array) for array in inputs), node.attributes)
    with np.errstate(all="ignore"):
        result = ARITHMETIC[node.operator].define(node, inputs, output)
    return np.ascontiguousarray(result).reshape(output.shape)
