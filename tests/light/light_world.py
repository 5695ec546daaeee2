"""Chains of light blocks for tests: any validator set at any height, signed by whom one likes, with real keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from functools import cache

from consensus.light.types import LightBlock, LightOptions, Trusted, members_hash
from consensus.tendermint.types import (
    NIL,
    Commit,
    CommitFlag,
    CommitSlot,
    Header,
    Validator,
    Vote,
    VoteType,
    vote_sign_bytes,
)
from gensyn_node.primitives.crypto import SecretKey

CHAIN = "test-chain"
HOUR_MS = 3_600_000
OPTIONS = LightOptions(trust_period_ms=1_000 * HOUR_MS)

Members = tuple[Validator, ...]
Powers = dict[str, int]
"""Name → power."""


@cache
def key_of(name: str) -> SecretKey:
    """The key of a named validator."""
    return SecretKey(hashlib.sha256(name.encode()).digest())


@cache
def name_of(address: bytes) -> str:
    """The name of a validator that `key_of` made before."""
    return _NAMES[address]


_NAMES: dict[bytes, str] = {}


def members(powers: Powers | Sequence[str]) -> Members:
    """A validator set in the chain's order."""
    named = powers if isinstance(powers, dict) else dict.fromkeys(powers, 10)
    found = []
    for name, power in named.items():
        key = key_of(name)
        _NAMES[key.address] = name
        found.append(Validator(key.address, key.public, power))
    return tuple(sorted(found, key=lambda one: (-one.power, one.address)))


def header(
    height: int,
    validators: Members,
    following: Members,
    *,
    chain: str = CHAIN,
    time_ms: int | None = None,
    previous: bytes | None = None,
    salt: bytes = b"",
) -> Header:
    """A header whose contents say where it is; `salt` makes another one of the same height."""
    return Header(
        chain_id=chain,
        height=height,
        time_ms=height * 1_000 if time_ms is None else time_ms,
        previous_block_id=(NIL if height == 1 else hashlib.sha256(b"%d" % (height - 1)).digest())
        if previous is None
        else previous,
        last_commit_root=b"c" * 32,
        data_root=b"d" * 32,
        evidence_root=b"e" * 32,
        app_hash=hashlib.sha256(b"app%d" % height + salt).digest(),
        results_root=b"r" * 32,
        validators_hash=members_hash(validators),
        next_validators_hash=members_hash(following),
        proposer=validators[0].address if validators else b"",
        beacon_proof=b"",
    )


def seal(
    head: Header,
    validators: Members,
    following: Members,
    *,
    signers: Collection[str] | None = None,
    nil: Collection[str] = (),
    round: int = 0,
) -> LightBlock:
    """The header with a commit of `signers` (all members if None)."""
    slots = []
    for validator in validators:
        name = name_of(validator.address)
        of = head.id if signers is None or name in signers else NIL if name in nil else None
        if of is None:
            slots.append(CommitSlot(CommitFlag.ABSENT, b""))
            continue
        message = vote_sign_bytes(head.chain_id, Vote(VoteType.PRECOMMIT, head.height, round, of, b""))
        flag = CommitFlag.COMMIT if of else CommitFlag.NIL
        slots.append(CommitSlot(flag, key_of(name).sign(message)))
    return LightBlock(head, Commit(head.height, round, head.id, tuple(slots)), validators, following)


class World:
    """A chain whose validator set at each height is a function of the height; blocks are made when asked for."""

    def __init__(self, set_of: Callable[[int], Members], heights: int) -> None:
        self.set_of = set_of
        self.heights = heights
        self._headers: list[Header] = []
        self._sealed: dict[int, LightBlock] = {}

    def header(self, height: int) -> Header:
        """The header of a height, linked to those before it."""
        while len(self._headers) < height:
            at = len(self._headers) + 1
            previous = self._headers[-1].id if self._headers else NIL
            self._headers.append(header(at, self.set_of(at), self.set_of(at + 1), previous=previous))
        return self._headers[height - 1]

    def block(self, height: int) -> LightBlock:
        """The light block of a height."""
        if height not in self._sealed:
            self._sealed[height] = seal(self.header(height), self.set_of(height), self.set_of(height + 1))
        return self._sealed[height]

    def genesis(self) -> Trusted:
        """Trust in the genesis."""
        return Trusted(0, NIL, 0, self.set_of(1))
