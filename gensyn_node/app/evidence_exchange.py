"""Evidence between nodes: told by gossip as soon as it is found, and exchanged with one peer after the other.

The exchange makes sure that evidence reaches a proposer even when gossip lost it, and takes what light clients report.
"""

from __future__ import annotations

from collections import deque

import structlog
import trio

from consensus.tendermint.evidence import evidence_id
from consensus.tendermint.reasons import EVIDENCE_OUT_OF_REACH
from consensus.tendermint.types import Evidence, LightClientAttackEvidence
from gensyn_node.app import wire
from gensyn_node.app.evidence_keeper import EvidenceKeeper
from gensyn_node.light import wire as light_wire
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from p2p.api import Gossip, GossipMessage, Peers, RequestFailed, RequestRefused, Requests

ASK_INTERVAL_S = 5.0
"""Between two exchanges. With news one follows at once."""
REQUEST_TIMEOUT_S = 10.0
NEWS_MAX = 64
"""Items not published yet; more are left to the exchange."""

log = structlog.get_logger()


class EvidenceExchange:
    """Spreads what the keeper has, and feeds it. `gossip` may be None: then evidence travels by exchange alone."""

    def __init__(self, *, keeper: EvidenceKeeper, gossip: Gossip | None, requests: Requests, peers: Peers) -> None:
        self._keeper = keeper
        self._gossip = gossip
        self._requests = requests
        self._peers = peers
        self._news: deque[Evidence] = deque(maxlen=NEWS_MAX)
        self._wake = trio.Event()
        self._turn = 0

    def announce(self, evidence: Evidence) -> None:
        """Tell the others soon; never blocks."""
        self._news.append(evidence)
        self._wake.set()

    async def run(self) -> None:
        """Exchange until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._gossip is not None:
                channel = await self._gossip.subscribe(
                    wire.TOPIC_EVIDENCE, self._check, capacity=NEWS_MAX, per_second=5.0
                )
                nursery.start_soon(self._read, channel)
            while True:
                with trio.move_on_after(ASK_INTERVAL_S):
                    await self._wake.wait()
                self._wake = trio.Event()
                await self._publish_news()
                await self._ask_next_peer()

    # --- gossip

    def _check(self, sender: str, data: bytes) -> None:
        """Judged before it is passed on, so that a forger is blamed and not who forwards."""
        evidence: Evidence = codec.decode(Evidence, data, max_bytes=wire.EVIDENCE_ITEM_BYTES_MAX)
        self._keeper.judge(evidence)

    async def _read(self, channel: trio.MemoryReceiveChannel[GossipMessage]) -> None:
        async for message in channel:
            evidence: Evidence = codec.decode(Evidence, message.data, max_bytes=wire.EVIDENCE_ITEM_BYTES_MAX)
            try:
                self._keeper.add(evidence)
            except Rejection as rejection:
                log.debug("evidence_outdated", why=str(rejection))  # the head has moved since it was checked

    async def _publish_news(self) -> None:
        while self._news:
            data = codec.encode(self._news.popleft())
            if self._gossip is not None and len(data) <= wire.EVIDENCE_ITEM_BYTES_MAX:
                await self._gossip.publish(wire.TOPIC_EVIDENCE, data)

    # --- exchange

    async def _ask_next_peer(self) -> None:
        peers = self._peers.connected()
        self._turn += 1
        if not peers:
            return
        peer = peers[self._turn % len(peers)].peer
        query = codec.encode(wire.EvidenceExchange(_fitting(self._keeper.all())))
        try:
            data = await self._requests.request(peer, wire.METHOD_EVIDENCE, query, timeout_s=REQUEST_TIMEOUT_S)
            reply: wire.EvidenceExchange = codec.decode(wire.EvidenceExchange, data)
            await self._take(reply.evidence)
        except Rejection as rejection:
            await self._peers.report(peer, rejection)
        except (RequestFailed, RequestRefused) as error:
            log.debug("evidence_unanswered", peer=peer, why=str(error))

    async def serve(self, peer: str, request: bytes) -> bytes:
        """Answer `METHOD_EVIDENCE`: take what the asker has, and give what it did not name."""
        query: wire.EvidenceExchange = codec.decode(wire.EvidenceExchange, request)
        await self._take(query.evidence)
        named = {evidence_id(item) for item in query.evidence}
        missing = tuple(item for item in self._keeper.all() if evidence_id(item) not in named)
        return codec.encode(wire.EvidenceExchange(_fitting(missing)))

    async def serve_report(self, peer: str, request: bytes) -> bytes:
        """Answer a light client's `METHOD_REPORT`. `Rejection` when it proves nothing."""
        report: light_wire.Report = codec.decode(light_wire.Report, request, max_bytes=wire.EVIDENCE_ITEM_BYTES_MAX)
        before = len(self._keeper.all())
        await self._take((report.attack,))
        return codec.encode(light_wire.ReportReply(len(self._keeper.all()) > before))

    async def _take(self, evidence: tuple[Evidence, ...]) -> None:
        """Keep what is new. `Rejection` for the first item that proves nothing; heads that differ are no fault."""
        for item in evidence:
            await trio.lowlevel.checkpoint()
            try:
                if isinstance(item, LightClientAttackEvidence):
                    kept = self._keeper.add_attack(item)
                else:
                    found = self._keeper.add(item)
                    kept = () if found is None else (found,)
            except Rejection as rejection:
                if rejection.reason is not EVIDENCE_OUT_OF_REACH:
                    raise
                continue
            for one in kept:
                self.announce(one)


def _fitting(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """As many of the first as one message may carry."""
    chosen: list[Evidence] = []
    size = 0
    for item in evidence[: wire.EXCHANGED_EVIDENCE_MAX]:
        size += len(codec.encode(item))
        if size > wire.EXCHANGED_BYTES_MAX:
            break
        chosen.append(item)
    return tuple(chosen)
