"""Changes to valid messages: of bytes without knowing what they mean, and of MessagePack values field by field."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgpack

from tests.fuzz.values import INTEGERS, NEGATIVE

HEADERS = bytes.fromhex("007f808f909fa0bfc0c1c2c3c4c5c6c7cacbcccdcecfd0d3d4d9dadbdcdddedfe0ff")
"""First bytes of MessagePack items, each kind."""
LIES = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\x7f\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
)
"""Announcements of far more than follows."""
SCALARS: tuple[Any, ...] = (None, True, False, b"", "", (), 0.5, *INTEGERS, *NEGATIVE)
CHANGES_MAX = 3


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One input: a seed with some changes, now and then bytes that never were a message."""
    kind = rng.random()
    if kind < 0.02:
        return rng.randbytes(rng.randrange(200))
    data = rng.choice(seeds)
    if kind < 0.06:
        return data
    for _ in range(rng.randint(1, CHANGES_MAX)):
        if rng.random() < 0.5:
            data = changed_value(data, rng)
        else:
            data = changed_bytes(data, seeds, rng)
    return data


def altered(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """A seed of which one to three items are others of the same kind: most of these still decode."""
    if rng.random() < 0.1:
        return mutated(seeds, rng)
    data = rng.choice(seeds)
    plain = [msgpack.unpackb(data, use_list=True, raw=False, strict_map_key=False)]
    for _ in range(rng.randint(1, CHANGES_MAX)):
        holder, index = plain, 0
        while isinstance(holder[index], list) and holder[index] and rng.random() < 0.93:
            holder = holder[index]
            index = rng.randrange(len(holder))
        if rng.random() < 0.1:
            holder[index] = rng.choice(SCALARS)
        else:
            holder[index] = _near(holder[index], rng)
    try:
        return bytes(msgpack.packb(plain[0], use_bin_type=True) or b"")
    except OverflowError:
        return data


def changed_bytes(data: bytes, seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """Flip, cut, double, splice, or lie about a length."""
    place = rng.randrange(len(data) + 1)
    match rng.randrange(8):
        case 0 if data:
            place = min(place, len(data) - 1)
            return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
        case 1 if data:
            return data[:place] + bytes([rng.choice(HEADERS)]) + data[place + 1 :]
        case 2:
            return data[:place]
        case 3:
            return data + rng.randbytes(rng.randint(1, 4))
        case 4:
            end = rng.randrange(place, len(data) + 1)
            return data[:end] + data[place:]
        case 5:
            other = rng.choice(seeds)
            return data[:place] + other[rng.randrange(len(other) + 1) :]
        case 6:
            return data[:place] + rng.choice(LIES) + data[place + rng.randrange(5) :]
        case _:
            return data[:place] + data[place + rng.randint(1, 8) :]


def changed_value(data: bytes, rng: random.Random) -> bytes:
    """Decode as plain MessagePack, change one item anywhere, encode again; other bytes get a flip."""
    try:
        plain = msgpack.unpackb(data, use_list=True, raw=False, strict_map_key=False)
        packed = msgpack.packb(_changed(plain, rng), use_bin_type=True)
    except (ValueError, OverflowError, TypeError, RecursionError, msgpack.exceptions.UnpackException):
        return changed_bytes(data, (data,), rng)
    return bytes(packed or b"")


def _changed(plain: Any, rng: random.Random) -> Any:
    root = [plain]
    holder, index = root, 0
    while isinstance(holder[index], list) and holder[index] and rng.random() < 0.85:
        holder = holder[index]
        index = rng.randrange(len(holder))
    item = holder[index]
    match rng.randrange(7):
        case 0:
            holder[index] = rng.choice(SCALARS)
        case 1 if holder is not root:
            holder.insert(index, rng.choice((item, rng.choice(SCALARS))))
        case 2 if holder is not root:
            del holder[index]
        case 3 if holder is not root:
            other = rng.randrange(len(holder))
            holder[index], holder[other] = holder[other], item
        case 4:
            holder[index] = [item]
        case _:
            holder[index] = _near(item, rng)
    return root[0]


def _near(item: Any, rng: random.Random) -> Any:
    """Something of the same kind that is slightly, or very, different."""
    match item:
        case bool() | None:
            return not item
        case int():
            return rng.choice(
                (item + 1, item - 1, -item, item ^ (1 << rng.randrange(63)), *INTEGERS[:4], *INTEGERS[-4:])
            )
        case bytes() if item and rng.random() < 0.7:
            place = rng.randrange(len(item))
            return item[:place] + bytes([item[place] ^ (1 << rng.randrange(8))]) + item[place + 1 :]
        case bytes():
            return rng.randbytes(rng.choice((0, 1, 20, 31, 32, 33, 64, 65)))
        case str():
            return rng.choice((item + "x", item[1:], item * 2, "\x00", "a" * 300, item.upper()))
        case list():
            return rng.choice((item * 2, item[:-1], item[::-1], [*item, *item[:1]]))
    return rng.choice(SCALARS)


TOKENS = (
    '"', "'", "\\", "\\u", "\\ud800", "\x00", "[", "]", "[[", "{", "}", "=", ".", ",", ":", "\n", "#", "-", "+", "e",
    "1e999", "9" * 30, "9" * 5_000, "NaN", "Infinity", "null", "true", "é",
    "\U0001f600", "0x", "1979-05-27", '"""', " ", "/", "..",
)  # fmt: skip


def mutated_text(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """A text with some characters or lines changed; sometimes no text at all."""
    data = rng.choice(seeds)
    for _ in range(rng.randint(0, CHANGES_MAX)):
        if rng.random() < 0.15:
            data = changed_bytes(data, seeds, rng)
            continue
        text = data.decode("utf-8", "replace")
        place = rng.randrange(len(text) + 1)
        match rng.randrange(5):
            case 0:
                text = text[:place] + rng.choice(TOKENS) + text[place:]
            case 1:
                text = text[:place] + rng.choice(TOKENS) + text[place + 1 :]
            case 2:
                text = text[:place] + text[place + rng.randint(1, 6) :]
            case 3:
                lines = text.splitlines(keepends=True) or [""]
                lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
                text = "".join(lines)
            case _:
                text = text[:place] + rng.choice(TOKENS) * rng.randrange(1, 60) + text[place:]
        data = text.encode("utf-8", "replace")
    return data
