"""What a peer of the same height lacks. Pure questions and answers: liveness rests on these, not on gossip.

A node that does not advance sends its status to a few peers; each answers with what it has and the status lacks, most
useful first: the decision, polkas a re-proposal needs, the peer's own round, the answerer's round. A quorum travels as
one certificate, so equivocators cannot hide it. Older heights are served as stored blocks with their commits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from consensus.tendermint.round import RoundStep
from consensus.tendermint.types import (
    NIL,
    NO_ROUND,
    Certificate,
    ConsensusMessage,
    FullProposal,
    HeightStatus,
    RoundStatus,
    Step,
    Vote,
    VoteType,
)
from consensus.tendermint.votes import VoteSet

if TYPE_CHECKING:
    from consensus.tendermint.core import ConsensusCore

STATUS_ROUNDS_MAX = 8
"""Rounds described in a status: the current one and those that matter most."""
ANSWER_BLOCKS_MAX = 2
"""Whole blocks in one answer."""
ANSWER_VOTES_MAX = 512
"""Single votes in one answer."""


def height_status(core: ConsensusCore) -> HeightStatus:
    """Describe the core's height: its current round, rounds with quorums, then the highest others."""
    machine = core.machine
    state = machine.state
    rounds = set(machine.votes.rounds) | set(machine.proposals) | {max(state.round, 0)}
    order = sorted(rounds, key=lambda r: (r != state.round, r != state.valid_round, not _has_quorum(core, r), -r))
    described = sorted(order[:STATUS_ROUNDS_MAX])
    step = Step(min(max(state.step, RoundStep.PROPOSE), RoundStep.PRECOMMIT))
    return HeightStatus(core.height, max(state.round, 0), step, tuple(_round_status(core, r) for r in described))


def _has_quorum(core: ConsensusCore, round: int) -> bool:
    return any(core.machine.votes.quorum(kind, round) is not None for kind in VoteType)


def _round_status(core: ConsensusCore, round: int) -> RoundStatus:
    votes = core.machine.votes.rounds.get(round)
    size = (len(core.validators.validators) + 7) // 8
    prevotes, precommits = (0, 0) if votes is None else (votes.prevotes.bits(), votes.precommits.bits())
    return RoundStatus(
        round,
        tuple(core.machine.proposals.get(round, ())),
        prevotes.to_bytes(size, "little"),
        precommits.to_bytes(size, "little"),
        None if votes is None else votes.prevotes.quorum,
        None if votes is None else votes.precommits.quorum,
    )


def answer_status(core: ConsensusCore, status: HeightStatus | None, only: int | None = None) -> list[ConsensusMessage]:
    """What the core has and `status` lacks. Without a status: the messages of position `only` in the current round."""
    if status is None:
        return _own_messages(core, only)
    if status.height != core.height:
        return []
    lacking = {described.round: described for described in status.rounds}
    blocks = votes = 0
    answer: list[ConsensusMessage] = []
    for message in _useful(core, status.round, lacking):
        if message in answer:
            continue
        blocks += isinstance(message, FullProposal)
        votes += isinstance(message, Vote)
        if (isinstance(message, FullProposal) and blocks > ANSWER_BLOCKS_MAX) or votes > ANSWER_VOTES_MAX:
            continue
        answer.append(message)
    return answer


def _own_messages(core: ConsensusCore, only: int | None) -> list[ConsensusMessage]:
    round = core.machine.state.round
    empty = RoundStatus(round, (), b"", b"", None, None)
    votes = [vote for kind in VoteType for vote in _votes(core, kind, round, empty, only)]
    if core.proposers.of(round) == core.address:
        return [*_proposals(core, round, empty), *votes]
    return list(votes)


def _useful(core: ConsensusCore, peer_round: int, lacking: dict[int, RoundStatus]) -> Iterator[ConsensusMessage]:
    """Everything the peer lacks and may need, in the order of need."""
    machine, state = core.machine, core.machine.state
    for round in sorted(machine.votes.rounds, reverse=True):  # the decision
        value = machine.votes.quorum(VoteType.PRECOMMIT, round)
        if value:
            yield from _quorum(core, VoteType.PRECOMMIT, round, lacking)
            yield from _proposals(core, round, lacking.get(round), value)
    own_rounds = [round for round in sorted({peer_round, state.round}, reverse=True) if round != NO_ROUND]
    for round in own_rounds:
        yield from _proposals(core, round, lacking.get(round))
        for value, entry in machine.proposals.get(round, {}).items():  # the polka that a re-proposal claims
            if machine.votes.quorum(VoteType.PREVOTE, entry.valid_round) == value:
                yield from _quorum(core, VoteType.PREVOTE, entry.valid_round, lacking)
    for round in own_rounds:
        for kind in VoteType:
            yield from _quorum(core, kind, round, lacking)
            yield from _votes(core, kind, round, lacking.get(round))
    if state.valid_round != NO_ROUND and state.valid_value is not None:  # what we shall re-propose
        yield from _quorum(core, VoteType.PREVOTE, state.valid_round, lacking)
        yield from _proposals(core, state.valid_round, lacking.get(state.valid_round), state.valid_value)


def _vote_set(core: ConsensusCore, kind: VoteType, round: int) -> VoteSet | None:
    votes = core.machine.votes.rounds.get(round)
    return None if votes is None else votes.of(kind)


def _quorum(
    core: ConsensusCore, kind: VoteType, round: int, lacking: dict[int, RoundStatus]
) -> Iterator[ConsensusMessage]:
    """The certificate of a quorum that the peer does not have."""
    vote_set = _vote_set(core, kind, round)
    if vote_set is None or vote_set.quorum is None:
        return
    peer = lacking.get(round)
    if peer is None or (peer.polka if kind is VoteType.PREVOTE else peer.commit) is None:
        signatures = tuple(sorted(vote_set.signatures[vote_set.quorum].items()))
        yield Certificate(kind, core.height, round, vote_set.quorum, signatures)


def _proposals(
    core: ConsensusCore, round: int, peer: RoundStatus | None, value: bytes = NIL
) -> Iterator[ConsensusMessage]:
    """The proposals of a round (or the one for `value`) that the peer does not have."""
    for block_id in core.machine.proposals.get(round, ()):
        if (value in (NIL, block_id)) and (peer is None or block_id not in peer.proposals):
            yield FullProposal(core.proposals[round, block_id], core.blocks[block_id])


def _votes(
    core: ConsensusCore, kind: VoteType, round: int, peer: RoundStatus | None, only: int | None = None
) -> Iterator[ConsensusMessage]:
    """Single votes the peer does not have, unless a certificate already says it all."""
    vote_set = _vote_set(core, kind, round)
    if vote_set is None or (only is None and vote_set.quorum is not None):
        return
    known = b"" if peer is None else peer.prevotes if kind is VoteType.PREVOTE else peer.precommits
    mask = int.from_bytes(known, "little")
    for position, value in sorted(vote_set.first.items()):
        if mask >> position & 1 or only not in (None, position):
            continue
        address = core.validators.validators[position].address
        yield Vote(kind, core.height, round, value, address, vote_set.signatures[value][position])
