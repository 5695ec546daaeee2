"""Answers light clients: light blocks, proofs of records, transactions handed over and where they went."""

from __future__ import annotations

import trio

from consensus.ledger import tree
from consensus.ledger.messages import transaction_id
from consensus.light.types import LightBlock
from consensus.mempool import KNOWN
from gensyn_node.app.broadcaster import Broadcaster
from gensyn_node.app.certify import app_hash_after
from gensyn_node.app.chain import Chain
from gensyn_node.app.pool import Pool
from gensyn_node.light import wire
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.primitives.hashing import sha256
from p2p.api import Requests
from proofs import merkle


class LightService:
    """Serves from the chain of this node."""

    def __init__(self, *, chain: Chain, pool: Pool, broadcaster: Broadcaster) -> None:
        self._chain = chain
        self._pool = pool
        self._broadcaster = broadcaster

    def serve(self, requests: Requests) -> None:
        """Answer from now on."""
        requests.serve(
            wire.METHOD_LIGHT,
            self.serve_light,
            max_request_bytes=limits.KIB,
            max_reply_bytes=wire.LIGHT_REPLY_BYTES_MAX,
            per_second=50.0,
        )
        requests.serve(
            wire.METHOD_PROOF,
            self.serve_proof,
            max_request_bytes=8 * limits.KIB,
            max_reply_bytes=wire.PROOF_REPLY_BYTES_MAX,
            per_second=5.0,
        )
        requests.serve(
            wire.METHOD_SUBMIT,
            self.serve_submit,
            max_request_bytes=limits.TRANSACTION_BYTES_MAX,
            max_reply_bytes=4 * limits.KIB,
            per_second=5.0,
        )
        requests.serve(
            wire.METHOD_INCLUSION,
            self.serve_inclusion,
            max_request_bytes=limits.KIB,
            max_reply_bytes=16 * limits.KIB,
            per_second=5.0,
        )

    async def serve_light(self, peer: str, request: bytes) -> bytes:
        """Answer `METHOD_LIGHT`."""
        query: wire.LightQuery = codec.decode(wire.LightQuery, request)
        await trio.lowlevel.checkpoint()
        head = self._chain.head.height
        return codec.encode(wire.LightReply(head, light_block(self._chain, query.height or head)))

    async def serve_proof(self, peer: str, request: bytes) -> bytes:
        """Answer `METHOD_PROOF`."""
        query: wire.ProofQuery = codec.decode(wire.ProofQuery, request)
        await trio.lowlevel.checkpoint()
        head = self._chain.head.height
        return codec.encode(wire.ProofReply(head, self._proven(head, query)))

    def _proven(self, head: int, query: wire.ProofQuery) -> tuple[wire.ProvenValue, ...]:
        view, root = self._chain.view(), app_hash_after(self._chain, query.height)
        if not max(0, head - wire.PROOF_DEPTH_BLOCKS) <= query.height < head or root is None:
            return ()
        values = [view.get(key) for key in query.keys]
        for height in range(head, query.height, -1):
            undo = self._chain.store.undo(height)
            if undo is None:
                return ()
            before = dict(undo.ledger)
            values = [before.get(key, value) for key, value in zip(query.keys, values, strict=True)]
        if sum(len(value or b"") for value in values) > wire.PROOF_REPLY_BYTES_MAX // 2:
            return ()
        try:
            return tuple(
                wire.ProvenValue(value, tree.prove(root, view.read_node, key))
                for key, value in zip(query.keys, values, strict=True)
            )
        except InvariantViolation:
            return ()  # the nodes of that version are gone

    async def serve_submit(self, peer: str, request: bytes) -> bytes:
        """Answer `METHOD_SUBMIT`. A transaction that is refused is its sender's mistake, and no hostile peer's."""
        await trio.lowlevel.checkpoint()
        try:
            self._pool.admission.check()
            self._pool.add(request)
        except Rejection as rejection:
            if rejection.reason != KNOWN:
                return codec.encode(wire.SubmitReply(rejection.reason.code, rejection.message[:400]))
        else:
            self._broadcaster.transaction(request)
        return codec.encode(wire.SubmitReply("", ""))

    async def serve_inclusion(self, peer: str, request: bytes) -> bytes:
        """Answer `METHOD_INCLUSION`."""
        query: wire.InclusionQuery = codec.decode(wire.InclusionQuery, request)
        await trio.lowlevel.checkpoint()
        return codec.encode(wire.InclusionReply(self._inclusion(query.transaction_id)))

    def _inclusion(self, name: bytes) -> wire.Inclusion | None:
        place = self._chain.place_of(name)
        if place is None or place.height >= self._chain.head.height:
            return None  # the results are in the next header
        block, results = self._chain.block(place.height), self._chain.results(place.height)
        if block is None or results is None or transaction_id(block.transactions[place.index]) != name:
            return None
        scheme = merkle.SHA256
        data = [scheme.leaf(sha256(transaction)) for transaction in block.transactions]
        outcomes = [scheme.leaf(result.committed) for result in results]
        return wire.Inclusion(
            height=place.height,
            index=place.index,
            size=len(block.transactions),
            result=results[place.index],
            data_path=merkle.inclusion_path(scheme, data, place.index),
            results_path=merkle.inclusion_path(scheme, outcomes, place.index),
        )


def light_block(chain: Chain, height: int) -> LightBlock | None:
    """What a light client is shown of a block; None when it is not here."""
    block, commit = chain.block(height), chain.commit(height)
    members, following = chain.validators(height), chain.validators(height + 1)
    if block is None or commit is None or members is None or following is None:
        return None
    return LightBlock(block.header, commit, members.validators, following.validators)
