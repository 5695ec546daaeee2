"""What an account can ask of the ledger: the transaction envelope and its messages.

A message is a tagged struct; tags never change meaning. Numbers that are left free belong to families that follow
(staking 9, profiling 62-69, forced errors 73-79).
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Annotated

from msgspec import Meta

from consensus.ledger.fields import Address, Count, Endpoints, Hash, Nano, OptionalHash, Roots, Small, Text
from consensus.ledger.proposal_messages import CastVote, Propose
from gensyn_node.primitives import crypto, limits, reasons
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES, tagged_hash
from proofs.classes import NATIVE, REP_V1
from proofs.dataset import DatasetTensor

ROLE_SOLVER = 1
ROLE_VERIFIER = 2
ROLE_WHISTLEBLOWER = 4
ROLES_ALL = ROLE_SOLVER | ROLE_VERIFIER | ROLE_WHISTLEBLOWER
OFFERS_NATIVE = 8
"""Beside the roles: in native tasks as well; this machine's vendor kernels repeat themselves and keep their bounds."""
"""A provider's roles are the sum of these."""

SMALL_BYTES_MAX = 1_024
DECODED_REMEMBERED_MAX = 8_192
"""Decoded transactions that are kept, none longer than `SMALL_BYTES_MAX`: a few blocks' worth, some 15 MiB at most."""

ARITHMETIC_REP_V1 = REP_V1
"""The reproducible arithmetic class: equal bits on every machine."""
ARITHMETIC_NATIVE = NATIVE
"""Vendor kernels; a chain takes such tasks when `native_profilers` is above zero."""


# --- money and staking


class Transfer(Struct, tag=1):
    """Send money to an account."""

    to: Address
    amount_nano: Nano


class Bond(Struct, tag=2):
    """Stake money behind a validator. The first bond registers the validator and makes the sender its operator."""

    validator_key: Hash
    """The ed25519 key that signs blocks and votes."""
    amount_nano: Nano
    key_proof: Annotated[bytes, Meta(max_length=64)]
    """First bond: the validator key's signature of `validator_key_proof_bytes`; empty afterwards."""


class Unbond(Struct, tag=3):
    """Take own stake back; it stays slashable and is paid out after `unbonding_blocks`."""

    validator: Address
    amount_nano: Nano


class Delegate(Struct, tag=4):
    """Stake behind somebody else's validator: it earns and is slashed with it."""

    validator: Address
    amount_nano: Nano
    commission_max_bps: Small
    """Refuse when the operator raised its commission above this meanwhile."""


class Undelegate(Struct, tag=5):
    """Take delegated stake back; it stays slashable and is paid out after `unbonding_blocks`."""

    validator: Address
    amount_nano: Nano


class WithdrawRewards(Struct, tag=6):
    """Collect what my delegation to a validator earned; its operator collects the commission as well."""

    validator: Address


class EditValidator(Struct, tag=7):
    """Say anew what a validator is called, where it is reached, and what it keeps of its delegators' rewards."""

    validator: Address
    name: Text
    commission_bps: Small
    endpoints: Endpoints


class Unjail(Struct, tag=8):
    """A validator that missed too many blocks is back."""

    validator: Address


# --- providers


class RegisterProvider(Struct, tag=10):
    """Offer a machine's work. Registering again after a withdrawal is allowed."""

    roles: Small
    """Sum of ROLE_SOLVER, ROLE_VERIFIER, ROLE_WHISTLEBLOWER, and OFFERS_NATIVE."""
    device_class: Text
    """Such as `cpu-x86-64`; free text, shown to users."""
    memory_bytes: Count
    """Memory it gives to tasks."""
    ask_price_nano: Nano
    """Nano per giga-gas of training or re-execution."""
    bond_nano: Nano
    """Moved from the balance into the provider's bond."""
    endpoints: Endpoints
    """Where it serves states: peer id or multiaddresses."""
    name: Text


class UpdateProvider(Struct, tag=11):
    """Change an offer; assigned work keeps the old terms."""

    roles: Small
    device_class: Text
    memory_bytes: Count
    ask_price_nano: Nano
    add_bond_nano: Nano
    """Further money moved into the bond; may be zero."""
    endpoints: Endpoints
    name: Text


class PauseProvider(Struct, tag=12):
    """Draw me for nothing new; current duties stay."""


class ResumeProvider(Struct, tag=13):
    """Draw me again (also after the chain paused me for missed duties)."""


class WithdrawProvider(Struct, tag=14):
    """Leave: nothing new is drawn, and the bond is paid back `unbonding_blocks` after the last duty ended."""


# --- programs and tasks


class PublishProgram(Struct, tag=20):
    """Put a step program on the chain, where the referee finds it; it is validated first."""

    program: Annotated[bytes, Meta(max_length=limits.PROGRAM_BYTES_MAX)]
    """Canonical encoding of a `proofs.program.types.Program`."""


class TaskSpec(Struct):
    """A training task, complete: what to compute, on which data, for how much."""

    name: Text
    program_id: Hash
    dataset: Annotated[tuple[DatasetTensor, ...], Meta(max_length=64)]
    """One entry a batch input of the program, pinned by its root."""
    dataset_manifest: OptionalHash
    """Blob id of the manifest that lists the dataset's shards."""
    checkpoint_root: OptionalHash
    """`proofs.state.checkpoint_root` of the program's `Given` entries; empty when it has none."""
    checkpoint_blob: OptionalHash
    """Blob id of that checkpoint; empty when there is none."""
    steps: Small
    """Training steps in all."""
    segment_steps: Small
    """Steps of a segment (k); the last segment may be shorter."""
    instalments: Small
    """Units of committing, verifying and paying; the segments are dealt to them as evenly as possible."""
    arithmetic: Text
    """`rep-v1` or `native`."""
    verifiers: Small
    """Verifiers drawn an instalment (K)."""
    samples: Small
    """Segments each verifier re-executes (c); as many as an instalment has, or more: all of them."""
    max_price_nano: Nano
    """Escrowed at submission; what is not used goes back."""
    deadline_blocks: Small
    """Blocks after submission at which no more work is accepted."""
    memory_bytes: Count
    """Memory that a solver or verifier needs."""
    endpoints: Endpoints
    """Peers that serve dataset and checkpoint."""
    solver_bond_bps: Small = 0
    """Solver's bond as a share of its price where that is more than the chain's; the others' bonds follow it."""
    forced_error_bps: Small = 0
    """Chance, in basis points, that the solver has to show an instalment with a deliberate error; 0: never."""


class SubmitTask(Struct, tag=30):
    """Submit a task; its id is the id of this transaction."""

    spec: TaskSpec


class CancelTask(Struct, tag=31):
    """Stop a task of mine: committed instalments are still verified and paid, the rest is refunded."""

    task_id: Hash


class StartTask(Struct, tag=32):
    """The assigned solver accepts and begins."""

    task_id: Hash
    anchor: OptionalHash = b""
    """With forced errors: the end of the solver's hash chain of secrets (`sealed.link_of`); empty otherwise."""


class Heartbeat(Struct, tag=33):
    """A solver at work: progress for whoever watches. Due at least every `heartbeat_blocks`."""

    task_id: Hash
    step: Small
    """Steps done of the whole task."""
    loss_bits: Small
    """IEEE-754 bits of the last f32 loss."""
    commitment: OptionalHash
    """Hiding commitment to the current state, or empty."""


class CommitInstalment(Struct, tag=34):
    """Claim that an instalment is trained. With forced errors: sealed, and `OpenInstalment` shows the roots later."""

    task_id: Hash
    instalment: Small
    initial_root: OptionalHash
    """State root at step 0: instalment 0 only, empty otherwise."""
    segment_roots: Roots
    """State root at the end of each of the instalment's segments."""
    state_blobs: Roots
    """Blob ids of those states, one a segment, or empty when states are asked for by root."""
    losses: Annotated[tuple[Small, ...], Meta(max_length=limits.SEGMENTS_PER_INSTALMENT_MAX)]
    """f32 bits of the last loss of each segment; shown, not proved."""
    endpoints: Endpoints
    """Where the states are served."""
    seal: OptionalHash = b""
    """With forced errors: `sealed.seal_of` the right segment roots, which stay empty here; empty otherwise."""


APPROVED = 0
DISAGREED = 1
UNAVAILABLE = 2


class Finding(Struct):
    """What a verifier found for one segment drawn for it."""

    segment: Small
    """Number within the task."""
    verdict: Small
    """APPROVED, DISAGREED or UNAVAILABLE (its states could not be fetched)."""
    root: OptionalHash
    """APPROVED: the evidence root over the segment's step states. DISAGREED: the own end root. UNAVAILABLE: empty."""
    excess_bps: Small = 0
    """Native: the largest distance of a measured entry, in basis points of its threshold, rounded up; else 0.

    Above 10,000 the solver's values have to be looked at, operator by operator: APPROVED says that all of them keep
    their bounds, DISAGREED that one does not, UNAVAILABLE that they were not to be had.
    """


Findings = Annotated[tuple[Finding, ...], Meta(max_length=limits.SEGMENTS_PER_INSTALMENT_MAX)]


class VerdictCommit(Struct, tag=35):
    """Bind oneself to a verdict before anyone shows one."""

    task_id: Hash
    instalment: Small
    attempt: Small
    commitment: Hash
    """`verdict_commitment(...)`."""


class VerdictReveal(Struct, tag=36):
    """Show the verdict committed to."""

    task_id: Hash
    instalment: Small
    attempt: Small
    findings: Findings
    """One for each drawn segment, in order."""
    initial_root: OptionalHash
    """Instalment 0: the own initial state root where it differs from the solver's; empty when it agrees."""
    salt: Hash


# --- disputes


class SegmentChallenge(Struct, tag=0):
    """The solver's end root of a segment is wrong; it should be `end_root`."""

    instalment: Small
    attempt: Small
    segment: Small
    end_root: Hash


class InitialChallenge(Struct, tag=1):
    """The solver's initial state root is wrong; it should be `initial_root`."""

    attempt: Small
    initial_root: Hash


class EvidenceChallenge(Struct, tag=2):
    """A verifier's evidence root of a segment it approved is wrong: it did not do the work."""

    instalment: Small
    attempt: Small
    segment: Small
    verifier: Address
    evidence_root: Hash
    """The right evidence root, as the challenger computed it."""


Challenge = SegmentChallenge | InitialChallenge | EvidenceChallenge


class OpenChallengeCommit(Struct, tag=40):
    """Announce a challenge without saying which: nobody can steal the find. Locks the challenge bond."""

    task_id: Hash
    instalment: Small
    commitment: Hash
    """`challenge_commitment(...)`."""


class OpenChallengeReveal(Struct, tag=41):
    """Show the challenge and open (or join) its dispute."""

    task_id: Hash
    challenge: Challenge
    salt: Hash


class DisputeMove(Struct, tag=42):
    """The next move of a dispute."""

    dispute_id: Hash
    move: Annotated[bytes, Meta(max_length=limits.TRANSACTION_BYTES_MAX)]
    """Canonical encoding of a `proofs.pinpoint` move."""


# --- profiling


Distances = Annotated[tuple[Small, ...], Meta(max_length=limits.STATE_ENTRIES_MAX)]
"""One a state entry, in parts per 2^32 of the segment's update."""


class ProfileCommit(Struct, tag=60):
    """Bind oneself to measurements of a native task's noise before anyone shows any."""

    task_id: Hash
    commitment: Hash
    """`proofs.native.profile.profile_commitment`."""


class ProfileReveal(Struct, tag=61):
    """Show the measurements committed to."""

    task_id: Hash
    distances: Distances
    """Of the own native first segment from the own `rep-v1` one, entry by entry."""
    salt: Hash


# --- values of a suspected native segment


class DemandValues(Struct, tag=62):
    """Ask the solver to show the values of a native segment that is too far off: a verifier, before its verdict."""

    task_id: Hash
    instalment: Small
    attempt: Small
    segment: Small
    """Number within the task."""


StepHashes = Annotated[bytes, Meta(max_length=(limits.NATIVE_SEGMENT_STEPS_MAX + 1) * HASH_BYTES)]


class DiscloseValues(Struct, tag=63):
    """The solver's answer; what it says here holds in a dispute over the segment."""

    task_id: Hash
    instalment: Small
    attempt: Small
    segment: Small
    states: StepHashes
    """State roots R_0 … R_k, one after another."""
    values: StepHashes
    """For each step the root over its batch values and nodes, `proofs.native.game.values_root`."""
    blobs: Annotated[tuple[Hash, ...], Meta(max_length=limits.NATIVE_SEGMENT_STEPS_MAX)]
    """For each step the blob that holds its state and values."""


# --- forced errors


class OpenInstalment(Struct, tag=70):
    """Show a sealed instalment's segment roots: the right ones, or with the error that the draw forces."""

    task_id: Hash
    instalment: Small
    segment_roots: Roots
    state_blobs: Roots
    losses: Annotated[tuple[Small, ...], Meta(max_length=limits.SEGMENTS_PER_INSTALMENT_MAX)]


class RevealSecret(Struct, tag=71):
    """Show an instalment's secret once verdicts and challenges are in: was there an error, and what is right?"""

    task_id: Hash
    instalment: Small
    secret: Hash
    segment_root: OptionalHash
    """The right end root of the segment with the error; empty when there was none."""
    state_blob: OptionalHash
    """Blob of that right state; empty as `state_blobs` were."""


class ContestForcedError(Struct, tag=72):
    """A verifier that approved the segment called wrong insists: what the solver calls right is the error."""

    task_id: Hash
    instalment: Small


Message = (
    Transfer
    | Bond
    | Unbond
    | Delegate
    | Undelegate
    | WithdrawRewards
    | EditValidator
    | Unjail
    | RegisterProvider
    | UpdateProvider
    | PauseProvider
    | ResumeProvider
    | WithdrawProvider
    | PublishProgram
    | SubmitTask
    | CancelTask
    | StartTask
    | Heartbeat
    | CommitInstalment
    | VerdictCommit
    | VerdictReveal
    | OpenChallengeCommit
    | OpenChallengeReveal
    | DisputeMove
    | ProfileCommit
    | ProfileReveal
    | DemandValues
    | DiscloseValues
    | OpenInstalment
    | RevealSecret
    | ContestForcedError
    | Propose
    | CastVote
)


# --- the envelope


class Transaction(Struct, dict=True):
    """A signed message. `sender` is the public key; the account is its address."""

    chain_id: Text
    sender: Hash
    nonce: Count
    """Sequential from 0 for each account."""
    fee_nano: Nano
    message: Message
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]

    @cached_property
    def sender_address(self) -> bytes:
        """The paying account."""
        return crypto.address_of(self.sender)


def signing_bytes(chain_id: str, sender: bytes, nonce: int, fee_nano: int, message: Message) -> bytes:
    """What the sender signs: a hash over everything but the signature."""
    return tagged_hash("gensyn/transaction/1", encode((chain_id, sender, nonce, fee_nano, encode(message))))


def sign_transaction(key: SecretKey, chain_id: str, nonce: int, fee_nano: int, message: Message) -> Transaction:
    """The transaction signed with `key`."""
    signature = key.sign(signing_bytes(chain_id, key.public, nonce, fee_nano, message))
    return Transaction(chain_id, key.public, nonce, fee_nano, message, signature)


def verify_signature(transaction: Transaction) -> None:
    """`Rejection` BAD_SIGNATURE unless the sender signed it."""
    signed = signing_bytes(
        transaction.chain_id, transaction.sender, transaction.nonce, transaction.fee_nano, transaction.message
    )
    if not crypto.verify(transaction.sender, signed, transaction.signature):
        raise Rejection(reasons.BAD_SIGNATURE, "the transaction's signature does not verify under its sender's key")


def encode_transaction(transaction: Transaction) -> bytes:
    """The bytes that travel and go into blocks."""
    return encode(transaction)


def decode_transaction(data: bytes) -> Transaction:
    """The transaction in `data`; `Rejection` (too large, malformed, not canonical) otherwise. Signature unchecked."""
    return _decode_small(data) if len(data) <= SMALL_BYTES_MAX else _decode(data)


def _decode(data: bytes) -> Transaction:
    transaction: Transaction = decode(Transaction, data, max_bytes=limits.TRANSACTION_BYTES_MAX)
    return transaction


_decode_small = lru_cache(maxsize=DECODED_REMEMBERED_MAX)(_decode)
"""By exact bytes; a transaction is looked at when it comes in, goes into a block, is executed and leaves the pool."""


def transaction_id(data: bytes) -> bytes:
    """The id of an encoded transaction (32 bytes); a submitted task's id is its transaction's."""
    return tagged_hash("gensyn/transaction-id/1", data)


# --- commitments made inside messages


def verdict_commitment(
    verifier: bytes,
    task_id: bytes,
    instalment: int,
    attempt: int,
    findings: tuple[Finding, ...],
    initial_root: bytes,
    salt: bytes,
) -> bytes:
    """H(verdict ‖ evidence ‖ salt), bound to verifier, task and attempt so that it cannot be copied."""
    verdict = encode((findings, initial_root))
    return tagged_hash("gensyn/verdict/1", verifier, task_id, encode((instalment, attempt)), verdict, salt)


def challenge_commitment(challenger: bytes, task_id: bytes, challenge: Challenge, salt: bytes) -> bytes:
    """H(challenge ‖ salt), bound to the challenger and the task."""
    return tagged_hash("gensyn/challenge/1", challenger, task_id, encode(challenge), salt)


def validator_key_proof_bytes(chain_id: str, operator: bytes) -> bytes:
    """What a validator key signs to accept `operator` as the owner of its stake."""
    return tagged_hash("gensyn/validator-key/1", chain_id.encode(), operator)
