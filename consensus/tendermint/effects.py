"""What comes out of `ConsensusCore.step`: requests to the driver, to be done in the given order.

After a restart the driver feeds the log, drops the effects, and then performs `ConsensusCore.outstanding()`.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.tendermint.types import Block, Commit, ConsensusMessage, DuplicateVoteEvidence, Proposal, Step, Vote


@dataclass(frozen=True, slots=True)
class SignVote:
    """Sign this vote of ours, verify it, log it and feed it back; the core counts and broadcasts it then, not before.

    Order matters: fsync the log (the inputs that led to this vote), then the signer's record, then sign. A replay then
    asks for exactly this vote again and the signer repeats its signature. With the log not synced first, a crash can
    leave a signature for a vote that nobody can rebuild, and the round waits for it for ever.
    """

    vote: Vote


@dataclass(frozen=True, slots=True)
class SignProposal:
    """Sign this proposal of ours and feed it back with its block, like `SignVote`."""

    proposal: Proposal
    block: Block


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to all peers. Best effort: nothing depends on its arrival."""

    message: ConsensusMessage


@dataclass(frozen=True, slots=True)
class ScheduleTimeout:
    """Feed `Timeout(height, round, step)` after this long."""

    height: int
    round: int
    step: Step
    duration_ms: int


@dataclass(frozen=True, slots=True)
class BuildValue:
    """Build a block to propose and answer with `ValueBuilt`; soon, since the propose time-out runs."""

    height: int
    round: int
    last_commit: Commit | None
    """The fullest known commit of the previous height, to go into the block."""


@dataclass(frozen=True, slots=True)
class ValidateValue:
    """Check the whole block (header, commit, evidence, execution) and answer with `ValueValidated`."""

    height: int
    round: int
    block: Block


@dataclass(frozen=True, slots=True)
class Decide:
    """The height is decided: execute and store block and commit in one batch, then feed `StartHeight`."""

    height: int
    round: int
    block: Block
    commit: Commit


@dataclass(frozen=True, slots=True)
class EvidenceFound:
    """A validator broke the rules; put this into the evidence pool and into our next block."""

    evidence: DuplicateVoteEvidence


@dataclass(frozen=True, slots=True)
class RoundEntered:
    """For logs and metrics only."""

    height: int
    round: int
    proposer: bytes


Effect = (
    SignVote
    | SignProposal
    | Broadcast
    | ScheduleTimeout
    | BuildValue
    | ValidateValue
    | Decide
    | EvidenceFound
    | RoundEntered
)
