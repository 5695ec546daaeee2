"""The precommits of a decided height, growing while late ones come in, and the commit they make."""

from __future__ import annotations

from consensus.tendermint.types import (
    NIL,
    BlockId,
    Commit,
    CommitFlag,
    CommitSlot,
    ValidatorSet,
    Vote,
    VoteType,
)
from consensus.tendermint.votes import VoteSet

ABSENT = CommitSlot(CommitFlag.ABSENT, b"")


class CommitKeeper:
    """The slots of one commit. A slot for the block is never replaced; absent or nil may still become one."""

    def __init__(
        self, height: int, round: int, block_id: BlockId, validators: ValidatorSet, votes: VoteSet | None = None
    ) -> None:
        self.height, self.round, self.block_id, self.validators = height, round, block_id, validators
        self._slots: list[CommitSlot] = [ABSENT] * len(validators.validators)
        if votes is not None:
            for value, flag in ((NIL, CommitFlag.NIL), (block_id, CommitFlag.COMMIT)):
                for position, signature in votes.signatures.get(value, {}).items():
                    self._slots[position] = CommitSlot(flag, signature)

    @classmethod
    def of_commit(cls, commit: Commit, validators: ValidatorSet) -> CommitKeeper:
        """Start from a stored commit, which was verified when it was stored."""
        keeper = cls(commit.height, commit.round, commit.block_id, validators)
        keeper.add_commit(commit)
        return keeper

    def add_commit(self, commit: Commit) -> None:
        """Take over what another verified commit of the same decision and round knows more."""
        if (commit.height, commit.round, commit.block_id) != (self.height, self.round, self.block_id):
            return
        for position, slot in enumerate(commit.slots):
            self._offer(position, slot)

    def add_vote(self, vote: Vote, public_key: bytes) -> None:
        """Take a late precommit of the same round; a vote for another block has no place in a commit."""
        position = self.validators.positions.get(vote.validator)
        if position is None or self.validators.validators[position].public_key != public_key:
            return
        if vote.kind is VoteType.PRECOMMIT and vote.round == self.round and vote.block_id in (NIL, self.block_id):
            flag = CommitFlag.NIL if vote.block_id == NIL else CommitFlag.COMMIT
            self._offer(position, CommitSlot(flag, vote.signature))

    def wants(self, vote: Vote) -> bool:
        """Whether the place of the vote's validator can still gain by a late precommit."""
        position = self.validators.positions.get(vote.validator)
        if position is None or vote.kind is not VoteType.PRECOMMIT or vote.round != self.round:
            return False
        flag = self._slots[position].flag
        return vote.block_id in (NIL, self.block_id) and (
            flag is CommitFlag.ABSENT or (flag is CommitFlag.NIL and vote.block_id != NIL)
        )

    def _offer(self, position: int, slot: CommitSlot) -> None:
        rank = {CommitFlag.ABSENT: 0, CommitFlag.NIL: 1, CommitFlag.COMMIT: 2}
        if rank[slot.flag] > rank[self._slots[position].flag]:
            self._slots[position] = slot

    def commit(self) -> Commit:
        """The commit as known now."""
        return Commit(self.height, self.round, self.block_id, tuple(self._slots))
