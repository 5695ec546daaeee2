"""Chunks: what was cut comes back; what is cut, repeated, unordered or too large is refused without being held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.statesync.reasons import BAD_ENTRIES
from consensus.statesync.stream import KEY_BYTES_MAX, VALUE_BYTES_MAX, EntryReader, chunked
from gensyn_node.primitives.errors import Rejection

ENTRIES = st.dictionaries(st.binary(min_size=1, max_size=20), st.binary(max_size=60), max_size=40).map(
    lambda found: sorted(found.items())
)


def read(chunks: list[bytes], entries: int) -> list[tuple[bytes, bytes]]:
    reader = EntryReader()
    found = [entry for chunk in chunks for entry in reader.feed(chunk)]
    reader.finish(entries)
    return found


@given(ENTRIES, st.integers(1, 100))
def test_entries_survive_any_cut(entries: list[tuple[bytes, bytes]], size: int) -> None:
    chunks = list(chunked(entries, size))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert read(chunks, len(entries)) == entries


@given(ENTRIES, st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_entries_or_a_rejection(entries: list[tuple[bytes, bytes]], noise: bytes, at: int) -> None:
    data = b"".join(chunked(entries))
    mutated = data[:at] + noise + data[at + len(noise) :]
    try:
        found = read([mutated], len(entries))
    except Rejection as rejection:
        assert rejection.reason is BAD_ENTRIES
    else:
        assert b"".join(chunked(found)) == mutated


def frame(key: bytes, value: bytes) -> bytes:
    return len(key).to_bytes(4, "little") + len(value).to_bytes(4, "little") + key + value


@pytest.mark.parametrize(
    ("data", "entries"),
    [
        (frame(b"a", b"1") + frame(b"a", b"1"), 2),
        (frame(b"b", b"1") + frame(b"a", b"1"), 2),
        (frame(b"", b"1"), 1),
        (frame(b"k" * (KEY_BYTES_MAX + 1), b""), 1),
        ((1).to_bytes(4, "little") + (VALUE_BYTES_MAX + 1).to_bytes(4, "little") + b"k", 1),
        (b"\xff" * 8, 1),
        (frame(b"a", b"1")[:-1], 1),
        (frame(b"a", b"1") + b"\0", 1),
        (frame(b"a", b"1"), 2),
        (frame(b"a", b"1"), 0),
    ],
    ids=["twice", "unordered", "no-key", "long-key", "huge-value", "bomb", "cut", "rest", "missing", "extra"],
)
def test_bad_streams_are_refused(data: bytes, entries: int) -> None:
    with pytest.raises(Rejection) as caught:
        read([data], entries)
    assert caught.value.reason is BAD_ENTRIES
