"""Strict TOML: typed by msgspec, unknown keys refused, every complaint with its line, field and remedy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from gensyn_node.primitives.errors import Reason, Rejection

T = TypeVar("T")

FILE_BYTES_MAX = 1 << 20
_PATH = re.compile(r" - at `\$(.*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_MISSING = re.compile(r"missing required field `([^`]+)`")
_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\-.\"']+)\s*=")


def load_toml(
    text: str,
    type_: type[T],
    *,
    source: str,
    bad: Reason,
    unknown: Reason,
    remedies: Mapping[str, str],
) -> T:
    """Parse `text` as `type_`; `Rejection` with `bad` or `unknown` names source, line, field and remedy.

    `remedies` maps a dotted field name (`train.steps`) to what to write there.
    """
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise Rejection(bad, f"{source}: not UTF-8 text: {error.reason}") from None
    if size > FILE_BYTES_MAX:
        raise Rejection(bad, f"{source}: the file is larger than {FILE_BYTES_MAX} bytes")
    try:
        plain = tomllib.loads(text)
    except ValueError as error:  # no TOML, or an integer of more digits than Python converts
        raise Rejection(bad, f"{source}: not valid TOML: {error}") from None
    except RecursionError:
        raise Rejection(bad, f"{source}: nested too deeply") from None
    try:
        return msgspec.convert(plain, type_, strict=True)
    except msgspec.ValidationError as error:
        message, field = _split(str(error))
        why = unknown if _UNKNOWN.search(message) else bad
        raise complaint(text, field, message, source=source, why=why, remedies=remedies) from None


def complaint(
    text: str, field: str, message: str, *, source: str, why: Reason, remedies: Mapping[str, str]
) -> Rejection:
    """A `Rejection` about `field` of the file `text`: source, line, field, message, remedy."""
    remedy = remedies.get(field, "")
    where = f"{source} line {find_line(text, field)}, {field}" if field else source
    return Rejection(why, f"{where}: {message}" + (f"; {remedy}" if remedy else ""))


def _split(error: str) -> tuple[str, str]:
    """The message and the dotted field of a msgspec error."""
    path = ""
    if match := _PATH.search(error):
        path = re.sub(r"\[[^\]]*\]", "", match[1]).strip(".")
        error = error[: match.start()]
    for pattern in (_UNKNOWN, _MISSING):
        if match := pattern.search(error):
            path = f"{path}.{match[1]}".strip(".")
            break
    return error.replace("Object", "the table"), path


def find_line(text: str, field: str) -> int:
    """Line of a dotted field: of its key, else of its table's header, else 1."""
    section, best, depth = "", 1, -1
    wanted = field.split(".")
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = header[1].replace('"', "").replace(" ", "")
            here = section.split(".")
        elif key := _KEY.match(line):
            name = key[1].replace('"', "").replace("'", "")
            here = [*(section.split(".") if section else []), *name.split(".")]
        else:
            continue
        shared = len(here) if here == wanted[: len(here)] else -1
        if shared > depth:
            best, depth = number, shared
    return best
