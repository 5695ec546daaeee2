"""The structs of the pinpoint game: claims, moves, phases, outcomes. All of them are encoded: they live on the chain.

Lists of hashes are one byte string of 32-byte hashes. *Value numbers* are the program's; the *list* of a step's values
holds the batch values and then the nodes (state inputs and the step index are pinned by what is agreed).
"""

from __future__ import annotations

from typing import TypeAlias

from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.limits import KIB

DEFENDER, CHALLENGER = 0, 1
"""The two parties. The defender committed to something; the challenger claims that it is wrong."""

DEFENDER_WRONG, CHALLENGER_WRONG, BOTH_WRONG = 1, 2, 3
"""Outcomes."""

SEGMENT, EVIDENCE, INITIAL = 0, 1, 2
"""Kinds of claims: a segment's end root; a verifier's evidence root; the initial state's root."""

FAN_OUT = 1024
"""Children of one node in the walk over tiles and pieces, a power of two so that they are subtrees: 32 KiB a move."""
VALUES_PER_MOVE_MAX = 2048
"""Longer lists of value roots are cut into chunks of this size, one more level."""
MOVE_BYTES_MAX = 128 * KIB
"""One encoded move; evidence for the arbitration has the smaller `limits.ARBITRATION_BYTES_MAX`."""


class Claim(Struct):
    """What is disputed. SEGMENT and EVIDENCE: steps `first_step` … `first_step + steps - 1` from an agreed state."""

    kind: int
    first_step: int
    """INITIAL: 0."""
    steps: int
    """INITIAL: 0."""
    start_root: bytes
    """State root agreed by both; INITIAL: empty."""
    end_root: bytes
    """State root that the defender stands for: the segment's end (EVIDENCE: that it approved), or the initial one."""
    evidence: bytes
    """EVIDENCE: the defender's `state.keyed_evidence_root`; empty otherwise."""
    challenger_root: bytes
    """What the challenger says instead of `end_root`, or of `evidence` when there is one."""
    key: bytes = b""
    """EVIDENCE: the segment's `samples.evidence_key`; empty otherwise."""


class PostStates(Struct, tag=0):
    """Defender: the state roots R_0 … R_k of the segment; EVIDENCE: and the sample of each of its k steps."""

    roots: bytes
    samples: bytes = b""


class PostValues(Struct, tag=1):
    """Defender: the step's start state entry by entry, and the roots of all batch values and nodes."""

    entry_roots: bytes
    value_roots: bytes


class PostChunks(Struct, tag=2):
    """Defender, for long lists: start and end state by entry, and the Merkle root of each chunk of value roots."""

    entry_roots: bytes
    output_roots: bytes
    chunks: bytes


class OpenChunk(Struct, tag=3):
    """Defender: the value roots of the chunk that was named."""

    value_roots: bytes


class PostEntries(Struct, tag=4):
    """Defender of an INITIAL claim: the roots of all state entries."""

    entry_roots: bytes


class PostTiles(Struct, tag=5):
    """Defender: the children of the tile tree's node that was named."""

    hashes: bytes


class PostPieces(Struct, tag=6):
    """Defender: accumulator hashes at the end of each part of the named run of pieces, except its last."""

    hashes: bytes


class Name(Struct, tag=7):
    """Challenger: the first item that differs, and its own hash there."""

    index: int
    hash: bytes


class ShowContradiction(Struct, tag=8):
    """Challenger: an agreed chunk's value is not what the defender's end state says that it becomes."""

    entry: int
    """State entry whose output it is."""
    root: bytes
    path: bytes
    """Merkle path of the value root inside its chunk."""


class Accumulator(Struct):
    """An array that one piece hands to the next."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class InputRoot(Struct):
    """The agreed tensor root of one input, where the chain does not hold it: with its Merkle path."""

    input: int
    root: bytes
    path: bytes


class InputTile(Struct):
    """One tile of one input with its Merkle path."""

    input: int
    tile: int
    data: bytes
    path: bytes


class Arbitrate(Struct, tag=9):
    """Challenger: everything that the one disputed piece reads; the chain recomputes it."""

    accumulator: Accumulator | None
    inputs: tuple[InputRoot, ...]
    tiles: tuple[InputTile, ...]


class NameSample(Struct, tag=10):
    """Challenger of an EVIDENCE claim: the first step whose sample differs, all before it agreed, and its own there."""

    index: int
    """The step's number in the segment, from 0."""
    hash: bytes


class SampledTile(Struct):
    """One of the tiles that the key draws, with its Merkle path."""

    data: bytes
    path: bytes
    root: bytes = b""
    root_path: bytes = b""
    """Where values come in chunks: the root of the tile's value, with its path inside its chunk."""


class OpenSample(Struct, tag=11):
    """Challenger: the drawn tiles of the step, whose values both agree on; the chain hashes them."""

    tiles: tuple[SampledTile, ...]


Move: TypeAlias = (
    PostStates
    | PostValues
    | PostChunks
    | OpenChunk
    | PostEntries
    | PostTiles
    | PostPieces
    | Name
    | ShowContradiction
    | Arbitrate
    | NameSample
    | OpenSample
)


class Target(Struct):
    """The disputed value: everything it is computed from is agreed."""

    step: int
    value: int
    """Value number; INITIAL: the state entry's number."""
    inputs: tuple[bytes, ...]
    """Tensor root of each input; empty where it lies in another chunk."""
    chunks: bytes
    """Merkle roots of the agreed chunks, when the list is in chunks."""


class Span(Struct):
    """A run of tiles or of pieces, with the two claims about its hash."""

    first: int
    count: int
    defender: bytes
    challenger: bytes


class DisputedSample(Struct):
    """The two claims about a step's sample, when that is what they differ in: they agree on the states around it."""

    defender: bytes
    challenger: bytes


class AwaitStates(Struct, tag=0):
    """Defender has to post the segment's state roots."""


class NameState(Struct, tag=1):
    """Challenger has to name the first state root, or sample, that differs."""

    roots: bytes
    samples: bytes = b""


class AwaitValues(Struct, tag=2):
    """Defender has to post the values of `step`, from an agreed start root to its end root."""

    step: int
    start_root: bytes
    end_root: bytes
    sample: DisputedSample | None = None


class NameChunk(Struct, tag=3):
    """Challenger has to name the first chunk that differs, to show a contradiction, or to open a disputed sample."""

    step: int
    entry_roots: bytes
    output_roots: bytes
    chunks: bytes
    sample: DisputedSample | None = None


class AwaitChunk(Struct, tag=4):
    """Defender has to open the chunk that was named."""

    step: int
    entry_roots: bytes
    output_roots: bytes
    chunks: bytes
    chunk: int


class NameValue(Struct, tag=5):
    """Challenger has to name the first value that differs, or to open a disputed sample."""

    step: int
    entry_roots: bytes
    chunks: bytes
    first: int
    """List index of the first root here."""
    value_roots: bytes
    sample: DisputedSample | None = None


class AwaitEntries(Struct, tag=6):
    """Defender has to post the initial state entry by entry."""


class NameEntry(Struct, tag=7):
    """Challenger has to name the first entry that differs."""

    entry_roots: bytes


class AwaitTiles(Struct, tag=8):
    """Defender has to post the children of a node of the tile tree."""

    target: Target
    span: Span


class NameTile(Struct, tag=9):
    """Challenger has to name the first child that differs."""

    target: Target
    span: Span
    hashes: bytes


class AwaitPieces(Struct, tag=10):
    """Defender has to post accumulator hashes inside a run of pieces of one tile."""

    target: Target
    tile: int
    agreed: bytes
    """Hash of the accumulator before the run; empty before the first piece."""
    span: Span


class NamePiece(Struct, tag=11):
    """Challenger has to name the first part of the run whose end differs (the last: the run's end, already claimed)."""

    target: Target
    tile: int
    agreed: bytes
    span: Span
    hashes: bytes


class AwaitEvidence(Struct, tag=12):
    """Challenger has to supply what the one piece reads."""

    target: Target
    tile: int
    agreed: bytes
    span: Span
    """The one piece (or, for an entry taken from a checkpoint, the whole tensor)."""


class Finished(Struct, tag=13):
    """The game has an outcome."""

    outcome: int
    why: str


Phase: TypeAlias = (
    AwaitStates
    | NameState
    | AwaitValues
    | NameChunk
    | AwaitChunk
    | NameValue
    | AwaitEntries
    | NameEntry
    | AwaitTiles
    | NameTile
    | AwaitPieces
    | NamePiece
    | AwaitEvidence
    | Finished
)

DEFENDER_PHASES = (AwaitStates, AwaitValues, AwaitChunk, AwaitEntries, AwaitTiles, AwaitPieces)
"""Phases in which the defender moves; in all others, but `Finished`, the challenger does."""


class Game(Struct):
    """A dispute in progress or finished. At most `MOVE_BYTES_MAX` and a little in its encoding."""

    claim: Claim
    moves: int
    """Number of moves made."""
    phase: Phase

    @property
    def turn(self) -> int | None:
        """The party that has to move; None when the game is over."""
        if isinstance(self.phase, Finished):
            return None
        return DEFENDER if isinstance(self.phase, DEFENDER_PHASES) else CHALLENGER

    @property
    def outcome(self) -> int | None:
        """None, DEFENDER_WRONG, CHALLENGER_WRONG or BOTH_WRONG."""
        return self.phase.outcome if isinstance(self.phase, Finished) else None

    @property
    def why(self) -> str:
        """Why the game ended as it did; empty while it is played."""
        return self.phase.why if isinstance(self.phase, Finished) else ""
