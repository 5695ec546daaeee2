"""Where a passphrase comes from: a file, the environment, or a prompt; never an argument."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from gensyn_node.keys import reasons
from gensyn_node.primitives.errors import Rejection

PASSPHRASE_VARIABLE = "GENSYN_PASSPHRASE"
PASSPHRASE_FILE_VARIABLE = "GENSYN_PASSPHRASE_FILE"
_FILE_BYTES_MAX = 4096


def find_passphrase(*, new: bool = False, file: Path | None = None) -> str:
    """The passphrase: `file`, then the two variables, then a prompt (asked twice when `new`)."""
    if path := file or _path(os.environ.get(PASSPHRASE_FILE_VARIABLE)):
        return _read(path)
    if (value := os.environ.get(PASSPHRASE_VARIABLE)) is not None:
        return _checked(value)
    if not sys.stdin.isatty():
        raise Rejection(reasons.NO_PASSPHRASE, "there is no terminal to ask for the passphrase")
    first = getpass.getpass("Passphrase: ")
    if new and getpass.getpass("Once more: ") != first:
        raise Rejection(reasons.NO_PASSPHRASE, "the two passphrases differ")
    return _checked(first)


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        text = data.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise Rejection(reasons.NO_PASSPHRASE, f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Rejection(reasons.NO_PASSPHRASE, f"{path} is not UTF-8 text") from None
    if len(data) > _FILE_BYTES_MAX:
        raise Rejection(reasons.NO_PASSPHRASE, f"{path} is longer than a passphrase can be")
    return _checked(text)


def _checked(value: str) -> str:
    if not value:
        raise Rejection(reasons.NO_PASSPHRASE, "the passphrase is empty")
    return value
