"""Validator sets and the proposer rotation against CometBFT's published tables."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.tendermint.proposer import ProposerSchedule, centre, rescale, rotate, turn
from consensus.tendermint.types import Validator, ValidatorSet
from consensus.tendermint.validators import (
    TOTAL_POWER_MAX,
    new_validator_set,
    next_validator_set,
    update_validators,
)
from gensyn_node.primitives.errors import Rejection

DATA = json.loads((Path(__file__).parent.parent / "vectors/proposer/cometbft_valset.json").read_text())


def members(pairs: list[Any]) -> list[Validator]:
    return [Validator(name.encode(), name.encode().ljust(32), power) for name, power in pairs]


def pairs(validators: ValidatorSet) -> list[list[Any]]:
    return [[v.address.decode(), v.power] for v in validators.validators]


def proposers(validators: ValidatorSet, count: int) -> list[str]:
    names = []
    for _ in range(count):
        names.append(validators.proposer.decode())
        validators = rotate(validators, 1)
    return names


def test_published_sequence() -> None:
    expected = DATA["sequence"]["proposers"]
    assert proposers(new_validator_set(members(DATA["sequence"]["validators"])), len(expected)) == expected


def test_equal_powers_take_turns_in_address_order() -> None:
    names = [name for name, _ in DATA["equal_powers"]["validators"]]
    assert proposers(new_validator_set(members(DATA["equal_powers"]["validators"])), 9) == names * 3


@pytest.mark.parametrize("case", DATA["one_heavier"])
def test_one_heavier(case: dict[str, list[int]]) -> None:
    chosen = new_validator_set(members([[f"a{i}", power] for i, power in enumerate(case["powers"])]))
    expected = [f"a{i}" for i in case["first_proposers"]]
    assert proposers(chosen, len(expected)) == expected


def test_turns_are_proportional_to_power() -> None:
    case = DATA["proportional"]
    chosen = new_validator_set(members([[f"a{i}", power] for i, power in enumerate(case["powers"])]))
    counts = Counter(proposers(chosen, case["runs"]))
    assert [counts[f"a{i}"] for i in range(3)] == case["counts"]


def test_priorities_after_each_turn() -> None:
    case = DATA["priorities_after_k_increments"]
    validators = members([[f"a{i}", power] for i, power in enumerate(case["powers"])])
    for row in case["rows"]:
        priorities, chosen = tuple(case["start"]), 0
        for _ in range(row["k"]):
            priorities, chosen = turn(validators, priorities, sum(case["powers"]))
        assert (list(priorities), chosen) == (row["priorities"], row["proposer"])


def test_centring_floors_and_rescaling_truncates_toward_zero() -> None:
    for case in DATA["average_of"]:
        assert case["priorities"][0] - centre(case["priorities"])[0] == case["avg"]
    for case in DATA["centering_zero_power"]:
        priorities = tuple(case["priorities"])
        centred = centre(priorities)
        assert [p - c for p, c in zip(priorities, centred, strict=True)] == [case["avg"]] * 3
    assert rescale([-39, 38], 11) == (-9, 9)  # ratio 4; Python's // would give -10


@pytest.mark.parametrize("name", ["add_then_shrink", "late_joiner_alternates"])
def test_histories_of_updates(name: str) -> None:
    current = update_validators(None, members(DATA[name]["start"]))
    for step in DATA[name]["steps"]:
        current = next_validator_set(current, members(step["update"]))
        by_name = {v.address.decode(): p for v, p in zip(current.validators, current.priorities, strict=True)}
        assert by_name == step["priorities"]
        assert current.proposer.decode() == step.get("proposer", current.proposer.decode())
    if name == "late_joiner_alternates":
        assert len(set(proposers(current, 1_000)[::2])) == 1
        assert set(Counter(proposers(current, 1_000)).values()) == {500}


@pytest.mark.parametrize("case", DATA["updates_ok"], ids=lambda case: case["note"])
def test_allowed_updates(case: dict[str, Any]) -> None:
    assert (
        pairs(update_validators(new_validator_set(members(case["start"])), members(case["updates"])))
        == (case["expected"])
    )


@pytest.mark.parametrize("case", DATA["updates_refused_set_unchanged"], ids=lambda case: case["note"])
def test_refused_updates(case: dict[str, Any]) -> None:
    current = new_validator_set(members(case["start"]))
    with pytest.raises(Rejection):
        update_validators(current, members(case["updates"]))


@pytest.mark.parametrize("case", DATA["updates_overflow"], ids=lambda case: case["name"])
def test_overflow_is_refused_and_never_falsely(case: dict[str, Any]) -> None:
    current = new_validator_set(members(case["start"]))
    changes = members(case["deleted"] + case["updated"] + case["added"])
    if case["error"]:
        with pytest.raises(Rejection):
            update_validators(current, changes)
    else:
        assert pairs(update_validators(current, changes)) == case["expected"]


@pytest.mark.parametrize("case", DATA["updates_any_order_same_result"], ids=lambda case: case["note"])
def test_the_order_of_updates_does_not_matter(case: dict[str, Any]) -> None:
    current = new_validator_set(members(case["start"]))
    changes = members(case["updates"])
    results = {
        update_validators(current, order).priorities for order in (changes, changes[::-1], changes[1:] + changes[:1])
    }
    assert len(results) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, TOTAL_POWER_MAX // 8), min_size=1, max_size=8), st.integers(1, 30))
def test_the_schedule_of_a_height_is_the_rotation(powers: list[int], round: int) -> None:
    validators = new_validator_set(members([[f"v{i}", power] for i, power in enumerate(powers)]))
    schedule = ProposerSchedule(validators)
    schedule.of(round // 2)
    assert schedule.of(round) == rotate(validators, round).proposer
    assert schedule.of(0) == validators.proposer
    assert all(abs(p) < 1 << 63 for p in rotate(validators, round).priorities)


def test_the_hash_covers_members_and_not_priorities() -> None:
    first = new_validator_set(members([["a", 1], ["b", 2]]))
    assert first.hash == rotate(first, 5).hash
    assert first.hash != new_validator_set(members([["a", 2], ["b", 2]])).hash
