"""The offline check of a certificate, and of a model against it. No network, no node, no torch.

Trust flows: genesis → its validator set → every later set, each signed by more than two thirds of the one before → the
header → its state root → the task's record → the final state root → the tensors of the model file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from consensus.ledger import keys, tree
from consensus.ledger.certificate import spec_hash
from consensus.ledger.genesis import genesis_hash
from consensus.ledger.messages import APPROVED
from consensus.ledger.parameters import BASIS_POINTS
from consensus.ledger.records import TASK_FINISHED, VERIFICATION_SLASHED, Genesis, TaskRecord
from consensus.tendermint.types import CommitFlag, Validator, ValidatorSet, Vote, VoteType, is_quorum, vote_sign_bytes
from consensus.tendermint.validators import new_validator_set
from gensyn_node.config.genesis import decode_genesis, genesis_validators
from gensyn_node.primitives import crypto, limits
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.codec import decode, encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk import reasons
from gensyn_node.sdk.certificate import Certificate, SignedHeader
from proofs.dataset import dataset_root
from proofs.program.types import Program, program_id
from proofs.state import state_root
from proofs.tensors import root_of, type_of


@dataclass(frozen=True, slots=True)
class Verified:
    """What a certificate proves, for people."""

    chain_id: str
    genesis_hash: bytes
    genesis_trusted: bool
    """Whether the genesis was compared with one that the reader brought."""
    height: int
    """Height of the signed header."""
    signed_power: int
    total_power: int
    task_id: bytes
    name: str
    state: str
    steps: int
    final_root: bytes
    arithmetic: str
    """The task's class: what a verdict says depends on it."""
    segments: int
    segments_verified: int
    """Distinct segments that at least one paid verifier repeated and approved."""
    looked_at: int
    """Native: verdicts on segments beyond their distance, which rest on every operator's bound."""
    verdicts: int
    disputes: int
    solvers: tuple[str, ...]
    """Addresses of those whose work was settled."""
    model_checked: bool


def verify_certificate(
    certificate: Certificate, *, trusted: Genesis | None = None, model: Path | None = None
) -> Verified:
    """Check everything; BAD_CERTIFICATE, OTHER_GENESIS or OTHER_MODEL says what fails first."""
    genesis = decode_genesis(certificate.genesis, "the certificate's genesis")
    if trusted is not None and encode(trusted) != certificate.genesis:
        raise Rejection(
            reasons.OTHER_GENESIS,
            f"its genesis is {genesis_hash(genesis).hex()}, the trusted one {genesis_hash(trusted).hex()}",
        )
    validators = _follow_sets(certificate, genesis)
    power = _check_signatures(genesis.chain_id, validators, certificate.signed)
    record = certificate.record
    if not tree.verify(
        certificate.signed.header.app_hash, keys.record(record.task_id), encode(record), certificate.proof
    ):
        raise Rejection(reasons.BAD_CERTIFICATE, "the record's proof does not lead to the signed state root")
    program = _check_contents(certificate)
    if model is not None:
        check_model(model, program, record)
    return Verified(
        chain_id=genesis.chain_id,
        genesis_hash=genesis_hash(genesis),
        genesis_trusted=trusted is not None,
        height=certificate.signed.header.height,
        signed_power=power,
        total_power=validators.total_power,
        task_id=record.task_id,
        name=certificate.spec.name,
        state=record.state,
        steps=record.steps_settled,
        final_root=record.final_root,
        arithmetic=record.arithmetic,
        looked_at=sum(_looked_at(record)),
        segments=sum(len(instalment.segment_roots) for instalment in record.instalments),
        segments_verified=len(_approved_segments(record)),
        verdicts=sum(bool(verdict.findings) for part in record.instalments for verdict in part.verdicts),
        disputes=len(record.disputes),
        solvers=tuple(sorted({encode_address(part.solver) for part in record.instalments})),
        model_checked=model is not None,
    )


def check_model(path: Path, program: Program, record: TaskRecord) -> None:
    """OTHER_MODEL unless the tensors in the file are the final state that the record names."""
    if len(record.final_root) == 0:
        raise Rejection(reasons.OTHER_MODEL, "no part of this task was settled: there is no certified model")
    try:
        tensors = load_file(path)
        types = {name: type_of(tensor) for name, tensor in tensors.items()}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        # The last two: numpy has no such type (bfloat16, float8).
        raise Rejection(reasons.OTHER_MODEL, f"{path} is no model file: {error}") from None
    roots = []
    for entry in program.state:
        tensor = tensors.get(entry.name)
        if tensor is None or types[entry.name] != entry.type:
            raise Rejection(reasons.OTHER_MODEL, f"{path} has no tensor {entry.name} of the right type")
        roots.append(root_of(tensor, entry.type))
    names = [entry.name for entry in program.state]
    if state_root(record.program_id, record.steps_settled, names, roots) != record.final_root:
        raise Rejection(reasons.OTHER_MODEL, f"the tensors in {path} are not the certified ones")


def _follow_sets(certificate: Certificate, genesis: Genesis) -> ValidatorSet:
    """The set that has to have signed the header, from genesis on."""
    validators, height = genesis_validators(genesis), 0
    for change in certificate.set_changes:
        header = change.signed.header
        if header.height <= height:
            raise Rejection(reasons.BAD_CERTIFICATE, "its changes of the validator set are out of order")
        _check_signatures(genesis.chain_id, validators, change.signed)
        validators, height = _set_of(change.validators, header.next_validators_hash), header.height
    if certificate.signed.header.height <= height:
        raise Rejection(reasons.BAD_CERTIFICATE, "its header is older than a change of the validator set")
    return validators


def _set_of(validators: tuple[Validator, ...], expected_hash: bytes) -> ValidatorSet:
    made = new_validator_set(validators)
    if made.hash != expected_hash:
        raise Rejection(reasons.BAD_CERTIFICATE, "a validator set is not the one that its header names")
    return made


def _check_signatures(chain_id: str, validators: ValidatorSet, signed: SignedHeader) -> int:
    """The power that signed; BAD_CERTIFICATE unless it is more than two thirds of exactly this set's."""
    header, commit = signed.header, signed.commit
    if header.chain_id != chain_id or header.validators_hash != validators.hash:
        raise Rejection(reasons.BAD_CERTIFICATE, f"header {header.height} belongs to another chain or validator set")
    if (commit.height, commit.block_id) != (header.height, header.id):
        raise Rejection(reasons.BAD_CERTIFICATE, f"the commit is not one of header {header.height}")
    if len(commit.slots) != len(validators.validators):
        raise Rejection(reasons.BAD_CERTIFICATE, "the commit has not one slot a validator")
    vote = Vote(VoteType.PRECOMMIT, commit.height, commit.round, commit.block_id, b"")
    message, power = vote_sign_bytes(chain_id, vote), 0
    for validator, slot in zip(validators.validators, commit.slots, strict=True):
        if slot.flag == CommitFlag.COMMIT:
            if not crypto.verify(validator.public_key, message, slot.signature):
                raise Rejection(reasons.BAD_CERTIFICATE, f"a signature for header {header.height} does not verify")
            power += validator.power
    if not is_quorum(power, validators.total_power):
        raise Rejection(
            reasons.BAD_CERTIFICATE, f"only {power} of {validators.total_power} power signed header {header.height}"
        )
    return power


def _check_contents(certificate: Certificate) -> Program:
    """Spec and program are those of the record; a finished task has all its steps."""
    record, spec = certificate.record, certificate.spec
    if spec_hash(spec) != record.spec_hash or dataset_root(spec.dataset) != record.dataset_root:
        raise Rejection(reasons.BAD_CERTIFICATE, "the specification is not the recorded one")
    try:
        program: Program = decode(Program, certificate.program, max_bytes=limits.PROGRAM_BYTES_MAX)
    except Rejection as error:
        raise Rejection(reasons.BAD_CERTIFICATE, f"its program is malformed: {error.message}") from None
    if not program_id(program) == record.program_id == spec.program_id:
        raise Rejection(reasons.BAD_CERTIFICATE, "the program is not the recorded one")
    if record.state == TASK_FINISHED and record.steps_settled != spec.steps:
        raise Rejection(reasons.BAD_CERTIFICATE, "the task is called finished, but steps are missing")
    return program


def _looked_at(record: TaskRecord) -> Iterator[bool]:
    for instalment in record.instalments:
        for verdict in instalment.verdicts:
            yield from (one.verdict == APPROVED and one.excess_bps > BASIS_POINTS for one in verdict.findings)


def _approved_segments(record: TaskRecord) -> set[int]:
    return {
        finding.segment
        for instalment in record.instalments
        for verdict in instalment.verdicts
        for finding in verdict.findings
        if finding.verdict == APPROVED and verdict.state != VERIFICATION_SLASHED
    }
