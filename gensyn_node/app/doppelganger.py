"""Is somebody else signing with our key? A restored backup or a second machine would cost the whole stake.

The signer's record says how far this node has signed; a signature of our key beyond it, or another one at the same
place, was given by somebody else (or by us before the record was put back to an older one, which is no better). After a
start nothing is signed until some heights were decided without such a signature, or a time has passed since the first
neighbour came: when everybody restarts, nobody decides anything and the time must be enough. One neighbour alone, which
could replay old heights or deny that the chain has begun, never makes the time shorter, and nor do several that do not
agree where the chain is. The watch goes on for as long as the node runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio

from consensus.tendermint.types import (
    NIL,
    Certificate,
    Commit,
    CommitFlag,
    Proposal,
    ValidatorSet,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.signer import Signer, SignState, SignStep, is_beyond

NEIGHBOURS_ENOUGH = 2
"""Neighbours that must agree on the head before the listening ends early; fewer when there are fewer others."""
NEW_CHAIN_MS = 600_000
"""A chain whose genesis is older has been running, whatever the neighbours say."""
LOOK_INTERVAL_S = 0.1
"""How often the neighbours' heads are looked at during the watch."""

log = structlog.get_logger()

_STEPS = {VoteType.PREVOTE: SignStep.PREVOTE, VoteType.PRECOMMIT: SignStep.PRECOMMIT}


class Neighbours(Protocol):
    """What the watch asks about the network."""

    @property
    def others(self) -> int:
        """Validators of the chain beside this node."""

    @property
    def head(self) -> int:
        """This node's own height."""

    @property
    def genesis_age_ms(self) -> int:
        """Milliseconds since the chain's genesis, below 0 before it."""

    @property
    def heads(self) -> tuple[int, ...]:
        """What each connected peer says its head is."""

    @property
    def syncing(self) -> bool:
        """Whether peers have shown to be far ahead."""


def own_precommit(commit: Commit, validators: ValidatorSet, address: bytes) -> tuple[Vote, bytes] | None:
    """The precommit of `address` in a commit, and the key that signed it; None when it has none there."""
    position = validators.positions.get(address)
    if position is None or commit.slots[position].flag is CommitFlag.ABSENT:
        return None
    slot = commit.slots[position]
    block_id = NIL if slot.flag is CommitFlag.NIL else commit.block_id
    vote = Vote(VoteType.PRECOMMIT, commit.height, commit.round, block_id, address, slot.signature)
    return vote, validators.validators[position].public_key


def check_own_commit(chain_id: str, state: SignState, commit: Commit, validators: ValidatorSet) -> None:
    """`Rejection` (SIGN_STATE_BEHIND) when a stored commit has a signature of ours that the record does not know."""
    own = own_precommit(commit, validators, crypto.address_of(state.public_key))
    if own is None or own[1] != state.public_key:
        return
    vote = own[0]
    place = (vote.height, vote.round, int(SignStep.PRECOMMIT))
    if is_beyond(state, place, vote_sign_bytes(chain_id, vote)):
        raise Rejection(
            reasons.SIGN_STATE_BEHIND,
            f"block {commit.height} has our precommit of round {commit.round}, "
            f"the record ends at height {state.height} round {state.round}",
        )


class Watch:
    """Looks at every message and commit that comes in; `may_sign` is what the driver asks before each signature."""

    def __init__(self, chain_id: str, signer: Signer, *, heights: int, wait_s: float) -> None:
        """`heights` decided in silence, or `wait_s` seconds, end the listening; `wait_s` 0 leaves it out."""
        self._chain_id = chain_id
        self._signer = signer
        self._address = crypto.address_of(signer.public_key)
        self._heights_left = heights
        self._wait_s = wait_s
        self._listening = wait_s > 0
        self._found = trio.Event()
        self._twin = ""

    @property
    def may_sign(self) -> bool:
        """Whether the listening is over and nobody was heard."""
        return not self._listening and not self._twin

    # --- what comes in

    def see_vote(self, vote: Vote) -> None:
        """A vote as it came, not yet checked."""
        if vote.validator == self._address:
            place = (vote.height, vote.round, int(_STEPS[vote.kind]))
            self._see(place, vote_sign_bytes(self._chain_id, vote), vote.signature)

    def see_proposal(self, proposal: Proposal) -> None:
        """A proposal as it came, not yet checked."""
        if proposal.proposer == self._address:
            place = (proposal.height, proposal.round, int(SignStep.PROPOSAL))
            self._see(place, proposal_sign_bytes(self._chain_id, proposal), proposal.signature)

    def see_certificate(self, certificate: Certificate, validators: ValidatorSet) -> None:
        """A certificate as it came, and the set of its height."""
        position = validators.positions.get(self._address)
        for where, signature in certificate.signatures:
            if where == position:
                kind, block_id = certificate.kind, certificate.block_id
                self.see_vote(Vote(kind, certificate.height, certificate.round, block_id, self._address, signature))

    def see_commit(self, commit: Commit, validators: ValidatorSet) -> None:
        """The commit of a block that is taken over."""
        own = own_precommit(commit, validators, self._address)
        if own is not None:
            self.see_vote(own[0])

    def see_conflict(self, vote: Vote) -> None:
        """Two different votes under our key were counted; this is one of them."""
        if vote.validator == self._address:
            self._report((vote.height, vote.round, int(_STEPS[vote.kind])))

    def decided(self, height: int) -> None:
        """A height was decided by the votes that came in, none of them ours; one below our record says nothing."""
        if height >= self._signer.state.height:
            self._heights_left -= 1

    def _see(self, place: tuple[int, int, int], message: bytes, signature: bytes) -> None:
        if is_beyond(self._signer.state, place, message) and crypto.verify(self._signer.public_key, message, signature):
            self._report(place)

    def _report(self, place: tuple[int, int, int]) -> None:
        if not self._twin:
            height, round_, step = place
            self._twin = f"height {height} round {round_} {SignStep(step).name.lower()}"
            log.critical("twin_found", code=reasons.TWIN_FOUND.code, place=self._twin)
            self._found.set()

    # --- the listening

    async def run(self, neighbours: Neighbours, allowed: Callable[[], Awaitable[None]]) -> None:
        """Listen, then call `allowed`; `Rejection` (TWIN_FOUND) ends it whenever a twin is heard."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, neighbours, allowed)
            await self._found.wait()
            raise Rejection(reasons.TWIN_FOUND, f"our key has signed at {self._twin}, and it was not this node")

    async def _listen(self, neighbours: Neighbours, allowed: Callable[[], Awaitable[None]]) -> None:
        if self._listening and neighbours.others:
            log.info("watch_started", signed=self._signer.state.height, seconds=self._wait_s)
            # Without a neighbour there is nothing to hear, and nobody to whom a signature could go.
            while not neighbours.heads:  # noqa: ASYNC110  (heads come with handshakes and pings)
                await trio.sleep(LOOK_INTERVAL_S)
            with trio.move_on_after(self._wait_s):
                while not self._heard_enough(neighbours):  # noqa: ASYNC110
                    await trio.sleep(LOOK_INTERVAL_S)
            while neighbours.syncing:  # noqa: ASYNC110  (blocks are still being shown to us, our own votes among them)
                await trio.sleep(LOOK_INTERVAL_S)
        self._listening = False
        log.info("watch_over", may_sign=self.may_sign)
        await allowed()

    def _heard_enough(self, neighbours: Neighbours) -> bool:
        """Whether the listening may end before its time.

        Enough neighbours agree where the chain is, and heights were decided in silence or the chain has yet to begin:
        a key that never signed has nothing to fear there.
        """
        heads, head = neighbours.heads, neighbours.head
        if len(heads) < min(NEIGHBOURS_ENOUGH, neighbours.others) or max(heads) > head + 1:
            return False
        fresh = not self._signer.state.height and neighbours.genesis_age_ms <= NEW_CHAIN_MS
        return self._heights_left <= 0 or (fresh and not head and not max(heads))
