"""Valid values of a codec type, made from the type alone: fields, unions, bounds. The corpus of every decoder."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from gensyn_node.primitives import codec

INTEGERS = (0, 1, 2, 7, 127, 128, 255, 256, 65_535, 65_536, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
NEGATIVE = (-1, -32, -33, -128, -(2**31), -(2**63))
LENGTHS = (0, 1, 20, 32, 64)
ITEMS_MAX = 3
DEPTH_MAX = 12


@cache
def shape_of(type_: Any) -> inspect.Type:
    """msgspec's description of a type."""
    return inspect.type_info(type_)


def value_of(type_: Any, rng: random.Random) -> Any:
    """A random value of the type, small, within its bounds."""
    return _value(shape_of(type_), rng, 0)


def encoded(type_: Any, rng: random.Random) -> bytes:
    """The encoding of a random value of the type."""
    return codec.encode(value_of(type_, rng))


def _value(shape: inspect.Type, rng: random.Random, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise RecursionError(f"{shape} is endless")
    match shape:
        case inspect.NoneType():
            return None
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.IntType():
            return _integer(shape, rng)
        case inspect.FloatType():
            return rng.choice((0.0, -1.5, 1e300, 0.1))
        case inspect.StrType():
            return _text(shape, rng)
        case inspect.BytesType():
            return rng.randbytes(_length(shape.min_length, shape.max_length, rng.choice(LENGTHS)))
        case inspect.LiteralType():
            return rng.choice(shape.values)
        case inspect.EnumType():
            return rng.choice(list(shape.cls))
        case inspect.UnionType():
            return _value(rng.choice(shape.types), rng, depth + 1)
        case inspect.TupleType():
            return tuple(_value(item, rng, depth + 1) for item in shape.item_types)
        case inspect.VarTupleType() | inspect.ListType():
            count = _length(shape.min_length, shape.max_length, rng.randrange(ITEMS_MAX + 1))
            return tuple(_value(shape.item_type, rng, depth + 1) for _ in range(count))
        case inspect.StructType():
            return shape.cls(*(_value(field.type, rng, depth + 1) for field in shape.fields))
    raise TypeError(f"no value of {shape} can be made")


def _integer(shape: inspect.IntType, rng: random.Random) -> int:
    least = shape.ge if shape.ge is not None else shape.gt + 1 if shape.gt is not None else None
    most = shape.le if shape.le is not None else shape.lt - 1 if shape.lt is not None else None
    fitting = [n for n in INTEGERS + NEGATIVE if (least is None or n >= least) and (most is None or n <= most)]
    if not fitting or rng.random() < 0.5:
        low = least if least is not None else 0
        return rng.randint(low, min(most if most is not None else low + 100, low + 100))
    return rng.choice(fitting)


def _text(shape: inspect.StrType, rng: random.Random) -> str:
    count = _length(shape.min_length, shape.max_length, rng.randrange(9))
    return "".join(rng.choice("abz-./_09 é\U0001f600") for _ in range(count))


def _length(least: int | None, most: int | None, wish: int) -> int:
    least = least or 0
    return max(least, min(wish, most if most is not None else wish))


def builtins(value: Any) -> Any:
    """The value as plain tuples, integers, bytes: what a mutation works on."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))
