"""What the RPC server needs from the node: one Protocol, and the shapes of its answers.

Ledger records are handed over as they are (`object`): `json_view` renders any struct field by field. Every method
that can refuse raises `Rejection`; a thing that does not exist is `None`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec
import trio

from gensyn_node.rpc.operator_backend import OperatorBackend
from gensyn_node.rpc.view import View


class Status(View, frozen=True):
    """The node in one screen."""

    version: str
    chain_id: str
    genesis_hash: bytes
    node_id: str
    """The libp2p peer id, as text."""
    address: bytes
    """Account of this node's validator and provider key (20 bytes)."""
    height: int
    head_time_ms: int
    head_id: bytes
    app_hash: bytes
    syncing: bool
    peers: int
    mempool: int
    """Transactions waiting."""
    validator: bool
    role: str
    activity: str
    """What it does now, or why it is idle, in one sentence."""
    started_ms: int
    block_interval_ms: int
    """Mean of the last blocks; 0 when fewer than two are known."""
    balance_nano: int = 0
    rejections: dict[str, int] = msgspec.field(default_factory=dict)
    """Refused inputs by reason name since the start."""
    round: int = 0
    """Of the height in progress: above 0 when its first proposer did not get through."""
    paused: str = ""
    """Why the node signs and commits nothing now; empty as a rule."""
    disk_used_bytes: int = 0
    """Of the chain, its log and its snapshots."""
    disk_free_bytes: int = 0
    lowest_block: int = 0
    """Blocks below were pruned, or are before the snapshot that the node began with."""


class Peer(View, frozen=True):
    """One known peer."""

    peer_id: str
    addresses: tuple[str, ...]
    connected: bool
    inbound: bool = False
    height: int = 0
    version: str = ""
    score: int = 0
    note: str = ""
    """Why it is banned, unreachable or refused; empty when all is well."""


class SeedState(View, frozen=True):
    """One configured seed: never a reason to die, always shown."""

    address: str
    connected: bool
    attempts: int
    next_attempt_s: int
    note: str


class ValidatorView(View, frozen=True):
    """One member of a validator set."""

    address: bytes
    public_key: bytes
    power: int


class TransactionView(View, frozen=True):
    """A transaction that is in a block."""

    transaction_id: bytes
    height: int
    index: int
    sender: bytes
    nonce: int
    fee_nano: int
    kind: str
    """Name of its message, such as `transfer`."""
    message: object
    accepted: bool
    code: str
    """Reason code when refused (`E12…`), empty otherwise."""
    error: str
    events: tuple[object, ...] = ()


class BlockView(View, frozen=True):
    """A committed block."""

    height: int
    block_id: bytes
    time_ms: int
    proposer: bytes
    app_hash: bytes
    header: object
    transactions: tuple[TransactionView, ...]
    commit_round: int
    signatures: int
    """Precommits in the commit that sealed it."""
    bytes: int


class AccountView(View, frozen=True):
    """An account at the head."""

    address: bytes
    balance_nano: int
    nonce: int
    """Nonce that the next transaction must carry, counting those of it in the mempool."""
    bonded_nano: int
    locked_nano: int
    """Held by escrows and bonds of tasks and challenges."""


class InstalmentText(View, frozen=True):
    """Where a committed instalment is."""

    number: int
    state: str
    """sealed, opening, drawing, verifying, watching, revealing, window, unsealing, closing, ready, forced, withheld,
    unserved, unverifiable, settled or invalid."""
    due_height: int
    """Last block of this state; 0 when it waits for something else."""
    explanation: str
    """In plain words."""


class TaskView(View, frozen=True):
    """A task: the ledger's record and what this node saw of it."""

    task_id: bytes
    state: str
    """Snake-case name of the state, such as `training`."""
    final: bool
    """True once it is finished, cancelled or refunded: nothing more will happen."""
    submitter: bytes
    solver: bytes | None
    record: object
    """The ledger's task record, with the spec inside."""
    step: int
    """Last step of which a heartbeat told."""
    losses: tuple[tuple[int, float], ...] = ()
    """(step, loss) of the heartbeats that this node saw, oldest first."""
    diverged_step: int | None = None
    """The first step reported with a loss that is no finite number; training goes on as specified all the same."""
    deadline_height: int = 0
    """Height at which the present state ends by itself; 0 when it has no deadline."""
    model_blob: bytes | None = None
    """Blob of the final model in safetensors, once it is known."""
    instalments: tuple[InstalmentText, ...] = ()
    """Those that are committed and not settled."""


class DisputeView(View, frozen=True):
    """A dispute: the ledger's record and its moves."""

    dispute_id: bytes
    task_id: bytes
    state: str
    final: bool
    defender: bytes
    challenger: bytes
    phase: str
    """Phase of the game: steps, operators, tiles, pieces, arbitration, over."""
    turn: str
    """`defender`, `challenger`, or empty when over."""
    outcome: str
    """`defender_wrong`, `challenger_wrong`, `both_wrong`, or empty while it runs."""
    moves: tuple[DisputeMove, ...]
    record: object
    operator: str = ""
    """Name of the operator that the game narrowed to, once known."""
    disclosed: object = None
    """What a native solver had disclosed about the segment; the game is held to it."""


class DisputeMove(View, frozen=True):
    """One move that was played."""

    height: int
    mover: str
    description: str
    bytes: int


class DutyView(View, frozen=True):
    """A duty of this node, or why it has none."""

    task_id: bytes | None
    role: str
    state: str
    explanation: str


class BlobInfo(View, frozen=True):
    """What this node has of a blob."""

    blob_id: bytes
    length: int
    chunks: int
    received: int
    """Chunks that are here, counted from the first without a gap."""
    complete: bool
    """Whole, verified and served to the network."""


class ProposalView(View, frozen=True):
    """A proposal and how its vote stands."""

    number: int
    kind: str
    """Snake-case name of what it asks for, such as `change_parameters`."""
    state: str
    final: bool
    title: str
    summary: str
    proposer: bytes
    content: object
    deposit_nano: int
    submitted_height: int
    voting_end_height: int
    effect_height: int
    """First block under what it changes; 0 while that is not known."""
    blocks_left: int
    """Blocks whose votes still count."""
    tally: object
    quorum_nano: int
    """Stake that has to vote."""
    threshold_bps: int
    veto_bps: int
    outcome: str
    """What the vote would end with now; the state once it has ended."""
    why: str


class GovernanceView(View, frozen=True):
    """What governance has under way."""

    protocol: int
    treasury_nano: int
    voting: tuple[int, ...]
    upgrade: object | None
    """The planned upgrade."""
    upgrade_known: bool
    """Whether this node's program can go through it; a node that cannot stops there."""
    upgrades: tuple[object, ...]


class VotingPlaceView(View, frozen=True):
    """A validator at which an account has a vote."""

    validator: bytes
    as_operator: bool
    stake_nano: int
    choice: str
    """Its vote so far, or empty."""


class Event(View, frozen=True):
    """Something that happened.

    From blocks: `block`, `header`, `transaction`, `evidence`, `validator_set_update`, `task`, `heartbeat`, `dispute`,
    `governance`. From consensus: `round_step`, `vote`. A `gap` stands where the subscriber lost some of either.
    """

    kind: str
    height: int
    data: object


class Cause(msgspec.Struct, frozen=True):
    """Something that keeps a node from work."""

    kind: str
    text: str
    next: str
    """What to do about it."""


class ChangeText(msgspec.Struct, frozen=True):
    """A change that would help."""

    kind: str
    """A word of `consensus.ledger.why`."""
    amount: int
    """The least that suffices, in nano, bytes, or a height."""
    gains: int
    """Providers or draws that it brings."""
    text: str
    how: str


class StandingText(View, frozen=True):
    """How a provider stands in a draw."""

    provider: bytes
    name: str
    role: str
    task_id: bytes
    instalment: int
    eligible: bool
    chance_bps: int
    """Chance to be drawn next, in basis points."""
    reasons: tuple[str, ...]
    """Everything that is in the way, in the rule's order."""


class WhyView(View, frozen=True):
    """Why a node has no work, or a task nobody."""

    sentence: str
    causes: tuple[Cause, ...]
    """Of a node, what has to be solved first first."""
    wanted: int
    """How many a task draws now; the open draws, for a node."""
    eligible: int
    standings: tuple[StandingText, ...]
    changes: tuple[ChangeText, ...]
    """The smallest change of each kind that would help."""


class NodeBackend(OperatorBackend, Protocol):
    """The node, as its RPC server sees it. All methods are called from the server's trio tasks."""

    async def status(self) -> Status: ...

    async def metrics(self) -> str:
        """What Prometheus reads, in its text format."""

    async def peers(self) -> tuple[Peer, ...]: ...

    async def seeds(self) -> tuple[SeedState, ...]: ...

    async def validators(self, height: int | None) -> tuple[ValidatorView, ...]:
        """The set that signs block `height` (the next block when None)."""

    async def candidates(self) -> tuple[object, ...]:
        """Everybody with a place in the registry of validators, signing or not, the strongest first."""

    async def delegations(self, address: bytes) -> tuple[object, ...]:
        """What an account has staked with which validator, what that earned, and what is on its way out."""

    async def block(self, height: int | None) -> BlockView | None:
        """A committed block, the head when `height` is None."""

    async def transaction(self, transaction_id: bytes) -> TransactionView | None: ...

    async def account(self, address: bytes) -> AccountView:
        """An account; one that nobody paid yet is all zero."""

    async def submit_transaction(self, data: bytes) -> bytes:
        """Check, put into the mempool, gossip; the transaction's id. `Rejection` says what is wrong with it."""

    async def wait_transaction(self, transaction_id: bytes, timeout_s: float) -> TransactionView | None:
        """The transaction once it is in a block; None when `timeout_s` passes first."""

    async def tasks(self, offset: int, limit: int) -> tuple[TaskView, ...]:
        """Newest first."""

    async def task(self, task_id: bytes) -> TaskView | None: ...

    async def duties(self) -> tuple[DutyView, ...]:
        """What this node has to do, and for each task that it was not drawn for, why."""

    async def why(self, task_id: bytes) -> tuple[DutyView, ...]:
        """Who was eligible for a task and what excluded the others."""

    async def why_task(self, task_id: bytes) -> WhyView:
        """What a task waits for, everybody's standing in its draw, what would help."""

    async def why_node(self) -> WhyView:
        """Why this node has no work, and what would help."""

    async def disputes(self, task_id: bytes | None) -> tuple[DisputeView, ...]: ...

    async def dispute(self, dispute_id: bytes) -> DisputeView | None: ...

    async def providers(self) -> tuple[object, ...]:
        """The registered providers' records."""

    async def parameters(self) -> object:
        """The protocol parameters in force."""

    async def governance(self) -> GovernanceView: ...

    async def proposals(self, offset: int, limit: int) -> tuple[ProposalView, ...]:
        """Newest first."""

    async def proposal(self, number: int) -> ProposalView | None: ...

    async def voting_places(self, number: int, address: bytes) -> tuple[VotingPlaceView, ...]:
        """Where an account can vote on a proposal, and what it voted. `Rejection` for no proposal."""

    async def genesis(self) -> bytes:
        """The genesis document, encoded."""

    async def supply(self) -> dict[str, int]:
        """Where the money is, in nano: balances, stakes, escrows, pools, burnt, minted."""

    async def program(self, program_id: bytes) -> bytes | None:
        """A published program, encoded."""

    async def proof(self, key: bytes, height: int | None) -> bytes | None:
        """Inclusion or absence proof of a ledger key under the app hash of `height`, encoded."""

    async def record(self, key: bytes) -> bytes | None:
        """What the ledger holds at a key at the head, encoded; None: nothing."""

    async def certificate(self, task_id: bytes) -> bytes | None:
        """The task's certificate (`gensyn_node.sdk.certificate.Certificate`, encoded); None until it is finished."""

    async def role(self) -> str: ...

    async def role_report(self) -> object | None:
        """Which roles are offered, why, since when, and what is still being finished; None without roles."""

    async def set_role(self, role: str) -> str:
        """Change the role, after draining what it does now; the role that will then be in force."""

    async def blob_info(self, blob_id: bytes) -> BlobInfo | None:
        """What is here of a blob, without asking the network."""

    async def blob_put(self, blob_id: bytes, length: int, chunk: int, data: bytes) -> BlobInfo:
        """Store one chunk of an upload, in order (repeating one is harmless); the last one makes it a blob.

        `Rejection` when the content is not `blob_id`'s, a chunk is missing before it, or its size is wrong.
        """

    async def blob_fetch(self, blob_id: bytes) -> BlobInfo | None:
        """Get a whole blob from the network unless it is here; None when nobody serves it."""

    async def blob_get(self, blob_id: bytes, chunk: int) -> bytes | None:
        """One chunk of a blob that is here; None otherwise."""

    def events(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Event]]:
        """Subscribe: what happens from now on. One that does not keep up loses the oldest; a `gap` event says so."""
