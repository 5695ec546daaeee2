"""What the ledger stores, one struct a kind of record; command line and RPC print them as they are.

Stakes are in `stake_records.py`. States are words. Keys are in `keys.py`. Amounts are nano, times are block heights.
"""

from __future__ import annotations

from consensus.ledger.fields import Address, Count, Endpoints, Hash, Nano, OptionalHash, Roots, Small, Text
from consensus.ledger.messages import Distances, Finding, StepHashes
from consensus.ledger.parameters import Parameters
from gensyn_node.primitives.codec import Struct
from proofs.program.types import BatchInput

# --- accounts, supply


class Account(Struct):
    """Spendable money and the next nonce."""

    balance_nano: Nano = 0
    nonce: Count = 0


class ConsensusRecord(Struct):
    """What consensus goes on with after the block and no header names; it proves a restored snapshot."""

    beacon: Hash
    """After the block's proof."""
    rotation: Hash
    """Hash of the next height's validator set with its proposer priorities, which the set's own hash leaves out."""


class Supply(Struct):
    """Totals of every place money can be in; `minted` equals the sum of all others, always."""

    minted_nano: Nano
    balances_nano: Nano
    stakes_nano: Nano
    unbonding_nano: Nano
    """Leaving stakes and provider bonds, waiting to be paid out."""
    bonds_nano: Nano
    """Providers' bonds, locked parts included."""
    escrows_nano: Nano
    jackpot_nano: Nano
    burnt_nano: Nano
    treasury_nano: Nano = 0
    """What governance can grant."""
    deposits_nano: Nano = 0
    """Held for proposals under vote."""
    fees_nano: Nano = 0
    """Fees and inflation not yet dealt to validators."""
    rewards_nano: Nano = 0
    """Earned by validators and delegators, not yet withdrawn."""


# --- providers

PROVIDER_ACTIVE = "active"
PROVIDER_PAUSED = "paused"
PROVIDER_WITHDRAWING = "withdrawing"


class Provider(Struct):
    """A machine that offers work."""

    address: Address
    name: Text
    state: Text
    """PROVIDER_ACTIVE, PROVIDER_PAUSED or PROVIDER_WITHDRAWING."""
    roles: Small
    device_class: Text
    memory_bytes: Count
    ask_price_nano: Nano
    bond_nano: Nano
    """All its bond."""
    locked_nano: Nano
    """Part of the bond that answers for current duties and disputes."""
    endpoints: Endpoints
    solving: Small
    """Tasks it trains now."""
    verifying: Small
    """Verifications it holds now."""
    work: tuple[Hash, ...]
    """Task of each duty (training, verification, challenge), one entry a duty; it can leave when there is none."""
    misses: Small
    """Duties missed in a row."""
    registered_height: Count
    earned_nano: Nano
    """Paid for work and finds, in all."""
    slashed_nano: Nano
    """Lost, in all."""

    @property
    def free_nano(self) -> int:
        """Bond that may be locked for something new."""
        return self.bond_nano - self.locked_nano


# --- programs and tasks


class ProgramRecord(Struct):
    """A published step program."""

    program_id: Hash
    publisher: Address
    height: Count
    gas_per_step: Count
    state_bytes: Count
    memory_bytes: Count
    """Estimated peak of one step."""
    batch: tuple[BatchInput, ...]
    """What a task's dataset has to give; kept here so that a submission does not decode the program."""
    given: bool
    """Whether a task needs a checkpoint."""
    entries: Small
    """Entries of its state."""
    program: bytes
    """Its canonical encoding."""


TASK_PROFILING = "profiling"
"""Native: drawn profilers measure its noise before a solver is drawn; see its `Profile`."""
TASK_WAITING = "waiting"
"""No solver: the next draw is at `due_height`."""
TASK_ASSIGNED = "assigned"
"""A solver was drawn and must start by `due_height`."""
TASK_TRAINING = "training"
"""The solver trains; its next heartbeat or commit is due by `due_height`."""
TASK_VERIFYING = "verifying"
"""Everything is committed (or the task is closing): what was committed is being verified."""
TASK_FINISHED = "finished"
"""All instalments settled."""
TASK_CANCELLED = "cancelled"
"""Ended by its submitter; settled instalments were paid."""
TASK_EXPIRED = "expired"
"""Ended by a deadline; settled instalments were paid."""
TASK_REPLACING = "replacing"
"""As `closing` only: the solver timed out; when all it committed is settled, another is drawn."""
TASK_ENDED = (TASK_FINISHED, TASK_CANCELLED, TASK_EXPIRED)


class Task(Struct):
    """A task's state; its spec is stored apart (`keys.spec`)."""

    task_id: Hash
    name: Text
    submitter: Address
    program_id: Hash
    state: Text
    """One of the TASK_ words."""
    closing: Text
    """TASK_CANCELLED, TASK_EXPIRED or TASK_REPLACING while what was committed is still verified; empty otherwise.

    TASK_CANCELLED in the state TASK_TRAINING: the instalment in training is the last that may be committed.
    """
    submitted_height: Count
    deadline_height: Count
    """Last height at which work is accepted."""
    ended_height: Count
    due_height: Count
    """Last height at which the present duty (start, heartbeat, commit) may be done; or the next draw."""
    train_due_height: Count
    """Last height at which the instalment in training may be committed, however many heartbeats come."""
    steps: Small
    instalments: Small
    gas_per_step: Count
    memory_bytes: Count
    """Memory a solver or verifier needs: the spec's or the program's, whichever is more."""
    bid_price_nano: Nano
    """The highest ask per giga-gas that the escrow can pay to everybody."""
    price_nano: Nano
    """What was escrowed at submission."""
    escrow_nano: Nano
    """What is left of it: the price less all payments and refunds."""
    solver_paid_nano: Nano
    verifiers_paid_nano: Nano
    refunded_nano: Nano
    attempt: Small
    """Number of the present assignment; 0 before the first."""
    seed: OptionalHash
    """Fixed at the first assignment, kept by every later solver."""
    solver: bytes
    """Present solver's address, or empty."""
    solver_price_nano: Nano
    solver_bond_nano: Nano
    removed_solvers: tuple[Address, ...]
    """Solvers that timed out or were proven wrong; never drawn again for this task."""
    committed: Small
    """Instalments committed by the present line of work (settled ones included)."""
    settled: Small
    """Instalments settled: paid for and final."""
    initial_root: OptionalHash
    """State root at step 0, once committed."""
    settled_root: OptionalHash
    """State root after the last settled instalment: where a new solver resumes."""
    step: Small
    """Progress by heartbeats and commits."""
    loss_bits: Small
    """f32 bits of the last loss reported."""
    heartbeat_height: Count
    disputes: tuple[Hash, ...]
    """Ids of all its disputes, oldest first."""
    forced_tax_bps: Small = 0
    """With forced errors: share of an instalment's price that its commit pays into the jackpot pool; else 0."""
    taxed_nano: Nano = 0
    """Paid into the jackpot pool, in all."""
    secret_link: OptionalHash = b""
    """With forced errors: the last known link of the present solver's hash chain of secrets."""
    fetch_blocks: Small = 0
    """Blocks that everybody is given on top of the times for work, to fetch data and states over a slow link."""
    watch_bps: Small = 0
    """Chance of a drawn watch an instalment, as it was at submission: the escrow pays for it."""


# --- instalments and their verification

VERIFICATION_DRAWN = "drawn"
VERIFICATION_COMMITTED = "committed"
VERIFICATION_REVEALED = "revealed"
VERIFICATION_MISSED = "missed"
VERIFICATION_SLASHED = "slashed"
"""Proven wrong: its bond is gone."""
VERIFICATION_RELEASED = "released"
"""Over without payment."""
VERIFICATION_PAID = "paid"


class Verification(Struct):
    """One verifier's slot in an instalment."""

    verifier: Address
    state: Text
    """One of the VERIFICATION_ words."""
    segments: tuple[Small, ...]
    """Segments drawn for it, numbers within the task."""
    price_nano: Nano
    bond_nano: Nano
    drawn_height: Count
    commitment: OptionalHash
    findings: tuple[Finding, ...]
    initial_root: OptionalHash
    """Its own initial root where that differs from the solver's."""
    fee_nano: Nano
    """Paid for it."""
    watch: bool = False
    """The drawn watch: it looks again at a segment of another slot, and counts for no majority."""
    evidence_beacon: OptionalHash = b""
    """What its samples follow from: the instalment's when it was drawn."""
    refusals: Small = 0
    """Verifiers before it who said of the same segments that their states cannot be had."""


class Refused(Struct):
    """Segments whose states somebody could not have: another is drawn to look at just these."""

    segments: tuple[Small, ...]
    times: Small
    """Verifiers who said so, one after the other."""


INSTALMENT_SEALED = "sealed"
"""With forced errors: waits for its beacon, and for the secret of the instalment before."""
INSTALMENT_OPENING = "opening"
"""With forced errors: its solver shows roots by `due_height`."""
INSTALMENT_UNSEALING = "unsealing"
"""With forced errors: verdicts and challenges are in, its solver shows the secret by `due_height`."""
INSTALMENT_FORCED = "forced"
"""The error was forced: when no dispute over its verdicts is open, the right roots are verified."""
INSTALMENT_WITHHELD = "withheld"
"""Its secret was not shown: the solver loses its bond as soon as no dispute over its work is open."""
INSTALMENT_DRAWING = "drawing"
"""Waits for verifiers to be drawn at `due_height`."""
INSTALMENT_VERIFYING = "verifying"
"""Verdicts must be committed by `due_height`."""
INSTALMENT_WATCHING = "watching"
"""All verdicts are bound. The next block may draw a watch, which then commits its own by `due_height`."""
INSTALMENT_REVEALING = "revealing"
"""Verdicts must be revealed by `due_height`."""
INSTALMENT_WINDOW = "window"
"""Challenges may be committed by `due_height`."""
INSTALMENT_CLOSING = "closing"
"""Committed challenges may be revealed by `due_height`."""
INSTALMENT_READY = "ready"
"""Waits for its disputes and for the instalments before it."""
INSTALMENT_UNSERVED = "unserved"
"""Its states could not be had; its solver fails as soon as no dispute over the solver's work is open."""
INSTALMENT_UNVERIFIABLE = "unverifiable"
"""Nobody can verify it; the task expires as soon as no dispute over the solver's work is open."""
INSTALMENT_SETTLED = "settled"
INSTALMENT_INVALID = "invalid"
"""Proven wrong, unavailable, or built on one that was."""


OUTCOME_RIGHT = "right"
OUTCOME_FORCED = "forced"


class Owed(Struct):
    """A fee that waits for its instalment's settlement."""

    verifier: Address
    fee_nano: Nano


class Instalment(Struct):
    """A committed part of a task: the unit of verification and payment."""

    task_id: Hash
    number: Small
    attempt: Small
    solver: Address
    state: Text
    """One of the INSTALMENT_ words."""
    first_segment: Small
    start_root: OptionalHash
    """State root before its first segment."""
    segment_roots: Roots
    state_blobs: Roots
    losses: tuple[Small, ...]
    endpoints: Endpoints
    commit_height: Count
    due_height: Count
    """Last height of the present phase."""
    draws: Small
    """Draws of verifiers so far."""
    give_up_height: Count
    """Until then draws wait for candidates; later they take whoever there is."""
    verifications: tuple[Verification, ...]
    missed: tuple[Address, ...]
    """Verifiers replaced for missing their duty."""
    open_disputes: tuple[Hash, ...]
    pending_challengers: tuple[Address, ...]
    """Accounts whose challenge is committed and not yet revealed."""
    challenges: Small
    """Challenges committed in all."""
    solver_paid_nano: Nano
    demanded: tuple[Small, ...] = ()
    """Native: segments whose values a verifier asked for; see their `Disclosure`."""
    seal: OptionalHash = b""
    """With forced errors: what binds its solver to the right roots; empty otherwise."""
    tax_nano: Nano = 0
    """What its trial put into the jackpot pool; no jackpot is worth more than that, the draw's chance counted."""
    beacon: OptionalHash = b""
    """Of the block after the commit: with the secret it decides on the error."""
    outcome: Text = ""
    """With forced errors: OUTCOME_RIGHT or OUTCOME_FORCED once the secret is shown; empty otherwise."""
    forced_segment: Small = 0
    """OUTCOME_FORCED: the segment that was shown with a wrong end."""
    forced_root: OptionalHash = b""
    """OUTCOME_FORCED: that wrong end root."""
    claimants: tuple[Address, ...] = ()
    """OUTCOME_FORCED: who was drawn, disagreed at the error and knew the right root: they share the jackpot."""
    owed: tuple[Owed, ...] = ()
    """OUTCOME_FORCED: what the verifiers of the wrong roots are paid when the instalment settles."""
    second_round: bool = False
    """OUTCOME_FORCED: the right roots are under verification."""
    unserved: bool = False
    """Its states could not be had; with forced errors that counts once its secret is shown: verdicts come first."""
    refused: tuple[Refused, ...] = ()
    """What other verifiers have to look at again: the next that are drawn."""
    refusers: tuple[Address, ...] = ()
    """Who said that states cannot be had; others are asked where there are any."""
    finder: bytes = b""
    """OUTCOME_FORCED: the first challenger with the right root; it wins its share of what approvers lose."""
    evidence_beacon: OptionalHash = b""
    """Of the block that drew its verifiers first: what their evidence samples follows from it, see `evidence_keys`."""

    @property
    def end_root(self) -> bytes:
        """State root after its last segment; empty while it is sealed."""
        return self.segment_roots[-1] if self.segment_roots else b""

    @property
    def secret_pending(self) -> bool:
        """Whether nobody but the solver can know yet if it was shown with an error: no dispute opens."""
        return bool(self.seal) and not self.outcome

    @property
    def voided(self) -> tuple[int, ...]:
        """Segments whose verdicts say nothing about the right roots: the wrong end, and the start made of it."""
        first_round = self.outcome == OUTCOME_FORCED and not self.second_round
        return (self.forced_segment, self.forced_segment + 1) if first_round else ()


class Disclosure(Struct):
    """What a native solver says that it computed in a segment; empty until it answers. See `DiscloseValues`."""

    segment: Small
    attempt: Small
    demanded_height: Count
    states: StepHashes
    values: StepHashes
    blobs: tuple[Hash, ...]


# --- disputes

DISPUTE_SEGMENT = "segment"
DISPUTE_INITIAL = "initial"
DISPUTE_EVIDENCE = "evidence"

DISPUTE_OPEN = "open"
DISPUTE_DEFENDER_WRONG = "defender_wrong"
DISPUTE_CHALLENGER_WRONG = "challenger_wrong"
DISPUTE_BOTH_WRONG = "both_wrong"
DISPUTE_MOOT = "moot"

ENDED_BY_ARBITRATION = "arbitration"
ENDED_BY_MOVE = "move"
ENDED_BY_CLOCK = "clock"
ENDED_BY_ANOTHER = "another_dispute"
"""Ended without ruling, because another dispute proved the same solver wrong first."""

TURN_DEFENDER = "defender"
TURN_CHALLENGER = "challenger"


class PendingChallenge(Struct):
    """A challenge committed and not yet revealed."""

    task_id: Hash
    instalment: Small
    attempt: Small
    challenger: Address
    commitment: Hash
    bond_nano: Nano
    height: Count


class Challenger(Struct):
    """One of those who made the same claim."""

    address: Address
    bond_nano: Nano
    """Locked for this dispute; 0 for a drawn verifier, whose verification bond answers."""
    lost: bool
    """Its game was lost; the next in line took over."""


class MoveRecord(Struct):
    """Where a move is found in the chain."""

    height: Count
    transaction_id: Hash
    mover: Address
    turn: Text
    """TURN_DEFENDER or TURN_CHALLENGER."""
    bytes: Small


class DisputeRecord(Struct):
    """A dispute over one claim; the game itself is stored apart (`keys.game`)."""

    dispute_id: Hash
    task_id: Hash
    instalment: Small
    attempt: Small
    kind: Text
    """DISPUTE_SEGMENT, DISPUTE_INITIAL or DISPUTE_EVIDENCE."""
    segment: Small
    state: Text
    """DISPUTE_OPEN or the outcome."""
    defender: Address
    defender_root: Hash
    """Solver's end root, solver's initial root, or the verifier's evidence root."""
    challenger_root: Hash
    challengers: tuple[Challenger, ...]
    """First the finder."""
    lead: Small
    """Which challenger plays now."""
    game: Small
    """Number of the game: one more each time the next challenger takes over."""
    turn: Text
    """TURN_DEFENDER or TURN_CHALLENGER."""
    turn_height: Count
    """Height at which the turn began."""
    due_height: Count
    """Last height at which the party in turn may move."""
    defender_clock_blocks: Small
    challenger_clock_blocks: Small
    phase: Text
    """Name of the game's phase, a type of `proofs.pinpoint.types`; empty when it is over."""
    opened_height: Count
    resolved_height: Count
    moves: tuple[MoveRecord, ...]
    how: Text
    """One of the ENDED_BY words, empty while open. Sentences are made when shown: what is stored is the same in every
    release, however it words them."""
    evidence_key: OptionalHash = b""
    """DISPUTE_EVIDENCE: what the verifier's samples were drawn by; empty in a native task."""


# --- the certificate's content


class VerdictSummary(Struct):
    """What a verifier said of a settled instalment."""

    verifier: Address
    state: Text
    findings: tuple[Finding, ...]
    fee_nano: Nano
    watch: bool = False


class InstalmentSummary(Struct):
    """A settled instalment."""

    number: Small
    attempt: Small
    solver: Address
    start_root: Hash
    segment_roots: Roots
    verdicts: tuple[VerdictSummary, ...]
    solver_paid_nano: Nano


class DisputeSummary(Struct):
    """How a dispute ended."""

    dispute_id: Hash
    kind: Text
    instalment: Small
    attempt: Small
    segment: Small
    defender: Address
    finder: Address
    outcome: Text
    moves: Small


class TaskRecord(Struct):
    """All that a certificate says of an ended task, at the key `record/<task id>` under the app hash."""

    task_id: Hash
    spec_hash: Hash
    program_id: Hash
    dataset_root: Hash
    state: Text
    submitter: Address
    seed: OptionalHash
    initial_root: OptionalHash
    final_root: OptionalHash
    """State root after the last settled instalment; empty when none was."""
    steps_settled: Small
    instalments: tuple[InstalmentSummary, ...]
    disputes: tuple[DisputeSummary, ...]
    solver_paid_nano: Nano
    verifiers_paid_nano: Nano
    refunded_nano: Nano
    ended_height: Count
    arithmetic: Text
    """The task's arithmetic class."""
    limits: Distances
    """Native: the threshold of every state entry, from profiling; empty otherwise."""
    taxed_nano: Nano = 0
    """Paid into the jackpot pool, with forced errors."""


# --- the due queue


class DueItem(Struct):
    """Something to look at when a height begins; handlers check the record, so a stale item does nothing."""

    kind: Text
    subject: bytes
    number: Count


# --- genesis


class GenesisValidator(Struct):
    """A validator of the first height."""

    public_key: Hash
    operator: Address
    stake_nano: Nano
    name: Text


class GenesisAccount(Struct):
    """Money of the first height."""

    address: Address
    balance_nano: Nano


class Genesis(Struct):
    """What a chain begins with; its hash goes into the handshake."""

    chain_id: Text
    time_ms: Count
    validators: tuple[GenesisValidator, ...]
    accounts: tuple[GenesisAccount, ...]
    parameters: Parameters
