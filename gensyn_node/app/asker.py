"""Questions of a joining node to peers: answers are bounded, decoded, and blamed on whoever answers wrongly."""

from __future__ import annotations

from typing import TypeVar

import structlog

from gensyn_node.primitives import codec
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.errors import Rejection
from p2p.api import Peers, RequestFailed, RequestRefused, Requests

REQUEST_TIMEOUT_S = 15.0

T = TypeVar("T", bound=Struct)

log = structlog.get_logger()


class Asker:
    """Asks the peers of a network."""

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
