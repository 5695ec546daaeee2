"""Which chunk comes from whom: every chunk is asked for until it is here, liars are asked once, silent ones thrice."""

from __future__ import annotations

import random

import pytest

from consensus.statesync.fetch import FAILURES_MAX, PER_PEER, ChunkPlan, choose
from consensus.statesync.manifest import CHUNK_BYTES, FORMAT, Manifest, check_manifest
from consensus.statesync.reasons import BAD_CHUNK, BAD_MANIFEST
from consensus.tendermint.types import Validator, ValidatorSet
from gensyn_node.app.sync_wire import CHUNK_REPLY_BYTES_MAX, HEIGHT_MAX, ChunkReply, SnapshotOffer, SnapshotsReply
from gensyn_node.app.wire import BlocksQuery
from gensyn_node.light.wire import LightQuery
from gensyn_node.primitives import codec
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import sha256

SET = ValidatorSet((Validator(b"a" * 20, b"k" * 32, 1),), (0,), b"a" * 20)
CHUNKS = [bytes([number]) * CHUNK_BYTES for number in range(12)] + [b"end"]


def manifest(**changes: object) -> Manifest:
    size = sum(map(len, CHUNKS))
    fields: dict[str, object] = {
        "format": FORMAT,
        "chain_id": "devnet-test",
        "height": 7,
        "entries": 1,
        "size": size,
        "chunks": tuple(map(sha256, CHUNKS)),
        "last_validators": SET,
        "validators": SET,
        "next_validators": SET.validators,
    }
    return Manifest(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_all_chunks_come_whatever_some_peers_do(seed: int) -> None:
    chance = random.Random(seed)
    plan = ChunkPlan(manifest(), here=[3, 5])
    behaviour = {"honest": "good", "liar": "bad", "silent": "none", "slow": "good", "short": "short"}
    for peer in behaviour:
        plan.add_peer(peer)
    got: dict[int, bytes] = {3: CHUNKS[3], 5: CHUNKS[5]}
    under_way: list[tuple[str, int]] = []
    asked: list[str] = []
    while not plan.done:
        for peer in plan.usable():
            while (index := plan.next_for(peer)) is not None:
                under_way.append((peer, index))
                asked.append(peer)
        assert max(sum(p == peer for p, _ in under_way) for peer in behaviour) <= PER_PEER
        peer, index = under_way.pop(chance.randrange(len(under_way)))
        match behaviour[peer]:
            case "good":
                plan.received(peer, index, CHUNKS[index])
                got[index] = CHUNKS[index]
            case "none":
                plan.failed(peer, index)
            case kind:
                with pytest.raises(Rejection) as caught:
                    plan.received(peer, index, CHUNKS[index][:-1] if kind == "short" else CHUNKS[index - 1])
                assert caught.value.reason is BAD_CHUNK
                assert peer not in plan.usable()
    assert [got[index] for index in range(len(CHUNKS))] == CHUNKS
    assert plan.left == 0
    assert asked.count("liar") <= PER_PEER
    assert asked.count("silent") <= FAILURES_MAX + PER_PEER


def test_a_chunk_bomb_is_cut_off_by_its_bound() -> None:
    fits, bomb = bytes(CHUNK_BYTES), bytes(CHUNK_BYTES + 1)
    assert len(encode(ChunkReply(fits))) <= CHUNK_REPLY_BYTES_MAX
    assert codec.decode(ChunkReply, encode(ChunkReply(fits))).data == fits
    with pytest.raises(Rejection):
        codec.decode(ChunkReply, encode((bomb,)))


def test_nobody_left_leaves_the_plan_unfinished() -> None:
    plan = ChunkPlan(manifest())
    plan.add_peer("silent")
    for _ in range(FAILURES_MAX):
        index = plan.next_for("silent")
        assert index is not None
        plan.failed("silent", index)
    assert plan.usable() == []
    assert plan.next_for("silent") is None
    assert not plan.done


def test_the_highest_offer_of_most_peers_comes_first() -> None:
    a, b, c, bad = (bytes([number]) * 32 for number in range(4))
    offers = [("p", 10, a), ("q", 10, b), ("r", 10, b), ("p", 8, c), ("r", 10, b), ("s", 99, bad)]
    ranked = choose(offers, refused={bad})
    assert [(one.height, one.manifest_id, one.peers) for one in ranked] == [
        (10, b, ("q", "r")),
        (10, a, ("p",)),
        (8, c, ("p",)),
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_id": "other"},
        {"size": 1 << 40},
        {"size": 0},
        {"chunks": (b"h" * 32,)},
        {"validators": ValidatorSet((), (), b"")},
        {"last_validators": ValidatorSet(SET.validators, (), b"")},
    ],
)
def test_manifests_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    check_manifest(manifest(), "devnet-test")
    with pytest.raises(Rejection) as caught:
        check_manifest(manifest(**changes), "devnet-test")
    assert caught.value.reason is BAD_MANIFEST


def test_a_height_above_which_nothing_can_be_asked_for_is_no_offer() -> None:
    """The block after the snapshot's is asked for: with the greatest number on the wire there would be none."""
    reply = encode(SnapshotsReply((SnapshotOffer(2**64 - 1, b"m" * 32),)))
    with pytest.raises(Rejection):
        codec.decode(SnapshotsReply, reply)
    highest = codec.decode(SnapshotsReply, encode(SnapshotsReply((SnapshotOffer(HEIGHT_MAX - 1, b"m" * 32),))))
    assert encode(LightQuery(highest.offers[0].height + 1))
    assert encode(BlocksQuery(highest.offers[0].height, 2))
