"""Weights to start from: a .safetensors file whose names, dtypes and shapes follow from the module.

Taken are the module's own names (as `state_dict` has them), or a downloaded model of a task, whose entries are
`parameter.…`, `constant.…`, `buffer.…` and moments of its optimizer. Nothing else may be in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.capture.trace import DTYPES
from ml.interpreter import canonical
from ml.tensor_file import read_tensor_file, tensor_types
from proofs.program.types import TensorType

_ENTRY = re.compile(r"(parameter|constant|buffer)\.(.+)\Z")
_OPTIMIZER = re.compile(r"optimizer\.(?:beta[12]_power|(?:momentum|first|second)\.(.+))\Z")
_KEY = "constant.random_key"


def bad(path: Path, message: str) -> Rejection:
    """The file is no start for this module."""
    return Rejection(reasons.BAD_WEIGHTS, f"{path.name}: {message}")


def load_weights(module: nn.Module, path: Path) -> None:
    """Put the file's tensors into the module. Raises Rejection BAD_WEIGHTS; the module is then unchanged.

    A tensor with several names in the module may come under any of them; buffers that the module does not save may be
    missing.
    """
    tensors = _tensors(module)
    try:
        types = tensor_types(path)
        names = {name: _plain(name, types) for name in types}
        places = {name: plain for name, plain in names.items() if plain is not None}
        _check(places, types, tensors)
        values, _ = read_tensor_file(path, types)
    except FileNotFoundError:
        raise bad(path, "there is no file of this name") from None
    except (OSError, ValueError) as error:
        message = (error.strerror or "it cannot be read") if isinstance(error, OSError) else str(error)
        raise bad(path, message) from None
    given: dict[int, tuple[str, torch.Tensor]] = {}
    for name, plain in places.items():
        target = tensors[plain]
        known = given.setdefault(id(target), (name, values[name]))
        if known[0] != name and not same_bits(known[1], values[name]):
            raise bad(path, f"{known[0]} and {name} are one tensor of the model and differ")
    missing = [name for name, tensor in tensors.items() if id(tensor) not in given and name not in _unsaved(module)]
    if missing:
        raise bad(path, f"it lacks {_few(missing)}")
    targets = {id(tensor): tensor for tensor in tensors.values()}
    with torch.no_grad():
        for number, (_, value) in given.items():
            targets[number].copy_(canonical(value))


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by every name that they have."""
    found: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    return found | dict(module.named_buffers(remove_duplicate=False))


def _unsaved(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_buffers(remove_duplicate=False)} - set(module.state_dict())


def _plain(name: str, types: dict[str, TensorType]) -> str | None:
    """The module's name of a tensor of the file; None for what only an optimizer needs.

    Whether the file has a task's names shows in all of them: a module may well have a part called `parameter`.
    """
    if not all(_ENTRY.match(one) or _OPTIMIZER.match(one) for one in types):
        return name
    if name == _KEY or _OPTIMIZER.match(name):
        return None
    found = _ENTRY.match(name)
    return found[2] if found else name


def _check(places: dict[str, str], types: dict[str, TensorType], tensors: dict[str, torch.Tensor]) -> None:
    """`ValueError` at a name that the module does not have, or with another dtype or shape there."""
    unknown = [name for name, plain in places.items() if plain not in tensors]
    if unknown:
        raise ValueError(f"the model has no {_few(unknown)}; it has {_few(tensors)}")
    for name, plain in places.items():
        value = tensors[plain]
        if value.dtype not in DTYPES:
            raise ValueError(f"{plain} of the model is {value.dtype}")
        wanted = TensorType(DTYPES[value.dtype], tuple(value.shape))
        if types[name] != wanted:
            raise ValueError(f"{name} is {_said(types[name])}, the model has {_said(wanted)}")


def _said(type_: TensorType) -> str:
    return f"{type_.dtype}{list(type_.shape)}"


def _few(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - 5} more" if len(every) > 5 else ""
    return ", ".join(name[:100] for name in every[:5]) + more


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have the same shape and bytes."""
    return a.shape == b.shape and a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()
