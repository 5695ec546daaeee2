"""Rare states: named once here, counted when a run reaches one, and asserted to be reached by the tests."""

from __future__ import annotations

from collections import Counter

from consensus.tendermint.inputs import Input, VerifiedCertificate
from consensus.tendermint.round import RoundState, RoundStep
from consensus.tendermint.types import NIL, VoteType

RARE_STATES = (
    "round 3 or above",
    "locked in an earlier round again on the same value",
    "lock moved to another value",
    "lock overruled by a later polka",
    "valid value without a lock on it",
    "polka before its proposal",
    "a whole round of nil precommits",
    "skip to a higher round by f+1",
    "decision by the commit of an earlier round",
    "decision by certificate alone",
    "locked value proposed again by another",
    "crash between log and signature",
    "crash between signature and broadcast",
    "crash between decision and store",
    "crash between store and next log",
    "the whole network down at once",
    "torn log tail cut",
    "damaged log set aside",
    "signer refuses",
    "evidence committed",
    "height taken over by block sync",
)
"""Of consensus and storage; an application has its own."""


class Coverage:
    """Counts."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def stepped(self, given: Input, before: RoundState, after: RoundState) -> None:
        """An honest core took an input; called only when its state changed."""
        if after.height != before.height:
            return
        seen = self.seen
        if after.round != before.round:
            seen["rounds entered"] += 1
            seen["round 3 or above"] += after.round >= 3
        if after.locked_round != before.locked_round and before.locked_round >= 0:
            same = after.locked_value == before.locked_value
            seen["locked in an earlier round again on the same value" if same else "lock moved to another value"] += 1
        if after.valid_round != before.valid_round and after.valid_round > after.locked_round:
            seen["valid value without a lock on it"] += 1
        if after.step is RoundStep.DECIDED and before.step is not RoundStep.DECIDED:
            seen["decisions"] += 1
            seen["decisions above round 0"] += after.decision_round > 0
            seen["decision by the commit of an earlier round"] += after.decision_round < before.round
            seen["decision by certificate alone"] += isinstance(given, VerifiedCertificate)


def overrules_lock(before: RoundState, kind: VoteType, value: bytes) -> bool:
    """Whether this vote is a prevote for another value than the one locked."""
    return kind is VoteType.PREVOTE and value != NIL and before.locked_value not in (None, value)
