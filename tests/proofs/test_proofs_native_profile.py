"""Thresholds of a native task: quantile, margin, floor and cap, all in integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs.native.profile import (
    DISTANCE_MAX,
    Rule,
    exceeded,
    measured_entries,
    profile_commitment,
    profile_seed,
    thresholds,
)

RULE = Rule(quantile_bps=7_500, margin_bps=40_000, floor=4_096, cap=1 << 22)


@pytest.mark.parametrize(
    ("measured", "threshold"),
    [
        ([0], 4_096),
        ([1_000], 8_000),
        ([10, 20, 1_000, 2_000], 8_000),
        ([10, 20, 1_000, DISTANCE_MAX], 8_000),
        ([10, 20, DISTANCE_MAX, DISTANCE_MAX], DISTANCE_MAX),
        ([1 << 19], 1 << 22),
        ([(1 << 19) + 1], DISTANCE_MAX),
        ([DISTANCE_MAX] * 3, DISTANCE_MAX),
    ],
)
def test_a_threshold_is_twice_the_quantile_times_the_margin(measured: list[int], threshold: int) -> None:
    assert thresholds([[one] for one in measured], RULE) == (threshold,)


def test_a_part_of_a_unit_is_rounded_up() -> None:
    assert thresholds([[3]], Rule(10_000, 12_345, 0, 1 << 22)) == (8,)


def test_entries_are_measured_apart() -> None:
    limits = thresholds([[100, DISTANCE_MAX], [5_000, DISTANCE_MAX - 1]], RULE)
    assert limits == (40_000, DISTANCE_MAX)
    assert measured_entries(limits) == 1
    assert not exceeded((40_000, DISTANCE_MAX), limits)
    assert exceeded((40_001, 0), limits)


reports = st.integers(1, 6).flatmap(
    lambda entries: st.lists(
        st.lists(st.integers(0, DISTANCE_MAX), min_size=entries, max_size=entries), min_size=1, max_size=9
    )
)


@given(reports)
def test_thresholds_do_not_depend_on_the_order_and_stay_between_floor_and_cap(measured: list[list[int]]) -> None:
    limits = thresholds(measured, RULE)
    assert limits == thresholds(measured[::-1], RULE)
    assert all(RULE.floor <= limit <= RULE.cap or limit == DISTANCE_MAX for limit in limits)


@given(reports, st.integers(0, DISTANCE_MAX))
def test_a_quarter_of_the_profilers_cannot_move_a_threshold_beyond_the_others(
    measured: list[list[int]], made_up: int
) -> None:
    honest = [[one[0]] for one in measured] * 3
    liars = [[made_up]] * (len(honest) // 3)
    highest = thresholds([[max(one[0] for one in honest)]], RULE)
    assert thresholds(honest + liars, RULE) <= highest


def test_seeds_and_commitments_are_bound_to_task_and_profiler() -> None:
    seeds = {profile_seed(task, who, it) for task in (b"t", b"u") for who in (b"a", b"b") for it in (b"1", b"2")}
    assert len(seeds) == 8
    shown = {
        profile_commitment(task, who, values, salt)
        for task in (b"t", b"u")
        for who in (b"a", b"b")
        for values in ((1, 2), (2, 1))
        for salt in (b"s", b"z")
    }
    assert len(shown) == 16
