"""Data files of strangers: archives that swell, headers that lie, endless lines, manifests of shards not there."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from hostile_case import ACCEPTED, Case

from gensyn_node.primitives.codec import encode
from ml.data.dataset import open_dataset
from ml.data.manifest import Manifest, Shard, ShardedTensor, manifest_path, write_dataset
from ml.data.sources import DataOptions, open_source
from proofs.dataset import DatasetTensor
from proofs.program.types import F32, TensorType

BAD = "E1901"
MIB = 1 << 20
GROWTH_MIB = 288
"""A reader may hold one shard of 64 MiB, and copies of it while it is written."""


def read(suffix: str, **options: Any) -> Callable[[Path], object]:
    """As `gensyn data add` reads a file: to the end, into a data set."""

    def opened(path: Path) -> object:
        named = path.with_suffix(suffix)
        if path.exists():
            os.replace(path, named)
        try:
            return open_source(named, DataOptions(**options)).write(path.with_name("out"))
        finally:
            if named.is_file():
                named.unlink()

    return opened


def whole(path: Path) -> object:
    """As a worker opens a data set that it was given."""
    return open_dataset(path)


def npy(shape: object, dtype: str = "'<f4'", order: object = False, data: bytes = b"", version: int = 1) -> bytes:
    """An array in numpy's format with this header, true or not."""
    header = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + data


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as file:
            for name, data in members:
                with_name = zipfile.ZipInfo(name)
                with_name.compress_type = method
                file.writestr(with_name, data)

    return make


def swelling(
    records: int, record: int, announced: int | None = None, method: int = zipfile.ZIP_DEFLATED
) -> Callable[[Path], None]:
    """A member of noughts, written piece by piece: a thousand times smaller in the archive."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as file, file.open("x.npy", "w", force_zip64=True) as member:
            member.write(npy((announced or records, record)))
            for _ in range(records * record * 4 // MIB):
                member.write(bytes(MIB))

    return make


def damaged(make: Callable[[Path], None], change: Callable[[bytearray], None]) -> Callable[[Path], None]:
    def made(path: Path) -> None:
        make(path)
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)

    return made


def put(place: int, value: bytes) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[place : place + len(value)] = value

    return change


def directory_entry(offset: int, value: bytes) -> Callable[[bytearray], None]:
    """Overwrite a field of the archive's first directory entry."""

    def change(data: bytearray) -> None:
        start = data.rindex(b"PK\x01\x02") + offset
        data[start : start + len(value)] = value

    return change


def cut(share: float) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        del data[int(len(data) * share) :]

    return change


def text(data: str | bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    return make


def repeated(head: bytes, part: bytes, times: int, tail: bytes = b"") -> Callable[[Path], None]:
    """head, then `times` × part, then tail, never all in memory."""

    def make(path: Path) -> None:
        block = part * max(1, MIB // len(part))
        with path.open("wb") as file:
            file.write(head)
            for _ in range(times * len(part) // len(block)):
                file.write(block)
            file.write(tail)

    return make


def holes(head: bytes, size: int) -> Callable[[Path], None]:
    """A file that is large and takes no room: noughts after its head."""

    def make(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return make


def pickled(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, x=np.array([{"a": 1}, None], dtype=object), allow_pickle=True)


def lying(change: Callable[[Manifest], Manifest | bytes]) -> Callable[[Path], None]:
    """A data set whose manifest was changed afterwards."""

    def make(path: Path) -> None:
        true = write_dataset(path, {"x": np.arange(64, dtype=np.float32).reshape(16, 4)})
        changed = change(true)
        manifest_path(path).write_bytes(changed if isinstance(changed, bytes) else encode(changed))

    return make


def tensor(manifest: Manifest, **fields: Any) -> Manifest:
    """The manifest with other fields of its tensor."""
    item = manifest.tensors[0]
    old = item.tensor
    values = {"name": old.name, "record": old.record, "records": old.records, "root": old.root, **fields}
    return Manifest(1, (ShardedTensor(DatasetTensor(**values), item.shards),), ())


def shards(manifest: Manifest, *wanted: Shard) -> Manifest:
    item = manifest.tensors[0]
    return Manifest(1, (ShardedTensor(item.tensor, wanted),), ())


def first(manifest: Manifest) -> Shard:
    return manifest.tensors[0].shards[0]


def ragged(rows: int) -> Iterable[str]:
    yield "a,b,kind\n"
    for row in range(rows):
        yield "1,2,c\n" if row < rows - 1 else "1,c\n"


PLAIN = npy((4, 2), data=bytes(32))
GOOD = archive(("x.npy", PLAIN))
NPZ, CSV, TXT, PARQUET = (
    read(".npz"),
    read(".csv", label="kind"),
    read(".txt", context=8),
    read(".parquet", label="kind"),
)

CASES: tuple[Case, ...] = (
    *(
        Case(f"npz: {name}", make, NPZ, code, GROWTH_MIB)
        for name, make, code in (
            ("as it should be", GOOD, ACCEPTED),
            ("80 MiB of noughts in 80 KB, by records", swelling(20_480, 1_024), ACCEPTED),
            ("one record of 80 MiB in 80 KB", swelling(1, 20 << 20), BAD),
            ("a header that announces 2**60 records", swelling(4, 1 << 18, 1 << 60), BAD),
            ("a header that announces fewer", swelling(4, 1 << 18, 3), BAD),
            ("a huge shape", archive(("x.npy", npy((1 << 40, 1 << 20)))), BAD),
            ("sizes whose product is 2**64", archive(("x.npy", npy((1 << 32, 1 << 32)))), BAD),
            ("negative sizes", archive(("x.npy", npy((-4, -2), data=bytes(32)))), BAD),
            ("a size of nought", archive(("x.npy", npy((0, 1 << 60)))), BAD),
            ("sizes that are true", archive(("x.npy", npy((True, 8), data=bytes(32)))), BAD),
            ("a size of one and a half", archive(("x.npy", npy((1.5, 8), data=bytes(48)))), BAD),
            ("rank 1,000", archive(("x.npy", npy((1,) * 1_000, data=bytes(4)))), BAD),
            ("rank 9", archive(("x.npy", npy((2,) * 9, data=bytes(2_048)))), BAD),
            ("a shape that is a call", archive(("x.npy", npy("__import__('os').system('true')"))), BAD),
            ("a shape that is a number", archive(("x.npy", npy(8, data=bytes(32)))), BAD),
            ("column order", archive(("x.npy", npy((4, 2), order=True, data=bytes(32)))), BAD),
            ("an order that is a number", archive(("x.npy", npy((4, 2), order=7, data=bytes(32)))), BAD),
            ("objects", archive(("x.npy", npy((4,), "'|O'", data=bytes(64)))), BAD),
            ("pickled objects", pickled, BAD),
            ("fields", archive(("x.npy", npy((4,), "[('a', '<f4'), ('b', '|O')]", data=bytes(64)))), BAD),
            ("text", archive(("x.npy", npy((4,), "'<U1000000000'"))), BAD),
            ("dates", archive(("x.npy", npy((4,), "'<M8[s]'", data=bytes(32)))), BAD),
            ("complex numbers", archive(("x.npy", npy((4,), "'<c8'", data=bytes(32)))), BAD),
            (
                "a dtype in a dtype in a dtype",
                archive(("x.npy", npy((4,), "[('a', " * 500 + "'<f4'" + ")]" * 500))),
                BAD,
            ),
            ("a header of 60,000 bytes", archive(("x.npy", npy((4, 2), "'<f4'" + " " * 60_000, data=bytes(32)))), BAD),
            ("version 9", archive(("x.npy", npy((4, 2), version=9, data=bytes(32)))), BAD),
            ("no header", archive(("x.npy", b"")), BAD),
            ("no members", archive(), BAD),
            ("a member that is no array", archive(("x.npy", PLAIN), ("readme", b"hello")), BAD),
            ("10,000 members", archive(*((f"x{n}.npy", PLAIN) for n in range(10_000))), BAD),
            ("a name that leaves its folder", archive(("../../x.npy", PLAIN)), BAD),
            ("a name of 10,000 characters", archive(("x" * 10_000 + ".npy", PLAIN)), BAD),
            ("cut in the middle", damaged(GOOD, cut(0.5)), BAD),
            ("cut at the end", damaged(GOOD, cut(0.98)), BAD),
            ("noise", text(bytes(range(256)) * 64), BAD),
            ("an array that is no archive", text(PLAIN), BAD),
            ("a wrong checksum", damaged(GOOD, directory_entry(16, b"\1\2\3\4")), BAD),
            ("a size that is too small", damaged(GOOD, directory_entry(24, struct.pack("<I", 40))), BAD),
            ("a size of 4 GiB", damaged(GOOD, directory_entry(24, struct.pack("<I", 0xFFFFFFFE))), BAD),
            ("a method that is none", damaged(GOOD, directory_entry(10, struct.pack("<H", 77))), BAD),
            ("encrypted", damaged(GOOD, directory_entry(8, struct.pack("<H", 1))), BAD),
            ("a member that lies elsewhere", damaged(GOOD, directory_entry(42, struct.pack("<I", 1 << 30))), BAD),
            ("arrays of different lengths", archive(("x.npy", PLAIN), ("y.npy", npy((3,), data=bytes(12)))), BAD),
            ("a pipe", os.mkfifo, BAD),
            ("nothing", lambda path: None, BAD),
            (
                "NaNs and infinities",
                archive(("x.npy", npy((2, 2), data=struct.pack("<4I", 0x7F800001, 0xFFC12345, 0x7F800000, 1)))),
                ACCEPTED,
            ),
        )
    ),
    *(
        Case(f"csv: {name}", make, CSV, code, GROWTH_MIB)
        for name, make, code in (
            ("as it should be", text("a,kind\n1,x\n2,y\n"), ACCEPTED),
            ("one line of 1 GB", holes(b"a,kind\n1,x\n2", 1 << 30), BAD),
            ("one line of 16 MB of numbers", repeated(b"a,kind\n", b"1,", 8 << 20), BAD),
            ("a header of 16 MB", repeated(b"kind", b",a", 8 << 20, b"\n1,2\n"), BAD),
            ("a quote that never ends", repeated(b'a,kind\n1,"', b"x\n", 8 << 20), BAD),
            ("a row that never ends", repeated(b'a,kind\n1,"', b'",1,"\n', 2 << 20), BAD),
            (
                "50,000 columns",
                text(",".join(f"c{n}" for n in range(50_000)) + ",kind\n" + ("1," * 50_000 + "x\n") * 100),
                ACCEPTED,
            ),
            ("100,000 columns", text(",".join(f"c{n}" for n in range(100_000)) + ",kind\n"), BAD),
            ("100,000 classes", text("a,kind\n" + "".join(f"1,{n}\n" for n in range(100_000))), BAD),
            (
                "classes of 100,000 characters",
                text("a,kind\n" + "".join(f"1,{n}{'x' * 100_000}\n" for n in range(400))),
                BAD,
            ),
            ("ragged", text("".join(ragged(20_000))), BAD),
            ("one field too many at the end", text("a,kind\n1,x\n1,x,3\n"), BAD),
            ("an empty line", text("a,kind\n1,x\n\n2,y\n"), BAD),
            ("NUL", text(b"a,kind\n1\0,x\n"), BAD),
            ("noughts only", holes(b"", 1 << 30), BAD),
            ("names twice", text("a,a,kind\n1,1,x\n"), BAD),
            ("no rows", text("a,kind\n"), BAD),
            ("no bytes", text(""), BAD),
            ("a number of 3,000 digits", text("a,kind\n" + "9" * 3_000 + ",x\n"), BAD),
            ("NaN", text("a,kind\nnan,x\n"), BAD),
            ("infinity", text("a,kind\n-inf,x\n"), BAD),
            ("too large for f32", text("a,kind\n1e39,x\n"), BAD),
            ("underscores", text("a,kind\n1_000,x\n"), ACCEPTED),
            ("a formula", text("a,kind\n=1+1,x\n"), BAD),
            ("not UTF-8", text(b"a,kind\n\xff\xfe,x\n"), BAD),
            ("UTF-16", text("a,kind\n1,x\n".encode("utf-16")), BAD),
            ("half a character at the end", text("a,kind\n1,ö".encode()[:-1]), BAD),
            ("a quote inside", text('a,kind\n1,x"y"\n2,"x"y\n'), BAD),
            ("a label that is not there", text("a,sort\n1,x\n"), BAD),
            ("a pipe", os.mkfifo, BAD),
        )
    ),
    *(
        Case(f"text: {name}", make, TXT, code)
        for name, make, code in (
            ("not UTF-8", text(b"hello \xff" * 1_000), BAD),
            ("half a character at the end", text("hello wörld ö".encode()[:-1]), BAD),
            ("surrogates", text(b"\xed\xa0\x80" * 100), BAD),
            ("a long form of a slash", text(b"\xc0\xaf" * 100), BAD),
            ("beyond the last character", text(b"\xf4\x90\x80\x80" * 100), BAD),
            ("no bytes", text(""), BAD),
            ("one character", text("x"), BAD),
            ("all characters there are", text("".join(map(chr, [*range(0xD800), *range(0xE000, 0x30000)]))), BAD),
            ("16 MB of one line", holes(b"", 16 << 20), ACCEPTED),
            ("a pipe", os.mkfifo, BAD),
        )
    ),
    *(
        Case(f"parquet: {name}", make, PARQUET, code)
        for name, make, code in (
            ("noise", text(bytes(range(256)) * 64), BAD),
            ("two magic words and nothing", text(b"PAR1PAR1"), BAD),
            ("a footer of 2 GiB", text(b"PAR1" + bytes(100) + struct.pack("<I", 0x7FFFFFFF) + b"PAR1"), BAD),
            ("a footer of noise", text(b"PAR1" + b"\xff" * 400 + struct.pack("<I", 400) + b"PAR1"), BAD),
            ("no bytes", text(""), BAD),
        )
    ),
    *(
        Case(f"manifest: {name}", lying(change), whole, code)
        for name, change, code in (
            ("as it should be", lambda true: true, ACCEPTED),
            ("noise", lambda true: bytes(range(256)), "E1002"),
            ("5 MiB", lambda true: bytes(5 * MIB), "E1001"),
            ("another version", lambda true: Manifest(2, true.tensors, ()), BAD),
            ("no tensors", lambda true: Manifest(1, (), ()), BAD),
            ("one tensor twice", lambda true: Manifest(1, true.tensors * 2, ()), BAD),
            ("no shards", shards, BAD),
            ("the shard twice", lambda true: shards(true, first(true), first(true)), BAD),
            ("a shard that is not there", lambda true: shards(true, Shard(bytes(32), 16, 256)), BAD),
            ("a shard that is no hash", lambda true: shards(true, Shard(b"../../x", 16, 256)), BAD),
            ("a shard of another size", lambda true: shards(true, Shard(first(true).blob_id, 16, 255)), BAD),
            ("a shard of 2**62 bytes", lambda true: shards(true, Shard(first(true).blob_id, 1 << 58, 1 << 62)), BAD),
            ("a shard of no records", lambda true: shards(true, first(true), Shard(bytes(32), 0, 0)), BAD),
            ("records less than none", lambda true: shards(true, first(true), Shard(bytes(32), -1, -16)), BAD),
            ("more records", lambda true: tensor(true, records=17), BAD),
            ("2**62 records", lambda true: tensor(true, records=1 << 62), BAD),
            ("another root", lambda true: tensor(true, root=bytes(32)), BAD),
            ("a root of three bytes", lambda true: tensor(true, root=b"abc"), BAD),
            ("another dtype of the same size", lambda true: tensor(true, record=TensorType("i32", (4,))), BAD),
            ("another shape of the same size", lambda true: tensor(true, record=TensorType(F32, (2, 2))), BAD),
            ("a negative size", lambda true: tensor(true, record=TensorType(F32, (-2, -2))), BAD),
            ("a size of nought", lambda true: tensor(true, record=TensorType(F32, (0, 4))), BAD),
            ("rank 1,000", lambda true: tensor(true, record=TensorType(F32, (1,) * 999 + (4,))), BAD),
            ("sizes beyond 64 bits", lambda true: tensor(true, record=TensorType(F32, (1 << 63, 1 << 63))), BAD),
            ("a name that leaves its folder", lambda true: tensor(true, name="../../x"), BAD),
            ("a name of a million characters", lambda true: tensor(true, name="x" * 1_000_000), BAD),
            ("400,000 words", lambda true: Manifest(1, true.tensors, ("a",) * 400_000), ACCEPTED),
        )
    ),
)
