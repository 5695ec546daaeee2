"""The structs of the native game: claim, moves, phases, outcomes. A list of hashes is one byte string.

Two honest machines differ in every value, so nobody names a hash of his own: everything here is about values that the
*defender* committed to. The outcomes and the parties are those of `proofs.pinpoint.types`.
"""

from __future__ import annotations

from typing import TypeAlias

from gensyn_node.primitives.codec import Struct
from proofs.pinpoint.types import CHALLENGER, DEFENDER, Accumulator, InputTile


class NativeClaim(Struct):
    """Steps `first_step` … `first_step + steps - 1` from an agreed state, as the defender says that it did them."""

    first_step: int
    steps: int
    start_root: bytes
    """State root agreed by both."""
    end_root: bytes
    """State root that a solver stands for; empty when the claim is a verifier's evidence."""
    evidence: bytes
    """A verifier's `state.evidence_root` over its own R_0 … R_k; empty when the claim is a solver's."""
    states: bytes = b""
    """R_0 … R_k as the solver disclosed before the dispute; empty when it was not asked."""
    values: bytes = b""
    """The disclosed `values_root` of each step; what it shows in the game has to be that."""


class PostStates(Struct, tag=0):
    """Defender: its state roots R_0 … R_k of the segment."""

    roots: bytes


class NameStep(Struct, tag=1):
    """Challenger: the step that is wrong leads to state root `index`, 1 … k."""

    index: int


class PostTrace(Struct, tag=2):
    """Defender: the step's start and end state by entry, and one root over all batch values and nodes."""

    entry_roots: bytes
    output_roots: bytes
    values_root: bytes
    """RFC 6962 root over the tensor roots, in list order."""


class AccuseTile(Struct, tag=3):
    """Challenger: this tile of this value does not follow from its inputs."""

    value: int
    tile: int


class AccuseOutput(Struct, tag=4):
    """Challenger: this state entry's output is not the value that the program says."""

    entry: int


class ShowOutput(Struct, tag=5):
    """Defender: the path of the accused output's root under the values' root."""

    path: bytes


class ProvedRoot(Struct):
    """The tensor root of a listed value, with its path under the values' root."""

    root: bytes
    path: bytes


class Shown(Struct):
    """The accused tile, with its path under the value's root and that root's under the values' root."""

    value: ProvedRoot
    data: bytes
    path: bytes


class Carried(Struct):
    """What one piece hands to the next: the reference and, where the bound needs it, the magnitudes."""

    values: Accumulator
    magnitudes: Accumulator | None


class PostReference(Struct, tag=6):
    """Defender, for a tile of several pieces: the tile, its reference, and the reference's hash after every part."""

    shown: Shown
    reference: Carried
    """After the last piece."""
    hashes: bytes
    """After each part of the run of pieces but the last."""


class NamePiece(Struct, tag=7):
    """Challenger: the first part of the run of pieces whose hash does not follow from the one before."""

    index: int


class InputRoot(Struct):
    """The tensor root of one listed input."""

    input: int
    proved: ProvedRoot


class Justify(Struct, tag=8):
    """Defender: everything that the one piece reads; the chain recomputes it."""

    shown: Shown | None
    """The accused tile, when it has one piece only; else it was posted already."""
    before: Carried | None
    """What the piece before left; nothing before the first."""
    inputs: tuple[InputRoot, ...]
    tiles: tuple[InputTile, ...]


class PostPieces(Struct, tag=9):
    """Defender: the reference's hash after each part of the named run of pieces but the last."""

    hashes: bytes


NativeMove: TypeAlias = (
    PostStates
    | NameStep
    | PostTrace
    | AccuseTile
    | AccuseOutput
    | ShowOutput
    | PostReference
    | NamePiece
    | Justify
    | PostPieces
)


class Trace(Struct):
    """What the defender stands for in the named step."""

    step: int
    entry_roots: bytes
    output_roots: bytes
    values_root: bytes


class AwaitStates(Struct, tag=0):
    """Defender has to post the segment's state roots."""


class NamingStep(Struct, tag=1):
    """Challenger has to name the wrong step."""

    roots: bytes


class AwaitTrace(Struct, tag=2):
    """Defender has to commit to all values of `step`."""

    step: int
    start_root: bytes
    end_root: bytes


class Accusing(Struct, tag=3):
    """Challenger has to accuse one tile or one output."""

    trace: Trace


class AwaitOutput(Struct, tag=4):
    """Defender has to show that an output is the value that the program says."""

    trace: Trace
    entry: int


class AwaitReference(Struct, tag=5):
    """Defender has to show the accused tile beside its reference."""

    trace: Trace
    value: int
    tile: int


class Run(Struct):
    """Pieces `first` … `first + count - 1` of the accused tile's reference."""

    value: int
    tile: int
    first: int
    count: int
    before: bytes
    """Hash of the reference before the run; empty before the first piece."""
    after: bytes
    """Hash after it; empty: the tile has one piece and is shown along with it."""


class NamingPiece(Struct, tag=6):
    """Challenger has to name the part of the run that is wrong."""

    trace: Trace
    run: Run
    hashes: bytes
    """After every part, the last included."""


class AwaitJustification(Struct, tag=7):
    """Defender has to supply what the one piece reads."""

    trace: Trace
    run: Run
    """Of one piece."""


class AwaitPieces(Struct, tag=9):
    """Defender has to post the reference's hashes inside the named run."""

    trace: Trace
    run: Run


class Ended(Struct, tag=8):
    """The game has an outcome."""

    outcome: int
    why: str
    """A word; see `game`."""


NativePhase: TypeAlias = (
    AwaitStates
    | NamingStep
    | AwaitTrace
    | Accusing
    | AwaitOutput
    | AwaitReference
    | NamingPiece
    | AwaitPieces
    | AwaitJustification
    | Ended
)

DEFENDER_PHASES = (AwaitStates, AwaitTrace, AwaitOutput, AwaitReference, AwaitPieces, AwaitJustification)
"""Phases in which the defender moves; in all others, but `Ended`, the challenger does."""


class NativeGame(Struct):
    """A native dispute in progress or finished."""

    claim: NativeClaim
    moves: int
    phase: NativePhase

    @property
    def turn(self) -> int | None:
        """The party that has to move; None when the game is over."""
        if isinstance(self.phase, Ended):
            return None
        return DEFENDER if isinstance(self.phase, DEFENDER_PHASES) else CHALLENGER

    @property
    def outcome(self) -> int | None:
        """None, DEFENDER_WRONG or CHALLENGER_WRONG."""
        return self.phase.outcome if isinstance(self.phase, Ended) else None

    @property
    def why(self) -> str:
        """Why the game ended as it did; empty while it is played."""
        return self.phase.why if isinstance(self.phase, Ended) else ""
