"""Reading and writing records: one overlay for a block, a second for the transaction at work.

A handler never keeps a record and writes it back whole; it says what changes (`change`), so that money moved in between
is not undone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from consensus.ledger import keys
from consensus.ledger.block import Event, Reader
from consensus.ledger.fields import Count
from consensus.ledger.messages import TaskSpec
from consensus.ledger.parameters import Parameters
from consensus.ledger.profile_records import Profile
from consensus.ledger.proposal_records import Governance, Proposal
from consensus.ledger.reasons import (
    NOT_A_PROVIDER,
    UNKNOWN_DISPUTE,
    UNKNOWN_INSTALMENT,
    UNKNOWN_PROPOSAL,
    UNKNOWN_TASK,
    UNKNOWN_VALIDATOR,
)
from consensus.ledger.records import Account, DisputeRecord, DueItem, Instalment, Provider, Supply, Task
from consensus.ledger.stake_records import ValidatorRecord
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import InvariantViolation, Rejection

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

_RECORD_BYTES_MAX = 1 << 24
PAGE = 64
"""Ids in one page of an index."""
DUE_ITEMS_PER_HEIGHT_MAX = 2_000
"""What one block looks at when it begins, and what one record of the queue holds."""


def _decode(type_: type[T], data: bytes) -> T:
    if type_ is Parameters:
        return _decode_parameters(data)  # type: ignore[return-value]
    return decode(type_, data, max_bytes=_RECORD_BYTES_MAX)


@lru_cache(maxsize=4)
def _decode_parameters(data: bytes) -> Parameters:
    """By exact bytes: every check of a transaction asks for them, and they hardly ever change."""
    parameters: Parameters = decode(Parameters, data, max_bytes=_RECORD_BYTES_MAX)
    return parameters


class Counters(Struct):
    """How many of each were ever made."""

    tasks: Count = 0
    disputes: Count = 0
    unbondings: Count = 0
    proposals: Count = 0


class State:
    """The ledger as a block sees it: what is stored, what the block changed, what the running transaction changes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._cache: dict[bytes, Any] = {}
        self._block: dict[bytes, Any] = {}
        self._running: dict[bytes, Any] | None = None
        self._events: list[Event] = []
        self._events_mark = 0

    # --- layers

    def begin(self) -> None:
        """Start a transaction: from here on everything can be undone."""
        self._running = {}
        self._events_mark = len(self._events)

    def commit(self) -> None:
        """Keep what the transaction changed."""
        self._block.update(self._running or {})
        self._running = None

    def rollback(self) -> None:
        """Undo what the transaction changed."""
        self._running = None
        del self._events[self._events_mark :]

    def writes(self) -> dict[bytes, bytes | None]:
        """Every key the block changed with its new encoding, sorted by key."""
        encoded = {key: None if value is None else encode(value) for key, value in sorted(self._block.items())}
        return {key: value for key, value in encoded.items() if value != self._reader.get(key)}

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened so far."""
        return tuple(self._events)

    def emit(self, kind: str, subject: bytes, /, **fields: int | str | bytes) -> None:
        """Record an event."""
        self._events.append(Event(kind, subject, tuple(fields.items())))

    # --- any record

    def find(self, key: bytes, type_: type[T]) -> T | None:
        """The record at `key`, or None."""
        if self._running is not None and key in self._running:
            return self._running[key]  # type: ignore[no-any-return]
        if key in self._block:
            return self._block[key]  # type: ignore[no-any-return]
        if key not in self._cache:
            data = self._reader.get(key)
            self._cache[key] = None if data is None else _decode(type_, data)
        return self._cache[key]  # type: ignore[no-any-return]

    def need(self, key: bytes, type_: type[T]) -> T:
        """The record at `key`, which must be there."""
        record = self.find(key, type_)
        if record is None:
            raise InvariantViolation(f"no record at {key!r}")
        return record

    def put(self, key: bytes, record: Any) -> None:
        """Set a new record, or delete it with None."""
        (self._block if self._running is None else self._running)[key] = record

    def change(self, key: bytes, type_: type[S], **fields: Any) -> S:
        """Change fields of the record at `key`; the new record."""
        changed = msgspec.structs.replace(self.need(key, type_), **fields)
        self.put(key, changed)
        return changed

    # --- records by name

    @property
    def parameters(self) -> Parameters:
        """The chain's parameters."""
        return self.need(keys.PARAMETERS, Parameters)

    @property
    def supply(self) -> Supply:
        """Totals of all money."""
        return self.need(keys.SUPPLY, Supply)

    @property
    def counters(self) -> Counters:
        """Numbers given out."""
        return self.find(keys.COUNTERS, Counters) or Counters()

    @property
    def governance(self) -> Governance:
        """What governance has under way."""
        return self.find(keys.GOVERNANCE, Governance) or Governance()

    def account(self, address: bytes) -> Account:
        """The account, empty when it was never used."""
        return self.find(keys.account(address), Account) or Account()

    def validator(self, address: bytes) -> ValidatorRecord:
        """The validator; `Rejection` UNKNOWN_VALIDATOR."""
        found = self.find(keys.validator(address), ValidatorRecord)
        if found is None:
            raise Rejection(UNKNOWN_VALIDATOR, f"no validator {address.hex()}")
        return found

    def provider(self, address: bytes) -> Provider:
        """The provider; `Rejection` NOT_A_PROVIDER."""
        found = self.find(keys.provider(address), Provider)
        if found is None:
            raise Rejection(NOT_A_PROVIDER, f"no provider {address.hex()}")
        return found

    def task(self, task_id: bytes) -> Task:
        """The task; `Rejection` UNKNOWN_TASK."""
        found = self.find(keys.task(task_id), Task)
        if found is None:
            raise Rejection(UNKNOWN_TASK, f"no task {task_id.hex()}")
        return found

    def spec(self, task_id: bytes) -> TaskSpec:
        """The task's spec; it exists when the task does."""
        return self.need(keys.spec(task_id), TaskSpec)

    def profile(self, task_id: bytes) -> Profile:
        """The profile of a native task; it exists when the task does."""
        return self.need(keys.profile(task_id), Profile)

    def instalment(self, task_id: bytes, number: int) -> Instalment:
        """The latest instalment of that number; `Rejection` UNKNOWN_INSTALMENT."""
        found = self.find(keys.instalment(task_id, number), Instalment)
        if found is None:
            raise Rejection(UNKNOWN_INSTALMENT, f"task {task_id.hex()} has no instalment {number}")
        return found

    def dispute(self, dispute_id: bytes) -> DisputeRecord:
        """The dispute; `Rejection` UNKNOWN_DISPUTE."""
        found = self.find(keys.dispute(dispute_id), DisputeRecord)
        if found is None:
            raise Rejection(UNKNOWN_DISPUTE, f"no dispute {dispute_id.hex()}")
        return found

    def proposal(self, number: int) -> Proposal:
        """The proposal; `Rejection` UNKNOWN_PROPOSAL."""
        found = self.find(keys.proposal(number), Proposal)
        if found is None:
            raise Rejection(UNKNOWN_PROPOSAL, f"no proposal {number}")
        return found

    def addresses(self, key: bytes) -> tuple[bytes, ...]:
        """A sorted index of addresses (`keys.PROVIDERS`, `keys.VALIDATORS`)."""
        return self.find(key, tuple[bytes, ...]) or ()

    def due(self, height: int) -> tuple[DueItem, ...]:
        """What is due when `height` begins."""
        return self.find(keys.due(height), tuple[DueItem, ...]) or ()

    # --- small changes

    def change_task(self, task_id: bytes, **fields: Any) -> Task:
        """Change fields of a task."""
        return self.change(keys.task(task_id), Task, **fields)

    def change_profile(self, task_id: bytes, **fields: Any) -> Profile:
        """Change fields of a native task's profile."""
        return self.change(keys.profile(task_id), Profile, **fields)

    def change_instalment(self, task_id: bytes, number: int, **fields: Any) -> Instalment:
        """Change fields of an instalment."""
        return self.change(keys.instalment(task_id, number), Instalment, **fields)

    def change_provider(self, address: bytes, **fields: Any) -> Provider:
        """Change fields of a provider."""
        return self.change(keys.provider(address), Provider, **fields)

    def change_dispute(self, dispute_id: bytes, **fields: Any) -> DisputeRecord:
        """Change fields of a dispute."""
        return self.change(keys.dispute(dispute_id), DisputeRecord, **fields)

    def change_proposal(self, number: int, **fields: Any) -> Proposal:
        """Change fields of a proposal."""
        return self.change(keys.proposal(number), Proposal, **fields)

    def change_governance(self, **fields: Any) -> Governance:
        """Change fields of what governance has under way."""
        changed = msgspec.structs.replace(self.governance, **fields)
        self.put(keys.GOVERNANCE, changed)
        return changed

    def schedule(self, height: int, kind: str, subject: bytes, number: int = 0, most: int | None = None) -> int:
        """Have `kind` looked at when `height` begins, or a little later when that height holds `most`; when it will be.

        Handlers look at the record's own heights, so coming late changes nothing but the time. The steps double:
        however many heights somebody fills, a free one is found after a few looks.
        """
        step = 1
        while len(self.due(height)) >= (DUE_ITEMS_PER_HEIGHT_MAX if most is None else most):
            height, step = height + step, 2 * step
        self.put(keys.due(height), (*self.due(height), DueItem(kind, subject, number)))
        return height

    def add_address(self, key: bytes, address: bytes) -> None:
        """Put an address into a sorted index."""
        self.put(key, tuple(sorted({*self.addresses(key), address})))

    def remove_address(self, key: bytes, address: bytes) -> None:
        """Take an address out of a sorted index."""
        self.put(key, tuple(other for other in self.addresses(key) if other != address))

    def append_id(self, page_key: Any, number: int, identifier: bytes) -> None:
        """Put an id at the end of a paged index."""
        key = page_key(number // PAGE)
        self.put(key, (*(self.find(key, tuple[bytes, ...]) or ()), identifier))

    def count(self, **fields: int) -> None:
        """Change counters."""
        self.put(keys.COUNTERS, msgspec.structs.replace(self.counters, **fields))
