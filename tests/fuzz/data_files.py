"""Files of data as fuzzing targets: what a person may hand in, written to disk and read whole."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import save

from ml.data.sources import DataOptions, open_source

Seeds = Callable[[random.Random], list[bytes]]
ROWS = 9


def _read(name: str, options: DataOptions, data: bytes) -> int:
    """The number of records in a file of these bytes. `name` may lie in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        source = open_source(Path(folder) if file.parent != Path(folder) else file, options)
        return len(next(iter(source.train.arrays().values())))


def _arrays(rng: random.Random) -> dict[str, Any]:
    return {"x": np.array([[rng.random() for _ in range(3)] for _ in range(ROWS)]), "y": np.arange(ROWS)}


def _npz(rng: random.Random) -> list[bytes]:
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **_arrays(rng))
    np.savez_compressed(packed, **_arrays(rng))
    return [plain.getvalue(), packed.getvalue()]


def _safetensors(rng: random.Random) -> list[bytes]:
    return [save(_arrays(rng))]


def _csv(rng: random.Random) -> list[bytes]:
    rows = "".join(f"{rng.random()},{rng.choice('abc')},{number}\n" for number in range(ROWS))
    return [f"u,kind,v\n{rows}".encode(), b'u,kind,v\n1,"a,b",3\n']


def _parquet(rng: random.Random) -> list[bytes]:
    buffer = io.BytesIO()
    columns = {
        "u": [rng.random() for _ in range(ROWS)],
        "kind": ["a", "b", "c"] * 3,
        "v": [[n, n] for n in range(ROWS)],
    }
    parquet.write_table(pa.table(columns), buffer)
    return [buffer.getvalue()]


def _image(kind: str, rng: random.Random) -> list[bytes]:
    buffer = io.BytesIO()
    Image.frombytes("RGB", (9, 7), rng.randbytes(9 * 7 * 3)).save(buffer, kind)
    return [buffer.getvalue()]


def _text(rng: random.Random) -> list[bytes]:
    return [("".join(rng.choice("abcü€🦆") for _ in range(40))).encode(), rng.randbytes(3) + b"plain text" * 3]


LABEL = DataOptions(label="kind")
FILES: Mapping[str, tuple[Callable[[bytes], Any], Seeds]] = {
    "data.npz": (partial(_read, "data.npz", DataOptions()), _npz),
    "data.safetensors": (partial(_read, "data.safetensors", DataOptions()), _safetensors),
    "data.csv": (partial(_read, "data.csv", LABEL), _csv),
    "data.parquet": (partial(_read, "data.parquet", LABEL), _parquet),
    "data.txt": (partial(_read, "data.txt", DataOptions(context=3)), _text),
    **{
        f"data.{kind.lower()}": (
            partial(_read, f"class/one.{kind.lower()}", DataOptions(size=4)),
            partial(_image, kind),
        )
        for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP")
    },
}
"""By name: what reads the bytes (raises `Rejection`), and valid files."""
