"""Any struct, record or plain value as JSON: addresses in bech32, other bytes in hex, structs as objects."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
from typing import Any, TypeAlias

import msgspec

from gensyn_node.primitives.bech32 import ADDRESS_BYTES, encode_address
from gensyn_node.primitives.errors import InvariantViolation

Json: TypeAlias = Any
"""None, bool, int, float, str, list and dict of these."""


def to_json(value: object) -> Json:
    """`value` as JSON. A struct of a tagged union carries its snake-case class name as `type`.

    Bytes of an address's length are addresses: nothing else of the protocol has 20 bytes.
    """
    match value:
        case enum.Enum():
            return value.name.lower()
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return encode_address(value) if len(value) == ADDRESS_BYTES else value.hex()
        case msgspec.Struct():
            return _struct(value)
        case dict():
            return {str(to_json(key)): to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
        case set() | frozenset():
            return sorted(to_json(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise InvariantViolation(f"a {type(value).__name__} cannot be shown as JSON")


def _struct(value: msgspec.Struct) -> dict[str, Json]:
    shown: dict[str, Json] = {}
    if value.__struct_config__.tag is not None:
        shown["type"] = snake_case(type(value).__name__)
    for name in value.__struct_fields__:
        shown[name] = to_json(getattr(value, name))
    return shown


def snake_case(name: str) -> str:
    """`SubmitTask` → `submit_task`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
