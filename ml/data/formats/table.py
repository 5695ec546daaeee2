"""Tables with a header: .csv and .parquet. Columns become features x, classes or targets y, or tensors of their own."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.data.records import CLASS_NAME_MAX, Array, Chunk, Records, as_tensor, bad
from proofs.program.types import F32, I64, TensorType

if TYPE_CHECKING:
    from pyarrow import RecordBatch

ROWS = 8_192
"""Rows of one chunk, at most."""
CELLS = 1 << 20
"""Fields of one chunk: each is an object of some 60 bytes while it is text."""
COLUMNS_MAX = 65_536
LINE_MAX = 4 << 20
"""Characters of one line of a .csv file."""
LINES_PER_ROW_MAX = 1_000
"""Lines that one row takes, by line ends inside quotes."""
CLASSES_MAX = 65_536
ROW_GROUP_BYTES_MAX = 4 << 30
"""Bytes of one row group of a .parquet file, unpacked."""


def read_csv(path: Path, label: str, target: Sequence[str] = ()) -> tuple[Records, tuple[str, ...]]:
    """Features x f32; column `label` becomes y i64 (classes in sorted order), or columns `target` y f32.

    Also the names of the classes.
    """
    header, count, classes = _scan_csv(path, label)
    targets = [_column(path, header, name) for name in target]
    if not label and not targets:
        raise bad(f"{path}: say which column is the label (classes) or the target (numbers); it has {_some(header)}")
    place = _column(path, header, label) if label else -1
    features = [number for number in range(len(header)) if number != place and number not in targets]
    if not features:
        raise bad(f"{path} has no column left for x")
    number_of = {text: number for number, text in enumerate(classes)}

    def numbers(rows: list[list[str]], columns: list[int], line: int) -> Array:
        try:
            with np.errstate(over="ignore"):
                array = np.array([[float(row[column]) for column in columns] for row in rows], np.float32)
        except ValueError:
            array = np.array([[np.nan]], np.float32)
        if not np.isfinite(array).all():
            raise _bad_field(path, rows, columns, line)
        return array

    def chunks() -> Iterator[Chunk]:
        for line, rows in _csv_rows(path, len(header)):
            x = numbers(rows, features, line)
            if label:
                y: Array = np.array([number_of[row[place]] for row in rows], np.int64)
            else:
                y = numbers(rows, targets, line)
                y = y[:, 0] if len(targets) == 1 else y
            yield {"x": x, "y": y}

    y = TensorType(I64, ()) if label else TensorType(F32, () if len(targets) == 1 else (len(targets),))
    return Records(count, {"x": TensorType(F32, (len(features),)), "y": y}, chunks), classes


def _bad_field(path: Path, rows: list[list[str]], columns: list[int], line: int) -> Exception:
    for offset, row in enumerate(rows):
        for column in columns:
            try:
                with np.errstate(over="ignore"):
                    finite = bool(np.isfinite(np.float32(float(row[column]))))
            except ValueError:
                return bad(f"{path}, line {line + offset}: {row[column][:40]!r} is no number")
            if not finite:
                return bad(f"{path}, line {line + offset}: {row[column][:40]!r} is not a finite number")
    return bad(f"{path}: near line {line} a number cannot be read")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def _column(path: Path, header: Sequence[str], name: str) -> int:
    if name not in header:
        raise bad(f"{path} has no column {name!r} in its header; it has {_some(header)}")
    return list(header).index(name)


class _BoundedLines:
    """The lines of a file, none too long, and not too many of them before `row_done` is called."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        self._row_began = 0

    def row_done(self) -> None:
        self._row_began = self._number

    def __iter__(self) -> Iterator[str]:
        with self._path.open(newline="", encoding="utf-8") as file:
            while line := file.readline(LINE_MAX + 1):
                self._number += 1
                if len(line) > LINE_MAX:
                    raise bad(f"{self._path}, line {self._number}: more than {LINE_MAX} characters")
                if self._number - self._row_began > LINES_PER_ROW_MAX:
                    raise bad(f"{self._path}, line {self._number}: a row of more than {LINES_PER_ROW_MAX} lines")
                yield line


def _csv_lines(path: Path) -> Iterator[list[str]]:
    lines = _BoundedLines(path)
    try:
        for row in csv.reader(lines, strict=True):
            lines.row_done()
            yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise bad(f"{path} is not a readable .csv file: {error}") from None


def _csv_rows(path: Path, columns: int) -> Iterator[tuple[int, list[list[str]]]]:
    """(number of the first line, rows) of each chunk, all rows of `columns` fields."""
    rows: list[list[str]] = []
    first = 2
    for line, row in enumerate(_csv_lines(path), start=1):
        if line == 1:
            continue
        if len(row) != columns:
            raise bad(f"{path}, line {line}: {len(row)} fields, the header has {columns}")
        rows.append(row)
        if len(rows) == min(ROWS, max(1, CELLS // columns)):
            yield first, rows
            first, rows = line + 1, []
    if rows:
        yield first, rows


def _scan_csv(path: Path, label: str) -> tuple[list[str], int, tuple[str, ...]]:
    """Header, number of rows, classes."""
    header = next(_csv_lines(path), [])
    if not header or len(set(header)) != len(header) or len(header) > COLUMNS_MAX:
        raise bad(f"{path} needs a header of distinct names, at most {COLUMNS_MAX}")
    place = _column(path, header, label) if label else -1
    count = 0
    classes: set[str] = set()
    for _, rows in _csv_rows(path, len(header)):
        count += len(rows)
        if label:
            _add_classes(path, label, classes, [row[place] for row in rows])
    if not count:
        raise bad(f"{path} has a header and no rows")
    return header, count, sorted_classes(classes)


def _add_classes(path: Path, label: str, classes: set[str], names: Sequence[str]) -> None:
    classes.update(names)
    if len(classes) > CLASSES_MAX or any(len(name) > CLASS_NAME_MAX for name in names):
        most = f"at most {CLASSES_MAX} of {CLASS_NAME_MAX} characters"
        raise bad(f"{path}: column {label!r} has too many classes, or too long ones; {most}")


def sorted_classes(names: set[str]) -> tuple[str, ...]:
    """Numbers by their size, then other names."""
    return tuple(sorted(names, key=lambda text: (len(text), text) if text.isdigit() else (1 << 30, text)))


def read_parquet(path: Path, label: str, target: Sequence[str] = ()) -> tuple[Records, tuple[str, ...]]:
    """As `read_csv`; without label and target, every column is a tensor of its own, lists of one length included."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise bad(f"{path}: reading .parquet needs pyarrow: pip install 'gensyn[data]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            names, count = list(file.schema_arrow.names), int(file.metadata.num_rows)
            sizes = [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise bad(f"{path} is not a readable .parquet file: {error}") from None
    fits = max(sizes, default=0) <= ROW_GROUP_BYTES_MAX and len(names) <= COLUMNS_MAX
    if count < 1 or len(set(names)) != len(names) or not fits:
        raise bad(f"{path} needs rows, distinct column names, and row groups of at most {ROW_GROUP_BYTES_MAX} bytes")
    wanted = [label] if label else list(target)
    for name in wanted:
        _column(path, names, name)

    def batches(columns: list[str] | None = None) -> Iterator[RecordBatch]:
        try:
            with parquet.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=ROWS, columns=columns)
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            raise bad(f"{path} is damaged: {error}") from None

    classes = _parquet_classes(path, label, batches) if label else ()
    number_of = {text: number for number, text in enumerate(classes)}

    def chunk_of(batch: RecordBatch) -> Chunk:
        columns = {
            name: _parquet_column(path, name, batch.column(place)) for place, name in enumerate(names) if name != label
        }
        if not wanted:
            return {name: as_tensor(name, array) for name, array in columns.items()}
        x = [_floats(path, name, columns[name]) for name in names if name not in wanted]
        if not x:
            raise bad(f"{path} has no column left for x")
        if label:
            texts = _texts(path, label, batch.column(names.index(label)))
            y: Array = np.array([number_of[text] for text in texts], np.int64)
        else:
            y = np.concatenate([_floats(path, name, columns[name]) for name in target], 1)
            y = y[:, 0] if y.shape[1] == 1 else y
        return {"x": np.concatenate(x, 1), "y": y}

    def chunks() -> Iterator[Chunk]:
        for batch in batches():
            chunk = chunk_of(batch)
            if {name: array.shape[1:] for name, array in chunk.items()} != shapes:
                raise bad(f"{path}: lists of different lengths in a column")
            yield chunk

    first = next(map(chunk_of, batches()), None)
    if first is None:
        raise bad(f"{path} has no rows, though it says so")
    shapes = {name: array.shape[1:] for name, array in first.items()}
    from ml.data.records import of_arrays

    return Records(count, of_arrays(first).types, chunks), classes


def _texts(path: Path, label: str, column: Any) -> list[str]:
    try:
        return [str(value) for value in column.to_pylist()]
    except UnicodeDecodeError as error:
        raise bad(f"{path}: column {label!r} has text that is not UTF-8: {error}") from None


def _parquet_classes(
    path: Path, label: str, batches: Callable[[list[str] | None], Iterator[RecordBatch]]
) -> tuple[str, ...]:
    classes: set[str] = set()
    for batch in batches([label]):
        if batch.column(0).null_count:
            raise bad(f"{path}: column {label!r} has missing values")
        _add_classes(path, label, classes, _texts(path, label, batch.column(0)))
    return sorted_classes(classes)


def _parquet_column(path: Path, name: str, column: Any) -> Array:
    """A column as (n,), or (n, length) for lists that all have one length."""
    from pyarrow import types

    if column.null_count:
        raise bad(f"{path}: column {name!r} has missing values")
    if types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        values = column.flatten()
        if values.null_count or len(column) == 0 or len(values) % len(column):
            raise bad(f"{path}: column {name!r} has missing values, or lists of different lengths")
        length = len(values) // len(column)
        lengths = column.value_lengths().to_numpy(zero_copy_only=False) if hasattr(column, "value_lengths") else length
        if np.any(lengths != length):
            raise bad(f"{path}: column {name!r} has lists of different lengths")
        return _numbers(path, name, values).reshape(len(column), length)
    return _numbers(path, name, column)


def _numbers(path: Path, name: str, column: Any) -> Array:
    from pyarrow import types

    kind = column.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise bad(f"{path}: column {name!r} is {kind}; numbers and bools only (or make it the label)")
    array: Array = column.to_numpy(zero_copy_only=False)
    return array


def _floats(path: Path, name: str, array: Array) -> Array:
    with np.errstate(over="ignore"):
        made = array.astype(np.float32).reshape(len(array), -1)
    if not np.isfinite(made).all():
        raise bad(f"{path}: column {name!r} has a number that is not finite")
    return made
