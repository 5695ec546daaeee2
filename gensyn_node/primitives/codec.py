"""The one codec: MessagePack, canonical, strict, bounded.

`msgpack` reads and writes the bytes; `msgspec.convert` gives them types: frozen structs encoded as arrays, unions told
apart by an integer tag in the first place. No maps are allowed, so nothing depends on key order. `decode` checks the
size first, then that the message is whole, then types, then encodes again and compares: each value has exactly one
encoding. Nesting is bounded by msgpack's own stack (1,024) and, once typed, by the type.
"""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

import msgpack
import msgspec

from gensyn_node.primitives import limits, reasons
from gensyn_node.primitives.errors import InvariantViolation, Rejection

T = TypeVar("T")

UINT64_MAX = (1 << 64) - 1
INT64_MIN = -(1 << 63)


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
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
    try:
        # A walk without building objects first: it fails unless every announced item is there, so that a short message
        # cannot make the second pass allocate for millions of items that never come, a thousand levels deep.
        walker = msgpack.Unpacker(max_buffer_size=max(len(data), 1), max_map_len=0, max_ext_len=0)
        walker.feed(data)
        walker.skip()
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
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise Rejection(reasons.MALFORMED, f"not MessagePack: {error}") from None
    try:
        value: T = msgspec.convert(plain, type_, strict=True, builtin_types=(bytes,))
    except (msgspec.ValidationError, ValueError, OverflowError, TypeError) as error:
        raise Rejection(reasons.MALFORMED, str(error)) from None
    if encode(value) != data:
        raise Rejection(reasons.NOT_CANONICAL, "the value has another, shorter or differently ordered encoding")
    return value
