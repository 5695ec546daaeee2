"""Comparison with witnesses: two headers of one height, each verified well enough, are an attack by somebody.

The first divergence ends everything: nothing is trusted, both sides' proof is handed out, no other witness is asked.
A witness whose header cannot be verified is only a bad witness.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from consensus.light import reasons
from consensus.light.skipping import Failed, Fetch, NotAvailable, Skipping, Verified
from consensus.light.types import LightBlock, LightOptions, Trusted, trusted_of
from consensus.light.verify import check_shape
from consensus.tendermint.types import LightClientAttackEvidence
from consensus.tendermint.verify import SignatureCheck
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import InvariantViolation, Rejection


class Source(Enum):
    """Whom to ask."""

    PRIMARY = "primary"
    WITNESS = "witness"


@dataclass(frozen=True, slots=True)
class FetchFrom:
    """Get the light block of a height from one of the two, then `step` with it, or with `NotAvailable`."""

    source: Source
    height: int


@dataclass(frozen=True, slots=True)
class Agrees:
    """The witness has the same header."""


@dataclass(frozen=True, slots=True)
class BadWitness:
    """The witness has no header, or one that nobody could believe: it says nothing about the primary."""

    why: Rejection


@dataclass(frozen=True, slots=True)
class Diverges:
    """Two headers that a light client would believe. `common` is the last height on which both agree."""

    common: Trusted
    against_primary: LightClientAttackEvidence
    against_witness: LightClientAttackEvidence | None
    """None when the primary would not answer for its own headers."""


Verdict = FetchFrom | Agrees | BadWitness | Diverges


@dataclass(slots=True)
class Detector:
    """One comparison of a verified trace with one witness."""

    chain_id: str
    root: Trusted
    """What the trace was verified from."""
    trace: tuple[LightBlock, ...]
    """The primary's, heights rising, the target last."""
    options: LightOptions
    check: SignatureCheck = crypto.verify
    _common: Trusted = field(init=False)
    _next: int = field(init=False, default=0)
    """Position in the trace of the block that is compared."""
    _target: LightBlock | None = field(init=False, default=None)
    """The witness's header of the trace's last height, once it is known to differ."""
    _skipping: Skipping | None = field(init=False, default=None)
    _theirs: tuple[LightBlock, ...] = field(init=False, default=())
    _asked: FetchFrom | None = field(init=False, default=None)

    def start(self) -> Verdict:
        """The first effect: what does the witness have at the target's height?"""
        self._common = self.root
        return self._ask(Source.WITNESS, self.trace[-1].height)

    def step(self, answer: LightBlock | NotAvailable, now_ms: int) -> Verdict:
        """Take the answer to the last `FetchFrom`."""
        if self._asked is None:
            raise InvariantViolation("an answer that nobody asked for")
        if self._asked.source is Source.PRIMARY:
            return self._compare_primary(answer)
        if self._skipping is not None:
            return self._verify_witness(self._skipping.step(answer, now_ms), now_ms)
        if isinstance(answer, NotAvailable):
            return BadWitness(Rejection(reasons.NOT_AVAILABLE, f"header {self._asked.height}"))
        try:
            check_shape(self.chain_id, answer)
            if answer.height != self._asked.height:
                raise Rejection(reasons.BAD_LIGHT_BLOCK, f"header {answer.height} instead of {self._asked.height}")
        except Rejection as rejection:
            return BadWitness(rejection)
        if self._target is None:
            if answer.id == self.trace[-1].id:
                return Agrees()
            self._target = answer
        elif answer.id == self.trace[self._next].id:
            self._common = trusted_of(self.trace[self._next])
            self._next += 1
        else:
            return self._diverged_at(answer, now_ms)
        if self._next == len(self.trace) - 1:
            return self._diverged_at(self._target, now_ms)
        return self._ask(Source.WITNESS, self.trace[self._next].height)

    def _diverged_at(self, theirs: LightBlock, now_ms: int) -> Verdict:
        """The first header of the trace that the witness does not share; is the witness's one any better?"""
        self._skipping = Skipping(self.chain_id, self._common, theirs.height, self.options, self.check)
        effect = self._skipping.start(now_ms)
        if isinstance(effect, Fetch):
            effect = self._skipping.step(theirs, now_ms)
        return self._verify_witness(effect, now_ms)

    def _verify_witness(self, effect: Fetch | Verified | Failed, now_ms: int) -> Verdict:
        if isinstance(effect, Fetch):
            return self._ask(Source.WITNESS, effect.height)
        if isinstance(effect, Failed):
            return BadWitness(effect.why)
        self._theirs = effect.trace
        return self._next_of_theirs(self._common, 0)

    def _next_of_theirs(self, common: Trusted, position: int) -> Verdict:
        """Look for the first header on the witness's way that the primary does not share: it is what *it* forged."""
        block = self._theirs[position]
        if block.height == self.trace[self._next].height:
            return self._diverges(_evidence(common, block))
        self._their_common, self._their_position = common, position
        return self._ask(Source.PRIMARY, block.height)

    _their_common: Trusted = field(init=False)
    _their_position: int = field(init=False, default=0)

    def _compare_primary(self, answer: LightBlock | NotAvailable) -> Verdict:
        block = self._theirs[self._their_position]
        if isinstance(answer, NotAvailable) or answer.height != block.height:
            return self._diverges(None)
        if answer.id == block.id:
            return self._next_of_theirs(trusted_of(block), self._their_position + 1)
        return self._diverges(_evidence(self._their_common, block))

    def _diverges(self, against_witness: LightClientAttackEvidence | None) -> Diverges:
        return Diverges(self._common, _evidence(self._common, self.trace[self._next]), against_witness)

    def _ask(self, source: Source, height: int) -> FetchFrom:
        self._asked = FetchFrom(source, height)
        return self._asked


def _evidence(common: Trusted, block: LightBlock) -> LightClientAttackEvidence:
    """What a full node can judge; whom it convicts, it works out itself."""
    return LightClientAttackEvidence(common.height, block.header, block.commit, block.validators, ())
