"""Random chains and random liars: honest heads are always reached, and below a third nobody can forge one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from light_world import CHAIN, OPTIONS, Members, Powers, World, header, members, seal
from msgspec import structs

from consensus.light.skipping import Failed, Fetch, NotAvailable, Skipping, Verified
from consensus.light.types import LightBlock, Trusted, trusted_of
from consensus.light.verify import verify_block
from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection

HEIGHTS = 24
NOW_MS = HEIGHTS * 1_000 + 5_000
HONEST = [f"h{number}" for number in range(6)]
LIARS = ["l0", "l1"]
STRANGERS = ["s0", "s1", "s2"]

sets = st.dictionaries(st.sampled_from(HONEST), st.integers(2, 30), min_size=2)


def with_liars(honest: Powers, share: int) -> Members:
    """The set with the liars in it, who have at most a third of it together."""
    room = sum(honest.values()) // 2  # a third of the whole
    first = room * share // 100
    powers = {"l0": first, "l1": (room - first) // 2}
    return members(honest | {name: power for name, power in powers.items() if power})


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Sets that stay for a while and then change, a little or completely."""
    changes = draw(st.lists(st.tuples(st.integers(1, HEIGHTS), sets, st.integers(0, 100)), min_size=1, max_size=6))
    ordered = sorted(changes, key=lambda change: change[0])

    def set_of(height: int) -> Members:
        chosen = [change for change in ordered if change[0] <= height] or ordered[:1]
        _, honest, share = chosen[-1]
        return with_liars(honest, share)

    return World(set_of, HEIGHTS)


def drive(skipping: Skipping, answers: list[LightBlock | None], world: World) -> Verified | Failed:
    """The primary answers with what it made up, as often as it likes, else with the truth."""
    effect = skipping.start(NOW_MS)
    number = 0
    while isinstance(effect, Fetch):
        made_up = answers[number] if number < len(answers) else None
        number += 1
        if made_up is not None:
            at = structs.replace(made_up.header, height=effect.height)
            answer: LightBlock | NotAvailable = resealed(at, made_up)
        else:
            answer = world.block(effect.height)
        effect = skipping.step(answer, NOW_MS)
    return effect


def resealed(head: object, block: LightBlock) -> LightBlock:
    """The made-up block at the height that was asked for, signed by all liars and strangers in its set."""
    signers = {*LIARS, *STRANGERS}
    return seal(head, block.validators, block.next_validators, signers=signers)  # type: ignore[arg-type]


@st.composite
def forgeries(draw: st.DrawFn) -> LightBlock:
    """Any set that the liars like, with strangers of theirs, and honest names that did not sign."""
    names = st.sampled_from([*LIARS, *STRANGERS, *HONEST])
    powers = draw(st.dictionaries(names, st.integers(1, 1_000), min_size=1))
    following = draw(st.dictionaries(names, st.integers(1, 1_000), min_size=1))
    chosen, after = members(powers), members(following)
    time_ms = draw(st.integers(0, NOW_MS))
    head = header(1, chosen, after, time_ms=time_ms, salt=b"forged", previous=draw(st.binary(min_size=32, max_size=32)))
    return seal(head, chosen, after, signers={*LIARS, *STRANGERS})


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(1, HEIGHTS))
def test_every_honest_head_is_reached(world: World, target: int) -> None:
    skipping = Skipping(CHAIN, world.genesis(), target, OPTIONS)
    effect = drive(skipping, [], world)
    assert isinstance(effect, Verified)
    assert effect.trusted == trusted_of(world.block(target))
    assert skipping.fetched <= target


@settings(max_examples=120, deadline=None)
@given(worlds(), st.lists(st.one_of(st.none(), forgeries()), max_size=8), st.integers(1, HEIGHTS))
def test_a_third_of_the_power_forges_nothing(world: World, answers: list[LightBlock | None], target: int) -> None:
    effect = drive(Skipping(CHAIN, world.genesis(), target, OPTIONS), answers, world)
    if isinstance(effect, Verified):
        assert [block.id for block in effect.trace] == [world.header(block.height).id for block in effect.trace]
        assert effect.trusted.block_id == world.header(target).id


@settings(max_examples=120, deadline=None)
@given(worlds(), forgeries(), st.integers(0, HEIGHTS - 2), st.integers(1, HEIGHTS))
def test_no_single_step_believes_the_liars(world: World, made_up: LightBlock, low: int, ahead: int) -> None:
    start = world.genesis() if low == 0 else trusted_of(world.block(low))
    forged = resealed(structs.replace(made_up.header, height=low + ahead), made_up)
    try:
        verify_block(CHAIN, start, forged, NOW_MS, OPTIONS)
    except Rejection:
        return
    raise AssertionError("a forged header is believed")


TRUE = World(lambda height: with_liars({"h0": 10, "h1": 11, "h2": 12}, 50), HEIGHTS)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from((1, 2, 9)), st.integers(0, 10_000), st.binary(min_size=1, max_size=5))
def test_changed_bytes_are_refused_or_mean_the_same_header(height: int, at: int, patch: bytes) -> None:
    data = encode(TRUE.block(height))
    at %= len(data)
    start: Trusted = TRUE.genesis()
    try:
        block: LightBlock = decode(LightBlock, data[:at] + patch + data[at + len(patch) :])
        verify_block(CHAIN, start, block, NOW_MS, OPTIONS)
    except Rejection:
        return
    assert block == TRUE.block(height)
