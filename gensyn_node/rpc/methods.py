"""The table of methods: name, parameters, whether it writes, and what it asks the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gensyn_node.primitives import limits
from gensyn_node.primitives.bech32 import decode_address
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import HASH_BYTES
from gensyn_node.rpc import reasons
from gensyn_node.rpc.backend import NodeBackend

CALL_TIMEOUT_S = 30.0
WAIT_TIMEOUT_S_MAX = 60.0
LIST_MAX = 200

Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Height = Annotated[int, Meta(ge=0, le=1 << 62)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of parameter objects; also the one without any."""


class AtHeight(Parameters, frozen=True):
    height: Height | None = None


class OfTransaction(Parameters, frozen=True):
    transaction_id: Hash


class OfAccount(Parameters, frozen=True):
    address: Annotated[str, Meta(max_length=64)]


class Submit(Parameters, frozen=True):
    transaction: Annotated[str, Meta(max_length=2 * limits.TRANSACTION_BYTES_MAX)]
    """Hex of the encoded, signed transaction."""


class Wait(Parameters, frozen=True):
    transaction_id: Hash
    timeout_s: Annotated[float, Meta(ge=0, le=WAIT_TIMEOUT_S_MAX)] = 30.0


class Page(Parameters, frozen=True):
    offset: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = 50


class OfTask(Parameters, frozen=True):
    task_id: Hash


class MaybeOfTask(Parameters, frozen=True):
    task_id: Hash | None = None


class OfDispute(Parameters, frozen=True):
    dispute_id: Hash


class OfProgram(Parameters, frozen=True):
    program_id: Hash


class OfProposal(Parameters, frozen=True):
    number: Height


class OfVoter(Parameters, frozen=True):
    number: Height
    address: Annotated[str, Meta(max_length=64)]


class OfKey(Parameters, frozen=True):
    key: Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){1,256}\Z")]
    height: Height | None = None


class NewRole(Parameters, frozen=True):
    role: Annotated[str, Meta(max_length=20)]


class OfBlob(Parameters, frozen=True):
    blob_id: Hash


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table."""

    parameters: type[Parameters]
    call: Callable[[NodeBackend, Any], Awaitable[object]]
    writes: bool = False
    timeout_s: float = CALL_TIMEOUT_S


async def call_method(method: Method, backend: NodeBackend, given: object) -> object:
    """Check the parameters against the row, then ask the node; BAD_PARAMETERS names what does not fit."""
    try:
        parameters = msgspec.convert(given, method.parameters, strict=True)
    except msgspec.ValidationError as error:
        raise Rejection(reasons.BAD_PARAMETERS, str(error)) from None
    return await method.call(backend, parameters)


def _hash(text: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != HASH_BYTES:
        raise Rejection(reasons.BAD_PARAMETERS, f"a hash has {HASH_BYTES} bytes")
    return data


def _found(value: object | None, what: str) -> object:
    if value is None:
        raise Rejection(reasons.NOT_FOUND, what)
    return value


async def _block(node: NodeBackend, p: AtHeight) -> object:
    return _found(await node.block(p.height), f"there is no block {p.height}")


async def _transaction(node: NodeBackend, p: OfTransaction) -> object:
    return _found(await node.transaction(_hash(p.transaction_id)), f"no block has the transaction {p.transaction_id}")


async def _submit(node: NodeBackend, p: Submit) -> object:
    try:
        data = bytes.fromhex(p.transaction)
    except ValueError:
        raise Rejection(reasons.BAD_PARAMETERS, "the transaction is not hexadecimal") from None
    return {"transaction_id": await node.submit_transaction(data)}


async def _task(node: NodeBackend, p: OfTask) -> object:
    return _found(await node.task(_hash(p.task_id)), f"there is no task {p.task_id}")


async def _disputes(node: NodeBackend, p: MaybeOfTask) -> object:
    return await node.disputes(None if p.task_id is None else _hash(p.task_id))


async def _dispute(node: NodeBackend, p: OfDispute) -> object:
    return _found(await node.dispute(_hash(p.dispute_id)), f"there is no dispute {p.dispute_id}")


async def _proposal(node: NodeBackend, p: OfProposal) -> object:
    return _found(await node.proposal(p.number), f"there is no proposal {p.number}")


async def _program(node: NodeBackend, p: OfProgram) -> object:
    return _found(await node.program(_hash(p.program_id)), f"there is no program {p.program_id}")


async def _certificate(node: NodeBackend, p: OfTask) -> object:
    return _found(await node.certificate(_hash(p.task_id)), f"the task {p.task_id} has no certificate yet")


async def _proof(node: NodeBackend, p: OfKey) -> object:
    return _found(await node.proof(bytes.fromhex(p.key), p.height), "that height is not kept")


async def _blob_fetch(node: NodeBackend, p: OfBlob) -> object:
    return _found(await node.blob_fetch(_hash(p.blob_id)), f"nobody serves the blob {p.blob_id}")


METHODS: dict[str, Method] = {
    "status": Method(Parameters, lambda node, p: node.status()),
    "peers": Method(Parameters, lambda node, p: node.peers()),
    "seeds": Method(Parameters, lambda node, p: node.seeds()),
    "validators": Method(AtHeight, lambda node, p: node.validators(p.height)),
    "candidates": Method(Parameters, lambda node, p: node.candidates()),
    "delegations": Method(OfAccount, lambda node, p: node.delegations(decode_address(p.address))),
    "block": Method(AtHeight, _block),
    "transaction": Method(OfTransaction, _transaction),
    "account": Method(OfAccount, lambda node, p: node.account(decode_address(p.address))),
    "submit_transaction": Method(Submit, _submit, writes=True),
    "wait_transaction": Method(
        Wait, lambda node, p: node.wait_transaction(_hash(p.transaction_id), p.timeout_s), timeout_s=90.0
    ),
    "tasks": Method(Page, lambda node, p: node.tasks(p.offset, p.limit)),
    "task": Method(OfTask, _task),
    "duties": Method(Parameters, lambda node, p: node.duties()),
    "why": Method(OfTask, lambda node, p: node.why(_hash(p.task_id))),
    "disputes": Method(MaybeOfTask, _disputes),
    "dispute": Method(OfDispute, _dispute),
    "providers": Method(Parameters, lambda node, p: node.providers()),
    "parameters": Method(Parameters, lambda node, p: node.parameters()),
    "governance": Method(Parameters, lambda node, p: node.governance()),
    "proposals": Method(Page, lambda node, p: node.proposals(p.offset, p.limit)),
    "proposal": Method(OfProposal, _proposal),
    "voting_places": Method(OfVoter, lambda node, p: node.voting_places(p.number, decode_address(p.address))),
    "genesis": Method(Parameters, lambda node, p: node.genesis()),
    "supply": Method(Parameters, lambda node, p: node.supply()),
    "program": Method(OfProgram, _program),
    "proof": Method(OfKey, _proof),
    "certificate": Method(OfTask, _certificate),
    "role": Method(Parameters, lambda node, p: node.role()),
    "set_role": Method(NewRole, lambda node, p: node.set_role(p.role), writes=True),
    "blob_info": Method(OfBlob, lambda node, p: node.blob_info(_hash(p.blob_id))),
    "blob_fetch": Method(OfBlob, _blob_fetch, writes=True, timeout_s=600.0),
}
"""Every method. Those that write need the token."""
