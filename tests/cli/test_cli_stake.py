"""`gensyn stake`: what is sent, and what people see of validators and delegations."""

from __future__ import annotations

import msgspec
import pytest
from rpc_fake_node import ADDRESS, FakeNode
from test_cli_commands import Program, address, gensyn  # noqa: F401  (fixtures)
from test_cli_gov import account  # noqa: F401  (fixture)

from cli import output
from consensus.ledger.messages import (
    Bond,
    Delegate,
    EditValidator,
    Message,
    Unbond,
    Undelegate,
    Unjail,
    WithdrawRewards,
    decode_transaction,
    validator_key_proof_bytes,
)
from consensus.ledger.stake_queries import CANDIDATE_ACTIVE, CANDIDATE_JAILED, Candidate, DelegationView
from consensus.ledger.stake_records import Unbonding
from gensyn_node.primitives import crypto
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.money import NANO_PER_GSN

GSN = NANO_PER_GSN
VALIDATOR = bytes(range(1, 21))
SHOWN = encode_address(VALIDATOR)
CANDIDATE = Candidate(
    VALIDATOR, bytes(32), ADDRESS, "Val \x1b[2J", ("/ip4/1.2.3.4",), CANDIDATE_ACTIVE, 7, 7 * GSN, 5 * GSN, 250, 3, 0
)
IN_JAIL = msgspec.structs.replace(CANDIDATE, address=bytes(20), name="slow", state=CANDIDATE_JAILED, unjail_height=90)
DELEGATED = DelegationView(VALIDATOR, 3 * GSN, GSN // 2, (Unbonding(ADDRESS, 2 * GSN, 5, 77, VALIDATOR),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("delegate", SHOWN, "3 GSN"), Delegate(VALIDATOR, 3 * GSN, 250)),
        (("undelegate", SHOWN, "1.5 GSN"), Undelegate(VALIDATOR, 3 * GSN // 2)),
        (("unbond", SHOWN, "2 GSN"), Unbond(VALIDATOR, 2 * GSN)),
        (("unjail", SHOWN), Unjail(VALIDATOR)),
        (("edit", SHOWN, "--commission", "3.5"), EditValidator(VALIDATOR, "Val \x1b[2J", 350, ("/ip4/1.2.3.4",))),
        (("edit", SHOWN, "--name", "V", "--endpoint", "/dns/v"), EditValidator(VALIDATOR, "V", 250, ("/dns/v",))),
    ],
)
def test_what_is_asked_is_what_is_sent(
    gensyn: Program,  # noqa: F811
    node: FakeNode,
    account: bytes,  # noqa: F811
    arguments: tuple[str, ...],
    message: Message,
) -> None:
    node.candidates_listed = (CANDIDATE,)
    sent = gensyn.json("stake", *arguments, "--yes")
    assert sent["height"] == 9
    transaction = decode_transaction(node.submitted[-1])
    assert transaction.message == message
    assert transaction.sender_address == account


def test_a_bond_carries_the_validator_keys_consent(gensyn: Program, node: FakeNode, account: bytes) -> None:  # noqa: F811
    gensyn.json("wallet", "new", "consensus", "--insecure-plain")
    gensyn.json("stake", "bond", "5 GSN", "--yes")
    bond = decode_transaction(node.submitted[-1]).message
    assert isinstance(bond, Bond) and bond.amount_nano == 5 * GSN
    assert crypto.verify(bond.validator_key, validator_key_proof_bytes("devnet-test", account), bond.key_proof)


def test_nothing_is_staked_without_consent(gensyn: Program, node: FakeNode, account: bytes) -> None:  # noqa: F811
    node.candidates_listed = (CANDIDATE,)
    for arguments in (("delegate", SHOWN, "3 GSN"), ("undelegate", SHOWN, "3 GSN"), ("unjail", SHOWN)):
        assert gensyn("stake", *arguments)[0] == output.EXIT_INTERRUPTED
    assert node.submitted == []


def test_an_unknown_validator_is_told_before_anything_is_sent(
    gensyn: Program,  # noqa: F811
    node: FakeNode,
    account: bytes,  # noqa: F811
) -> None:
    assert gensyn.json("stake", "delegate", SHOWN, "3 GSN", "--yes")["error"]["code"] == "E1210"
    assert gensyn.json("stake", "edit", SHOWN, "--name", "x", "--yes")["error"]["code"] == "E1210"
    assert gensyn.json("stake", "delegate", SHOWN, "3", "--yes")["error"]["code"] == "E1006"
    assert node.submitted == []


def test_validators_are_shown_with_their_state(gensyn: Program, node: FakeNode, address: str) -> None:  # noqa: F811
    node.candidates_listed = (CANDIDATE, IN_JAIL)
    shown = gensyn.json("stake", "validators")
    assert [(one["address"], one["state"], one["unjail_height"]) for one in shown] == [
        (SHOWN, "active", 0),
        (encode_address(bytes(20)), "jailed", 90),
    ]
    code, text = gensyn("stake", "validators")
    assert code == 0 and "\x1b[2J" not in text
    assert "2.5 %" in text and "until" in text


def test_rewards_are_shown_and_collected(gensyn: Program, node: FakeNode, account: bytes) -> None:  # noqa: F811
    node.delegated[account] = (DELEGATED, msgspec.structs.replace(DELEGATED, validator=bytes(20), rewards_nano=0))
    shown = gensyn.json("stake", "rewards")
    assert shown["delegations"][0]["rewards_nano"] == GSN // 2
    assert shown["delegations"][0]["unbonding"][0]["release_height"] == 77
    withdrawn = gensyn.json("stake", "rewards", "--withdraw")["withdrawn"]
    assert len(withdrawn) == len(node.submitted) == 1
    assert decode_transaction(node.submitted[0]).message == WithdrawRewards(VALIDATOR)
    code, _ = gensyn("stake", "rewards", encode_address(account), "--withdraw")
    assert code == output.EXIT_USAGE
    code, text = gensyn("stake", "rewards", SHOWN)
    assert code == 0 and "Nothing is staked" in text
