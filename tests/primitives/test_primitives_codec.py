"""The codec: one encoding per value, typed, bounded, and no exception but `Rejection` whatever the bytes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.primitives import reasons
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import Rejection

VECTORS = Path(__file__).parents[1] / "vectors" / "msgpack" / "msgpack-test-suite.json"


class Inner(Struct, tag=1):
    number: int
    data: bytes


class Other(Struct, tag=2):
    text: str


class Outer(Struct):
    items: tuple[Inner | Other, ...]
    flag: bool


def test_a_value_survives_the_round_trip() -> None:
    value = Outer(items=(Inner(5, b"x"), Other("é")), flag=True)
    assert decode(Outer, encode(value)) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", reasons.MALFORMED),
        (b"\xc1", reasons.MALFORMED),
        (b"\x92\x90", reasons.MALFORMED),
        (b"\x92\x90\xc3\x00", reasons.MALFORMED),
        (b"\x93\x90\xc3\x00", reasons.MALFORMED),
        (b"\x92\x90\x01", reasons.MALFORMED),
        (b"\x92\x91\x93\x03\x01\xc4\x00\xc3", reasons.MALFORMED),
        (b"\x92\x91\x94\x01\x01\xc4\x00\x00\xc3", reasons.MALFORMED),
        (b"\x92\x91\x93\x01\xc3\xc4\x00\xc3", reasons.MALFORMED),
        (b"\x92\x91\x93\x01\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xc4\x00\xc3", reasons.MALFORMED),
        (b"\x92\x91\x93\x01\xcc\x01\xc4\x00\xc3", reasons.NOT_CANONICAL),
        (b"\x92\xdc\x00\x00\xc3", reasons.NOT_CANONICAL),
        (b"\x92\x91\x93\x01\x01\xc5\x00\x00\xc3", reasons.NOT_CANONICAL),
        (b"\x80", reasons.MALFORMED),
        (b"\x81\x01\x02", reasons.MALFORMED),
        (b"\xd4\x01\x00", reasons.MALFORMED),
        (b"\xdd\xff\xff\xff\xff", reasons.MALFORMED),
        (b"\xdd\x00\x10\x00\x00" * 1000, reasons.MALFORMED),
        (b"\x91" * 100_000, reasons.MALFORMED),
    ],
    ids=lambda value: value.hex()[:24] if isinstance(value, bytes) else value.name,
)
def test_anything_else_is_refused(data: bytes, why: object) -> None:
    with pytest.raises(Rejection) as caught:
        decode(Outer, data)
    assert caught.value.reason is why


def test_the_bound_comes_before_everything() -> None:
    with pytest.raises(Rejection) as caught:
        decode(Outer, b"\x92\x90\xc3" + b"\x00" * 100, max_bytes=10)
    assert caught.value.reason is reasons.TOO_LARGE


def test_a_short_message_cannot_make_us_allocate_for_items_that_never_come() -> None:
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(Rejection):
        decode(Outer, b"\xdd\x00\x10\x00\x00" * 1_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_rejection(data: bytes) -> None:
    for type_ in (Outer, Inner | Other, int, bytes, tuple[int, ...]):
        try:
            value: object = decode(type_, data)
        except Rejection:
            continue
        assert encode(value) == data


@settings(max_examples=200)
@given(
    st.lists(st.one_of(st.builds(Inner, st.integers(-(2**63), 2**64 - 1), st.binary()), st.builds(Other, st.text())))
)
def test_every_value_round_trips(items: list[Inner | Other]) -> None:
    value = Outer(tuple(items), False)
    assert decode(Outer, encode(value)) == value


def _vector_values() -> list[tuple[str, object, type, list[bytes]]]:
    rows: list[tuple[str, object, type, list[bytes]]] = []
    for group, cases in json.loads(VECTORS.read_text()).items():
        for case in cases:
            encodings = [bytes.fromhex(text.replace("-", "")) for text in case["msgpack"]]
            if "bool" in case:
                rows.append((group, case["bool"], bool, encodings))
            elif "binary" in case:
                rows.append((group, bytes.fromhex(case["binary"].replace("-", "")), bytes, encodings))
            elif "bignum" in case:
                rows.append((group, int(case["bignum"]), int, encodings))
            elif "number" in case and isinstance(case["number"], int):
                rows.append((group, case["number"], int, encodings))
            elif "string" in case:
                rows.append((group, case["string"], str, encodings))
    return rows


def test_outside_vectors_accept_exactly_one_encoding_of_each_value() -> None:
    rows = _vector_values()
    assert len(rows) > 40
    for group, value, type_, encodings in rows:
        accepted = []
        for data in encodings:
            try:
                assert decode(type_, data) == value
                accepted.append(data)
            except Rejection as rejection:
                assert rejection.reason in (reasons.MALFORMED, reasons.NOT_CANONICAL)
        assert accepted == [encode(value)] == [msgpack.packb(value)], (group, value)


def test_outside_vectors_of_types_we_do_not_use_are_refused() -> None:
    suite = json.loads(VECTORS.read_text())
    count = 0
    for _group, cases in suite.items():
        for case in cases:
            if not ({"map", "ext", "timestamp"} & set(case)):
                continue
            for text in case["msgpack"]:
                with pytest.raises(Rejection):
                    decode(tuple[int, ...], bytes.fromhex(text.replace("-", "")))
                count += 1
    assert count >= 10


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\x00\x00\x04\x00" + (b"\x91" * 900 + b"\xc0") * 1_024,
        b"\xdd\x00\x03\x00\x00" + b"\x91\xc0" * (3 << 16),
        b"\xdd\x00\x03\x00\x00" + b"\xce\x01\x02\x03\x04" * (3 << 16),
    ],
    ids=["deep", "pairs", "integers"],
)
def test_a_message_of_the_wrong_kind_costs_no_more_memory_than_its_bytes(data: bytes) -> None:
    """Heap amplification: objects must not be built for what no type asks for."""
    for type_ in (Outer, tuple[bytes, ...], tuple[Outer, ...]):
        tracemalloc.start()
        try:
            with pytest.raises(Rejection):
                decode(type_, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 2 * len(data)
