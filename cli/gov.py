"""`gensyn gov …`: proposals and votes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.gov_view import show_proposal, show_proposals
from cli.options import (
    HomeOption,
    JsonOption,
    KeyOption,
    NodeOption,
    PassphraseOption,
    Signing,
    TokenOption,
    client_of,
    key_of,
    signed,
)
from cli.output import confirm, emit, say

if TYPE_CHECKING:
    from consensus.ledger.proposal_messages import Content

app = typer.Typer(help="Proposals and votes.", no_args_is_help=True, rich_markup_mode=None)
proposing = typer.Typer(help="Put something to the vote.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(proposing, name="propose")

TitleOption = Annotated[str, typer.Option("--title", help="One line, shown in lists.")]
SummaryOption = Annotated[str, typer.Option("--summary", help="Why, in up to 1,024 characters.")]
NumberArgument = Annotated[int, typer.Argument(help="The proposal's number.", min=0)]


@proposing.command()
@signed
def parameter(
    changes: Annotated[list[str], typer.Argument(help="NAME=VALUE, such as window_blocks=20; several at once.")],
    title: TitleOption = "",
    summary: SummaryOption = "",
    *,
    by: Signing,
) -> None:
    """Change parameters of the chain. `gensyn chain params` shows what each may become."""
    from consensus.ledger.proposal_messages import ChangeParameters, NewValue

    pairs = [change.partition("=") for change in changes]
    for name, _, value in pairs:
        if not value.isdecimal() or not value.isascii():
            raise typer.BadParameter(f"{name}={value} is not NAME=VALUE with a whole number")
    content = ChangeParameters(tuple(NewValue(name, int(value)) for name, _, value in pairs))
    _propose(content, title or ", ".join(changes), summary, by)


@proposing.command()
@signed
def upgrade(
    name: Annotated[str, typer.Argument(help="The upgrade's name, as programs that know it call it.")],
    height: Annotated[int, typer.Option("--height", min=1, help="First block under the new rules.")],
    protocol: Annotated[int, typer.Option("--protocol", min=1, help="Protocol version from then on.")],
    title: TitleOption = "",
    summary: SummaryOption = "",
    *,
    by: Signing,
) -> None:
    """Plan an upgrade: from its height on, only programs that know it go on."""
    from consensus.ledger.proposal_messages import PlanUpgrade

    words = title or f"upgrade {name} at block {height}"
    content = PlanUpgrade(name, height, protocol)
    _propose(content, words, summary, by)


@proposing.command("cancel-upgrade")
@signed
def cancel_upgrade(
    name: Annotated[str, typer.Argument(help="The planned upgrade's name.")],
    title: TitleOption = "",
    summary: SummaryOption = "",
    *,
    by: Signing,
) -> None:
    """Drop the planned upgrade before its height."""
    from consensus.ledger.proposal_messages import CancelUpgrade

    words = title or f"cancel the upgrade {name}"
    _propose(CancelUpgrade(name), words, summary, by)


@proposing.command()
@signed
def grant(
    to: Annotated[str, typer.Argument(help="Address that receives.")],
    amount: Annotated[str, typer.Argument(help="Such as '12.5 GSN', from the treasury.")],
    title: TitleOption = "",
    summary: SummaryOption = "",
    *,
    by: Signing,
) -> None:
    """Pay from the treasury."""
    from consensus.ledger.proposal_messages import Grant
    from gensyn_node.primitives.bech32 import decode_address
    from gensyn_node.primitives.money import format_amount, parse_amount

    content = Grant(decode_address(to), parse_amount(amount))
    words = title or f"grant {format_amount(content.amount_nano)}"
    _propose(content, words, summary, by)


@proposing.command()
@signed
def text(
    title: Annotated[str, typer.Argument(help="The question.")], summary: SummaryOption = "", *, by: Signing
) -> None:
    """Ask a question; the answer changes nothing by itself."""
    from consensus.ledger.proposal_messages import Statement

    _propose(Statement(), title, summary, by)


@app.command()
def vote(
    number: NumberArgument,
    choice: Annotated[str, typer.Argument(help="yes, no, abstain or veto.")],
    validator: Annotated[
        list[str] | None, typer.Option("--validator", help="Vote with the stake there only; everywhere when left out.")
    ] = None,
    key: KeyOption = "account",
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Vote with a key's stake: as an operator for all stake that does not vote itself, as a delegator for its own.

    Voting again replaces the vote before, until the vote ends.
    """
    from consensus.ledger.proposal_messages import CHOICES
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.governance import cast_votes

    if choice not in CHOICES:
        raise typer.BadParameter(f"{choice!r} is none of {', '.join(CHOICES)}")
    with client_of(home, node, token_file) as client:
        cast = cast_votes(client, key_of(home, key, passphrase_file), number, CHOICES.index(choice), validator)
        value = {"number": number, "choice": choice, "votes": cast, "proposal": client.call("proposal", number=number)}

    def show() -> None:
        for one in cast:
            who = "validator" if one["as_operator"] else "delegation at"
            say(f"{choice} with {format_amount(one['stake_nano'])}, {who} {one['validator']}, block {one['height']}.")
        show_proposal(value["proposal"])

    emit(as_json, value, show)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=200, help="How many, newest first.")] = 20,
    home: HomeOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest proposals, the treasury and the planned upgrade."""
    with client_of(home, node, None) as client:
        value = {"governance": client.call("governance"), "proposals": client.call("proposals", limit=limit)}
    emit(as_json, value, lambda: show_proposals(value))


@app.command()
def show(number: NumberArgument, home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """One proposal: what it asks for, how the vote stands, what follows."""
    with client_of(home, node, None) as client:
        value: dict[str, Any] = client.call("proposal", number=number)
    emit(as_json, value, lambda: show_proposal(value))


def _propose(content: Content, title: str, summary: str, by: Signing) -> None:
    """Send a proposal and say how to vote on it."""
    from consensus.ledger.proposal_messages import Propose
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.governance import propose

    with by.client() as client:
        deposit = format_amount(client.parameters().proposal_deposit_nano)
        if not confirm(f"Propose {title!r} with a deposit of {deposit}?", by.yes):
            raise typer.Abort
        message = Propose(title, summary, content)
        outcome, number = propose(client, by.secret(), message)
        value = {
            "number": number,
            "transaction_id": outcome.transaction_id.hex(),
            "height": outcome.height,
            "fee_nano": outcome.fee_nano,
            "proposal": client.call("proposal", number=number),
        }

    emit(by.as_json, value, lambda: show_proposal(value["proposal"]))
