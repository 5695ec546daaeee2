"""A header proven by the light client over peers: one peer's answers are verified, the others asked to contradict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
import trio

from consensus.light.reasons import (
    BAD_LIGHT_OPTIONS,
    DIVERGENCE,
    FROM_THE_FUTURE,
    NOT_AVAILABLE,
    TRUST_EXPIRED,
    WRONG_ANCHOR,
)
from consensus.light.skipping import Failed, Fetch, NotAvailable, Skipping
from consensus.light.types import Anchor, LightBlock, LightOptions, Trusted
from gensyn_node.light import wire as light_wire
from gensyn_node.primitives import codec
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from p2p.api import Peers, RequestFailed, RequestRefused, Requests

REQUEST_TIMEOUT_S = 15.0
PATIENCE_S = 120.0
"""For all answers of one verification: whoever forges a far height can have thousands of headers asked for, slowly."""
WITNESSES_MAX = 8
_OUR_OWN = (NOT_AVAILABLE, FROM_THE_FUTURE, WRONG_ANCHOR)
"""Nobody is blamed for what our clock, our operator or an honest peer's pruning may be the cause of."""

T = TypeVar("T", bound=Struct)

log = structlog.get_logger()


class Asker:
    """Questions to peers whose answers are decoded, and blamed when they cannot be."""

    def __init__(self, requests: Requests, peers: Peers) -> None:
        self._requests = requests
        self.peers = peers

    async def ask(self, peer: str, method: str, query: Struct, type_: type[T], **bound: int) -> T | None:
        """The answer; None when there was none or it was no good, which the peer is scored for."""
        try:
            data = await self._requests.request(peer, method, codec.encode(query), timeout_s=REQUEST_TIMEOUT_S, **bound)
            answer: T = codec.decode(type_, data)
        except Rejection as rejection:
            await self.peers.report(peer, rejection)
            return None
        except (RequestFailed, RequestRefused) as error:
            log.debug("unanswered", peer=peer, method=method, why=str(error))
            return None
        return answer


class LightSource:
    """Proves headers from one start of trust."""

    def __init__(
        self,
        asker: Asker,
        chain_id: str,
        start: Trusted | Anchor,
        options: LightOptions,
        clock_ms: Callable[[], int],
    ) -> None:
        self._asker = asker
        self._chain_id = chain_id
        self._start = start
        self._options = options
        self._clock_ms = clock_ms

    async def verified(self, height: int, peers: Iterable[str]) -> LightBlock | None:
        """The light block of a height, verified over the first of `peers` that can show it; None when none can.

        `Rejection` TRUST_EXPIRED when a newer trusted header is needed, LIGHT_DIVERGENCE when another
        connected peer proves another header just as well.
        """
        for peer in peers:
            found = await self._verify(height, peer)
            if found is not None:
                await self._compare(found, besides=peer)
                return found
        return None

    async def _verify(self, height: int, peer: str) -> LightBlock | None:
        skipping = Skipping(self._chain_id, self._start, height, self._options)
        effect = skipping.start(self._clock_ms())
        with trio.move_on_after(PATIENCE_S) as scope:
            while isinstance(effect, Fetch):
                query = light_wire.LightQuery(effect.height)
                reply = await self._asker.ask(peer, light_wire.METHOD_LIGHT, query, light_wire.LightReply)
                block = None if reply is None else reply.block
                answer = NotAvailable(effect.height) if block is None else block
                effect = await trio.to_thread.run_sync(skipping.step, answer, self._clock_ms())
        if scope.cancelled_caught:
            log.warning("light_peer_too_slow", peer=peer, height=height, headers=skipping.fetched)
            return None
        if isinstance(effect, Failed):
            log.warning("light_block_refused", peer=peer, height=height, why=str(effect.why))
            if effect.why.reason in (TRUST_EXPIRED, BAD_LIGHT_OPTIONS):
                raise effect.why
            if effect.why.reason not in _OUR_OWN:
                await self._asker.peers.report(peer, effect.why)
            return None
        return effect.trace[-1]

    async def _compare(self, found: LightBlock, *, besides: str) -> None:
        witnesses = [info.peer for info in self._asker.peers.connected() if info.peer != besides][:WITNESSES_MAX]
        for witness in witnesses:
            query = light_wire.LightQuery(found.height)
            reply = await self._asker.ask(witness, light_wire.METHOD_LIGHT, query, light_wire.LightReply)
            if reply is None or reply.block is None or reply.block.id == found.id:
                continue
            if await self._verify(found.height, witness) is not None:
                raise Rejection(DIVERGENCE, f"{besides} and {witness} prove different headers of height {found.height}")
