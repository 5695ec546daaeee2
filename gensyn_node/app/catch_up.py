"""Asks peers for what gossip lost: messages of the height in progress, and whole blocks when the peers are ahead.

Gossip is best effort, so liveness rests on this file: a node that does not advance sends its own messages again and
tells peers, one after the other, what it has; they answer with what it lacks.
"""

from __future__ import annotations

import structlog
import trio

from consensus.tendermint.types import ConsensusMessage
from gensyn_node.app import wire
from gensyn_node.app.block_sync import BlockSync
from gensyn_node.app.broadcaster import Broadcaster
from gensyn_node.app.chain import Chain
from gensyn_node.app.driver import Driver
from gensyn_node.app.intake import Intake
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from p2p.api import Peers, RequestFailed, RequestRefused, Requests

ASK_INTERVAL_S = 0.4
"""Between two questions of a node that stands still."""
RESEND_EVERY = 5
"""Own messages are sent again with each so many questions."""
REQUEST_TIMEOUT_S = 4.0

log = structlog.get_logger()


class CatchUp:
    """Watches for standstill; asks, answers."""

    def __init__(
        self,
        *,
        chain: Chain,
        driver: Driver,
        intake: Intake,
        sync: BlockSync,
        broadcaster: Broadcaster,
        requests: Requests,
        peers: Peers,
        patience_s: float,
    ) -> None:
        """`patience_s`: standing still for less is normal, since a proposer waits for its block's time."""
        self._chain = chain
        self._driver = driver
        self._intake = intake
        self._sync = sync
        self._broadcaster = broadcaster
        self._requests = requests
        self._peers = peers
        self._usual_patience_s = self._patience_s = patience_s
        self._turn = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            still_s = trio.current_time() - self._driver.moved_at
            if still_s < self._patience_s:
                await trio.sleep(self._patience_s - still_s)
                continue
            if self._turn % RESEND_EVERY == 0:
                for message in self._driver.core.own_messages():
                    self._broadcaster.consensus_message(message)
            await self._ask_next_peer()
            await trio.sleep(ASK_INTERVAL_S)

    async def _ask_next_peer(self) -> None:
        peers = self._peers.connected()
        self._turn += 1
        if not peers:
            return
        peer = peers[self._turn % len(peers)].peer
        query = codec.encode(wire.StatusQuery(self._driver.core.status()))
        try:
            data = await self._requests.request(peer, wire.METHOD_STATUS, query, timeout_s=REQUEST_TIMEOUT_S)
            reply: wire.StatusReply = codec.decode(wire.StatusReply, data)
            if reply.head_height > self._chain.head.height:
                self._sync.wake()
                return
            # Whoever had to be told by an answer has lost gossip, and will probably lose the next message as well.
            self._patience_s = ASK_INTERVAL_S if reply.messages else self._usual_patience_s
            await self._intake.take_messages(reply.messages)
        except Rejection as rejection:
            await self._peers.report(peer, rejection)
        except (RequestFailed, RequestRefused) as error:
            log.debug("status_unanswered", peer=peer, why=str(error))

    async def serve_status(self, peer: str, request: bytes) -> bytes:
        """Answer `METHOD_STATUS`."""
        query: wire.StatusQuery = codec.decode(wire.StatusQuery, request)
        await trio.lowlevel.checkpoint()
        messages: list[ConsensusMessage] = []
        size = 0
        for message in self._driver.core.answer(query.status):
            size += len(codec.encode(message))
            if size > wire.REPLY_BYTES_MAX or len(messages) == wire.REPLY_MESSAGES_MAX:
                break
            messages.append(message)
        return codec.encode(wire.StatusReply(self._chain.head.height, tuple(messages)))
