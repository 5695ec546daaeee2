"""`gensyn gov` and `gensyn chain params`: what is sent, and what people see of a vote."""

from __future__ import annotations

from typing import Any

import pytest
from rpc_fake_node import ADDRESS, FakeNode
from test_cli_commands import Program, address, gensyn  # noqa: F401  (fixtures)

from cli import output
from consensus.ledger.messages import decode_transaction
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.proposal_messages import (
    VETO,
    CancelUpgrade,
    CastVote,
    ChangeParameters,
    Grant,
    NewValue,
    PlanUpgrade,
    Propose,
    Statement,
)
from consensus.ledger.proposal_records import Tally
from gensyn_node.keys.keyring import Keyring
from gensyn_node.primitives.bech32 import decode_address, encode_address
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.rpc.backend import ProposalView, TransactionView, VotingPlaceView

TO = encode_address(bytes(range(20)))
GSN = NANO_PER_GSN


def proposal(proposer: bytes = ADDRESS, **changes: Any) -> ProposalView:
    """Number 1, under vote: 30 of 100 GSN have voted, two thirds of them yes."""
    fields: dict[str, Any] = {
        "number": 1,
        "kind": "change_parameters",
        "state": "voting",
        "final": False,
        "title": "shorter window",
        "summary": "because",
        "proposer": proposer,
        "content": ChangeParameters((NewValue("window_blocks", 7),)),
        "deposit_nano": 10 * GSN,
        "submitted_height": 9,
        "voting_end_height": 39,
        "effect_height": 0,
        "blocks_left": 32,
        "tally": Tally(yes_nano=20 * GSN, no_nano=10 * GSN, bonded_nano=100 * GSN),
        "quorum_nano": 33_400_000_000,
        "threshold_bps": 5_000,
        "veto_bps": 3_340,
        "outcome": "no_quorum",
        "why": "",
    }
    return ProposalView(**(fields | changes))


@pytest.fixture
def account(gensyn: Program, node: FakeNode, address: str) -> bytes:  # noqa: F811
    """A plain key in the home; the node's next transaction is applied in block 9."""
    made = gensyn.json("wallet", "new", "account", "--insecure-plain")
    node.outcome = TransactionView(
        transaction_id=bytes(32),
        height=9,
        index=0,
        sender=ADDRESS,
        nonce=2,
        fee_nano=1_500,
        kind="propose",
        message=None,
        accepted=True,
        code="",
        error="",
    )
    assert Keyring(gensyn.home / "keys").list()
    return decode_address(made["address"])


@pytest.mark.parametrize(
    ("arguments", "content", "title"),
    [
        (
            ("parameter", "window_blocks=7", "start_blocks=9"),
            ChangeParameters((NewValue("window_blocks", 7), NewValue("start_blocks", 9))),
            "window_blocks=7, start_blocks=9",
        ),
        (
            ("upgrade", "v2", "--height", "500", "--protocol", "2"),
            PlanUpgrade("v2", 500, 2),
            "upgrade v2 at block 500",
        ),
        (("cancel-upgrade", "v2"), CancelUpgrade("v2"), "cancel the upgrade v2"),
        (("grant", TO, "2.5 GSN"), Grant(bytes(range(20)), 2_500_000_000), "grant 2.5 GSN"),
        (("text", "shall we?", "--summary", "why not"), Statement(), "shall we?"),
    ],
)
def test_proposals_are_sent_and_found(
    gensyn: Program,  # noqa: F811
    node: FakeNode,
    account: bytes,
    arguments: tuple[str, ...],
    content: object,
    title: str,
) -> None:
    node.proposed = (proposal(account, title=title), proposal(number=0))
    made = gensyn.json("gov", "propose", *arguments, "--yes")
    assert (made["number"], made["height"], made["proposal"]["title"]) == (1, 9, title)
    message = decode_transaction(node.submitted[-1]).message
    assert isinstance(message, Propose)
    assert (message.content, message.title) == (content, title)


def test_wrong_changes_are_refused_before_anything_is_asked(gensyn: Program) -> None:  # noqa: F811
    for wrong in ("window_blocks", "window_blocks=-1", "window_blocks=1.5", "=", "window_blocks=٣"):
        code, _ = gensyn("gov", "propose", "parameter", wrong, "--yes")
        assert code == output.EXIT_USAGE
    assert gensyn("gov", "vote", "1", "maybe")[0] == output.EXIT_USAGE


def test_a_key_votes_everywhere_it_has_stake_or_where_it_is_told(
    gensyn: Program,  # noqa: F811
    node: FakeNode,
    account: bytes,
) -> None:
    node.proposed = (proposal(),)
    assert gensyn.json("gov", "vote", "1", "yes")["error"]["code"] == "E1254"
    places = [
        VotingPlaceView(validator=bytes([n]) * 20, as_operator=n == 1, stake_nano=n * GSN, choice="") for n in (1, 2)
    ]
    node.places = tuple(places)
    cast = gensyn.json("gov", "vote", "1", "veto")["votes"]
    assert [vote["stake_nano"] for vote in cast] == [GSN, 2 * GSN]
    sent = [decode_transaction(data).message for data in node.submitted]
    assert sent == [CastVote(1, place.validator, VETO) for place in node.places]
    gensyn.json("gov", "vote", "1", "no", "--validator", encode_address(b"\2" * 20))
    assert len(node.submitted) == 3
    assert gensyn.json("gov", "vote", "1", "no", "--validator", TO)["error"]["code"] == "E1254"


def test_a_vote_is_shown_with_its_distance_from_quorum_and_majority(
    gensyn: Program,  # noqa: F811
    node: FakeNode,
    address: str,  # noqa: F811
) -> None:
    node.proposed = (proposal(), proposal(number=0, state="enacted", effect_height=44, outcome="enacted"))
    code, text = gensyn("gov", "show", "1")
    assert code == 0
    for part in (
        "voting, 32 blocks left; now it would fall without a quorum",
        "window_blocks = 7",
        "30.0 %, quorum 33.4 %",
        "66.7 %, majority above 50.0 %",
        "0.0 %, falls above 33.4 %",
    ):
        assert part in text
    code, text = gensyn("gov", "list")
    assert "7 GSN" in text
    assert "THIS NODE DOES NOT KNOW IT" in text
    assert "44" in text
    assert "39" in text
    assert gensyn.json("gov", "show", "5")["error"]["code"] == "E1711"
    assert [one["number"] for one in gensyn.json("gov", "list")["proposals"]] == [1, 0]


def test_parameters_are_shown_with_what_they_may_become(
    gensyn: Program,  # noqa: F811
    address: str,  # noqa: F811
) -> None:
    shown = gensyn.json("chain", "params")
    assert shown["window_blocks"] == devnet_parameters().window_blocks
    bounds = gensyn.json("chain", "params", "--bounds")["bounds"]
    assert set(bounds) == set(shown)
    assert bounds["power_unit_nano"]["may_become"] == "never changes"
    assert bounds["quorum_bps"]["may_become"] == "1,000 … 6,667"
    code, text = gensyn("chain", "params")
    assert code == 0
    assert "window_blocks" in text
