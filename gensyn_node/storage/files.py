"""Writing a file so that it is there after a power cut: content, name and directory are all synced."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make creations, renames and removals in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(directory: Path) -> None:
    """Make the content and the names of all files directly in `directory` durable, whoever wrote them."""
    for path in sorted(directory.iterdir()):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    sync_directory(directory)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; one `os.write` may stop short."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Atomically put `content` at `path` and make it durable: a reader sees the old or the new content, never a mix.

    The directory is synced too: a rename alone can roll back, which for a sign state means signing twice.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_directory(path.parent)
