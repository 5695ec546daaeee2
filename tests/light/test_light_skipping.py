"""Bisection, anchors, the way back: how many headers, what is refused, what is never trusted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from light_world import CHAIN, HOUR_MS, OPTIONS, Members, World, header, members, seal
from msgspec import structs

from consensus.light import reasons
from consensus.light.backwards import Backwards
from consensus.light.skipping import Failed, Fetch, NotAvailable, Skipping, Verified
from consensus.light.types import Anchor, LightBlock, LightOptions, Trusted, trusted_of
from consensus.light.verify import verify_block
from consensus.tendermint.reasons import BAD_COMMIT
from consensus.tendermint.types import CommitFlag, CommitSlot
from gensyn_node.primitives.errors import Reason, Rejection

HEIGHTS = 2_000
NOW_MS = HEIGHTS * 1_000 + 5_000
Answer = Callable[[int], LightBlock | NotAvailable]


def drive(skipping: Skipping, answer: Answer, now_ms: int = NOW_MS) -> Verified | Failed:
    """Perform the effects of a verification."""
    effect = skipping.start(now_ms)
    while isinstance(effect, Fetch):
        effect = skipping.step(answer(effect.height), now_ms)
    return effect


def failure(skipping: Skipping, answer: Answer, now_ms: int = NOW_MS) -> Reason:
    effect = drive(skipping, answer, now_ms)
    assert isinstance(effect, Failed), effect
    return effect.why.reason


STABLE = World(lambda height: members(["a", "b", "c", "d"]), HEIGHTS)


def turning(period: int) -> Callable[[int], Members]:
    """A set that is replaced completely every `period` heights."""
    return lambda height: members([f"{name}{height // period}" for name in "abcd"])


def test_a_stable_set_takes_one_header() -> None:
    skipping = Skipping(CHAIN, STABLE.genesis(), HEIGHTS, OPTIONS)
    done = drive(skipping, STABLE.block)
    assert isinstance(done, Verified)
    assert done.trusted == trusted_of(STABLE.block(HEIGHTS))
    assert skipping.fetched == 1
    assert done.trace == (STABLE.block(HEIGHTS),)


@pytest.mark.parametrize("turnovers", [1, 2, 4, 8])
def test_each_complete_turnover_costs_log_many_headers(turnovers: int) -> None:
    world = World(turning(HEIGHTS // (turnovers + 1) + 1), HEIGHTS)
    skipping = Skipping(CHAIN, world.genesis(), HEIGHTS, OPTIONS)
    done = drive(skipping, world.block)
    assert isinstance(done, Verified)
    assert done.trusted.block_id == world.header(HEIGHTS).id
    assert skipping.fetched <= 1 + (turnovers + 1) * math.ceil(math.log2(HEIGHTS))
    heights = [block.height for block in done.trace]
    assert heights == sorted(set(heights))


def test_a_chain_that_replaces_everybody_at_every_height_is_walked() -> None:
    world = World(turning(1), 40)
    skipping = Skipping(CHAIN, world.genesis(), 40, OPTIONS)
    assert isinstance(drive(skipping, world.block), Verified)
    assert skipping.fetched == 40


def test_trust_begins_at_a_height_and_hash() -> None:
    anchor = Anchor(500, STABLE.header(500).id)
    skipping = Skipping(CHAIN, anchor, HEIGHTS, OPTIONS)
    done = drive(skipping, STABLE.block)
    assert isinstance(done, Verified)
    assert [block.height for block in done.trace] == [500, HEIGHTS]
    same = drive(Skipping(CHAIN, anchor, 500, OPTIONS), STABLE.block)
    assert isinstance(same, Verified)
    assert same.trusted.block_id == anchor.block_id


def test_a_wrong_anchor_is_refused() -> None:
    assert failure(Skipping(CHAIN, Anchor(500, b"x" * 32), HEIGHTS, OPTIONS), STABLE.block) is reasons.WRONG_ANCHOR
    below = Skipping(CHAIN, Anchor(500, STABLE.header(500).id), 499, OPTIONS)
    assert failure(below, STABLE.block) is reasons.DOES_NOT_FOLLOW


def test_an_anchor_without_a_quorum_is_refused() -> None:
    """A hash names no signatures: whoever serves the header must still show the commit."""
    set_ = STABLE.set_of(1)
    bare = seal(STABLE.header(500), set_, set_, signers=("a", "b"))
    skipping = Skipping(CHAIN, Anchor(500, bare.id), HEIGHTS, OPTIONS)
    assert failure(skipping, lambda height: bare) is BAD_COMMIT


def test_nothing_below_the_trusted_height_is_verified_forwards() -> None:
    start = trusted_of(STABLE.block(10))
    for target in (10, 9):
        assert failure(Skipping(CHAIN, start, target, OPTIONS), STABLE.block) is reasons.DOES_NOT_FOLLOW


def test_a_missing_header_ends_the_verification() -> None:
    world = World(turning(50), 200)
    answer = lambda height: world.block(height) if height == 200 else NotAvailable(height)  # noqa: E731
    assert failure(Skipping(CHAIN, world.genesis(), 200, OPTIONS), answer) is reasons.NOT_AVAILABLE


def test_a_header_of_another_height_than_asked_for_is_refused() -> None:
    """A peer that lies about heights: what it claims is compared with what was asked, not believed."""
    assert failure(Skipping(CHAIN, STABLE.genesis(), 100, OPTIONS), lambda _: STABLE.block(99)) is (
        reasons.BAD_LIGHT_BLOCK
    )
    world = World(turning(50), 200)
    answer = lambda height: world.block(height if height == 200 else height - 1)  # noqa: E731
    assert failure(Skipping(CHAIN, world.genesis(), 200, OPTIONS), answer) is reasons.BAD_LIGHT_BLOCK


# --- times


@pytest.mark.parametrize(("age_ms", "expired"), [(HOUR_MS - 1, False), (HOUR_MS, True), (HOUR_MS + 1, True)])
def test_the_trust_period_to_the_millisecond(age_ms: int, expired: bool) -> None:
    """Trusted time + period must be *after* now."""
    options = LightOptions(trust_period_ms=HOUR_MS)
    start = trusted_of(STABLE.block(10))
    skipping = Skipping(CHAIN, start, 11, options)
    effect = drive(skipping, STABLE.block, start.time_ms + age_ms)
    assert (isinstance(effect, Failed) and effect.why.reason is reasons.TRUST_EXPIRED) == expired


def test_trust_can_expire_during_a_verification() -> None:
    world = World(turning(50), 200)
    options = LightOptions(trust_period_ms=300_000)
    skipping = Skipping(CHAIN, world.genesis(), 200, options)
    effect = skipping.start(201_000)
    assert isinstance(effect, Fetch)
    effect = skipping.step(world.block(effect.height), 300_000)
    assert isinstance(effect, Failed)
    assert effect.why.reason is reasons.TRUST_EXPIRED


@pytest.mark.parametrize(("ahead_ms", "refused"), [(9_999, False), (10_000, True)])
def test_a_header_from_the_future_is_refused(ahead_ms: int, refused: bool) -> None:
    block = STABLE.block(11)
    now_ms = block.header.time_ms - ahead_ms
    start = trusted_of(STABLE.block(1))
    effect = drive(Skipping(CHAIN, start, 11, OPTIONS), STABLE.block, now_ms)
    assert (isinstance(effect, Failed) and effect.why.reason is reasons.FROM_THE_FUTURE) == refused


def test_time_must_rise_strictly() -> None:
    set_ = STABLE.set_of(1)
    start = trusted_of(STABLE.block(10))
    for time_ms in (start.time_ms, start.time_ms - 1):
        block = seal(header(20, set_, set_, time_ms=time_ms), set_, set_)
        assert failure(Skipping(CHAIN, start, 20, OPTIONS), lambda _, b=block: b) is reasons.DOES_NOT_FOLLOW


# --- what is not signed well enough


def refused(trusted: Trusted, block: LightBlock) -> Reason:
    with pytest.raises(Rejection) as caught:
        verify_block(CHAIN, trusted, block, NOW_MS, OPTIONS)
    return caught.value.reason


def test_an_adjacent_header_needs_exactly_the_announced_set() -> None:
    """Trust by overlap is for skipping only: an adjacent header of another set is refused, however many signed."""
    start = trusted_of(STABLE.block(10))
    others = members({"a": 10, "b": 10, "c": 10, "d": 10, "e": 1})
    block = seal(header(11, others, others, previous=start.block_id), others, others)
    assert refused(start, block) is reasons.DOES_NOT_FOLLOW


def test_an_adjacent_header_names_the_trusted_block() -> None:
    set_ = STABLE.set_of(1)
    start = trusted_of(STABLE.block(10))
    assert refused(start, seal(header(11, set_, set_, previous=b"z" * 32), set_, set_)) is reasons.DOES_NOT_FOLLOW


def test_sets_that_are_not_the_named_ones_are_refused() -> None:
    start = STABLE.genesis()
    block = STABLE.block(100)
    others = members(["a", "b", "c", "x"])
    assert refused(start, structs.replace(block, validators=others)) is reasons.BAD_LIGHT_BLOCK
    assert refused(start, structs.replace(block, next_validators=others)) is reasons.BAD_LIGHT_BLOCK


def test_every_signature_is_checked_also_past_two_thirds() -> None:
    start, block = STABLE.genesis(), STABLE.block(100)
    for position in range(4):
        slots = list(block.commit.slots)
        slots[position] = CommitSlot(CommitFlag.COMMIT, bytes(64))
        forged = structs.replace(block, commit=structs.replace(block.commit, slots=tuple(slots)))
        assert refused(start, forged) is BAD_COMMIT


def test_nobody_counts_twice() -> None:
    """One key at two places of a made-up set would sign twice, and be counted twice against the trusted set."""
    start = Trusted(1, b"t" * 32, 0, members(["a", "b", "c", "d"]))
    (a,) = members(["a"])
    twin = structs.replace(a, address=b"\x01" * 20)
    for made_up in ((a, a), (a, twin), (a, structs.replace(a, power=3))):
        head = header(100, made_up, made_up)
        block = seal(head, made_up[:1], made_up)
        commit = structs.replace(block.commit, slots=block.commit.slots * 2)
        assert refused(start, LightBlock(head, commit, made_up, made_up)) is reasons.BAD_LIGHT_BLOCK


def test_power_is_counted_as_the_trusted_set_has_it() -> None:
    """A forged set gives its one corrupt member all the power; the trusted set gave it a quarter."""
    start = trusted_of(STABLE.block(10))
    forged = members({"a": 1_000_000, "x": 1, "y": 1})
    assert refused(start, seal(header(50, forged, forged), forged, forged)) is reasons.NOT_ENOUGH_TRUST


def test_exactly_a_third_is_not_more_than_a_third() -> None:
    start = Trusted(1, b"t" * 32, 0, members(["a", "b", "c"]))
    for signers, verdict in ((["a"], reasons.NOT_ENOUGH_TRUST), (["a", "b"], None)):
        set_ = members(signers)
        block = seal(header(50, set_, set_), set_, set_)
        if verdict is None:
            verify_block(CHAIN, start, block, NOW_MS, OPTIONS)
        else:
            assert refused(start, block) is verdict


def test_votes_for_nil_lend_no_trust() -> None:
    set_ = STABLE.set_of(1)
    start = trusted_of(STABLE.block(10))
    block = seal(header(50, set_, set_), set_, set_, signers=("a",), nil=("b", "c", "d"))
    assert refused(start, block) is reasons.NOT_ENOUGH_TRUST
    adjacent = seal(header(11, set_, set_, previous=start.block_id), set_, set_, signers=("a", "b"), nil=("c", "d"))
    assert refused(start, adjacent) is BAD_COMMIT


def test_a_commit_of_another_header_is_refused() -> None:
    """One field verified and another used: the commit must be of the very header that is then believed."""
    start, block = STABLE.genesis(), STABLE.block(100)
    other = structs.replace(block.header, app_hash=b"x" * 32)
    assert refused(start, structs.replace(block, header=other)) is reasons.BAD_LIGHT_BLOCK
    renamed = structs.replace(block.commit, block_id=other.id)
    assert refused(start, structs.replace(block, header=other, commit=renamed)) is BAD_COMMIT
    higher = structs.replace(block.commit, height=101)
    assert refused(start, structs.replace(block, commit=higher)) is reasons.BAD_LIGHT_BLOCK


# --- the way back


def backwards(target: int, answer: Answer) -> Verified | Failed:
    machine = Backwards(CHAIN, STABLE.block(100), target)
    effect = machine.start()
    while isinstance(effect, Fetch):
        effect = machine.step(answer(effect.height))
    assert isinstance(effect, Verified | Failed)
    return effect


def test_earlier_headers_are_verified_by_the_hash_chain() -> None:
    done = backwards(90, STABLE.block)
    assert isinstance(done, Verified)
    assert [block.height for block in done.trace] == list(range(99, 89, -1))
    assert done.trusted.block_id == STABLE.header(90).id


def test_a_broken_hash_chain_is_refused() -> None:
    set_ = STABLE.set_of(1)
    forged = seal(header(95, set_, set_, salt=b"x"), set_, set_)
    effect = backwards(90, lambda height: forged if height == 95 else STABLE.block(height))
    assert isinstance(effect, Failed)
    assert effect.why.reason is reasons.DOES_NOT_FOLLOW
    for target in (0, 100, 101):
        assert isinstance(backwards(target, STABLE.block), Failed)
    assert isinstance(backwards(90, NotAvailable), Failed)
