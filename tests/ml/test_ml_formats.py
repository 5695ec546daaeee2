"""Files from people: read in chunks to the same records however they are cut; what is wrong is refused and named."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from gensyn_node.primitives.errors import Rejection
from ml import reasons
from ml.data import records
from ml.data.formats import table, text
from ml.data.sources import DataOptions, Source, open_source


def refused(path: Path, **options: Any) -> str:
    """The message with which a file is refused, when it is opened or when it is read."""
    with pytest.raises(Rejection) as refusal:
        open_source(path, DataOptions(**options)).train.arrays()
    assert refusal.value.reason is reasons.BAD_DATASET
    return refusal.value.message


@pytest.fixture(params=["one chunk", "many chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything again with chunks of a few records."""
    if request.param == "many chunks":
        monkeypatch.setattr(records, "CHUNK_BYTES", 100)
        monkeypatch.setattr(table, "ROWS", 2)
        monkeypatch.setattr(text, "BLOCK_BYTES", 7)


def both(source: Source) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training and held-out records in memory."""
    assert source.validation is not None
    return source.train.arrays(), source.validation.arrays()


@pytest.mark.usefixtures("chunks")
def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    x = np.arange(60, dtype=np.float64).reshape(20, 3)
    for save in (np.savez, np.savez_compressed):
        save(path, x=x, y=np.arange(20, dtype=np.int32), u=np.arange(20, dtype=np.uint8))
        made = open_source(path).train.arrays()
        assert made["x"].dtype == np.float32 and made["y"].dtype == np.int64 and made["u"].dtype == np.uint8
        assert np.array_equal(made["x"], x) and np.array_equal(made["y"], np.arange(20))
    train, held_out = both(open_source(path, DataOptions(validation=0.3)))
    assert sorted([*train["y"], *held_out["y"]]) == list(range(20)) and len(held_out["y"]) == 6
    assert np.array_equal(train["x"][:, 0], train["y"] * 3)


def test_npz_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((10, 3)), y=np.arange(9))
    assert "same first dimension" in refused(path)
    np.savez(path, x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "objects" in refused(path)
    np.savez(path, x=np.array(["text"]))
    assert "numbers" in refused(path)
    np.savez(path, x=np.asfortranarray(np.ones((4, 3))))
    assert "ascontiguousarray" in refused(path)
    np.savez(path, x=np.float32(1))
    refused(path)
    path.write_bytes(b"PK\x03\x04 not really")
    refused(path)
    buffer = io.BytesIO()
    np.save(buffer, np.ones((4, 3), np.float32))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", buffer.getvalue().replace(b"(4, 3)", b"(9, 3)"))
    assert "its header says" in refused(path)
    assert "label is for a table" in refused(path, label="y")


@pytest.mark.usefixtures("chunks")
def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "data.safetensors"
    arrays = {"x": np.arange(40, dtype=np.float16).reshape(10, 4), "y": np.arange(10, dtype=np.int64)}
    save_file(arrays, path)
    made = open_source(path).train.arrays()
    assert (
        made["x"].dtype == np.float32 and np.array_equal(made["x"], arrays["x"]) and made["y"].tolist() == [*range(10)]
    )


def test_safetensors_that_are_wrong(tmp_path: Path) -> None:
    path = tmp_path / "data.safetensors"

    def write(header: bytes, data: bytes = b"") -> None:
        path.write_bytes(len(header).to_bytes(8, "little") + header + data)

    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    write(b'{"x":%s,"x":%s}' % ((json.dumps(entry).encode(),) * 2), bytes(4))
    assert "twice" in refused(path)
    write(json.dumps({f"x{n}": entry for n in range(100)}).encode(), bytes(4))
    assert "more than" in refused(path)
    write(b"{" * 50_000)
    refused(path)
    path.write_bytes((1 << 40).to_bytes(8, "little"))
    assert "header of" in refused(path)
    write(json.dumps({"x": {**entry, "shape": [1 << 40]}}).encode(), bytes(4))
    refused(path)
    save_file({"x": np.ones(4, np.float32), "y": np.ones(5, np.float32)}, path)
    assert "same first dimension" in refused(path)


@pytest.mark.usefixtures("chunks")
def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('a,kind,b\n1,cat,2.5\n3,"dog",-1e3\n5,cat,0\n')
    source = open_source(path, DataOptions(label="kind"))
    made = source.train.arrays()
    assert source.vocabulary == ("cat", "dog") and made["y"].dtype == np.int64
    assert made["x"].tolist() == [[1, 2.5], [3, -1000], [5, 0]] and made["y"].tolist() == [0, 1, 0]
    path.write_text("a,label\n1,10\n2,9\n3,10\n")
    assert open_source(path, DataOptions(label="label")).vocabulary == ("9", "10")
    path.write_text("a,b,c\n1,2,3\n4,5,6\n7,8,9\n")
    made = open_source(path, DataOptions(target=("b",))).train.arrays()
    assert (
        made["y"].tolist() == [2, 5, 8]
        and made["y"].dtype == np.float32
        and made["x"].tolist() == [[1, 3], [4, 6], [7, 9]]
    )
    made = open_source(path, DataOptions(target=("c", "a"))).train.arrays()
    assert made["y"].tolist() == [[3, 1], [6, 4], [9, 7]]


@pytest.mark.usefixtures("chunks")
def test_csv_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.csv"
    for content, word in (
        ("a,b\n1,2\n", "no column 'kind'"),
        ("kind,kind\n1,2\n", "header"),
        ("", "header"),
        ("a,kind\n", "no rows"),
        ("kind\nx\n", "no column left"),
        ("a,kind\n1,2\n1\n", "line 3"),
        ("a,kind\n1,2\nx,2\n", "line 3"),
        ("a,kind\n1,2\n1,2\n1,2\nnan,2\n", "line 5: 'nan' is not a finite"),
        ("a,kind\n1e39,2\n", "finite"),
        ('a,kind\n"1,2\n', "readable"),
    ):
        path.write_text(content)
        assert word in refused(path, label="kind")
    path.write_text("a,b\n1,2\n")
    assert "label (classes) or the target" in refused(path)
    assert "either" in refused(path, label="a", target=("b",))
    assert "size is for a folder of images" in refused(path, label="a", size=4)
    path.write_bytes(b"\xff\xfe\x00")
    refused(path, label="kind")
    monkeypatch.setattr(table, "LINE_MAX", 100)
    path.write_text("a,kind\n" + "1" * 200 + ",2\n")
    assert "more than 100 characters" in refused(path, label="kind")


@pytest.mark.usefixtures("chunks")
def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    columns = {
        "a": [1.5, 2.5, 3.5, 4.5, 5.5],
        "kind": ["cat", "dog", "cat", "eel", "dog"],
        "pixels": [[n, n + 1] for n in range(5)],
        "flag": [True, False, True, True, False],
    }
    parquet.write_table(pa.table(columns), path, row_group_size=3)
    source = open_source(path, DataOptions(label="kind"))
    made = source.train.arrays()
    assert source.vocabulary == ("cat", "dog", "eel") and made["y"].tolist() == [0, 1, 0, 2, 1]
    assert made["x"].tolist() == [[1.5, 0, 1, 1], [2.5, 1, 2, 0], [3.5, 2, 3, 1], [4.5, 3, 4, 1], [5.5, 4, 5, 0]]
    parquet.write_table(pa.table({key: columns[key] for key in ("a", "pixels", "flag")}), path)
    made = open_source(path).train.arrays()
    assert made["pixels"].shape == (5, 2) and made["pixels"].dtype == np.int64 and made["flag"].dtype == np.bool_
    made = open_source(path, DataOptions(target=("a",))).train.arrays()
    assert made["y"].tolist() == columns["a"] and made["x"].shape == (5, 3)


def test_parquet_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    for columns, word in (
        ({"a": [1.0, None]}, "missing"),
        ({"a": [[1, 2], [3]]}, "lengths"),
        ({"a": ["x", "y"]}, "numbers and bools"),
        ({"a": pa.array([], pa.float32())}, "needs rows"),
    ):
        parquet.write_table(pa.table(columns), path)
        assert word in refused(path)
    parquet.write_table(pa.table({"a": [1.0, float("nan")], "k": ["x", None]}), path)
    assert "missing" in refused(path, label="k")
    assert "no column" in refused(path, label="z")
    odd = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xda"))
    parquet.write_table(pa.table({"a": [1.0], "k": odd}), path)
    assert "not UTF-8" in refused(path, label="k")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path)
    path.write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    refused(path)


@pytest.mark.usefixtures("chunks")
def test_text(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    content = "hello wörld, hello 🦆!" * 10
    path.write_text(content, encoding="utf-8")
    source = open_source(path, DataOptions(context=8, validation=0.2))
    train, held_out = both(source)
    tokens, letters = train["tokens"], source.vocabulary
    assert tokens.dtype == np.uint8 and tokens.shape == (20, 9) and letters == tuple(sorted(letters))
    read = "".join(letters[token] for record in tokens for token in record[:8])
    assert read == content[: len(read)] and tokens[0, 8] == tokens[1, 0]
    cut = len(content) - int(len(content) * 0.2)
    checked = "".join(letters[token] for record in held_out["tokens"] for token in record[:8])
    assert checked == content[cut : cut + len(checked)] and len(checked) == 40
    raw = open_source(path, DataOptions(context=8, tokens="bytes"))
    encoded = content.encode()
    assert bytes(raw.train.arrays()["tokens"][:, :8].reshape(-1)) == encoded[: raw.train.count * 8]
    assert raw.vocabulary == () and raw.train.count == (len(encoded) - 1) // 8
    many = tmp_path / "many.txt"
    many.write_text("".join(chr(0x4E00 + index) for index in range(400)), encoding="utf-8")
    assert open_source(many, DataOptions(context=8)).train.arrays()["tokens"].dtype == np.int64


def test_text_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("short")
    assert "fewer" in refused(path, context=10_000)
    assert "tokens 'words'" in refused(path, context=2, tokens="words")
    assert "context -1" in refused(path, context=-1)
    path.write_bytes(b"abc\xff\xff")
    assert "readable text" in refused(path, context=2)
    path.write_bytes("abcü".encode()[:-1])
    assert "readable text" in refused(path, context=1)
    assert "label is for a table" in refused(path, context=2, label="x")


@pytest.mark.usefixtures("chunks")
def test_a_tokenizer_file(tmp_path: Path) -> None:
    words = {"[UNK]": 0, "one": 1, "two": 2, "three": 3, "four": 4}
    rules = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    rules.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    file = tmp_path / "tokenizer.json"
    rules.save(str(file))
    path = tmp_path / "text.txt"
    path.write_text("one two\nthree four five\n" * 20)
    source = open_source(path, DataOptions(context=4, tokenizer=file))
    made = source.train.arrays()["tokens"]
    assert source.vocabulary == tuple(words) and made.dtype == np.uint8 and made[0].tolist() == [1, 2, 3, 4, 0]
    file.write_text('{"model": 1}')
    assert "no tokenizer.json" in refused(path, context=4, tokenizer=file)
    assert "readable" in refused(path, context=4, tokenizer=tmp_path / "none")


@pytest.mark.usefixtures("chunks")
def test_images(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    pixels = {}
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels[name, number] = generator.integers(0, 255, (6, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels[name, number]).save(tmp_path / name / f"{number}.png")
    source = open_source(tmp_path)
    made = source.train.arrays()
    assert source.vocabulary == ("cat", "dog") and made["y"].tolist() == [0] * 4 + [1] * 4
    assert made["x"].dtype == np.uint8 and made["x"].shape == (8, 3, 6, 8)
    assert np.array_equal(made["x"][5], pixels["dog", 1].transpose(2, 0, 1))
    assert open_source(tmp_path, DataOptions(size=4, gray=True)).train.arrays()["x"].shape == (8, 1, 4, 4)
    Image.fromarray(pixels["cat", 0][:5]).save(tmp_path / "dog" / "9.png")
    assert "give a size" in refused(tmp_path)
    (tmp_path / "dog" / "9.png").write_bytes((tmp_path / "dog" / "0.png").read_bytes()[:60])
    assert "no readable image" in refused(tmp_path)
    (tmp_path / "dog" / "9.png").write_bytes(b"GIF89a")
    assert "no readable image" in refused(tmp_path)
    assert "a folder without folders" in refused(tmp_path / "cat")


def test_an_image_bomb(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a" / "bomb.png")
    assert "pixels" in refused(tmp_path, size=4)
