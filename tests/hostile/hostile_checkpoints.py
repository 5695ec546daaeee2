"""Checkpoints (.safetensors) that lie about their header, or hold something else than what follows from the task."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hostile_case import ACCEPTED, Case

from ml.checkpoint import load_state, root_of_state
from proofs.program.types import BOOL, F32, I64, Fill, Program, StateEntry, TensorType

ENTRIES = (
    StateEntry("parameter.w", TensorType(F32, (8, 4)), Fill(0)),
    StateEntry("buffer.mask", TensorType(BOOL, (8,)), Fill(0)),
    StateEntry("optimizer.step", TensorType(I64, ()), Fill(0)),
)
W = {"dtype": "F32", "shape": [8, 4], "data_offsets": [0, 128]}
MASK = {"dtype": "BOOL", "shape": [8], "data_offsets": [128, 136]}
STEP = {"dtype": "I64", "shape": [], "data_offsets": [136, 144]}
HEADER: dict[str, Any] = {"parameter.w": W, "buffer.mask": MASK, "optimizer.step": STEP}
DATA = bytes(144)
BAD = "E1902"


def opened(path: Path) -> object:
    """As a worker opens a state, up to its root."""
    state, loss = load_state(path, ENTRIES)
    assert [tuple(item.shape) for item in state] == [(8, 4), (8,), ()]
    program = Program(1, ENTRIES, 1, (), (), (0, 1, 2), 0)
    return root_of_state(program, 0, state), loss


def file(header: bytes | dict[str, Any], data: bytes = DATA, length: int | None = None) -> Callable[[Path], None]:
    """A file with this header, true or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()

    def make(path: Path) -> None:
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)

    return make


def sparse(size: int, start: bytes = b"") -> Callable[[Path], None]:
    """A file that is large and takes no room."""

    def make(path: Path) -> None:
        path.write_bytes(start)
        os.truncate(path, size)

    return make


def with_(name: str, **changes: Any) -> dict[str, Any]:
    return {**HEADER, name: {**HEADER[name], **changes}}


def twice(name: str, first: dict[str, Any], second: dict[str, Any]) -> bytes:
    """JSON in which a name comes twice."""
    rest = json.dumps({key: value for key, value in HEADER.items() if key != name})[1:]
    return f'{{"{name}":{json.dumps(first)},"{name}":{json.dumps(second)},{rest}'.encode()


def floats(bits: int) -> bytes:
    return struct.pack("<32I", *[bits] * 32) + bytes(16)


def many(count: int) -> bytes:
    return json.dumps({f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(count)}).encode()


def pickled(path: Path) -> None:
    torch.save({"parameter.w": torch.zeros(8, 4)}, path)


def other_kind(path: Path) -> None:
    os.mkfifo(path)


CASES: tuple[Case, ...] = tuple(
    Case(name, make, opened, code)
    for name, make, code in (
        ("as it should be", file(HEADER), ACCEPTED),
        ("no bytes", file(b"", b"", 0), BAD),
        ("seven bytes", lambda path: path.write_bytes(bytes(7)), BAD),
        ("a terabyte of nothing", sparse(1 << 40), BAD),
        ("a header of 2**63 bytes", file(HEADER, DATA, 1 << 63), BAD),
        ("a header of 2**64 - 1 bytes", file(HEADER, DATA, (1 << 64) - 1), BAD),
        ("a header that runs past the end", file(HEADER, DATA, 1_000), BAD),
        ("a header that ends early", file(HEADER, DATA, 20), BAD),
        ("a header of no bytes", file(HEADER, DATA, 0), BAD),
        ("90 MB of metadata", file(json.dumps({"__metadata__": {"a": "x" * 90_000_000}, **HEADER}).encode()), BAD),
        ("100,000 notes", file({"__metadata__": {str(n): "" for n in range(100_000)}, **HEADER}), BAD),
        ("notes that are no text", file({"__metadata__": {"loss": 5}, **HEADER}), BAD),
        ("notes that are a list", file({"__metadata__": [1], **HEADER}), BAD),
        ("a note of a loss that is none", file({"__metadata__": {"loss": "1e999999"}, **HEADER}), ACCEPTED),
        ("200,000 tensors", file(many(200_000)), BAD),
        ("one name twice, the same", file(twice("parameter.w", W, W)), BAD),
        ("one name twice, elsewhere", file(twice("parameter.w", {**W, "data_offsets": [4, 132]}, W)), BAD),
        (
            "one field twice",
            file(json.dumps(HEADER).replace('"dtype": "F32"', '"dtype": "I64", "dtype": "F32"').encode()),
            BAD,
        ),
        ("arrays in arrays", file(b"[" * 3_000, DATA), BAD),
        ("objects in objects", file(b'{"a":' * 700, DATA), BAD),
        ("a number with 3,000 digits", file(b'{"parameter.w":' + b"9" * 3_000 + b"}"), BAD),
        ("NaN in the header", file(json.dumps({**HEADER, "parameter.w": {**W, "shape": [math.nan, 4]}}).encode()), BAD),
        ("a list for a header", file(b"[]"), BAD),
        ("not UTF-8", file(b'{"\xff\xfe": 1}'), BAD),
        ("an end of text inside", file(json.dumps(HEADER).encode() + b"\0\0"), BAD),
        ("spaces behind", file(json.dumps(HEADER).encode() + b" " * 60), ACCEPTED),
        ("an entry is missing", file({"parameter.w": W, "buffer.mask": MASK}, bytes(144)), BAD),
        (
            "an entry too many",
            file({**HEADER, "more": {"dtype": "F32", "shape": [0], "data_offsets": [144, 144]}}),
            BAD,
        ),
        ("another name", file({"parameter.v": W, "buffer.mask": MASK, "optimizer.step": STEP}), BAD),
        ("a name of 2,000 characters", file({"x" * 2_000: W, "buffer.mask": MASK, "optimizer.step": STEP}), BAD),
        ("another dtype of the same size", file(with_("parameter.w", dtype="I32")), BAD),
        ("another dtype", file(with_("parameter.w", dtype="F64")), BAD),
        ("a dtype that is none", file(with_("parameter.w", dtype="OBJECT")), BAD),
        ("a dtype that is a number", file(with_("parameter.w", dtype=7)), BAD),
        ("another shape of the same size", file(with_("parameter.w", shape=[4, 8])), BAD),
        ("one axis more", file(with_("parameter.w", shape=[8, 4, 1])), BAD),
        ("sizes whose product overflows to the right one", file(with_("parameter.w", shape=[1 << 63, 2, 8, 4])), BAD),
        ("a size of 2**64", file(with_("parameter.w", shape=[1 << 64, 4])), BAD),
        ("a negative size", file(with_("parameter.w", shape=[-8, -4])), BAD),
        ("a size of one and a half", file(with_("parameter.w", shape=[8.0, 4])), BAD),
        ("a size that is true", file(with_("parameter.w", shape=[True, 32])), BAD),
        ("rank 1,000", file(with_("parameter.w", shape=[1] * 1_000)), BAD),
        ("offsets that overlap", file(with_("buffer.mask", data_offsets=[120, 128])), BAD),
        ("offsets outside", file(with_("optimizer.step", data_offsets=[1_000, 1_008])), BAD),
        ("offsets before the start", file(with_("parameter.w", data_offsets=[-128, 0])), BAD),
        ("offsets backwards", file(with_("parameter.w", data_offsets=[128, 0])), BAD),
        ("offsets beyond 64 bits", file(with_("parameter.w", data_offsets=[1 << 64, (1 << 64) + 128])), BAD),
        ("three offsets", file(with_("parameter.w", data_offsets=[0, 64, 128])), BAD),
        ("offsets of another size", file(with_("parameter.w", data_offsets=[0, 127])), BAD),
        ("a hole between tensors", file(with_("optimizer.step", data_offsets=[140, 148]), bytes(148)), BAD),
        ("data left over", file(HEADER, DATA + bytes(8)), BAD),
        ("data cut short", file(HEADER, DATA[:-1]), BAD),
        ("a field too many", file(with_("parameter.w", more=1)), BAD),
        ("a bool of 2", file(HEADER, bytes(128) + b"\x02" + bytes(15)), BAD),
        ("a pickle", pickled, BAD),
        ("a folder", lambda path: path.mkdir(), BAD),
        ("a pipe that nobody writes to", other_kind, BAD),
        ("nothing at all", lambda path: None, BAD),
        ("NaNs only", file(HEADER, floats(0x7FC00000)), ACCEPTED),
        ("NaNs with a payload", file(HEADER, floats(0xFFABCDEF)), BAD),
        ("signalling NaNs", file(HEADER, floats(0x7F800001)), BAD),
        ("NaNs with a sign", file(HEADER, floats(0xFFC00000)), BAD),
        ("infinities", file(HEADER, floats(0xFF800000)), ACCEPTED),
        ("minus noughts", file(HEADER, floats(0x80000000)), ACCEPTED),
        ("denormals", file(HEADER, floats(1)), ACCEPTED),
    )
)
