"""Questions to peers: decoded, bounded, and blamed on whoever answers wrongly."""

from __future__ import annotations

from typing import TypeVar

import structlog

from consensus.light.skipping import NotAvailable
from consensus.light.types import LightBlock
from consensus.tendermint.types import LightClientAttackEvidence
from gensyn_node.light import wire
from gensyn_node.primitives import codec
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from p2p.api import Peers, RequestFailed, RequestRefused, Requests

REQUEST_TIMEOUT_S = 10.0

T = TypeVar("T", bound=Struct)

log = structlog.get_logger()


class LightPeers:
    """Asks the peers of a network."""

    def __init__(self, requests: Requests, peers: Peers) -> None:
        self._requests = requests
        self._peers = peers

    def by_height(self) -> list[str]:
        """Connected peers, those that claim the highest heads first."""
        return [info.peer for info in sorted(self._peers.connected(), key=lambda one: (-one.head_height, one.peer))]

    async def report(self, peer: str, rejection: Rejection) -> None:
        """Score a peer for what it answered."""
        await self._peers.report(peer, rejection)

    async def newest(self, peer: str) -> LightBlock | None:
        """The newest light block of a peer; None when it has none, or does not answer."""
        reply = await self.answer(peer, 0)
        return None if reply is None else reply.block

    async def light_block(self, peer: str, height: int) -> LightBlock | NotAvailable:
        """The light block of a height."""
        reply = await self.answer(peer, height)
        return NotAvailable(height) if reply is None or reply.block is None else reply.block

    async def answer(self, peer: str, height: int) -> wire.LightReply | None:
        """What a peer says of a height (0: its newest), which may be that it is not there yet; None for no answer."""
        query = codec.encode(wire.LightQuery(height))
        return await self._ask(peer, wire.METHOD_LIGHT, query, wire.LightReply, wire.LIGHT_REPLY_BYTES_MAX)

    async def proof(self, peer: str, query: wire.ProofQuery) -> wire.ProofReply | None:
        """Records and their proofs; None when the peer did not answer."""
        data = codec.encode(query)
        return await self._ask(peer, wire.METHOD_PROOF, data, wire.ProofReply, wire.PROOF_REPLY_BYTES_MAX)

    async def submit(self, peer: str, transaction: bytes) -> wire.SubmitReply | None:
        """Hand a transaction over."""
        return await self._ask(peer, wire.METHOD_SUBMIT, transaction, wire.SubmitReply, 4_096)

    async def inclusion(self, peer: str, transaction_id: bytes) -> wire.InclusionReply | None:
        """Where a transaction went."""
        query = codec.encode(wire.InclusionQuery(transaction_id))
        return await self._ask(peer, wire.METHOD_INCLUSION, query, wire.InclusionReply, 16_384)

    async def tell(self, peer: str, attack: LightClientAttackEvidence) -> bool:
        """Report a false header; whether the peer could use it."""
        reply = await self._ask(peer, wire.METHOD_REPORT, codec.encode(wire.Report(attack)), wire.ReportReply, 64)
        return reply is not None and reply.news

    async def _ask(self, peer: str, method: str, data: bytes, type_: type[T], max_bytes: int) -> T | None:
        try:
            reply = await self._requests.request(
                peer, method, data, timeout_s=REQUEST_TIMEOUT_S, max_reply_bytes=max_bytes
            )
            answer: T = codec.decode(type_, reply, max_bytes=max_bytes)
        except Rejection as rejection:
            await self._peers.report(peer, rejection)
            return None
        except (RequestFailed, RequestRefused) as error:
            log.debug("unanswered", peer=peer, method=method, why=str(error))
            return None
        return answer
