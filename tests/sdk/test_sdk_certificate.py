"""Certificates: a right one is believed, anything changed in it is not; nor is another model or another chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from consensus.ledger import keys, tree
from consensus.ledger.certificate import spec_hash
from consensus.ledger.messages import APPROVED, Finding, TaskSpec
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.records import (
    TASK_FINISHED,
    VERIFICATION_PAID,
    Genesis,
    GenesisAccount,
    GenesisValidator,
    InstalmentSummary,
    TaskRecord,
    VerdictSummary,
)
from consensus.tendermint.types import (
    Commit,
    CommitFlag,
    CommitSlot,
    Header,
    Validator,
    ValidatorSet,
    Vote,
    VoteType,
    vote_sign_bytes,
)
from consensus.tendermint.validators import new_validator_set
from gensyn_node.config.genesis import genesis_validators
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.sdk.certificate import (
    Certificate,
    SetChange,
    SignedHeader,
    pack_certificate,
    read_certificate,
    unpack_certificate,
)
from gensyn_node.sdk.verify import verify_certificate
from proofs.dataset import DatasetTensor, dataset_root
from proofs.program.types import BatchInput, Fill, Program, StateEntry, TensorType, program_id
from proofs.state import state_root
from proofs.tensors import root_of

CHAIN = "devnet-certificate"
OLD = [SecretKey(bytes([number]) * 32) for number in range(1, 5)]
NEW = [SecretKey(bytes([number]) * 32) for number in range(11, 14)]
TENSOR = np.arange(80, dtype=np.float32).reshape(4, 20)
PROGRAM = Program(
    1,
    (StateEntry("parameter.w", TensorType("f32", (4, 20)), Fill(0)),),
    2,
    (BatchInput("x", TensorType("f32", (3,))),),
    (),
    (0,),
    0,
)
GENESIS = Genesis(
    CHAIN,
    1_700_000_000_000,
    tuple(GenesisValidator(key.public, key.address, 1000 * 10**9, "v") for key in OLD),
    (GenesisAccount(OLD[0].address, 10**12),),
    devnet_parameters(),
)


def header(height: int, validators: ValidatorSet, app_hash: bytes = bytes(32), following: bytes = b"") -> Header:
    return Header(
        chain_id=CHAIN,
        height=height,
        time_ms=1_700_000_000_000 + height,
        previous_block_id=b"\x01" * 32,
        last_commit_root=bytes(32),
        data_root=bytes(32),
        evidence_root=bytes(32),
        app_hash=app_hash,
        results_root=bytes(32),
        validators_hash=validators.hash,
        next_validators_hash=following or validators.hash,
        proposer=validators.validators[0].address,
        beacon_proof=bytes(80),
    )


def signed(head: Header, validators: ValidatorSet, signers: list[SecretKey]) -> SignedHeader:
    message = vote_sign_bytes(CHAIN, Vote(VoteType.PRECOMMIT, head.height, 0, head.id, b""))
    by_address = {key.address: key for key in signers}
    slots = tuple(
        CommitSlot(CommitFlag.COMMIT, by_address[validator.address].sign(message))
        if validator.address in by_address
        else CommitSlot(CommitFlag.ABSENT, b"")
        for validator in validators.validators
    )
    return SignedHeader(head, Commit(head.height, 0, head.id, slots))


def make(signers: list[SecretKey] = OLD, validators: ValidatorSet | None = None) -> Certificate:
    """A certificate of a task of 100 steps, two segments, one of them verified."""
    root = state_root(program_id(PROGRAM), 100, ["parameter.w"], [root_of(TENSOR)])
    dataset = (DatasetTensor("x", TensorType("f32", (3,)), 10, b"\x05" * 32),)
    spec = TaskSpec(
        "digits", program_id(PROGRAM), dataset, b"", b"", b"", 100, 50, 1, "rep-v1", 1, 1, 10**9, 100, 10**6, ()
    )
    verdict = VerdictSummary(NEW[0].address, VERIFICATION_PAID, (Finding(1, APPROVED, b"\x06" * 32),), 5)
    part = InstalmentSummary(0, 1, NEW[1].address, b"\x07" * 32, (b"\x08" * 32, root), (verdict,), 100)
    record = TaskRecord(
        task_id=b"\x09" * 32,
        spec_hash=spec_hash(spec),
        program_id=program_id(PROGRAM),
        dataset_root=dataset_root(dataset),
        state=TASK_FINISHED,
        submitter=NEW[2].address,
        seed=b"\x0a" * 32,
        initial_root=b"\x07" * 32,
        final_root=root,
        steps_settled=100,
        instalments=(part,),
        disputes=(),
        solver_paid_nano=100,
        verifiers_paid_nano=5,
        refunded_nano=7,
        ended_height=40,
        arithmetic="rep-v1",
        limits=(),
    )
    nodes: dict[bytes, bytes] = {}
    entries = {keys.record(record.task_id): encode(record)} | {b"other/%d" % i: bytes([i]) for i in range(20)}
    update = tree.update(tree.EMPTY_ROOT, nodes.__getitem__, entries)
    nodes |= update.new_nodes
    proof = tree.prove(update.root, nodes.__getitem__, keys.record(record.task_id))
    validators = validators or genesis_validators(GENESIS)
    head = signed(header(41, validators, update.root), validators, signers)
    return Certificate(encode(GENESIS), (), head, record, proof, spec, encode(PROGRAM))


def changed(certificate: Certificate, **parts: Any) -> Certificate:
    return msgspec.structs.replace(certificate, **parts)


def refused(certificate: Certificate, **options: Any) -> str:
    with pytest.raises(Rejection) as error:
        verify_certificate(certificate, **options)
    return error.value.reason.name


def test_a_right_certificate_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "model.cert"
    path.write_bytes(pack_certificate(make()))
    found = verify_certificate(read_certificate(path), trusted=GENESIS)
    assert (found.segments, found.segments_verified, found.verdicts, found.steps) == (2, 1, 1, 100)
    assert (found.signed_power, found.total_power, found.genesis_trusted) == (4000, 4000, True)
    assert not verify_certificate(make()).genesis_trusted


@pytest.mark.parametrize(("count", "enough"), [(4, True), (3, True), (2, False), (0, False)])
def test_more_than_two_thirds_have_to_sign(count: int, enough: bool) -> None:
    certificate = make(OLD[:count])
    if enough:
        verify_certificate(certificate)
    else:
        assert refused(certificate) == "bad_certificate"


def test_strangers_cannot_sign() -> None:
    strangers = new_validator_set([Validator(key.address, key.public, 1000) for key in NEW])
    assert refused(make(NEW, strangers)) == "bad_certificate"


def test_another_genesis_is_not_trusted() -> None:
    other = msgspec.structs.replace(GENESIS, time_ms=1)
    assert refused(make(), trusted=other) == "other_genesis"


GOOD = make()
CASES = {
    "record": changed(GOOD, record=msgspec.structs.replace(GOOD.record, refunded_nano=8)),
    "final root": changed(GOOD, record=msgspec.structs.replace(GOOD.record, final_root=b"\x01" * 32)),
    "proof": changed(GOOD, proof=msgspec.structs.replace(GOOD.proof, siblings=GOOD.proof.siblings[:-1])),
    "spec": changed(GOOD, spec=msgspec.structs.replace(GOOD.spec, name="other")),
    "program": changed(GOOD, program=encode(msgspec.structs.replace(PROGRAM, batch_size=3))),
    "no program": changed(GOOD, program=b""),
    "app hash": changed(
        GOOD, signed=SignedHeader(msgspec.structs.replace(GOOD.signed.header, app_hash=bytes(32)), GOOD.signed.commit)
    ),
    "height of the commit": changed(
        GOOD, signed=SignedHeader(GOOD.signed.header, msgspec.structs.replace(GOOD.signed.commit, height=42))
    ),
    "round of the commit": changed(
        GOOD, signed=SignedHeader(GOOD.signed.header, msgspec.structs.replace(GOOD.signed.commit, round=1))
    ),
    "fewer slots": changed(
        GOOD,
        signed=SignedHeader(
            GOOD.signed.header, msgspec.structs.replace(GOOD.signed.commit, slots=GOOD.signed.commit.slots[:3])
        ),
    ),
    "one bad signature": changed(
        GOOD,
        signed=SignedHeader(
            GOOD.signed.header,
            msgspec.structs.replace(
                GOOD.signed.commit,
                slots=(*GOOD.signed.commit.slots[:3], CommitSlot(CommitFlag.COMMIT, bytes(64))),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_anything_changed_is_noticed(name: str) -> None:
    assert refused(CASES[name]) == "bad_certificate"


def test_changes_of_the_validator_set_are_followed() -> None:
    old = genesis_validators(GENESIS)
    new = new_validator_set([Validator(key.address, key.public, 10) for key in NEW])
    change = SetChange(signed(header(20, old, following=new.hash), old, OLD), new.validators)
    certificate = changed(make(NEW, new), set_changes=(change,))
    assert verify_certificate(certificate, trusted=GENESIS).total_power == 30
    assert refused(changed(certificate, set_changes=())) == "bad_certificate"
    assert refused(changed(certificate, set_changes=(change, change))) == "bad_certificate"
    weak = SetChange(signed(header(20, old, following=new.hash), old, OLD[:2]), new.validators)
    assert refused(changed(certificate, set_changes=(weak,))) == "bad_certificate"
    other = SetChange(change.signed, new.validators[:2])
    assert refused(changed(certificate, set_changes=(other,))) == "bad_certificate"
    late = SetChange(signed(header(41, old, following=new.hash), old, OLD), new.validators)
    assert refused(changed(certificate, set_changes=(late,))) == "bad_certificate"


@pytest.mark.parametrize("fault", ["none", "bit", "name", "shape", "missing", "junk"])
def test_the_model_has_to_be_the_certified_one(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "model.safetensors"
    wrong = TENSOR.copy()
    wrong.view(np.uint32)[3, 19] ^= 1
    tensors = {
        "none": {"parameter.w": TENSOR},
        "bit": {"parameter.w": wrong},
        "name": {"parameter.v": TENSOR},
        "shape": {"parameter.w": TENSOR.reshape(20, 4)},
    }
    if fault in tensors:
        save_file(tensors[fault], path)
    elif fault == "junk":
        path.write_bytes(b"\xff" * 100)
    if fault == "none":
        assert verify_certificate(GOOD, model=path).model_checked
    else:
        assert refused(GOOD, model=path) == "other_model"


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"gensyn certificate 1\n", b"gensyn certificate 1\n\x90"])
def test_no_certificate_at_all(damage: bytes) -> None:
    with pytest.raises(Rejection) as error:
        unpack_certificate(damage)
    assert error.value.reason.name == "bad_certificate"
    with pytest.raises(Rejection):
        unpack_certificate(pack_certificate(GOOD)[:-1])
