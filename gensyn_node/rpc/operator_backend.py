"""What the RPC server asks a node about its chain and its consensus, for operators and explorers."""

from __future__ import annotations

from typing import Protocol

from gensyn_node.rpc.view import View


class Health(View, frozen=True):
    """Whether the node does its work."""

    healthy: bool
    """In step with its peers, and with room on its disk."""
    height: int
    syncing: bool
    paused: str
    """Why it stands still, or nothing."""


class HeaderView(View, frozen=True):
    """A committed header."""

    block_id: bytes
    header: object
    transactions: int


class BlockResultsView(View, frozen=True):
    """What became of a block's transactions, and what the ledger did."""

    height: int
    results: tuple[object, ...]
    events: tuple[object, ...]


class CommitView(View, frozen=True):
    """A header and the precommits that sealed it: what a light client needs."""

    header: object
    commit: object


class RoundView(View, frozen=True):
    """What this node has of one round."""

    round: int
    proposer: bytes
    proposals: tuple[bytes, ...]
    prevotes: dict[str, str]
    """What each validator prevoted: its address, then a block id, or `nil`."""
    precommits: dict[str, str]
    prevote_quorum: str
    """Block id, `nil`, or nothing."""
    precommit_quorum: str


class ConsensusView(View, frozen=True):
    """The round machine, as it stands."""

    height: int
    round: int
    step: str
    locked_round: int
    locked_block: bytes
    valid_round: int
    valid_block: bytes
    rounds: tuple[RoundView, ...]
    seconds_since_progress: float


class PendingView(View, frozen=True):
    """A transaction that waits."""

    transaction_id: bytes
    sender: bytes
    nonce: int
    fee_nano: int
    bytes: int
    since_height: int


class PendingPage(View, frozen=True):
    """Some of the transactions that wait, in the order of their arrival."""

    total: int
    total_bytes: int
    transactions: tuple[PendingView, ...]


class DryRunView(View, frozen=True):
    """What would become of a transaction if it came next."""

    applied: bool
    code: str
    message: str
    fee_nano: int
    units: int


class TransactionProofView(View, frozen=True):
    """That a block contains a transaction: an RFC 6962 path to its header's data root."""

    height: int
    index: int
    total: int
    transaction: bytes
    leaf_hash: bytes
    path: tuple[bytes, ...]
    data_root: bytes


class OperatorBackend(Protocol):
    """The chain and consensus of a node; what does not exist is None."""

    async def health(self) -> Health: ...

    async def headers(self, first: int, limit: int) -> tuple[HeaderView, ...]:
        """Committed headers from a height on, rising."""

    async def header(self, height: int | None) -> HeaderView | None: ...

    async def height_of(self, block_id: bytes) -> int | None:
        """Height of the committed block with this id."""

    async def block_results(self, height: int | None) -> BlockResultsView | None: ...

    async def commit(self, height: int | None) -> CommitView | None: ...

    async def consensus_state(self) -> ConsensusView: ...

    async def unconfirmed_transactions(self, offset: int, limit: int) -> PendingPage: ...

    async def check_transaction(self, data: bytes) -> DryRunView:
        """Run it on the head without keeping anything."""

    async def transaction_proof(self, transaction_id: bytes) -> TransactionProofView | None: ...

    async def submit_evidence(self, data: bytes) -> bool:
        """Encoded evidence; whether it is new. `Rejection` when it proves nothing."""
