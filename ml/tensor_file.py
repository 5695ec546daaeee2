"""Reading a .safetensors file that must hold exactly what is expected, with no freedom left to whoever wrote it.

The library takes the last of two tensors with one name, fields that mean nothing and 100 MB of header. Here names,
dtypes and shapes are given beforehand, they bound the header, and the tensors fill the file without gap or overlap.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch

from gensyn_node.primitives.limits import STATE_ENTRIES_MAX, TENSOR_RANK_MAX
from proofs.program.types import BOOL, F32, I64, ITEM_BYTES, U8, TensorType
from proofs.tensors import NUMPY_DTYPES

LENGTH_BYTES = 8
HEADER_BYTES_PER_ENTRY = 1024
"""What a header may have per tensor (and once more)."""
NAMES = {F32: "F32", I64: "I64", BOOL: "BOOL", U8: "U8"}
"""The format's names of our dtypes."""
NOTES = "__metadata__"


def read_tensor_file(path: Path, types: Mapping[str, TensorType]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors by name, and the file's notes. `ValueError` when it is not exactly that; `OSError` from the disk."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("no plain file")
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        data_bytes = sum(type_.elements * ITEM_BYTES[type_.dtype] for type_ in types.values())
        room = data_bytes + HEADER_BYTES_PER_ENTRY * (len(types) + 1)
        if not data_bytes + LENGTH_BYTES <= found.st_size <= room:
            raise ValueError(f"{found.st_size} bytes, the entries have {data_bytes} and at most {room} with a header")
        header_bytes = found.st_size - data_bytes - LENGTH_BYTES
        if int.from_bytes(file.read(LENGTH_BYTES), "little") != header_bytes:
            raise ValueError("the header and the entries do not fill the file")
        header = _parsed(file.read(header_bytes))
        notes = _notes(header.pop(NOTES, {}))
        places = _places(header, types)
        return {name: _read(file, types[name]) for name in sorted(types, key=places.__getitem__)}, notes


def tensor_types(path: Path) -> dict[str, TensorType]:
    """What a file says that it holds, by name: for whoever then decides what may be read. Errors as above."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("no plain file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if length > HEADER_BYTES_PER_ENTRY * (STATE_ENTRIES_MAX + 1):
            raise ValueError(f"a header of {length} bytes")
        header = _parsed(file.read(length))
    header.pop(NOTES, None)
    if not 1 <= len(header) <= STATE_ENTRIES_MAX:
        raise ValueError(f"{len(header)} tensors, a state has 1 to {STATE_ENTRIES_MAX}")
    dtypes = {theirs: ours for ours, theirs in NAMES.items()}
    types = {}
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{name[:100]} is not described by dtype, shape and place")
        dtype, shape = entry["dtype"], entry["shape"]
        if not _are_integers(shape) or len(shape) > TENSOR_RANK_MAX or min(shape, default=1) < 1:
            raise ValueError(f"{name[:100]} has a shape that is none")
        if not isinstance(dtype, str) or dtype not in dtypes:
            raise ValueError(f"{name[:100]} is {str(dtype)[:20]}; a task has {', '.join(dtypes)}")
        types[name] = TensorType(dtypes[dtype], tuple(shape))
    return types


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("a header of many levels") from None
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    return header


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name comes twice")
    return made


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} in the header")


def _notes(notes: Any) -> dict[str, str]:
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        raise ValueError("notes that are no text")
    return notes


def _places(header: dict[str, Any], types: Mapping[str, TensorType]) -> dict[str, int]:
    """Where each tensor starts; together they are the data, one behind the other."""
    if header.keys() != types.keys():
        raise ValueError("other entries than the program's")
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{name} is not described by dtype, shape and place")
        # JSON text tells 1 from 1.0 and from true, as their types do here; comparing values does not.
        shape, offsets, type_ = entry["shape"], entry["data_offsets"], types[name]
        if not _are_integers(shape) or not _are_integers(offsets) or len(offsets) != 2:
            raise ValueError(f"{name} has sizes or places that are no numbers")
        if entry["dtype"] != NAMES[type_.dtype] or tuple(shape) != type_.shape:
            raise ValueError(f"{name} is {str(entry['dtype'])[:20]}{shape[:9]}, the program has {type_}")
        spans.append((offsets[0], offsets[1], name))
    # A tensor always has bytes, so starts that follow one another are all different.
    end = 0
    for first, last, name in sorted(spans):
        if first != end or last - first != types[name].elements * ITEM_BYTES[types[name].dtype]:
            raise ValueError(f"{name} lies at {first} to {last}, expected at {end}")
        end = last
    return {name: first for first, _, name in spans}


def _are_integers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)


def _read(file: BinaryIO, type_: TensorType) -> torch.Tensor:
    dtype = np.dtype(NUMPY_DTYPES[type_.dtype])
    array = np.fromfile(file, np.uint8 if type_.dtype == BOOL else dtype.newbyteorder("<"), type_.elements)
    if len(array) != type_.elements:
        raise ValueError("the file ends early")
    if type_.dtype == BOOL:
        if bool((array > 1).any()):
            raise ValueError("a bool that is neither 0 nor 1")
        array = array.view(np.bool_)
    return torch.from_numpy(array.astype(dtype, copy=False).reshape(type_.shape))
