"""May this machine work on native tasks? Its vendor kernels must repeat themselves and keep the proven bounds.

Every operator of the opset is tried on the same awkward numbers as devices are (`ml.devices.self_test`), and products
and sums of many terms, on one thread and on all that the worker is given, twice each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ml.devices.self_test import known_cases
from ml.kernels.threads import get_threads, set_threads
from ml.native.operators import kernel
from ml.native.settings import deterministic_settings
from proofs.arithmetic.whole import compute_value
from proofs.native.bounds import bound_of, within
from proofs.program.operators import infer
from proofs.program.types import Node
from proofs.tensors import Array, type_of

_SEED = 1_022
LONG = ((Node("matmul", (0, 1), ()), ((96, 768), (768, 80))), (Node("matmul", (0, 1), ()), ((2, 33, 65), (2, 65, 31))))
LONG_SUMS = ("sum_last", "sum_first", "max_last")


def failing_operators(threads: int) -> list[str]:
    """Operators that are outside their bound, or differ from one time to the next; none: the class can be offered."""
    deterministic_settings()
    before = get_threads()
    try:
        return sorted({name for count in {1, threads} for name in _failing(count)})
    finally:
        set_threads(before)


def _failing(threads: int) -> Iterator[str]:
    set_threads(threads)
    for node, arrays in (*known_cases(), *_long_cases()):
        types = tuple(type_of(array) for array in arrays)
        output = infer(node.operator, types, node.attributes)
        inputs = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        run = kernel(node, output)
        once, again = (run(inputs).contiguous().numpy() for _ in range(2))
        bound, magnitudes = bound_of(node, types, output), None
        with np.errstate(all="ignore"):
            reference = np.asarray(compute_value(node, [array.copy() for array in arrays])).reshape(output.shape)
        if bound.needs_magnitudes:
            absolute = [np.abs(array) if array.dtype == np.float32 else array.copy() for array in arrays]
            magnitudes = np.asarray(compute_value(node, absolute)).reshape(output.shape)
        same = once.tobytes() == again.tobytes()
        if not same or not within(bound, reference, magnitudes, once).all():
            yield node.operator


def _long_cases() -> list[tuple[Node, list[Array]]]:
    generator = np.random.default_rng(_SEED)

    def some(shape: tuple[int, ...]) -> Array:
        return generator.standard_normal(shape).astype(np.float32)

    cases: list[tuple[Node, list[Array]]] = [(node, [some(shape) for shape in shapes]) for node, shapes in LONG]
    cases += [(Node(name, (0,), ()), [some((129, 1_027))]) for name in LONG_SUMS]
    return cases
