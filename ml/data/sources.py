"""A person's file or folder as a source of records: the reader is chosen by what it is, all are checked and bounded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ml.data.formats.arrays import from_memory, read_npz, read_safetensors
from ml.data.formats.images import is_image_folder, read_images
from ml.data.formats.table import read_csv, read_parquet
from ml.data.formats.text import read_text
from ml.data.records import Array, Source, bad, divide

__all__ = ["DataOptions", "Source", "from_arrays", "open_source"]

CONTEXT_DEFAULT = 64


@dataclass(frozen=True)
class DataOptions:
    """How a file is to be read; what does not concern its kind must be left as it is."""

    validation: float = 0.0
    """Share of the records that is held out, 0 … below 1."""
    label: str = ""
    """Tables: the column of classes."""
    target: tuple[str, ...] = ()
    """Tables: columns of numbers to predict."""
    context: int = 0
    """Text: tokens of a record, less one (0: 64)."""
    tokens: str = "characters"
    """Text: characters or bytes."""
    tokenizer: Path | None = None
    """Text: a tokenizer.json whose tokens are used."""
    size: int = 0
    """Images: pixels a side."""
    gray: bool = False
    """Images: one channel."""


TABLE, TEXT, IMAGES = ("label", "target"), ("context", "tokens", "tokenizer"), ("size", "gray")


def open_source(path: Path, options: DataOptions | None = None) -> Source:
    """The records of .npz, .safetensors, .csv, .parquet, a folder of images, or else of text.

    Raises Rejection BAD_DATASET, also for options that this kind of file does not have.
    """
    try:
        return _opened(path, options or DataOptions())
    except MemoryError:
        raise bad(f"{path} needs more memory than there is, even read in pieces") from None


def _opened(path: Path, options: DataOptions) -> Source:
    suffix = path.suffix.lower()
    if not path.is_dir() and not path.is_file():
        raise bad(f"{path} is neither a file nor a folder")
    if path.is_dir():
        if not is_image_folder(path):
            raise bad(f"{path} is a folder without folders; images lie in one folder for each class")
        _only(path, options, IMAGES)
        records, classes = read_images(path, options.size, options.gray)
        return divide(records, options.validation, classes)
    if suffix in (".npz", ".safetensors"):
        _only(path, options, ())
        return divide(read_npz(path) if suffix == ".npz" else read_safetensors(path), options.validation)
    if suffix in (".csv", ".parquet"):
        _only(path, options, TABLE)
        if options.label and options.target:
            raise bad(f"{path}: either a label (classes) or a target (numbers)")
        read = read_csv if suffix == ".csv" else read_parquet
        records, classes = read(path, options.label, options.target)
        return divide(records, options.validation, classes)
    _only(path, options, TEXT)
    return read_text(path, options.context or CONTEXT_DEFAULT, options.tokens, options.validation, options.tokenizer)


def _only(path: Path, options: DataOptions, fields: tuple[str, ...]) -> None:
    plain = DataOptions()
    for field in (*TABLE, *TEXT, *IMAGES):
        if field not in fields and getattr(options, field) != getattr(plain, field):
            kind = "a table" if field in TABLE else "text" if field in TEXT else "a folder of images"
            raise bad(f"{field} is for {kind}; {path} is none")


def from_arrays(arrays: dict[str, Array], validation: float = 0.0, vocabulary: tuple[str, ...] = ()) -> Source:
    """Tensors in memory, a keyed choice of `validation` of the records held out."""
    return divide(from_memory(arrays), validation, vocabulary)
