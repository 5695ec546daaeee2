"""To a verified head: one peer's headers are verified, others are asked to contradict.

Nothing is trusted on one peer's word: the signatures are the validators', and a header that a witness contradicts with
one just as well signed stops everything, and both are reported to the peers that can punish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
import trio

from consensus.light.detector import Agrees, BadWitness, Detector, Diverges, FetchFrom, Source
from consensus.light.reasons import (
    BAD_LIGHT_OPTIONS,
    DIVERGENCE,
    FROM_THE_FUTURE,
    NOT_AVAILABLE,
    TRUST_EXPIRED,
    WRONG_ANCHOR,
)
from consensus.light.skipping import Fetch, NotAvailable, Skipping, Verified
from consensus.light.types import Anchor, LightBlock, LightOptions, Trusted, trusted_of
from gensyn_node.light import reasons
from gensyn_node.light.peers import LightPeers
from gensyn_node.primitives.errors import Rejection

WITNESSES_MAX = 4
"""Peers asked to contradict one header."""
WITNESS_PATIENCE = 10
"""Times a witness is asked for a header that it does not have yet."""
WITNESS_PAUSE_S = 0.5
PATIENCE_S = 60.0
"""For all answers of one verification: whoever forges a far height can have thousands of headers asked for, slowly."""

_NO_OTHER_PEER_HELPS = (TRUST_EXPIRED, BAD_LIGHT_OPTIONS, DIVERGENCE, reasons.NO_WITNESS)
_NOBODY_S_FAULT = (NOT_AVAILABLE, FROM_THE_FUTURE, WRONG_ANCHOR)
"""What our clock, our operator or an honest peer's pruning may be the cause of."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Synced:
    """A verified head."""

    block: LightBlock
    fetched: int
    """Light blocks that were fetched to verify it, the witnesses' not counted."""
    primary: str
    """The peer that showed it; empty when it was verified before."""
    witnesses: tuple[str, ...]
    """Peers that have the same header."""


class LightClient:
    """One chain, one beginning of trust, any number of peers."""

    def __init__(
        self,
        *,
        chain_id: str,
        peers: LightPeers,
        start: Trusted | Anchor,
        options: LightOptions,
        witnesses: int,
        clock_ms: Callable[[], int],
        stored: LightBlock | None = None,
        on_verified: Callable[[LightBlock], None] | None = None,
    ) -> None:
        """`witnesses`: how many peers besides the primary must have the same header. `stored`: verified before."""
        self.chain_id = chain_id
        self.peers = peers
        self._start = start
        self._options = options
        self._witnesses = witnesses
        self._clock_ms = clock_ms
        self._block = stored
        self._on_verified = on_verified

    @property
    def trusted_height(self) -> int:
        """Where trust begins now; 0 is the genesis."""
        return self._start.height

    async def sync(self, at_least: int = 0) -> Synced:
        """The newest head that can be verified, of height `at_least` or above.

        `Rejection`: NO_PEER, NO_WITNESS, TRUST_EXPIRED, FROM_THE_FUTURE (this clock is wrong), DIVERGENCE.
        """
        tried = []
        too_early: Rejection | None = None
        for primary in self.peers.by_height():
            newest = await self.peers.newest(primary)
            if newest is None or newest.height < at_least:
                tried.append(f"{primary} has no header{f' from {at_least} on' if at_least else ''}")
                continue
            if self._block is not None and newest.id == self._block.id:
                return Synced(self._block, 0, "", ())
            if self._block is not None and newest.height < self._block.height:
                tried.append(f"{primary} is behind, at {newest.height}")
                continue
            try:
                return await self._take(primary, newest)
            except Rejection as rejection:
                if rejection.reason is FROM_THE_FUTURE:
                    too_early = rejection  # a header's time is looked at before its signatures: anybody can invent one
                await self._refused(primary, rejection)
                tried.append(f"{primary}: {rejection}")
        raise too_early or Rejection(reasons.NO_PEER, "; ".join(tried)[:400] or "no peer is connected")

    async def header_of(self, height: int, peers: Iterable[str]) -> LightBlock | None:
        """The light block of one height, verified over the first of `peers` that can show it; None when none can.

        Where trust begins stays as it is. `Rejection`: NO_WITNESS, TRUST_EXPIRED, DIVERGENCE.
        """
        for primary in peers:
            shown = await self.peers.light_block(primary, height)
            if isinstance(shown, NotAvailable):
                continue
            try:
                root, verified, _ = await self._verify(primary, shown)
                await self._compare(primary, root, verified.trace)
            except Rejection as rejection:
                await self._refused(primary, rejection)
            else:
                return verified.trace[-1]
        return None

    async def _refused(self, primary: str, rejection: Rejection) -> None:
        """Blame the peer where it is to blame. Raises `rejection` where no other peer would do better."""
        if rejection.reason in _NO_OTHER_PEER_HELPS:
            raise rejection
        log.warning("light_primary_refused", peer=primary, why=str(rejection))
        if rejection.reason not in _NOBODY_S_FAULT:
            await self.peers.report(primary, rejection)

    async def _take(self, primary: str, newest: LightBlock) -> Synced:
        root, verified, fetched = await self._verify(primary, newest)
        witnesses = await self._compare(primary, root, verified.trace)
        block = verified.trace[-1]
        self._block, self._start = block, trusted_of(block)
        if self._on_verified is not None:
            self._on_verified(block)
        return Synced(block, fetched, primary, witnesses)

    async def _verify(self, primary: str, newest: LightBlock) -> tuple[Trusted, Verified, int]:
        """What the trace begins from, the trace, and how many headers it took. `Rejection` when it is not believed."""
        skipping = Skipping(self.chain_id, self._start, newest.height, self._options)
        effect = skipping.start(self._clock_ms())
        with trio.move_on_after(PATIENCE_S) as scope:
            while isinstance(effect, Fetch):
                known = effect.height == newest.height
                answer = newest if known else await self.peers.light_block(primary, effect.height)
                # Up to 128 signatures: not on the network's thread.
                effect = await trio.to_thread.run_sync(skipping.step, answer, self._clock_ms())
        if scope.cancelled_caught:
            raise Rejection(NOT_AVAILABLE, f"{skipping.fetched} headers in {PATIENCE_S:g} s, and no end")
        if not isinstance(effect, Verified):
            raise effect.why
        if isinstance(self._start, Trusted):
            return self._start, effect, skipping.fetched
        anchor, *rest = effect.trace
        return trusted_of(anchor), Verified(effect.trusted, tuple(rest) or (anchor,)), skipping.fetched

    # --- witnesses

    async def _compare(self, primary: str, root: Trusted, trace: tuple[LightBlock, ...]) -> tuple[str, ...]:
        agreeing: list[str] = []
        for witness in [peer for peer in self.peers.by_height() if peer != primary][:WITNESSES_MAX]:
            verdict = await self._ask_witness(primary, witness, root, trace)
            if isinstance(verdict, Agrees):
                agreeing.append(witness)
            elif isinstance(verdict, Diverges):
                await self._report(primary, witness, verdict)
                raise Rejection(
                    DIVERGENCE,
                    f"{primary} and {witness} show different headers after height {verdict.common.height}, "
                    f"both well signed",
                )
            elif verdict.why.reason is not NOT_AVAILABLE:
                log.warning("light_witness_refused", peer=witness, why=str(verdict.why))
                await self.peers.report(witness, verdict.why)
        if len(agreeing) < self._witnesses:
            raise Rejection(
                reasons.NO_WITNESS,
                f"{len(agreeing)} of at least {self._witnesses} other peers confirm header {trace[-1].height}",
            )
        return tuple(agreeing)

    async def _ask_witness(
        self, primary: str, witness: str, root: Trusted, trace: tuple[LightBlock, ...]
    ) -> Agrees | BadWitness | Diverges:
        detector = Detector(self.chain_id, root, trace, self._options)
        verdict = detector.start()
        patience = WITNESS_PATIENCE
        with trio.move_on_after(PATIENCE_S) as scope:
            while isinstance(verdict, FetchFrom):
                peer = primary if verdict.source is Source.PRIMARY else witness
                reply = await self.peers.answer(peer, verdict.height)
                if reply is not None and reply.block is None and reply.head_height < verdict.height and patience:
                    patience -= 1  # it is a moment behind, as any honest peer may be
                    await trio.sleep(WITNESS_PAUSE_S)
                    continue
                answer = NotAvailable(verdict.height) if reply is None or reply.block is None else reply.block
                verdict = await trio.to_thread.run_sync(detector.step, answer, self._clock_ms())
        if scope.cancelled_caught:
            return BadWitness(Rejection(NOT_AVAILABLE, f"no end of its headers in {PATIENCE_S:g} s"))
        return verdict

    async def _report(self, primary: str, witness: str, found: Diverges) -> None:
        """Give the proof of each side to everybody but that side."""
        for peer in self.peers.by_height():
            if peer != primary:
                await self.peers.tell(peer, found.against_primary)
            if peer != witness and found.against_witness is not None:
                await self.peers.tell(peer, found.against_witness)
