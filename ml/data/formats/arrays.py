"""Files of named arrays: .npz and .safetensors, their headers checked before anything is read."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from ml.data.records import Array, Chunk, Records, as_tensor, bad, chunk_records, of_arrays, record_type
from proofs.dataset import ELEMENTS_MAX

ARRAYS_MAX = 64
"""Tensors of one data set."""
NPY_HEADER_MAX = 10_000
SAFETENSORS_HEADER_MAX = 1 << 20
"""Bytes of a header."""


def read_npz(path: Path) -> Records:
    """Every array of an .npz file; all have the same number of records (their first dimension)."""
    try:
        with zipfile.ZipFile(path) as file:
            members = [info for info in file.infolist() if not info.is_dir()]
            if len({info.filename for info in members}) != len(members) or len(members) > ARRAYS_MAX:
                raise bad(f"{path} has {len(members)} members, some of the same name or more than {ARRAYS_MAX}")
            headers = {info.filename.removesuffix(".npy"): _npy_member(file, info) for info in members}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise bad(f"{path} is not a plain .npz file of arrays: {error}") from None
    counts = {shape[0] if shape else 0 for _, shape in headers.values()}
    if not headers or len(counts) != 1 or 0 in counts:
        raise bad(f"arrays with {sorted(counts)} records; all need the same first dimension, at least 1")
    count = counts.pop()
    types = {name: record_type(name, dtype, shape[1:]) for name, (dtype, shape) in headers.items()}
    row_bytes = {
        name: dtype.itemsize * int(np.prod(shape[1:], dtype=object)) for name, (dtype, shape) in headers.items()
    }
    stride = chunk_records(sum(row_bytes.values()))

    def chunks() -> Iterator[Chunk]:
        try:
            with zipfile.ZipFile(path) as file:
                members = {info.filename.removesuffix(".npy"): file.open(info) for info in file.infolist()}
                for name in headers:
                    _npy_header(members[name])
                for start in range(0, count, stride):
                    rows = min(stride, count - start)
                    chunk = {}
                    for name, (dtype, shape) in headers.items():
                        data = _read_exactly(members[name], rows * row_bytes[name])
                        chunk[name] = as_tensor(name, np.frombuffer(data, dtype).reshape(rows, *shape[1:]))
                    yield chunk
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            raise bad(f"{path} is damaged: {error}") from None

    return Records(count, types, chunks)


def _npy_member(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """dtype and shape of a member whose size fits them. `ValueError` otherwise."""
    with file.open(info) as member:
        dtype, shape = _npy_header(member)
        elements = int(np.prod(shape, dtype=object)) if shape else 1
        if elements > ELEMENTS_MAX or info.file_size != member.tell() + elements * dtype.itemsize:
            raise ValueError(f"{info.filename} has {info.file_size} bytes, its header says {dtype}{list(shape)}")
    return dtype, shape


def _npy_header(member: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"an array in format {version}; versions 1 and 2 are read")
    shape, fortran, dtype = read(member, max_header_size=NPY_HEADER_MAX)
    if dtype.hasobject or any(type(size) is not int or size < 0 for size in shape):
        raise ValueError("an array of Python objects, or of a size that is negative or no number")
    if fortran and len(shape) > 1:
        raise ValueError("an array in column order; save numpy.ascontiguousarray(array)")
    return dtype, shape


def _read_exactly(member: IO[bytes], size: int) -> bytes:
    data = member.read(size)
    if len(data) != size:
        raise ValueError("the file ends early")
    return data


def read_safetensors(path: Path) -> Records:
    """Every tensor of a .safetensors file; all have the same number of records (their first dimension)."""
    from safetensors import SafetensorError, safe_open

    _check_safetensors_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            shapes = {name: tuple(int(size) for size in part.get_shape()) for name, part in slices.items()}
            types = {
                name: record_type(name, part[:1].dtype, shapes[name][1:])
                for name, part in slices.items()
                if shapes[name] and shapes[name][0]
            }
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise bad(f"{path} is no safetensors file of numbers: {error}") from None
    counts = {shape[0] if shape else 0 for shape in shapes.values()}
    if not shapes or len(counts) != 1 or 0 in counts:
        raise bad(f"arrays with {sorted(counts)} records; all need the same first dimension, at least 1")
    count = counts.pop()
    stride = chunk_records(sum(8 * type_.elements for type_ in types.values()))

    def chunks() -> Iterator[Chunk]:
        with safe_open(path, framework="numpy") as file:
            for start in range(0, count, stride):
                stop = min(count, start + stride)
                parts: Chunk = {name: file.get_slice(name)[start:stop] for name in types}
                yield {name: as_tensor(name, array) for name, array in parts.items()}

    return Records(count, types, chunks)


def _check_safetensors_header(path: Path) -> None:
    """The library reads 100 MB of header and takes the last of two tensors with one name: neither happens here."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > SAFETENSORS_HEADER_MAX:
                raise bad(f"{path} has a header of {length} bytes, at most {SAFETENSORS_HEADER_MAX}")
            header = json.loads(file.read(length), object_pairs_hook=_distinct)
    except (OSError, ValueError, RecursionError) as error:
        raise bad(f"{path} is no safetensors file: {error}") from None
    if not isinstance(header, dict) or len(header.keys() - {"__metadata__"}) > ARRAYS_MAX:
        raise bad(f"{path} has no tensors, or more than {ARRAYS_MAX}")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name comes twice")
    return made


def from_memory(arrays: dict[str, Array]) -> Records:
    """Arrays that a program holds, in any numeric dtype."""
    return of_arrays({name: as_tensor(name, array) for name, array in arrays.items()})
