"""Progress bars, silent under `--json` and where there is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TransferSpeedColumn,
)

from cli.output import console


@contextmanager
def waiting(title: str, as_json: bool) -> Iterator[None]:
    """A sign that something goes on, for as long as the block runs."""
    if as_json or not console.is_terminal:
        yield
        return
    with console.status(title):
        yield


@contextmanager
def count_bar(title: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of things counted; the block gets a `progress(done, total)`."""
    with _bar(title, as_json, (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())) as update:
        yield update


@contextmanager
def byte_bar(title: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes; the block gets a `progress(done, total)`."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _bar(title, as_json, columns) as update:
        yield update


@contextmanager
def _bar(title: str, as_json: bool, columns: Sequence[ProgressColumn]) -> Iterator[Callable[[int, int], None]]:
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield update
