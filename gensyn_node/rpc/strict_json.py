"""JSON without Python's leniency: UTF-8, bounded depth, no NaN, no infinity, no duplicate key, no lone surrogate."""

from __future__ import annotations

import json
import math
from typing import Any

from gensyn_node.primitives import limits
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import reasons

_INTEGER_DIGITS_MAX = 20


def parse_json(data: bytes, depth_max: int = limits.RPC_JSON_DEPTH_MAX) -> Any:
    """The value in `data`; `Rejection` BAD_JSON otherwise, and no other exception."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Rejection(reasons.BAD_JSON, f"not UTF-8 at byte {error.start}") from None
    _check_depth(text, depth_max)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_integer,
        )
    except json.JSONDecodeError as error:
        raise Rejection(reasons.BAD_JSON, f"{error.msg} at character {error.pos}") from None
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _check_depth(text: str, depth_max: int) -> None:
    """Bound the nesting before the recursive parser runs."""
    depth, quoted, escaped = 0, False, False
    for character in text:
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            if depth > depth_max:
                raise Rejection(reasons.BAD_JSON, f"nested deeper than {depth_max}")
        elif character in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Rejection(reasons.BAD_JSON, "an object has the same key twice")
    return found


def _constant(name: str) -> Any:
    raise Rejection(reasons.BAD_JSON, f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Rejection(reasons.BAD_JSON, "a number is larger than a float can be")
    return value


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS_MAX:
        raise Rejection(reasons.BAD_JSON, f"an integer has more than {_INTEGER_DIGITS_MAX} digits")
    return int(text)


def _check_surrogates(value: Any) -> None:
    match value:
        case str():
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise Rejection(reasons.BAD_JSON, "a string has half of a surrogate pair")
        case list():
            for item in value:
                _check_surrogates(item)
        case dict():
            for key, item in value.items():
                _check_surrogates(key)
                _check_surrogates(item)
