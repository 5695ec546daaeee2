"""The table of methods: name, parameters, whether it writes, and what it asks the node."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from gensyn_node.primitives import limits
from gensyn_node.primitives.bech32 import decode_address
from gensyn_node.primitives.errors import Rejection
from gensyn_node.rpc import reasons
from gensyn_node.rpc.backend import NodeBackend
from gensyn_node.rpc.method import AtHeight, Hash, Height, Method, OfTransaction, Parameters, found, hash_of
from gensyn_node.rpc.operator_methods import OPERATOR_METHODS

WAIT_TIMEOUT_S_MAX = 60.0
LIST_MAX = 200


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


class SetPage(Parameters, frozen=True):
    height: Height | None = None
    offset: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = LIST_MAX


class WidePage(Parameters, frozen=True):
    offset: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    limit: Annotated[int, Meta(ge=1, le=LIST_MAX)] = LIST_MAX


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


class OfRecord(Parameters, frozen=True):
    key: Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){1,256}\Z")]


class NewRole(Parameters, frozen=True):
    role: Annotated[str, Meta(max_length=20)]


class OfBlob(Parameters, frozen=True):
    blob_id: Hash


async def call_method(method: Method, backend: NodeBackend, given: object) -> object:
    """Check the parameters against the row, then ask the node; BAD_PARAMETERS names what does not fit."""
    try:
        parameters = msgspec.convert(given, method.parameters, strict=True)
    except msgspec.ValidationError as error:
        raise Rejection(reasons.BAD_PARAMETERS, str(error)) from None
    return await method.call(backend, parameters)


async def _block(node: NodeBackend, p: AtHeight) -> object:
    return found(await node.block(p.height), f"there is no block {p.height}")


async def _validators(node: NodeBackend, p: SetPage) -> object:
    return (await node.validators(p.height))[p.offset : p.offset + p.limit]


async def _candidates(node: NodeBackend, p: WidePage) -> object:
    return (await node.candidates())[p.offset : p.offset + p.limit]


async def _transaction(node: NodeBackend, p: OfTransaction) -> object:
    return found(await node.transaction(hash_of(p.transaction_id)), f"no block has the transaction {p.transaction_id}")


async def _submit(node: NodeBackend, p: Submit) -> object:
    try:
        data = bytes.fromhex(p.transaction)
    except ValueError:
        raise Rejection(reasons.BAD_PARAMETERS, "the transaction is not hexadecimal") from None
    return {"transaction_id": await node.submit_transaction(data)}


async def _task(node: NodeBackend, p: OfTask) -> object:
    return found(await node.task(hash_of(p.task_id)), f"there is no task {p.task_id}")


async def _disputes(node: NodeBackend, p: MaybeOfTask) -> object:
    return await node.disputes(None if p.task_id is None else hash_of(p.task_id))


async def _dispute(node: NodeBackend, p: OfDispute) -> object:
    return found(await node.dispute(hash_of(p.dispute_id)), f"there is no dispute {p.dispute_id}")


async def _proposal(node: NodeBackend, p: OfProposal) -> object:
    return found(await node.proposal(p.number), f"there is no proposal {p.number}")


async def _program(node: NodeBackend, p: OfProgram) -> object:
    return found(await node.program(hash_of(p.program_id)), f"there is no program {p.program_id}")


async def _certificate(node: NodeBackend, p: OfTask) -> object:
    return found(await node.certificate(hash_of(p.task_id)), f"the task {p.task_id} has no certificate yet")


async def _record(node: NodeBackend, p: OfRecord) -> object:
    value = await node.record(bytes.fromhex(p.key))
    return {"value": None if value is None else value.hex()}


async def _role_report(node: NodeBackend, p: Parameters) -> object:
    return found(await node.role_report(), "this node runs without roles")


async def _proof(node: NodeBackend, p: OfKey) -> object:
    return found(await node.proof(bytes.fromhex(p.key), p.height), "that height is not kept")


async def _blob_fetch(node: NodeBackend, p: OfBlob) -> object:
    return found(await node.blob_fetch(hash_of(p.blob_id)), f"nobody serves the blob {p.blob_id}")


METHODS: dict[str, Method] = {
    **OPERATOR_METHODS,
    "status": Method(Parameters, lambda node, p: node.status()),
    "peers": Method(Parameters, lambda node, p: node.peers()),
    "seeds": Method(Parameters, lambda node, p: node.seeds()),
    "validators": Method(SetPage, _validators),
    "candidates": Method(WidePage, _candidates),
    "delegations": Method(OfAccount, lambda node, p: node.delegations(decode_address(p.address))),
    "block": Method(AtHeight, _block),
    "transaction": Method(OfTransaction, _transaction),
    "account": Method(OfAccount, lambda node, p: node.account(decode_address(p.address))),
    "submit_transaction": Method(Submit, _submit, writes=True),
    "wait_transaction": Method(
        Wait, lambda node, p: node.wait_transaction(hash_of(p.transaction_id), p.timeout_s), timeout_s=90.0
    ),
    "tasks": Method(Page, lambda node, p: node.tasks(p.offset, p.limit)),
    "task": Method(OfTask, _task),
    "duties": Method(Parameters, lambda node, p: node.duties()),
    "why": Method(OfTask, lambda node, p: node.why(hash_of(p.task_id))),
    "why_task": Method(OfTask, lambda node, p: node.why_task(hash_of(p.task_id))),
    "why_node": Method(Parameters, lambda node, p: node.why_node()),
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
    "record": Method(OfRecord, _record),
    "role": Method(Parameters, lambda node, p: node.role()),
    "role_report": Method(Parameters, _role_report),
    "set_role": Method(NewRole, lambda node, p: node.set_role(p.role), writes=True),
    "blob_info": Method(OfBlob, lambda node, p: node.blob_info(hash_of(p.blob_id))),
    "blob_fetch": Method(OfBlob, _blob_fetch, writes=True, timeout_s=600.0),
}
"""Every method. Those that write need the token."""
