"""`gensyn node consensus` and `gensyn chain tx`: what is shown of votes, and proofs that are checked here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rpc_fake_node import ADDRESS, FakeNode
from test_cli_commands import Program, address, gensyn  # noqa: F401  (fixtures)

from cli import output
from cli.consensus_view import with_power
from consensus.ledger.messages import transaction_id
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.hashing import sha256
from gensyn_node.rpc.backend import TransactionView
from gensyn_node.rpc.operator_backend import ConsensusView, RoundView
from gensyn_node.sdk.inclusion import check_inclusion
from proofs import merkle

DATA = [b"first", b"second", b"third"]
NAME = transaction_id(DATA[1]).hex()
LEAVES = [merkle.SHA256.leaf(sha256(data)) for data in DATA]
SHOWN = {
    "height": 7,
    "index": 1,
    "total": 3,
    "transaction": DATA[1].hex(),
    "leaf_hash": LEAVES[1].hex(),
    "path": [one.hex() for one in merkle.inclusion_path(merkle.SHA256, LEAVES, 1)],
    "data_root": "00" * 32,
}
HEADER = {"header": {"height": 7, "data_root": merkle.fold(merkle.SHA256, LEAVES).hex()}}


def test_a_proof_that_holds() -> None:
    found = check_inclusion(NAME, SHOWN, HEADER)
    assert (found.height, found.index, found.total, found.hashes) == (7, 1, 3, 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"transaction": DATA[0].hex()},
        {"transaction": "xy"},
        {"index": 0},
        {"index": -2},
        {"index": 3},
        {"total": 2},
        {"total": 0},
        {"height": 8},
        {"path": SHOWN["path"][:1]},
        {"path": [*SHOWN["path"], "00" * 32]},  # type: ignore[misc]
        {"path": ["00" * 32, "00" * 32]},
        {"path": 5},
    ],
)
def test_proofs_that_do_not_hold(changes: dict[str, Any]) -> None:
    with pytest.raises(Rejection, match="bad_inclusion"):
        check_inclusion(NAME, SHOWN | changes, HEADER)


def test_what_the_node_says_of_the_root_beside_the_header_is_not_used() -> None:
    with pytest.raises(Rejection, match="bad_inclusion"):
        check_inclusion(NAME, SHOWN, {"header": {"height": 7, "data_root": "00" * 32}})


def test_a_transaction_with_its_proof(gensyn: Program, node: FakeNode, address: str) -> None:  # noqa: F811
    node.found = TransactionView(
        transaction_id=bytes.fromhex(NAME), height=7, index=1, sender=ADDRESS, nonce=3, fee_nano=5, kind="transfer",
        message=None, accepted=False, code="E1205", error="too little money",
    )  # fmt: skip
    code, text = gensyn("chain", "tx", NAME)
    assert code == 0
    assert "E1205 too little money" in text and encode_address(ADDRESS) in text
    node.shown_proof, node.data_root = SHOWN, bytes.fromhex(HEADER["header"]["data_root"])  # type: ignore[arg-type]
    assert "The proof holds: 2 of 3 in block 7" in gensyn("chain", "tx", NAME, "--proof")[1]
    assert gensyn.json("chain", "tx", NAME, "--proof")["proof"]["holds"] is True
    node.data_root = bytes(32)
    code, text = gensyn("chain", "tx", NAME, "--proof", "--json")
    assert (code, json.loads(text)["error"]["code"]) == (output.EXIT_NOT_VERIFIED, "E1845")
    node.found = None
    assert gensyn.json("chain", "tx", NAME)["error"]["code"] == "E1711"


def test_votes_are_weighed_by_power() -> None:
    validators = [{"address": name, "power": power} for name, power in (("a", 5), ("b", 3), ("c", 2))]
    rounds = [{"round": 1, "proposer": "b", "proposals": [], "prevotes": {"a": "00", "c": "nil"}, "precommits": {}}]
    value = with_power({"round": 1, "rounds": rounds}, validators)
    assert (value["total_power"], value["voted_power"]) == (10, {"prevotes": 7, "precommits": 0})
    assert value["missing"] == {"prevotes": ["b"], "precommits": ["a", "b", "c"]}
    assert with_power({"round": 2, "rounds": rounds}, validators)["missing"]["prevotes"] == ["a", "b", "c"]


def test_the_round_in_progress(gensyn: Program, node: FakeNode, address: str) -> None:  # noqa: F811
    node.validators_listed = 3  # of power 10, 9, 8, all with one address: one vote is everybody's
    own = encode_address(ADDRESS)
    node.consensus = ConsensusView(
        height=8, round=1, step="prevote", locked_round=0, locked_block=b"\5" * 32, valid_round=0,
        valid_block=b"\5" * 32, seconds_since_progress=2.5,
        rounds=(
            RoundView(0, ADDRESS, (b"\5" * 32,), {own: "05" * 32}, {own: "nil"}, "05" * 32, ""),
            RoundView(1, ADDRESS, (), {own: "nil"}, {}, "", ""),
        ),
    )  # fmt: skip
    code, text = gensyn("node", "consensus")
    assert code == 0
    for part in ("8, round 1, prevote", "050505050505 since round 0", "none yet", "nil", "Round 0: 1 prevotes"):
        assert part in text
    assert all(len(line) <= 80 for line in text.splitlines())
    value = gensyn.json("node", "consensus")
    assert value["missing"]["prevotes"] == [] and value["missing"]["precommits"] == [own]
