"""From a trusted header to a later one: skip as far as trust reaches, halve the way where it does not.

A pure step machine: `start` and `step` each give one effect. With a stable validator set one header is fetched; after
each complete turnover of the set about log2(distance) more (Tendermint light client, skipping verification).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.light import reasons
from consensus.light.types import Anchor, LightBlock, LightOptions, Trusted, check_options, trusted_of
from consensus.light.verify import check_not_expired, check_shape, verify_block, verify_sealed
from consensus.tendermint.verify import SignatureCheck
from gensyn_node.primitives import crypto
from gensyn_node.primitives.errors import InvariantViolation, Rejection

HEADERS_MAX = 4_096
"""Headers of one verification: far beyond any honest chain, so that no peer can keep a client busy for ever."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get the light block of this height, then `step` with it, or with `NotAvailable`."""

    height: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The target is trusted. The trace begins with the first block that was verified and ends with the target."""

    trusted: Trusted
    trace: tuple[LightBlock, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The peer that gave the answers cannot be believed, or the trust has expired."""

    why: Rejection


@dataclass(frozen=True, slots=True)
class NotAvailable:
    """The peer does not have the light block of this height."""

    height: int


Effect = Fetch | Verified | Failed


@dataclass(slots=True)
class Skipping:
    """One verification of one height, all answers from one peer."""

    chain_id: str
    start_from: Trusted | Anchor
    target: int
    options: LightOptions
    check: SignatureCheck = crypto.verify
    fetched: int = 0
    """Light blocks taken so far."""
    trusted: Trusted | None = field(init=False, default=None)
    """The newest verified header below the target."""
    _trace: list[LightBlock] = field(init=False, default_factory=list)
    _pending: list[LightBlock] = field(init=False, default_factory=list)
    """Fetched and not verified yet, the target first, heights falling."""
    _asked: int = field(init=False, default=0)

    def start(self, now_ms: int) -> Effect:
        """The first effect."""
        check_options(self.options)
        if isinstance(self.start_from, Anchor):
            if not 1 <= self.start_from.height <= self.target:
                return Failed(
                    Rejection(reasons.DOES_NOT_FOLLOW, f"{self.target} is below the trusted {self.start_from.height}")
                )
            return self._fetch(self.start_from.height)
        self.trusted = self.start_from
        if self.target <= self.trusted.height:
            return Failed(Rejection(reasons.DOES_NOT_FOLLOW, f"{self.target} is not above {self.trusted.height}"))
        try:
            check_not_expired(self.trusted, now_ms, self.options)
        except Rejection as rejection:
            return Failed(rejection)
        return self._fetch(self.target)

    def step(self, answer: LightBlock | NotAvailable, now_ms: int) -> Effect:
        """Take the answer to the last `Fetch`."""
        if isinstance(answer, NotAvailable):
            return Failed(Rejection(reasons.NOT_AVAILABLE, f"header {self._asked}"))
        try:
            # The shape is checked before the answer is used for anything: the height it claims, above all.
            check_shape(self.chain_id, answer)
            if answer.height != self._asked:
                raise Rejection(reasons.BAD_LIGHT_BLOCK, f"header {answer.height} instead of {self._asked}")
            self.fetched += 1
            if self.trusted is None:
                return self._take_anchor(answer, now_ms)
            self._pending.append(answer)
            return self._advance(now_ms)
        except Rejection as rejection:
            return Failed(rejection)

    def _take_anchor(self, block: LightBlock, now_ms: int) -> Effect:
        """The header that the user named: its commit is checked too, for whoever named a hash named no signatures."""
        anchor = self.start_from
        if not isinstance(anchor, Anchor):
            raise InvariantViolation("a verification without a beginning")
        if block.id != anchor.block_id:
            raise Rejection(
                reasons.WRONG_ANCHOR, f"header {anchor.height} is {block.id.hex()}, not {anchor.block_id.hex()}"
            )
        verify_sealed(self.chain_id, block, self.check)
        self.trusted = trusted_of(block)
        check_not_expired(self.trusted, now_ms, self.options)
        self._trace.append(block)
        if block.height == self.target:
            return Verified(self.trusted, tuple(self._trace))
        return self._fetch(self.target)

    def _advance(self, now_ms: int) -> Effect:
        """Verify what trust reaches, the highest first; fetch a header in between when it reaches nothing."""
        while self._pending:
            reached = self._reached(now_ms)
            if reached is None:
                return self._fetch(self._pivot())
            block = self._pending[reached]
            del self._pending[reached:]
            self.trusted = trusted_of(block)
            self._trace.append(block)
        if self.trusted is None:
            raise InvariantViolation("a verification that trusts nothing has ended")
        return Verified(self.trusted, tuple(self._trace))

    def _reached(self, now_ms: int) -> int | None:
        """Position of the highest pending block that can be believed now. `Rejection` when one of them is false."""
        if self.trusted is None:
            raise InvariantViolation("a verification without a beginning")
        for position, block in enumerate(self._pending):
            try:
                verify_block(self.chain_id, self.trusted, block, now_ms, self.options, self.check)
            except Rejection as rejection:
                if rejection.reason is not reasons.NOT_ENOUGH_TRUST:
                    raise
            else:
                return position
        return None

    def _pivot(self) -> int:
        """Between the trusted height and the lowest pending one: never either, as an adjacent block needs no trust."""
        if self.trusted is None:
            raise InvariantViolation("a verification without a beginning")
        low, high = self.trusted.height, self._pending[-1].height
        return min(high - 1, low + max(1, (high - low) // 2))

    def _fetch(self, height: int) -> Effect:
        if self.fetched >= HEADERS_MAX:
            return Failed(Rejection(reasons.NOT_ENOUGH_TRUST, f"{HEADERS_MAX} headers did not reach {self.target}"))
        self._asked = height
        return Fetch(height)
