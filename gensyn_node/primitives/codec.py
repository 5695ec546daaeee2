"""The one codec: MessagePack, canonical, strict, bounded.

`msgpack` reads and writes the bytes; `msgspec.convert` gives them types: frozen structs encoded as arrays, unions told
apart by an integer tag in the first place. No maps are allowed, so nothing depends on key order. `decode` checks size
and nesting first, then types, then encodes again and compares: each value has exactly one encoding.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack
import msgspec

from gensyn_node.primitives import limits, reasons
from gensyn_node.primitives.errors import InvariantViolation, Rejection

T = TypeVar("T")

UINT64_MAX = (1 << 64) - 1
INT64_MIN = -(1 << 63)


class Struct(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that is encoded. Subclass with `tag=<int>` (class argument) to be a member of a union."""


def encode(value: Any) -> bytes:
    """The canonical encoding of a struct, or of a plain value made of int, bytes, str, bool, None and tuples."""
    packed = msgpack.packb(msgspec.to_builtins(value, builtin_types=(bytes,)), use_bin_type=True, strict_types=False)
    if packed is None:
        raise InvariantViolation("msgpack returned nothing")
    return bytes(packed)


def decode(type_: type[T] | Any, data: bytes, *, max_bytes: int = limits.MESSAGE_BYTES_MAX) -> T:
    """Decode `data` as exactly one value of `type_`.

    Raises `Rejection` with TOO_LARGE, MALFORMED or NOT_CANONICAL; no other exception, whatever the bytes.
    """
    if len(data) > max_bytes:
        raise Rejection(reasons.TOO_LARGE, f"{len(data)} bytes, at most {max_bytes} are accepted")
    _check_depth(data)
    try:
        plain = msgpack.unpackb(
            data,
            use_list=False,
            raw=False,
            strict_map_key=True,
            max_map_len=0,
            max_ext_len=0,
            max_array_len=limits.CONTAINER_ITEMS_MAX,
            max_str_len=max_bytes,
            max_bin_len=max_bytes,
        )
    except (ValueError, msgpack.exceptions.UnpackException, UnicodeDecodeError, RecursionError) as error:
        raise Rejection(reasons.MALFORMED, f"not MessagePack: {error}") from None
    try:
        value: T = msgspec.convert(plain, type_, strict=True, builtin_types=(bytes,))
    except (msgspec.ValidationError, ValueError, OverflowError, TypeError) as error:
        raise Rejection(reasons.MALFORMED, str(error)) from None
    if encode(value) != data:
        raise Rejection(reasons.NOT_CANONICAL, "the value has another, shorter or differently ordered encoding")
    return value


def _check_depth(data: bytes) -> None:
    """Refuse nesting deeper than the bound, before any recursive code sees it.

    Only array and map headers nest. A run of them is what deep input looks like; `msgpack`'s own stack is bounded at
    1,024 and raises StackError (a ValueError), so this check only has to keep honest structures well below that.
    """
    # A cheap scan: consecutive one-element array headers are the only way to nest deeper than the number of bytes / 2.
    depth = 0
    for byte in data[: limits.NESTING_DEPTH_MAX + 1]:
        if 0x90 <= byte <= 0x9F or byte in (0xDC, 0xDD):
            depth += 1
        else:
            return
    if depth > limits.NESTING_DEPTH_MAX:
        raise Rejection(reasons.MALFORMED, f"nested deeper than {limits.NESTING_DEPTH_MAX}")
