"""What a role needs of the node around it: the chain and the blobs, as protocols."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from consensus.ledger.parameters import Parameters
from p2p.api import Blobs


@dataclass(frozen=True, slots=True)
class TransactionOutcome:
    """What became of a transaction that is in a block."""

    transaction_id: bytes
    height: int
    accepted: bool
    code: str
    """Reason code when refused (`E12…`), empty otherwise."""
    error: str


class StateView(Protocol):
    """Read access to the ledger as it is after one block; never changes under the reader."""

    def get(self, key: bytes) -> bytes | None:
        """The value stored under a ledger key."""


class ChainApi(Protocol):
    """The chain, as a role sees it."""

    @property
    def chain_id(self) -> str: ...

    @property
    def parameters(self) -> Parameters:
        """The protocol parameters in force."""

    def head_height(self) -> int:
        """Height of the last committed block."""

    def syncing(self) -> bool:
        """True while the node is far behind; roles do nothing then."""

    def view(self) -> StateView:
        """The ledger at the head."""

    def next_nonce(self, address: bytes) -> int:
        """The nonce that this account's next transaction must carry, counting those in the mempool."""

    async def submit_transaction(self, data: bytes) -> bytes:
        """Check, put into the mempool, gossip; its id. `Rejection` says what is wrong with it."""

    async def wait_transaction(self, transaction_id: bytes, timeout_s: float) -> TransactionOutcome | None:
        """The outcome once it is in a block; None when `timeout_s` passes first."""

    def blocks(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[int]]:
        """Heights as they are committed; a slow reader misses some and sees the newest."""


class NodeApi(Protocol):
    """Chain and blobs together."""

    @property
    def chain(self) -> ChainApi: ...

    @property
    def blobs(self) -> Blobs: ...
