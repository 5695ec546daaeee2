"""Counting votes, by power and never by head.

Per value a validator counts once, and for "a quorum of anything" once whatever it sent. The first vote of a validator
in a round is the one that counts; a different second one is a conflict (evidence) and counts only as part of a
*certificate*: a quorum of signatures for one value is a fact, as in the paper's rules, even if some of its signers
also signed something else. So equivocators can neither be counted twice nor hide a polka from anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from consensus.tendermint.types import BlockId, VoteType, has_honest, is_quorum

FUTURE_ROUNDS_MAX = 3
"""Rounds above the current one in which one validator's votes are kept; a higher round pushes out the lowest."""


@dataclass(slots=True)
class VoteSet:
    """The votes of one kind in one round. Positions are indices of the validator set."""

    first: dict[int, BlockId] = field(default_factory=dict)
    """What each validator voted first."""
    signatures: dict[BlockId, dict[int, bytes]] = field(default_factory=dict)
    """Signatures that count, by value and position."""
    power: dict[BlockId, int] = field(default_factory=dict)
    power_any: int = 0
    """Power of the distinct validators in `first`."""
    quorum: BlockId | None = None
    """The value (or NIL) that more than two thirds voted for."""

    def bits(self) -> int:
        """Bit i is set when the validator at position i voted."""
        mask = 0
        for position in self.first:
            mask |= 1 << position
        return mask


@dataclass(slots=True)
class RoundVotes:
    """All votes of one round."""

    prevotes: VoteSet = field(default_factory=VoteSet)
    precommits: VoteSet = field(default_factory=VoteSet)

    def of(self, kind: VoteType) -> VoteSet:
        """The set of one kind."""
        return self.prevotes if kind is VoteType.PREVOTE else self.precommits


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two different votes of one validator in one place, with their signatures: evidence."""

    kind: VoteType
    round: int
    position: int
    first: tuple[BlockId, bytes]
    second: tuple[BlockId, bytes]


class VoteKeeper:
    """The votes of one height."""

    def __init__(self, powers: Sequence[int]) -> None:
        self.powers = tuple(powers)
        self.total = sum(powers)
        self.rounds: dict[int, RoundVotes] = {}
        self._future: dict[int, list[int]] = {}
        self._accused: set[tuple[int, VoteType, int]] = set()

    def add(
        self, kind: VoteType, round: int, position: int, value: BlockId, signature: bytes, current_round: int
    ) -> tuple[bool, Conflict | None]:
        """Count a vote. Returns whether it was new (counted), and the conflict it made, each conflict once."""
        votes = self.rounds.get(round)
        if votes is None or round > current_round:
            if round > current_round and not self._admit(round, position, current_round):
                return False, None
            votes = self.rounds.setdefault(round, RoundVotes())
        vote_set = votes.of(kind)
        first = vote_set.first.get(position)
        if first is None:
            vote_set.first[position] = value
            vote_set.power_any += self.powers[position]
            self._count(vote_set, position, value, signature)
            return True, None
        if first == value:
            return False, None
        return False, self._conflict(kind, round, position, first, value, signature)

    def wants(self, kind: VoteType, round: int, position: int, value: BlockId) -> bool:
        """Whether `add` could count this vote or find a new conflict in it."""
        votes = self.rounds.get(round)
        first = None if votes is None else votes.of(kind).first.get(position)
        return first is None or (first != value and (round, kind, position) not in self._accused)

    def add_certificate(
        self, kind: VoteType, round: int, value: BlockId, signatures: Iterable[tuple[int, bytes]]
    ) -> list[Conflict]:
        """Count a verified quorum for `value`, also signers whose first vote was another; returns new conflicts."""
        vote_set = self.rounds.setdefault(round, RoundVotes()).of(kind)
        conflicts = []
        for position, signature in signatures:
            first = vote_set.first.setdefault(position, value)
            if position in vote_set.signatures.get(value, {}):
                continue
            if first == value:
                vote_set.power_any += self.powers[position]
            elif conflict := self._conflict(kind, round, position, first, value, signature):
                conflicts.append(conflict)
            self._count(vote_set, position, value, signature)
        return conflicts

    def _count(self, vote_set: VoteSet, position: int, value: BlockId, signature: bytes) -> None:
        vote_set.signatures.setdefault(value, {})[position] = signature
        power = vote_set.power[value] = vote_set.power.get(value, 0) + self.powers[position]
        if vote_set.quorum is None and is_quorum(power, self.total):
            vote_set.quorum = value

    def _conflict(
        self, kind: VoteType, round: int, position: int, first: BlockId, value: BlockId, signature: bytes
    ) -> Conflict | None:
        """The conflict, unless this validator was accused of the same place before."""
        if (round, kind, position) in self._accused:
            return None
        self._accused.add((round, kind, position))
        signed_first = self.rounds[round].of(kind).signatures[first][position]
        return Conflict(kind, round, position, (first, signed_first), (value, signature))

    def _admit(self, round: int, position: int, current_round: int) -> bool:
        """Bound what one validator can make us remember about rounds to come, preferring the highest."""
        rounds = [r for r in self._future.get(position, ()) if r > current_round]
        if round not in rounds:
            rounds = sorted([*rounds, round])
            if len(rounds) > FUTURE_ROUNDS_MAX:
                lowest = rounds.pop(0)
                if lowest == round:
                    return False
                self._forget(lowest, position)
        self._future[position] = rounds
        return True

    def _forget(self, round: int, position: int) -> None:
        """Drop one validator's votes of one round, unless they are part of a quorum."""
        votes = self.rounds[round]
        for vote_set in (votes.prevotes, votes.precommits):
            value = vote_set.first.get(position)
            if value is None or vote_set.quorum is not None:
                continue
            del vote_set.first[position], vote_set.signatures[value][position]
            vote_set.power_any -= self.powers[position]
            vote_set.power[value] -= self.powers[position]
        if not votes.prevotes.first and not votes.precommits.first:
            del self.rounds[round]

    def quorum(self, kind: VoteType, round: int) -> BlockId | None:
        """The value (or NIL) with a quorum, or None."""
        votes = self.rounds.get(round)
        return None if votes is None else votes.of(kind).quorum

    def quorum_any(self, kind: VoteType, round: int) -> bool:
        """Whether distinct validators with more than two thirds of the power voted, for anything."""
        votes = self.rounds.get(round)
        return votes is not None and is_quorum(votes.of(kind).power_any, self.total)

    def somebody_honest(self, round: int) -> bool:
        """Whether votes of this round come from distinct validators with more than one third of the power."""
        votes = self.rounds.get(round)
        if votes is None:
            return False
        senders = votes.prevotes.first.keys() | votes.precommits.first.keys()
        return has_honest(sum(self.powers[position] for position in senders), self.total)
