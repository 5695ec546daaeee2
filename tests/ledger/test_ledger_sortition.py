"""The draw: chances are exact, slots are as bonds are, and the same bonds in more accounts are drawn as often.

Every starting point of every order is looked at, with small weights: no figure here is a sample.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import pytest

from consensus.ledger.sortition import CORRECTION_SHIFT, chances, corrected, pick, sample, starting_points

CROWDS = [(3, 1, 2, 1), (5, 4, 3, 2, 1), (1, 1, 1, 1, 1, 1), (9, 1, 1, 1, 1), (6, 6, 1, 1), (2, 2)]
CLOSE = Fraction(1, 1 << (CORRECTION_SHIFT - 8))
"""What the correction's rounding may make."""


def exactly(weights: tuple[int, ...], count: int) -> list[Fraction]:
    return [Fraction(*one) for one in chances(weights, count)]


@pytest.mark.parametrize("weights", CROWDS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_over_all_starting_points_each_is_picked_with_its_chance(weights: tuple[int, ...], count: int) -> None:
    for order in permutations(range(len(weights))):
        laid = [weights[place] for place in order]
        points, picked = starting_points(laid, count), [0] * len(weights)
        for start in range(points):
            places = sample(laid, count, start)
            assert len(places) == min(count, len(weights)) == len(set(places))
            for place in places:
                picked[order[place]] += 1
        assert [Fraction(times, points) for times in picked] == exactly(weights, count)


@pytest.mark.parametrize("weights", CROWDS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_chances_are_as_weights_are_up_to_certainty(weights: tuple[int, ...], count: int) -> None:
    found, wanted = exactly(weights, count), min(count, len(weights))
    assert sum(found) == wanted
    for one, weight in zip(found, weights, strict=True):
        share = Fraction(weight * count, sum(weights))
        if max(weights) * count <= sum(weights):
            assert one == share
        else:
            assert one >= min(Fraction(1), share), "what the heavy cannot take is drawn among the others"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_splitting_an_account_changes_nobody_s_slots(count: int) -> None:
    whole = exactly((30, 25, 25, 40, 30), count)
    for pieces in ((15, 15), (29, 1), (10, 10, 10), (1,) * 30):
        split = exactly((*pieces, 25, 25, 40, 30), count)
        assert sum(split[: len(pieces)]) == whole[0]
        assert split[len(pieces) :] == whole[1:]


def verified(weights: tuple[int, ...], count: int) -> list[Fraction]:
    """Verifications of each an instalment, when its solver is drawn by weight and does not verify."""
    total, found = sum(weights), [Fraction(0)] * len(weights)
    for solver, weight in enumerate(weights):
        others = [place for place in range(len(weights)) if place != solver]
        laid = corrected([weights[place] for place in others], weight)
        for place, chance in zip(others, exactly(tuple(laid), count), strict=True):
            found[place] += Fraction(weight, total) * chance
    return found


@pytest.mark.parametrize("count", [1, 2])
def test_who_trains_and_does_not_verify_itself_verifies_as_much_as_its_bonds_all_the_same(count: int) -> None:
    """Three tenths of all bonds are three tenths of all verifications, in one account and in many."""
    for weights in ((30, 10, 10, 10, 10, 10, 10, 10), (15, 15, 10, 10, 10, 10, 10, 10, 10), (*(3,) * 10, *(7,) * 10)):
        for one, weight in zip(verified(weights, count), weights, strict=True):
            assert abs(one - Fraction(count * weight, sum(weights))) < CLOSE


def test_without_the_correction_one_account_verifies_less_than_the_same_bonds_in_many() -> None:
    """What it mends: by weight alone, who solves often is left out of its own instalments, and splitting would pay."""
    others = Fraction(7, 10)
    assert others * exactly((30, *(10,) * 6), 2)[0] < Fraction(2 * 30, 100) - Fraction(1, 20)


def test_who_has_half_of_all_bonds_is_drawn_for_certain_where_it_did_not_train() -> None:
    assert exactly(tuple(corrected((50, 10, 10, 10, 10), 10)), 2)[0] == 1
    assert exactly(tuple(corrected((90 * 10**9, 5 * 10**9), 5 * 10**9)), 1)[0] > Fraction(999, 1000)


def test_a_pick_follows_its_seed_and_its_names() -> None:
    names = [bytes((number,)) * 20 for number in range(40)]
    weights = [1 + number % 7 for number in range(40)]
    drawn = {tuple(pick(names, names, weights, 3, bytes((seed,)) * 32)) for seed in range(50)}
    assert len(drawn) > 45 and all(len(set(one)) == 3 for one in drawn)
    assert pick(names, names, weights, 3, bytes(32)) == pick(names, names, weights, 3, bytes(32))
    assert sorted(pick(names, names, weights, 50, bytes(32))) == names
    assert pick([], [], [], 2, bytes(32)) == [] == pick(names, names, weights, 0, bytes(32))


def test_over_many_seeds_orders_are_as_different_as_they_should_be() -> None:
    """Of four alike, two are drawn: every pair comes, though systematic sampling of one order knows only two."""
    names = [bytes((number,)) * 20 for number in range(4)]
    pairs = [tuple(sorted(pick(range(4), names, [1] * 4, 2, s.to_bytes(32, "big")))) for s in range(600)]
    assert {pair: pairs.count(pair) > 60 for pair in set(pairs)} == dict.fromkeys(
        [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], True
    )
