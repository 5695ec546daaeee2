"""What survives a crash of a simulated machine: the log in the production format, and the signer's record.

A crash may lose, cut, zero or reorder what was written and not synced; a rotten disk loses what was synced as well.
(Blocks and state are one batch of the application: they are there whole or not at all.)
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from consensus.tendermint.inputs import Input
from gensyn_node.primitives import codec
from gensyn_node.storage.signer import (
    Signed,
    SignRequest,
    SignState,
    log_is_short,
    state_after,
    state_sitting_out,
)
from gensyn_node.storage.wal import RECORD_BYTES_MAX, frame, parse_log
from tests.simulator.signatures import Signer


class DiskFull(Exception):  # noqa: N818  (it names what happened)
    """A write failed for want of room."""


@dataclass(frozen=True)
class OpenedLog:
    """What a restart finds."""

    records: list[Input]
    cut: bool
    """A torn end was removed."""
    sits_out: bool
    """The log lacks what was signed on: the validator must not sign in the height it has signed in."""
    damaged: bool
    """Records after the damage, never signed on, are gone."""


@dataclass
class Disk:
    """One machine's."""

    signed: SignState
    full: bool = False
    log_height: int = 1
    _durable: bytes = b""
    _records: list[Input] = field(default_factory=list)
    _synced: int = 0
    _opened_with: int = 0

    @classmethod
    def new(cls, public_key: bytes) -> Disk:
        """Of a machine that never ran."""
        return cls(SignState(public_key, 0, 0, 0, b"", b"", 0, b"", 0, 0))

    # The log. Records become bytes when a crash or a restart needs them.

    def append(self, given: Input) -> None:
        """Write one record; `DiskFull` when there is no room."""
        if self.full:
            raise DiskFull
        self._records.append(given)

    def sync(self) -> None:
        """Everything written is durable."""
        self._synced = len(self._records)

    def next_height(self, height: int) -> None:
        """Begin the log of another height; the one before it is removed."""
        self.log_height, self._durable, self._records, self._synced, self._opened_with = height, b"", [], 0, 0

    @property
    def synced_records(self) -> int:
        """Records of the height that are durable."""
        return self._opened_with + self._synced

    def open_log(self, height: int) -> OpenedLog:
        """What `WriteAheadLog.open` and the start-up checks do."""
        if self.log_height != height:
            self.next_height(height)
        data = self._durable + _framed(self._records)
        content = parse_log(data)
        self._records, self._synced = [], 0
        sits_out = log_is_short(self.signed, height, records=len(content.records))
        if sits_out:
            self.signed = state_sitting_out(self.signed)
        self._durable, self._opened_with = data[: content.good_bytes], len(content.records)
        records = [codec.decode(Input, record, max_bytes=RECORD_BYTES_MAX) for record in content.records]
        return OpenedLog(records, cut=content.good_bytes != len(data), sits_out=sits_out, damaged=content.corrupt)

    def crash(self, damage: str, rng: random.Random) -> None:
        """The machine stops: what happens to the unsynced end of the log is chance within the kind of damage."""
        self._durable += _framed(self._records[: self._synced])
        tail = [frame(codec.encode(record)) for record in self._records[self._synced :]]
        if damage == "rotten" and self._durable:
            place = rng.randrange(len(self._durable))
            flipped = self._durable[place] ^ 1 << rng.randrange(8)
            self._durable = self._durable[:place] + bytes([flipped]) + self._durable[place + 1 :]
        self._durable += _damaged(tail, damage, rng)
        self._records, self._synced = [], 0

    # The signer's record. Each change is one atomic, synced replacement of a file.

    def sign(self, request: SignRequest, sign: Signer) -> Signed:
        """The production rules. `Rejection` when they refuse; `DiskFull` when the record cannot be replaced."""
        state = state_after(self.signed, request, sign)
        if state is not self.signed:
            if self.full:
                raise DiskFull
            self.signed = state
        return Signed(state.signature, state.time_ms)


def _framed(records: list[Input]) -> bytes:
    return b"".join(frame(codec.encode(record)) for record in records)


def _damaged(tail: list[bytes], damage: str, rng: random.Random) -> bytes:
    if not tail:
        return b""
    kept = rng.randint(0, len(tail))
    sound, rest = b"".join(tail[:kept]), tail[kept:]
    if damage == "lost" or not rest:
        return sound
    if damage == "torn":
        return sound + rest[0][: rng.randrange(len(rest[0]))]
    zeros = bytes(len(rest[0]) - rng.randrange(len(rest[0])))
    return sound + zeros + (b"" if damage == "zeroed" else b"".join(rest[1:]))
