"""The one codec: MessagePack, canonical, strict, bounded.

`msgspec` reads bytes straight into types: frozen structs encoded as arrays, unions told apart by an integer tag in the
first place. No maps are allowed, so nothing depends on key order. `decode` checks the size first, then that every
announced item is there, then reads by type, then encodes again and compares: each value has exactly one encoding.
Nothing of the wrong type is ever built: a message costs no more memory than the value that it stands for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar, dataclass_transform

import msgpack
import msgspec

from gensyn_node.primitives import limits, reasons
from gensyn_node.primitives.errors import Rejection

T = TypeVar("T")

UINT64_MAX = (1 << 64) - 1
INT64_MIN = -(1 << 63)


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Struct(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that is encoded. Subclass with `tag=<int>` (class argument) to be a member of a union."""


_encoder = msgspec.msgpack.Encoder()


@lru_cache(maxsize=1_024)
def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_, strict=True)


def encode(value: Any) -> bytes:
    """The canonical encoding of a struct, or of a plain value made of int, bytes, str, bool, None and tuples."""
    return _encoder.encode(value)


def decode(type_: type[T] | Any, data: bytes, *, max_bytes: int = limits.MESSAGE_BYTES_MAX) -> T:
    """Decode `data` as exactly one value of `type_`.

    Raises `Rejection` with TOO_LARGE, MALFORMED or NOT_CANONICAL; no other exception, whatever the bytes.
    """
    hashable: Any = type_  # so is every type and every union
    if len(data) > max_bytes:
        raise Rejection(reasons.TOO_LARGE, f"{len(data)} bytes, at most {max_bytes} are accepted")
    try:
        # A walk without building anything first: it fails unless every announced item is there, so that a short message
        # cannot make the second pass reserve room for millions of items that never come.
        walker = msgpack.Unpacker(max_buffer_size=max(len(data), 1), max_map_len=0, max_ext_len=0)
        walker.feed(data)
        walker.skip()
        value: T = _decoder(hashable).decode(data)
    except (ValueError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise Rejection(reasons.MALFORMED, f"not what was expected: {error}") from None
    if encode(value) != data:
        raise Rejection(reasons.NOT_CANONICAL, "the value has another, shorter or differently ordered encoding")
    return value
