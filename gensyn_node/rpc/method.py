"""One row of the table of methods, and the parameters that many share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.rpc import reasons
from gensyn_node.rpc.backend import NodeBackend

CALL_TIMEOUT_S = 30.0

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Height = Annotated[int, Meta(ge=0, le=1 << 62)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of parameter objects; also the one without any."""


class AtHeight(Parameters, frozen=True):
    height: Height | None = None


class OfTransaction(Parameters, frozen=True):
    transaction_id: Hash


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    parameters: type[Parameters]
    call: Callable[[NodeBackend, Any], Awaitable[object]]
    writes: bool = False
    timeout_s: float = CALL_TIMEOUT_S


def hash_of(text: str) -> bytes:
    """The 32 bytes that 64 hexadecimal digits stand for."""
    data = bytes.fromhex(text)
    if len(data) != HASH_BYTES:
        raise Rejection(reasons.BAD_PARAMETERS, f"a hash has {HASH_BYTES} bytes")
    return data


def found(value: object | None, what: str) -> object:
    """The value; NOT_FOUND saying `what` when there is none."""
    if value is None:
        raise Rejection(reasons.NOT_FOUND, what)
    return value
