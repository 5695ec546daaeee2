"""Saying no: which operator, in which module, on which line of the user's file, and what to write instead."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gensyn_node.primitives.errors import Reason, Rejection
from ml import reasons

_LIBRARY = str(Path(torch.__file__).parent)
_OWN = str(Path(__file__).parent)

_NO_ORDER = "the opset does not sort; amax, argmax and comparisons with them exist"
_NO_LINEAR_ALGEBRA = "no factorisations exist; use a fixed number of explicit iterations with matmul"
_NO_COMPLEX = "no complex numbers exist; multiply by matrices of cos and sin, or transform the data beforehand"
ADVICE = {
    "sort": _NO_ORDER,
    "topk": f"which elements are taken is a sort; {_NO_ORDER}; for k = 1 use max or argmax",
    "kthvalue": _NO_ORDER,
    "median": f"{_NO_ORDER}; use mean",
    "mode": _NO_ORDER,
    "cummax": "use amax over slices",
    "cummin": "use -amax of the negative over slices",
    "cumprod": "write exp(cumsum(log(x))) for positive x",
    "logcumsumexp": "write log(cumsum(exp(x - x.amax(-1, keepdim=True)))) and add the maximum",
    "prod": "write exp(sum(log(x))) for positive x, or multiply the slices",
    "nonzero": "its size depends on values; multiply by a mask or use torch.where",
    "masked_select": "its size depends on values; multiply by a mask or use torch.where",
    "unique": "its size depends on values; prepare it in the data",
    "_unique2": "its size depends on values; prepare it in the data",
    "bincount": "use one_hot(...).sum(0)",
    "histc": "use comparisons with the edges and sum",
    "atan": "only sin and cos exist; write the angle's sine and cosine instead",
    "atan2": "only sin and cos exist; write the angle's sine and cosine instead",
    "acos": "only sin and cos exist; compare cosines instead of angles",
    "asin": "only sin and cos exist; compare sines instead of angles",
    "fmod": "use x - y * torch.floor(x / y)",
    "lgamma": "precompute it in the data",
    "digamma": "precompute it in the data",
    "erfinv": "precompute it in the data",
    "_fft_r2c": _NO_COMPLEX,
    "_fft_c2c": _NO_COMPLEX,
    "_fft_c2r": _NO_COMPLEX,
    "complex": _NO_COMPLEX,
    "view_as_complex": _NO_COMPLEX,
    "linalg_inv_ex": _NO_LINEAR_ALGEBRA,
    "linalg_cholesky_ex": _NO_LINEAR_ALGEBRA,
    "_linalg_svd": _NO_LINEAR_ALGEBRA,
    "_linalg_eigh": _NO_LINEAR_ALGEBRA,
    "_linalg_det": _NO_LINEAR_ALGEBRA,
    "linalg_qr": _NO_LINEAR_ALGEBRA,
    "linalg_lu_factor_ex": _NO_LINEAR_ALGEBRA,
    "_cdist_forward": "write (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1).add(1e-12).sqrt()",
    "_embedding_bag": "write nn.Embedding(...)(ids).sum(-2) or .mean(-2)",
    "_ctc_loss": "no dynamic programming over labels exists; use a loss per position",
    "grid_sampler_2d": "positions that depend on values need a gather with integer indices",
    "as_strided": "assignment to part of a tensor; build it with torch.cat, torch.stack or torch.where",
    "as_strided_scatter": "assignment to part of a tensor; build it with torch.cat, torch.stack or torch.where",
    "equal": "a decision of Python on a tensor; use torch.where",
    "_thnn_fused_lstm_cell": "use nn.LSTM on one thread of plain tensors",
    "mkldnn_rnn_layer": "use nn.LSTM without mkldnn",
}
"""What to write instead of an ATen operator, by its name without overload."""
_GENERAL = "write it with operations of the opset: docs/adr/0020-capture.md lists what is captured"


def advice_for(target: str) -> str:
    """What to write instead of an ATen operator such as `aten.topk.default`."""
    name = target.split(".")[1] if "." in target else target
    return ADVICE.get(name) or ADVICE.get(name.removesuffix("_backward")) or _GENERAL


class Places:
    """In which module a forward pass is, and where."""

    def __init__(self, module: nn.Module) -> None:
        self.path: list[str] = []
        self._module = module

    @property
    def module(self) -> str:
        """The module that is running, by path and class."""
        return self.path[-1] if self.path else "the loss"

    @contextlib.contextmanager
    def followed(self) -> Iterator[Places]:
        """Follow the calls of all modules. After an error the path stays where it happened."""
        handles: list[Any] = []
        for name, part in self._module.named_modules():
            label = f"{name or 'the module'} ({type(part).__name__})"
            handles.append(part.register_forward_pre_hook(lambda *_, label=label: self.path.append(label)))
            handles.append(part.register_forward_hook(lambda *_: (self.path.pop(), None)[1]))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()


class _FirstUses(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes where each ATen operation is first used by the forward pass."""

    def __init__(self, places: Places) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.first: dict[str, str] = {}
        self._places = places

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func) not in self.first:
            line = _line_of_frames(sys._getframe(1))
            self.first[str(func)] = f"{self._places.module}{f', {line}' if line else ''}"
        return func(*args, **(kwargs or {}))


def first_use(target: str, module: nn.Module, run: Callable[[], Any]) -> str:
    """Where an operation comes from, for people: module and line, or the backward pass or the optimizer.

    `run` does the forward pass. A decomposition may hide the operation's own name; then its backward's name is tried.
    """
    places = Places(module)
    with places.followed(), torch.no_grad(), _FirstUses(places) as uses:
        run()
    found = uses.first.get(target)
    if found is None:
        packet = target.split(".")[1].removesuffix("_backward") if "." in target else target
        found = next((where for name, where in uses.first.items() if name.split(".")[1] == packet), None)
    return found or "the backward pass or the optimizer"


def _is_users(path: str) -> bool:
    return not path.startswith((_LIBRARY, _OWN, "<")) and not path.endswith(("contextlib.py", "functools.py"))


def _line_of_frames(frame: FrameType | None) -> str:
    while frame is not None and not _is_users(frame.f_code.co_filename):
        frame = frame.f_back
    return "" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def place_of(error: BaseException, places: Places) -> str:
    """Module and line where an error came up."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if _is_users(one.filename)]
    if not frames:
        return places.module
    return f"{places.module}, {Path(frames[-1].filename).name}:{frames[-1].lineno}: {(frames[-1].line or '')[:100]}"


_DATA_DEPENDENT = (
    "data-dependent",
    "DataDependent",
    "_local_scalar_dense",
    "vmap: It looks like you're calling .item()",
)
_TRACES: tuple[tuple[tuple[str, ...], Reason, str], ...] = (
    (
        ("saved tensor hooks",),
        reasons.NOT_TRACEABLE,
        "activation checkpointing has no meaning here: a solver decides itself what it keeps; call the block directly",
    ),
    (
        ("convert all Tensors to FakeTensors", "lifted to graph"),
        reasons.CLOSED_OVER,
        "a tensor that the module holds as a plain attribute; use self.register_buffer(name, tensor)",
    ),
    (
        ("mutating", "in-place", "mutate"),
        reasons.NOT_TRACEABLE,
        "a tensor changed in place where its old value is still needed; write y = x + ... instead of x += ...",
    ),
    (("pack_padded", "PackedSequence"), reasons.DATA_DEPENDENT, "pad all sequences to one length and mask the loss"),
)


def untraceable(error: Exception, places: Places) -> Rejection:
    """The refusal for an error while the step was recorded."""
    where = place_of(error, places)
    text = f"{type(error).__name__}: {str(error).strip()}"
    if any(word in text for word in _DATA_DEPENDENT):
        message = "Python decides on a tensor's value or takes a number out of it; use torch.where, or keep it a tensor"
        return Rejection(reasons.DATA_DEPENDENT, f"{where}: {message}")
    for words, reason, message in _TRACES:
        if any(word in text for word in words):
            return Rejection(reason, f"{where}: {message}")
    return Rejection(reasons.NOT_TRACEABLE, f"{where}: {text.splitlines()[0][:300]}")


def foreign_dtype(dtype: torch.dtype, what: str) -> Rejection:
    """The refusal of a dtype that the opset does not have."""
    if dtype.is_complex:
        hint = _NO_COMPLEX
    elif dtype.is_floating_point:
        hint = "leave out .double(), .half(), .bfloat16() and autocast: the arithmetic is float32 (module.float())"
    else:
        hint = "use int64 (tensor.long()), bool or uint8"
    return Rejection(reasons.FOREIGN_DTYPE, f"{what} is {dtype}; {hint}")
