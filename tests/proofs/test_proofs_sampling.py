"""Philox against Random123, and what sampling must be: permutations, distinct draws, the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import tagged_hash
from proofs import philox, sampling

SEED = bytes(range(32))
FIRST_BATCH = [258, 430, 920, 224, 995, 504, 872, 993]
FIRST_DRAW = (3, 16, 17)

RANDOM123 = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), RANDOM123)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    words = philox.philox4x32(np.array([counter] * 3, np.uint32), key)
    assert words.shape == (3, 4)
    assert [tuple(int(word) for word in row) for row in words] == [expected] * 3


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 1 << 40), count=st.integers(0, 50), cut=st.integers(0, 50))
def test_a_stream_is_the_same_in_parts(start: int, count: int, cut: int) -> None:
    cut = min(cut, count)
    whole = philox.stream_words(SEED[:16], start, count)
    parts = [philox.stream_words(SEED[:16], start, cut), philox.stream_words(SEED[:16], start + cut, count - cut)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert len(whole) == count


def test_uniform_elements_are_exact() -> None:
    bound = np.float32(0.1)
    values = philox.uniform_tensor(SEED, 3, 1001, 5000, bound)
    key = tagged_hash("gensyn/initial/1", SEED, (3).to_bytes(4, "little"))[:16]
    words = philox.stream_words(key, 1001, 5000)
    exact = (np.float64(2) * (words >> np.uint32(8)) / 2**24 - 1) * np.float64(bound)
    assert values.dtype == np.float32
    assert np.array_equal(values, exact.astype(np.float32))
    assert values.min() >= -bound
    assert values.max() < bound
    assert abs(float(values.mean())) < 0.01
    assert not np.array_equal(values, philox.uniform_tensor(SEED, 4, 1001, 5000, bound))


def test_extreme_words_stay_in_range() -> None:
    unit = philox.unit_uniform(np.array([0, 255, 256, 0xFFFFFFFF], np.uint32))
    assert unit.tolist() == [0.0, 0.0, 2.0**-24, 1 - 2.0**-24]


@settings(max_examples=60, deadline=None)
@given(records=st.integers(1, 700), batch=st.integers(1, 64), seed=st.binary(min_size=32, max_size=32))
def test_every_epoch_visits_every_record_once(records: int, batch: int, seed: bytes) -> None:
    steps = -(-2 * records // batch)
    order = np.concatenate([sampling.batch_indices(seed, step, batch, records) for step in range(steps)])
    assert order.dtype == np.int64
    for epoch in range(2):
        assert sorted(order[epoch * records : (epoch + 1) * records].tolist()) == list(range(records))


def test_epochs_and_seeds_have_different_orders() -> None:
    first = sampling.batch_indices(SEED, 0, 100, 100)
    assert not np.array_equal(first, sampling.batch_indices(SEED, 1, 100, 100))
    assert not np.array_equal(first, sampling.batch_indices(bytes(32), 0, 100, 100))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_rows_of_a_batch_can_be_asked_for_alone(data: st.DataObject) -> None:
    step, batch = data.draw(st.integers(0, 1 << 30)), data.draw(st.integers(1, 200))
    records = data.draw(st.integers(1, 1 << 36))
    rows = sorted(data.draw(st.sets(st.integers(0, batch - 1), max_size=10)))
    whole = sampling.batch_indices(SEED, step, batch, records)
    some = sampling.indices_at(SEED, step, batch, records, np.array(rows, np.int64))
    assert some.tolist() == whole[rows].tolist()
    assert 0 <= int(whole.min()) <= int(whole.max()) < records


def test_order_looks_uniform() -> None:
    """Where record 0 of 8 goes, over 8,000 epochs: chi-squared with 7 degrees of freedom, far below its 0.1 % tail."""
    firsts = [int(sampling.batch_indices(SEED, epoch * 8, 1, 8)[0]) for epoch in range(8000)]
    counts = np.bincount(firsts, minlength=8)
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 24.3


def test_fixed_values() -> None:
    assert sampling.batch_indices(SEED, 0, 8, 1000).tolist() == FIRST_BATCH
    assert sampling.draw_segments(SEED, SEED, b"v" * 20, 3, 20) == FIRST_DRAW


@pytest.mark.parametrize(
    ("step", "batch", "records"), [(-1, 1, 1), (0, 0, 1), (0, 1, 0), (1 << 60, 16, 5), (0, 1, 1 << 41)]
)
def test_bounds(step: int, batch: int, records: int) -> None:
    with pytest.raises(Rejection):
        sampling.batch_indices(SEED, step, batch, records)


@settings(max_examples=80, deadline=None)
@given(samples=st.integers(1, 40), segments=st.integers(1, 256), address=st.binary(min_size=20, max_size=20))
def test_draws_are_distinct_sorted_and_complete(samples: int, segments: int, address: bytes) -> None:
    drawn = sampling.draw_segments(SEED, SEED, address, samples, segments)
    assert len(drawn) == min(samples, segments) == len(set(drawn))
    assert list(drawn) == sorted(drawn)
    assert set(drawn) <= set(range(segments))


def test_every_segment_is_drawn_about_equally_often() -> None:
    counts = np.zeros(10)
    for verifier in range(3000):
        counts[list(sampling.draw_segments(SEED, SEED, verifier.to_bytes(20, "big"), 3, 10))] += 1
    assert float(((counts - 900) ** 2 / 900).sum()) < 27.9


def test_draws_need_something_to_draw() -> None:
    for samples, segments in ((0, 5), (1, 0)):
        with pytest.raises(Rejection):
            sampling.draw_segments(SEED, SEED, SEED[:20], samples, segments)


def test_task_seed_depends_on_everything() -> None:
    arguments = [b"t" * 32, b"d" * 32, b"s" * 20, b"b" * 32]
    seeds = {sampling.task_seed(*arguments)}
    for place in range(4):
        changed = list(arguments)
        changed[place] = b"x" + changed[place][1:]
        seeds.add(sampling.task_seed(*changed))
    assert len(seeds) == 5
