"""Data sets from people's files: .npz arrays, .csv tables, plain text. Everything is checked, nothing is unpickled."""

from __future__ import annotations

import csv
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.data.manifest import Manifest, write_dataset
from ml.data.split import split_records

Array = NDArray[Any]
VOCABULARY_MAX = 65_536
"""Different characters of a text."""


@dataclass(frozen=True)
class Source:
    """Tensors read from a file, divided for training and for checking."""

    train: dict[str, Array]
    validation: dict[str, Array]
    """Empty when no part was held out."""
    vocabulary: tuple[str, ...] = ()

    def write(self, train_directory: str | Path, validation_directory: str | Path | None = None) -> Manifest:
        """Write both parts as data sets; the training part's manifest."""
        if validation_directory is not None and self.validation:
            write_dataset(validation_directory, self.validation, self.vocabulary)
        return write_dataset(train_directory, self.train, self.vocabulary)


def _bad(message: str) -> Rejection:
    return Rejection(reasons.BAD_DATASET, message)


def as_tensor(name: str, array: Array) -> Array:
    """An array in a dtype of the opset: floats become float32, integers int64 (uint8 stays), bools stay."""
    if array.dtype == np.bool_ or array.dtype == np.uint8:
        return array
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    if np.issubdtype(array.dtype, np.integer):
        if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise _bad(f"{name} has integers beyond 63 bits")
        return array.astype(np.int64)
    raise _bad(f"{name} is {array.dtype}; numbers and bools only")


def from_npz(path: str | Path, validation: float = 0.0) -> Source:
    """Every array of an .npz file; all have the same number of records (their first dimension)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: as_tensor(name, file[name]) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise _bad(f"{path} is not a plain .npz file of arrays: {error}") from None
    return from_arrays(arrays, validation)


def from_arrays(arrays: dict[str, Array], validation: float = 0.0, vocabulary: tuple[str, ...] = ()) -> Source:
    """Tensors in memory, a keyed choice of `validation` of the records held out."""
    counts = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if not arrays or len(counts) != 1 or 0 in counts:
        raise _bad(f"arrays with {sorted(counts)} records; all need the same first dimension, at least 1")
    arrays = {name: as_tensor(name, array) for name, array in arrays.items()}
    train, held_out = split_records(counts.pop(), validation)
    return Source(
        {name: array[train] for name, array in arrays.items()},
        {name: array[held_out] for name, array in arrays.items()} if len(held_out) else {},
        vocabulary,
    )


def from_csv(path: str | Path, label: str, validation: float = 0.0) -> Source:
    """A table with a header: column `label` becomes y i64 (classes numbered in sorted order), all others x f32."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _bad(f"{path} is not a readable .csv file: {error}") from None
    if len(rows) < 2 or label not in rows[0] or len(set(rows[0])) != len(rows[0]):
        raise _bad(f"{path} needs a header with distinct names, one of them {label!r}, and rows")
    column = rows[0].index(label)
    features = []
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(rows[0]):
            raise _bad(f"{path}, line {line}: {len(row)} fields, the header has {len(rows[0])}")
        try:
            features.append([float(field) for place, field in enumerate(row) if place != column])
        except ValueError as error:
            raise _bad(f"{path}, line {line}: {error}") from None
        if not all(map(math.isfinite, features[-1])):
            raise _bad(f"{path}, line {line}: a field is not a finite number")
    labels = [row[column] for row in rows[1:]]
    classes = sorted(set(labels), key=lambda text: (len(text), text) if text.isdigit() else (1 << 30, text))
    number = {text: index for index, text in enumerate(classes)}
    y = np.array([number[text] for text in labels], np.int64)
    return from_arrays({"x": np.array(features, np.float32), "y": y}, validation, tuple(classes))


def from_text(path: str | Path, context: int, tokens: str = "characters", validation: float = 0.0) -> Source:
    """Records of context + 1 tokens, one starting every `context`; the text's end is held out.

    `tokens`: `bytes` (u8) or `characters` (u8 up to 256 different ones, else i64; the mapping is the vocabulary).
    """
    try:
        raw = Path(path).read_bytes()
        text = raw.decode("utf-8") if tokens == "characters" else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(f"{path} is not readable text: {error}") from None
    if tokens not in ("bytes", "characters") or context < 1:
        raise _bad(f"tokens {tokens!r} (bytes or characters), context {context} (at least 1)")
    if tokens == "bytes":
        stream: Array = np.frombuffer(raw, np.uint8)
        vocabulary: tuple[str, ...] = ()
    else:
        stream, vocabulary = _characters(path, text)
    cut = len(stream) - int(len(stream) * validation)
    train = _windows(stream[:cut], context)
    if not len(train):
        raise _bad(f"{path} has {len(stream)} tokens, fewer than one record of {context + 1}")
    held_out = _windows(stream[cut:], context)
    return Source({"tokens": train}, {"tokens": held_out} if len(held_out) else {}, vocabulary)


def _characters(path: str | Path, text: str) -> tuple[Array, tuple[str, ...]]:
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    known, stream = np.unique(points, return_inverse=True)
    if len(known) > VOCABULARY_MAX:
        raise _bad(f"{path} has {len(known)} different characters, at most {VOCABULARY_MAX}")
    dtype = np.uint8 if len(known) <= 256 else np.int64
    return stream.astype(dtype), tuple(chr(int(point)) for point in known)


def _windows(stream: Array, context: int) -> Array:
    count = max(0, (len(stream) - 1) // context)
    starts = np.arange(count)[:, None] * context
    windows: Array = stream[starts + np.arange(context + 1)]
    return windows
