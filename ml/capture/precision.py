"""Mixed precision: which operations round to bfloat16, in the program and in the PyTorch that it is compared with.

As torch.autocast has it: the operands of products and convolutions, forward and backward, and their results. Weights,
moments, sums, norms, softmax and losses stay f32. Each product is a chain in f32, rounded once at its end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ml.capture.formulas import formulas
from ml.capture.operations import Operations, Value
from proofs.program.types import F32

FULL, BF16 = "f32", "bf16"
PRECISIONS = (FULL, BF16)
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward")


def is_product(name: str, precision: str) -> bool:
    """Whether an ATen operation, such as `aten.mm.default`, rounds at this precision."""
    return precision == BF16 and name.startswith("aten.") and name.split(".")[1] in _PRODUCTS


def rounded_values(ops: Operations, items: Any) -> Any:
    """Every f32 value in a tree of arguments or results, rounded."""

    def one(item: Any) -> Any:
        return ops.apply("round_bf16", item) if isinstance(item, Value) and item.type.dtype == F32 else item

    return tree_map(one, items, is_leaf=lambda item: isinstance(item, Value))


class _Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, PyTorch's products round as the program's do."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not is_product(str(func), BF16):
            return func(*args, **(kwargs or {}))
        return tree_map(_rounded, func(*tree_map(_rounded, args), **tree_map(_rounded, kwargs or {})))


def _rounded(item: Any) -> Any:
    if isinstance(item, torch.Tensor) and item.dtype == torch.float32:
        return item.to(torch.bfloat16).to(torch.float32)
    return item


@contextlib.contextmanager
def eager_precision(precision: str) -> Iterator[None]:
    """While it is active, PyTorch computes at this precision; its fused functions are formulas, as in capture."""
    if precision == FULL:
        yield
        return
    with torch.backends.mkldnn.flags(enabled=False), formulas(), _Rounding():  # type: ignore[no-untyped-call]
        yield
