"""The client against a real server with a fake node behind it: transactions, blobs, errors, quotes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rpc_fake_node import TOKEN, FakeNode, serving_in_thread

from consensus.ledger.fees import least_fee
from consensus.ledger.messages import (
    OFFERS_NATIVE,
    ROLE_SOLVER,
    ROLE_VERIFIER,
    ROLES_ALL,
    TaskSpec,
    Transfer,
    decode_transaction,
    transaction_id,
    verify_signature,
)
from consensus.ledger.parameters import devnet_parameters
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES
from gensyn_node.rpc.backend import TransactionView
from gensyn_node.sdk import blobs, transactions
from gensyn_node.sdk.client import NodeClient
from gensyn_node.sdk.quote import check_quote, make_quote
from proofs.blobs import blob_id_of

KEY = SecretKey(b"\x21" * 32)
MESSAGE = Transfer(bytes(20), 5)


@pytest.fixture
def client(node: FakeNode) -> Iterator[NodeClient]:
    with serving_in_thread(node) as address, NodeClient(address, TOKEN) as client:
        yield client


def included(accepted: bool, code: str = "", error: str = "") -> TransactionView:
    return TransactionView(
        transaction_id=bytes(32),
        height=9,
        index=0,
        sender=bytes(20),
        nonce=2,
        fee_nano=77,
        kind="transfer",
        message=None,
        accepted=accepted,
        code=code,
        error=error,
    )


def test_a_sent_transaction_has_nonce_fee_and_signature(node: FakeNode, client: NodeClient) -> None:
    node.outcome = included(True)
    outcome = transactions.send(client, KEY, MESSAGE)
    (data,) = node.submitted
    sent = decode_transaction(data)
    verify_signature(sent)
    assert (sent.chain_id, sent.nonce, sent.message) == ("devnet-test", 2, MESSAGE)
    assert sent.fee_nano == least_fee(MESSAGE, len(data), devnet_parameters())
    assert (outcome.transaction_id, outcome.height, outcome.fee_nano) == (transaction_id(data), 9, 77)


def test_a_refused_transaction_tells_the_ledger_s_reason(node: FakeNode, client: NodeClient) -> None:
    node.outcome = included(False, "E1204", "only 3 nano are there")
    with pytest.raises(Rejection) as error:
        transactions.send(client, KEY, MESSAGE)
    assert error.value.reason.code == "E1204"
    assert "only 3 nano" in error.value.message


def test_a_transaction_may_stay_away(node: FakeNode, client: NodeClient) -> None:
    with pytest.raises(Rejection) as error:
        transactions.send(client, KEY, MESSAGE, wait_s=0.05)
    assert error.value.reason.code == "E1824"


def test_the_node_s_refusal_comes_through(client: NodeClient) -> None:
    with pytest.raises(Rejection) as error:
        client.call("account", address="nonsense")
    assert error.value.reason.code == "E1004"
    assert error.value.reason.remedy
    assert client.find("task", task_id="00" * 32) is None


def test_no_token_no_write(node: FakeNode) -> None:
    with serving_in_thread(node) as address, NodeClient(address) as client:
        with pytest.raises(Rejection) as error:
            client.call("set_role", role="none")
        assert error.value.reason.code == "E1703"
        with pytest.raises(Rejection) as error:
            client.put_chunk(bytes(32), 1, 0, b"x")
        assert error.value.reason.code == "E1703"
    assert TOKEN not in repr(NodeClient(address, TOKEN))


def test_something_else_at_the_address(tmp_path: Path) -> None:
    with pytest.raises(Rejection) as error:
        NodeClient("http://127.0.0.1:9").call("status")
    assert error.value.reason.code == "E1821"


@pytest.mark.parametrize("length", [1, BLOB_CHUNK_BYTES, BLOB_CHUNK_BYTES + 1, 3 * BLOB_CHUNK_BYTES - 7])
def test_blobs_go_up_and_come_back(node: FakeNode, client: NodeClient, tmp_path: Path, length: int) -> None:
    data = bytes(number * 7 % 251 for number in range(1000)) * (length // 1000 + 1)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data[:length])
    seen: list[tuple[int, int]] = []
    blob_id = blobs.upload(client, source, lambda done, total: seen.append((done, total)))
    assert blob_id == blob_id_of(data[:length])
    assert seen[-1] == (length, length)
    sent = len(node.chunks)
    assert blobs.upload(client, source) == blob_id
    assert len(node.chunks) == sent
    assert blobs.download(client, blob_id, target) == length
    assert target.read_bytes() == data[:length]


def test_nothing_is_no_blob(client: NodeClient, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(Rejection) as error:
        blobs.upload(client, tmp_path / "empty")
    assert error.value.reason.code == "E1826"


def test_an_upload_resumes(node: FakeNode, client: NodeClient, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * (4 * BLOB_CHUNK_BYTES))
    node.chunks_until_failure = 2
    with pytest.raises(Rejection):
        blobs.upload(client, source)
    node.chunks_until_failure = 2
    seen: list[int] = []
    blobs.upload(client, source, lambda done, total: seen.append(done // BLOB_CHUNK_BYTES))
    assert seen == [3, 4]


def test_a_forged_download_leaves_nothing(node: FakeNode, client: NodeClient, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"right")
    blob_id = blobs.upload(client, source)
    node.chunks[blob_id, 0] = b"wrong"
    with pytest.raises(Rejection) as error:
        blobs.download(client, blob_id, tmp_path / "target")
    assert error.value.reason.code == "E1822"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


SPEC = TaskSpec("t", bytes(32), (), b"", b"", b"", 600, 50, 2, "rep-v1", 2, 2, 20 * 10**9, 400, 10**9, ())
GAS = 1_000_000


def provider(**changes: Any) -> dict[str, Any]:
    plain = {
        "state": "active",
        "roles": ROLES_ALL,
        "memory_bytes": 4 * 10**9,
        "ask_price_nano": 50_000_000,
        "bond_nano": 10 * 10**9,
        "locked_nano": 0,
    }
    return plain | changes


@pytest.mark.parametrize(
    ("providers", "solvers", "verifiers", "excluded"),
    [
        ([], 0, 0, {}),
        ([provider()] * 3, 3, 3, {}),
        ([provider()], 1, 0, {}),
        ([provider(), provider(state="paused")], 1, 0, {"state": 1}),
        ([provider(), provider(memory_bytes=5)], 1, 0, {"memory": 1}),
        ([provider(), provider(ask_price_nano=10**12)], 1, 0, {"price": 1}),
        ([provider(), provider(locked_nano=10 * 10**9)], 1, 0, {"bond": 1}),
        ([provider(roles=ROLE_SOLVER), provider(roles=ROLE_VERIFIER)], 1, 0, {}),
    ],
)
def test_quotes_count_who_can(
    providers: list[dict[str, Any]], solvers: int, verifiers: int, excluded: dict[str, int]
) -> None:
    quote = make_quote(SPEC, GAS, devnet_parameters(), providers)
    assert (quote.solvers, quote.verifiers, quote.excluded) == (solvers, verifiers, excluded)


def test_quotes_price_the_work() -> None:
    quote = make_quote(SPEC, GAS, devnet_parameters(), [provider(), provider(ask_price_nano=100_000_000)])
    assert quote.train_gas == 600 * GAS
    assert quote.verify_gas == (2 * 2 * 2 + 2) * 50 * GAS, "with a drawn watch an instalment"
    assert (quote.low_nano, quote.high_nano) == (50_000_000, 110_000_000)
    check_quote(make_quote(SPEC, GAS, devnet_parameters(), [provider()] * 3))


@pytest.mark.parametrize(
    ("providers", "code"), [([], "E1816"), ([provider(ask_price_nano=10**12)] * 3, "E1815"), ([provider()], "E1816")]
)
def test_a_task_that_cannot_start_is_not_submitted(providers: list[dict[str, Any]], code: str) -> None:
    with pytest.raises(Rejection) as error:
        check_quote(make_quote(SPEC, GAS, devnet_parameters(), providers))
    assert error.value.reason.code == code


def test_a_native_task_needs_those_who_offer_the_class_and_a_chain_that_takes_it() -> None:
    native = msgspec.structs.replace(SPEC, arithmetic="native", segment_steps=10)
    offering = provider(roles=ROLES_ALL | OFFERS_NATIVE)
    quote = make_quote(native, GAS, devnet_parameters(), [offering, offering, provider()])
    assert (quote.solvers, quote.profilers, quote.profilers_least, quote.excluded) == (2, 2, 2, {"class": 1})
    assert quote.problem == ""
    assert "nobody" in make_quote(native, GAS, devnet_parameters(), []).problem
    many = msgspec.structs.replace(devnet_parameters(), native_profilers=5)
    assert "at least 3 are needed" in make_quote(native, GAS, many, [offering, offering]).problem
    closed = msgspec.structs.replace(devnet_parameters(), native_profilers=0)
    with pytest.raises(Rejection) as refused:
        make_quote(native, GAS, closed, [offering] * 3)
    assert refused.value.reason.code == "E1322"
    assert make_quote(SPEC, GAS, closed, [provider()] * 3).profilers_least == 0
