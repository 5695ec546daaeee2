"""Every bound on what comes from outside, each with its reason. Bytes unless the name says otherwise."""

KIB = 1 << 10
MIB = 1 << 20

MESSAGE_BYTES_MAX = 4 * MIB
"""One wire message of any kind; larger things travel as blobs in chunks."""

TRANSACTION_BYTES_MAX = 320 * KIB
"""Largest transaction: a published program or a dispute move with its evidence, each bounded below this."""
PROGRAM_BYTES_MAX = 256 * KIB
"""A step program in its canonical encoding (a 4-layer GPT with AdamW needs about 60 KiB)."""
TASK_SPEC_BYTES_MAX = 64 * KIB
"""A task's specification inside its transaction."""
ARBITRATION_BYTES_MAX = 96 * KIB
"""All evidence of one arbitration; what makes a dispute's cost independent of the model."""
BLOCK_BYTES_MAX = 2 * MIB
"""A block's transactions together: one round trip on a slow home link."""
BLOCK_TRANSACTIONS_MAX = 16_384
"""Transactions of one block: one that pays a fee has some 130 bytes, and worthless shorter ones cost time as well."""
VALIDATORS_MAX = 128
"""Validators in one set: votes grow with its square."""
CANDIDATES_MAX = 256
"""Validators with stake, signing or waiting for a place: each block looks at all of them."""
EVIDENCE_PER_BLOCK_MAX = 16
"""Evidence items in one block."""
EVIDENCE_BYTES_MAX = 256 * KIB
"""Evidence of one block: a false header with the commit of the largest set takes about 25 KiB."""

MEMPOOL_TRANSACTIONS_MAX = 20_000
"""Pending transactions in total."""
MEMPOOL_BYTES_MAX = 64 * MIB
"""Pending transactions' bytes in total."""
MEMPOOL_PER_SENDER_MAX = 64
"""Pending transactions of one account."""
SIGNATURES_REMEMBERED_MAX = 65_536
"""Verdicts on signatures of transactions, some 100 bytes each: three full mempools."""

BLOB_CHUNK_BYTES = 1 * MIB
"""A blob travels and is verified in chunks of this size (a stalled reader is reset after five seconds)."""
BLOB_BYTES_MAX = 16 << 30
"""One blob: a shard or a checkpoint."""

RPC_BODY_BYTES_MAX = 1 * MIB
"""JSON body of one RPC request."""
RPC_JSON_DEPTH_MAX = 32
"""Depth of a JSON body."""

TILE = 32
"""Edge of a commitment tile (elements)."""
PROGRAM_VALUES_MAX = 16_384
"""Values (inputs and nodes) of one step program."""
TENSOR_RANK_MAX = 8
"""Dimensions of one tensor."""
TENSOR_ELEMENTS_MAX = 1 << 34
"""Elements of one tensor."""
PIECE_INPUT_BYTES_MAX = 64 * KIB
"""Input tiles of one arbitration piece."""
TILE_PROOF_BYTES = 1_400
"""Most bytes that prove one input tile: its path (29 hashes), and its input's root with its path (12 hashes)."""
STATE_ENTRIES_MAX = 1_792
"""State entries of one program: in a dispute their roots share a move of 128 KiB with 2,048 value roots."""
SEGMENT_STEPS_MAX = 1_024
"""Steps of one segment: the state roots of a disputed segment go into one transaction."""
NATIVE_SEGMENT_STEPS_MAX = 10
"""Steps of a native task's segment: along longer ones honest noise comes near to what a skipped step does."""
SEGMENTS_PER_INSTALMENT_MAX = 256
"""Segments of one instalment: their roots go into the commit transaction."""
INSTALMENTS_MAX = 16
"""Instalments of one task."""
VERIFIERS_PER_TASK_MAX = 16
"""Verifiers drawn for one instalment."""
