"""A task's certificate: the ledger's record of it, its proof, and the signatures that make the proof true.

It is checked with nothing but the genesis of the chain (`verify.verify_certificate`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from consensus.ledger.messages import TaskSpec
from consensus.ledger.records import TaskRecord
from consensus.ledger.tree import MapProof
from consensus.tendermint.types import Commit, Header, Validator
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import Struct, decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons

MAGIC = b"gensyn certificate 1\n"
CERTIFICATE_BYTES_MAX = 32 * limits.MIB
SET_CHANGES_MAX = 10_000


class SignedHeader(Struct):
    """A header, and the commit of a validator set for it."""

    header: Header
    commit: Commit


class SetChange(Struct):
    """A header that names another validator set for the next height, signed by the set before, and that other set."""

    signed: SignedHeader
    validators: tuple[Validator, ...]
    """The set of the next height, in its order."""


class Certificate(Struct):
    """All that is needed to check what the chain says of an ended task."""

    genesis: bytes
    """The genesis of the chain, encoded."""
    set_changes: Annotated[tuple[SetChange, ...], Meta(max_length=SET_CHANGES_MAX)]
    """Every change of the validator set from genesis to `signed`, in order; empty when there was none."""
    signed: SignedHeader
    """A header whose `app_hash` holds the record."""
    record: TaskRecord
    proof: MapProof
    """That the ledger holds `record` at `record/<task id>`."""
    spec: TaskSpec
    """What `record.spec_hash` hashes."""
    program: bytes
    """The step program, encoded: names and types of what is in a state."""


def pack_certificate(certificate: Certificate) -> bytes:
    """The bytes of a `.cert` file, which is also what the RPC gives."""
    return MAGIC + encode(certificate)


def unpack_certificate(data: bytes) -> Certificate:
    """The certificate in `data`; BAD_CERTIFICATE when it is none. Nothing is verified yet."""
    if not data.startswith(MAGIC):
        raise Rejection(reasons.BAD_CERTIFICATE, "it does not begin like a certificate")
    try:
        certificate: Certificate = decode(Certificate, data[len(MAGIC) :], max_bytes=CERTIFICATE_BYTES_MAX)
    except Rejection as error:
        raise Rejection(reasons.BAD_CERTIFICATE, error.message) from None
    return certificate


def read_certificate(path: Path) -> Certificate:
    """The certificate in a file."""
    try:
        with path.open("rb") as file:
            data = file.read(CERTIFICATE_BYTES_MAX + len(MAGIC) + 1)
    except OSError as error:
        raise Rejection(reasons.NO_SUCH_FILE, f"{path} cannot be read: {error.strerror}") from None
    return unpack_certificate(data)
