"""Records of the ledger, proven under the app hash of a verified header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from consensus.ledger import keys, tree
from consensus.ledger.parameters import Parameters
from consensus.ledger.records import Account
from gensyn_node.light import reasons, wire
from gensyn_node.light.client import LightClient, Synced
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection

RECORD_BYTES_MAX = wire.PROOF_REPLY_BYTES_MAX
ATTEMPTS = 3
"""Verified heads that are tried: a peer proves some blocks below its head only, and the head moves."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Proven:
    """What the ledger holds at some keys, proven."""

    height: int
    """The state after this block."""
    values: tuple[bytes | None, ...]
    """None: proven absent."""


@dataclass(frozen=True, slots=True)
class ProvenAccount:
    """An account and what is needed to pay from it."""

    height: int
    account: Account
    parameters: Parameters


async def read(client: LightClient, names: tuple[bytes, ...]) -> Proven:
    """The newest proven values. `Rejection` NOT_PROVABLE when no peer could prove them, or as for `sync`."""
    _, proven = await read_under(client, None, names)
    return proven


async def read_under(client: LightClient, head: Synced | None, names: tuple[bytes, ...]) -> tuple[Synced, Proven]:
    """Values under `head`, a head verified earlier; under a newer one where nobody can prove that state any more.

    Returns the head with them. `Rejection` as for `read`.
    """
    for _ in range(ATTEMPTS):
        synced = head or await client.sync()
        head = None
        header = synced.block.header
        query = wire.ProofQuery(header.height - 1, names)
        for peer in client.peers.by_height():
            reply = await client.peers.proof(peer, query)
            if reply is None or not reply.values:
                continue
            try:
                return synced, Proven(query.height, check(header.app_hash, names, reply))
            except Rejection as rejection:
                await client.peers.report(peer, rejection)
    raise Rejection(reasons.NOT_PROVABLE, "no peer proved the state under the head that was verified")


def check(app_hash: bytes, names: tuple[bytes, ...], reply: wire.ProofReply) -> tuple[bytes | None, ...]:
    """The values, if each is proven under the root; BAD_PROOF otherwise."""
    if len(reply.values) != len(names):
        raise Rejection(reasons.BAD_PROOF, f"{len(reply.values)} values for {len(names)} keys")
    for name, proven in zip(names, reply.values, strict=True):
        if not tree.verify(app_hash, name, proven.value, proven.proof):
            raise Rejection(reasons.BAD_PROOF, f"of the record {name[:40]!r}")
    return tuple(proven.value for proven in reply.values)


async def read_account(client: LightClient, address: bytes) -> ProvenAccount:
    """An account with the chain's parameters, both proven; zeros for an account that is proven not to exist."""
    found = await read(client, (keys.account(address), keys.PARAMETERS))
    encoded, parameters = found.values
    account: Account = Account() if encoded is None else codec.decode(Account, encoded)
    if parameters is None:
        raise Rejection(reasons.BAD_PROOF, "the chain has no parameters")
    return ProvenAccount(found.height, account, codec.decode(Parameters, parameters))
