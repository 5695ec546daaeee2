"""What the chain takes for a role's transactions: the ledger's least fee of messages as large as real ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from consensus.ledger.fees import least_fee
from consensus.ledger.messages import (
    APPROVED,
    CommitInstalment,
    DisputeMove,
    EvidenceChallenge,
    Finding,
    Message,
    OpenChallengeCommit,
    OpenChallengeReveal,
    StartTask,
    SubmitTask,
    Transaction,
    VerdictCommit,
    VerdictReveal,
    encode_transaction,
)
from consensus.ledger.parameters import Parameters
from consensus.ledger.schedule import instalment_segments, samples_of
from gensyn_node.economics.shape import Shape

MOVE_BYTES = 2_048
"""A usual dispute move; those with operands are larger."""
_HASH = bytes(32)
_ENDPOINT = "/ip4/203.0.113.7/tcp/40000/p2p/" + "1" * 52


@dataclass(frozen=True, slots=True)
class Fees:
    """Nano for each message, or for a role's usual pair of them."""

    submit: int
    start: int
    commit: int
    verdict: int
    """Commit and reveal."""
    verdict_commit: int
    challenge: int
    """Announce and show."""
    announce: int
    move: int


@lru_cache(maxsize=256)
def fees_of(shape: Shape, parameters: Parameters) -> Fees:
    """The fees of one kind of task."""
    segments = len(instalment_segments(shape.spec, 0))
    roots = tuple(_HASH for _ in range(segments))
    findings = tuple(Finding(0, APPROVED, _HASH) for _ in range(samples_of(shape.spec, 0)))
    commit = CommitInstalment(_HASH, 1, b"", roots, roots, (1 << 31,) * segments, (_ENDPOINT,))
    announce = OpenChallengeCommit(_HASH, 0, _HASH)
    show = OpenChallengeReveal(_HASH, EvidenceChallenge(0, 1, 1, bytes(20), _HASH), _HASH)
    verdict_commit = VerdictCommit(_HASH, 0, 1, _HASH)

    def fee(message: Message) -> int:
        size = len(encode_transaction(Transaction("gensyn-1", _HASH, 1 << 16, 1 << 24, message, bytes(64))))
        return least_fee(message, size, parameters)

    return Fees(
        submit=fee(SubmitTask(shape.spec)),
        start=fee(StartTask(_HASH)),
        commit=fee(commit),
        verdict=fee(verdict_commit) + fee(VerdictReveal(_HASH, 0, 1, findings, b"", _HASH)),
        verdict_commit=fee(verdict_commit),
        challenge=fee(announce) + fee(show),
        announce=fee(announce),
        move=fee(DisputeMove(_HASH, bytes(MOVE_BYTES))),
    )
