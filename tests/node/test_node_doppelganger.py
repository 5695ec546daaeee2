"""The watch for others with our key: what counts as one, when the listening ends, and what is refused at the start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec import structs
from node_cluster import eventually, make_cluster, run
from test_node_driver import Rig

from consensus.tendermint.types import (
    NIL,
    Certificate,
    Commit,
    CommitFlag,
    CommitSlot,
    Proposal,
    Validator,
    ValidatorSet,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from consensus.tendermint.validators import new_validator_set
from gensyn_node.app.doppelganger import Watch, check_own_commit
from gensyn_node.app.driver import SigningAllowed
from gensyn_node.app.startup import open_home
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.signer import Signer, SignRequest, SignStep

CHAIN = "devnet-watch"
KEY, OTHER = SecretKey(b"\x01" * 32), SecretKey(b"\x02" * 32)
BLOCK, ANOTHER = b"\x0a" * 32, b"\x0b" * 32
HEIGHT, ROUND = 9, 1


@dataclass
class Neighbours:
    """What a node would see of the network."""

    others: int = 3
    syncing: bool = False
    heads: tuple[int, ...] = field(default=(HEIGHT - 1, HEIGHT - 1))
    head: int = HEIGHT - 1
    genesis_age_ms: int = 1_000


def vote(height: int, round_: int, kind: VoteType, block: bytes, key: SecretKey = KEY) -> Vote:
    unsigned = Vote(kind, height, round_, block, key.address)
    return structs.replace(unsigned, signature=key.sign(vote_sign_bytes(CHAIN, unsigned)))


def proposal(height: int, round_: int, block: bytes) -> Proposal:
    unsigned = Proposal(height, round_, -1, block, KEY.address)
    return structs.replace(unsigned, signature=KEY.sign(proposal_sign_bytes(CHAIN, unsigned)))


def members() -> ValidatorSet:
    return new_validator_set([Validator(key.address, key.public, 10) for key in (KEY, OTHER)])


def slots(own: CommitSlot) -> tuple[CommitSlot, ...]:
    position = members().positions[KEY.address]
    return tuple(own if place == position else CommitSlot(CommitFlag.ABSENT, b"") for place in range(2))


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """Its record ends with a prevote of height 9, round 1."""
    made = Signer.create(tmp_path / "last_signed", KEY)
    signed = vote(HEIGHT, ROUND, VoteType.PREVOTE, BLOCK)
    message = vote_sign_bytes(CHAIN, signed)
    made.sign(SignRequest(HEIGHT, ROUND, SignStep.PREVOTE, message, message, 0, 1))
    return made


def found(watch: Watch) -> bool:
    return bool(watch._twin)


def watch_of(signer: Signer, wait_s: float = 5.0) -> Watch:
    return Watch(CHAIN, signer, heights=2, wait_s=wait_s)


@pytest.mark.parametrize(
    ("seen", "twin"),
    [
        (vote(HEIGHT, ROUND, VoteType.PREVOTE, BLOCK), False),  # our own, again
        (vote(HEIGHT, ROUND, VoteType.PREVOTE, ANOTHER), True),
        (vote(HEIGHT, ROUND, VoteType.PREVOTE, NIL), True),
        (vote(HEIGHT, ROUND, VoteType.PRECOMMIT, BLOCK), True),
        (vote(HEIGHT, ROUND + 1, VoteType.PREVOTE, BLOCK), True),
        (vote(HEIGHT + 500, 0, VoteType.PREVOTE, NIL), True),  # at heights that we cannot check otherwise
        (vote(HEIGHT, 0, VoteType.PRECOMMIT, ANOTHER), False),  # before: may be ours
        (vote(HEIGHT - 1, 7, VoteType.PRECOMMIT, ANOTHER), False),
        (vote(HEIGHT + 1, 0, VoteType.PREVOTE, BLOCK, OTHER), False),
        (structs.replace(vote(HEIGHT + 1, 0, VoteType.PREVOTE, BLOCK), signature=bytes(64)), False),
        (structs.replace(vote(HEIGHT, ROUND, VoteType.PREVOTE, BLOCK), height=HEIGHT + 1), False),
    ],
)
def test_only_a_true_signature_beyond_the_record_is_a_twin(signer: Signer, seen: Vote, twin: bool) -> None:
    """Whoever repeats or forges our votes cannot stop us."""
    watch = watch_of(signer, 0)
    watch.see_vote(seen)
    assert found(watch) is twin
    assert watch.may_sign is not twin


def test_proposals_certificates_and_commits_are_looked_at(signer: Signer) -> None:
    later = vote(HEIGHT, ROUND, VoteType.PRECOMMIT, BLOCK)
    position = members().positions[KEY.address]
    looks: list[Callable[[Watch], None]] = [
        lambda watch: watch.see_proposal(proposal(HEIGHT, ROUND + 1, BLOCK)),
        lambda watch: watch.see_certificate(
            Certificate(VoteType.PRECOMMIT, HEIGHT, ROUND, BLOCK, ((position, later.signature),)), members()
        ),
        lambda watch: watch.see_commit(
            Commit(HEIGHT, ROUND, BLOCK, slots(CommitSlot(CommitFlag.COMMIT, later.signature))), members()
        ),
        lambda watch: watch.see_conflict(later),
    ]
    for look in looks:
        watch = watch_of(signer, 0)
        look(watch)
        assert found(watch)
    watch = watch_of(signer, 0)
    watch.see_proposal(proposal(HEIGHT, ROUND, ANOTHER))  # a proposal comes before the prevote
    watch.see_commit(Commit(HEIGHT, ROUND, BLOCK, slots(CommitSlot(CommitFlag.ABSENT, b""))), members())
    watch.see_conflict(vote(HEIGHT, ROUND, VoteType.PREVOTE, ANOTHER, OTHER))
    assert not found(watch)


def listen(watch: Watch, neighbours: Neighbours, meanwhile: Callable[[], Awaitable[None]]) -> list[int]:
    """Run the watch on a clock of its own; after which seconds it allowed signing."""
    allowed: list[int] = []

    async def main() -> None:
        begin = trio.current_time()

        async def allow() -> None:
            allowed.append(round(trio.current_time() - begin))

        with trio.move_on_after(1_000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.run, neighbours, allow)
                await meanwhile()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return allowed


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


def test_when_everybody_restarts_the_time_is_enough(signer: Signer) -> None:
    watch = watch_of(signer)
    assert not watch.may_sign
    assert listen(watch, Neighbours(), nothing) == [5]
    assert watch.may_sign


def test_heights_decided_in_silence_end_it_early(signer: Signer) -> None:
    watch = watch_of(signer)

    neighbours = Neighbours()
    assert listen(watch, neighbours, heights(watch, neighbours, HEIGHT, HEIGHT + 1)) == [2]


def heights(watch: Watch, neighbours: Neighbours, *decided: int) -> Callable[[], Awaitable[None]]:
    """Decides these heights, one a second."""

    async def decide() -> None:
        for height in decided:
            await trio.sleep(1)
            assert not watch.may_sign
            neighbours.head = height
            watch.decided(height)

    return decide


@pytest.mark.parametrize(
    ("heads", "others", "seconds"),
    [
        ((HEIGHT + 1,), 3, 5),  # one neighbour may replay old heights to us, and keep the twin's from us
        ((HEIGHT + 1,), 1, 2),  # nobody else is there
        ((HEIGHT + 1, HEIGHT + 1), 3, 2),
        ((HEIGHT + 1, HEIGHT + 40), 3, 5),  # others know of a later head
        ((HEIGHT + 1, 0, HEIGHT + 2), 3, 2),  # who is behind is no contradiction
    ],
)
def test_heights_in_silence_count_where_neighbours_agree(
    signer: Signer, heads: tuple[int, ...], others: int, seconds: int
) -> None:
    watch, neighbours = watch_of(signer), Neighbours(heads=heads, others=others)
    assert listen(watch, neighbours, heights(watch, neighbours, HEIGHT, HEIGHT + 1)) == [seconds]


def test_heights_below_the_record_end_no_listening(signer: Signer) -> None:
    """A database older than the record decides them again; our own votes are in them."""
    watch, neighbours = watch_of(signer), Neighbours()
    assert listen(watch, neighbours, heights(watch, neighbours, HEIGHT - 2, HEIGHT - 1)) == [5]


def test_a_lone_validator_and_a_watch_of_no_time_sign_at_once(signer: Signer) -> None:
    assert listen(watch_of(signer), Neighbours(others=0), nothing) == [0]
    assert listen(watch_of(signer, 0), Neighbours(), nothing) == [0]


def test_a_new_key_in_a_new_chain_waits_for_a_neighbour_only(tmp_path: Path) -> None:
    neighbours = Neighbours(heads=(), head=0)

    async def arrival() -> None:
        await trio.sleep(1)
        neighbours.heads = (0, 0)

    fresh = Signer.create(tmp_path / "state", KEY)
    assert listen(watch_of(fresh), neighbours, arrival) == [1]


def test_the_time_begins_with_the_first_neighbour(signer: Signer) -> None:
    """On a busy machine connecting can take longer than the listening."""
    neighbours = Neighbours(heads=())

    async def arrival() -> None:
        await trio.sleep(40)
        neighbours.heads = (HEIGHT,)

    assert listen(watch_of(signer), neighbours, arrival) == [45]


def test_a_new_key_in_an_old_chain_listens(tmp_path: Path) -> None:
    """A copy of the home made before its first start would sign the first heights a second time."""
    fresh = Signer.create(tmp_path / "state", KEY)
    for neighbours in (
        Neighbours(heads=(0, 40), head=0),
        Neighbours(heads=(0,), head=0),  # the first who comes may be lying
        Neighbours(heads=(0, 0), head=12),  # we know ourselves that it has begun
        Neighbours(heads=(0, 0), head=0, genesis_age_ms=86_400_000),
    ):
        assert listen(watch_of(fresh), neighbours, nothing) == [5]


def test_nothing_is_signed_while_old_blocks_are_coming(signer: Signer) -> None:
    neighbours = Neighbours(syncing=True)

    async def synced() -> None:
        await trio.sleep(60)
        neighbours.syncing = False

    assert listen(watch_of(signer), neighbours, synced) == [60]


def test_a_twin_ends_the_node_with_its_code(signer: Signer) -> None:
    watch = watch_of(signer)

    async def heard() -> None:
        await trio.sleep(1)
        watch.see_vote(vote(HEIGHT + 1, 0, VoteType.PREVOTE, BLOCK))

    with pytest.RaisesGroup(
        pytest.RaisesExc(Rejection, check=lambda error: error.reason is reasons.TWIN_FOUND), flatten_subgroups=True
    ):
        listen(watch, Neighbours(), heard)
    assert not watch.may_sign


def test_commits_beyond_the_record_are_refused_at_the_start(signer: Signer) -> None:
    for height, round_, block, refused in (
        (HEIGHT, ROUND, BLOCK, True),  # the record ends with the prevote
        (HEIGHT + 3, 0, BLOCK, True),
        (HEIGHT - 1, 0, BLOCK, False),
        (HEIGHT, 0, BLOCK, False),
    ):
        commit = Commit(height, round_, block, slots(CommitSlot(CommitFlag.COMMIT, bytes(64))))
        if not refused:
            check_own_commit(CHAIN, signer.state, commit, members())
            continue
        with pytest.raises(Rejection) as caught:
            check_own_commit(CHAIN, signer.state, commit, members())
        assert caught.value.reason is reasons.SIGN_STATE_BEHIND


def test_a_record_older_than_the_database_is_refused(tmp_path: Path) -> None:
    """The sign state came back from a backup, the database did not."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        home = cluster.settings[0].home
        old = (home.signer / "last_signed").read_bytes()
        rig = Rig(cluster)
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            await eventually(lambda: len(rig.committed) >= 3, "three blocks")
            nursery.cancel_scope.cancel()
        rig.close()
        open_home(cluster.settings[0]).chain.close()
        (home.signer / "last_signed").write_bytes(old)
        with pytest.raises(Rejection) as caught:
            open_home(cluster.settings[0])
        assert caught.value.reason is reasons.SIGN_STATE_BEHIND

    run(scenario)


def test_what_was_not_signed_during_the_watch_is_signed_after_it(tmp_path: Path) -> None:
    """Muted, a lone validator stands still; allowed, it goes on from where it is."""

    async def scenario() -> None:
        cluster = make_cluster(tmp_path, 1)
        rig = Rig(cluster)
        assert rig.opened.signer is not None
        watch = watch_of(rig.opened.signer)
        rig.driver._watch = watch
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.driver.run, ())
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert not rig.committed
            assert rig.opened.signer.state.height == 0
            watch._listening = False
            await rig.driver.offer(SigningAllowed())
            await eventually(lambda: len(rig.committed) >= 2, "blocks")
            nursery.cancel_scope.cancel()
        rig.close()

    run(scenario)
