"""`gensyn stake …`: validators, delegations, rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import (
    HomeOption,
    JsonOption,
    NodeOption,
    PassphraseOption,
    Signing,
    TokenOption,
    address_of,
    client_of,
    key_of,
    signed,
)
from cli.output import confirm, emit, gsn_number, say, table

if TYPE_CHECKING:
    from consensus.ledger.messages import Message

app = typer.Typer(help="Validators, delegations, rewards.", no_args_is_help=True, rich_markup_mode=None)
ValidatorArgument = Annotated[str, typer.Argument(help="The validator's address, see `gensyn stake validators`.")]
AmountArgument = Annotated[str, typer.Argument(help="Such as '12.5 GSN'.")]
ConsensusOption = Annotated[str, typer.Option("--validator-key", help="Name of the key that signs blocks.")]
UNBONDING_NOTE = "It stays slashable until it is paid out, {blocks} blocks from now."


@app.command()
def validators(home: HomeOption = None, node: NodeOption = None, as_json: JsonOption = False) -> None:
    """Everybody with stake: who signs, who waits, who is in jail."""
    with client_of(home, node, None) as client:
        value = client.whole_list("candidates")
    rows = [
        (one["address"], one["name"], _state(one), gsn_number(one["stake_nano"]), f"{one['commission_bps'] / 100:g} %")
        for one in value
    ]
    columns = ("Validator", "Name", "State", "Stake GSN", "Keeps")
    emit(as_json, value, lambda: table("Validators", columns, rows, "none"))


@app.command()
def rewards(
    who: Annotated[str, typer.Argument(help="Address, or name of a key.")] = "account",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Collect what was earned.")] = False,
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """What an account has staked where, what that earned, and what is on its way out."""
    from consensus.ledger.messages import WithdrawRewards
    from gensyn_node.primitives.bech32 import decode_address
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.transactions import send

    address = address_of(home, who)
    if withdraw and address == who:
        raise typer.BadParameter("to withdraw, name the key that signs, not its address")
    with client_of(home, node, token_file) as client:
        found: list[dict[str, Any]] = client.call("delegations", address=address)
        if withdraw:
            signer = key_of(home, who, passphrase_file)
            sent = [
                send(client, signer, WithdrawRewards(decode_address(one["validator"])))
                for one in found
                if one["rewards_nano"]
            ]
            found = client.call("delegations", address=address)
    value = {"address": address, "delegations": found}
    if withdraw:
        value["withdrawn"] = [{"transaction_id": one.transaction_id.hex(), "height": one.height} for one in sent]
    rows = [
        (
            one["validator"],
            gsn_number(one["stake_nano"]),
            gsn_number(one["rewards_nano"]),
            ", ".join(
                f"{format_amount(entry['amount_nano'])} at {entry['release_height']}" for entry in one["unbonding"]
            ),
        )
        for one in found
    ]

    def show() -> None:
        if withdraw:
            say(f"Withdrew from {len(value['withdrawn'])} validators.")
        columns = ("Validator", "Stake GSN", "Rewards GSN", "Leaving, and paid out at height")
        table(f"Stakes of {address}", columns, rows, "Nothing is staked: gensyn stake delegate")

    emit(as_json, value, show)


@app.command()
@signed
def delegate(validator: ValidatorArgument, amount: AmountArgument, *, by: Signing) -> None:
    """Stake behind somebody's validator. What it keeps of the rewards is shown first, and is the most you accept."""
    from consensus.ledger.messages import Delegate
    from gensyn_node.primitives.bech32 import decode_address
    from gensyn_node.primitives.money import format_amount, parse_amount

    address, nano = decode_address(validator), parse_amount(amount)
    with by.client() as client:
        one = _candidate(client.whole_list("candidates"), validator)
    commission = one["commission_bps"]
    question = (
        f"Stake {format_amount(nano)} behind {one['name'] or validator} ({_state(one)}), which keeps "
        f"{commission / 100:g} % of the rewards? If it votes twice, a part of your stake is lost."
    )
    message = Delegate(address, nano, commission)
    _send(message, question, f"Delegated {format_amount(nano)}", by)


@app.command()
@signed
def undelegate(validator: ValidatorArgument, amount: AmountArgument, *, by: Signing) -> None:
    """Take delegated stake back; it is paid out after the unbonding time."""
    from consensus.ledger.messages import Undelegate
    from gensyn_node.primitives.bech32 import decode_address
    from gensyn_node.primitives.money import format_amount, parse_amount

    nano = parse_amount(amount)
    message = Undelegate(decode_address(validator), nano)
    question = f"Take {format_amount(nano)} back from {validator}? {_unbonding_note(by)}"
    done = f"{format_amount(nano)} are on their way out"
    _send(message, question, done, by)


@app.command()
@signed
def bond(amount: AmountArgument, validator_key: ConsensusOption = "consensus", *, by: Signing) -> None:
    """Stake behind this home's validator. The first time makes it one, operated by the key that pays."""
    from consensus.ledger.messages import Bond, validator_key_proof_bytes
    from gensyn_node.primitives.bech32 import encode_address
    from gensyn_node.primitives.money import format_amount, parse_amount

    nano = parse_amount(amount)
    consensus, operator = key_of(by.home, validator_key, by.passphrase_file), by.secret()
    with by.client() as client:
        chain_id = str(client.call("status")["chain_id"])
    message = Bond(consensus.public, nano, consensus.sign(validator_key_proof_bytes(chain_id, operator.address)))
    question = (
        f"Stake {format_amount(nano)} behind your validator {encode_address(consensus.address)}? "
        "Its node has to run all the time, and its key must never run on two machines."
    )
    _send(message, question, f"Bonded {format_amount(nano)}", by)


@app.command()
@signed
def unbond(validator: ValidatorArgument, amount: AmountArgument, *, by: Signing) -> None:
    """Take your own validator's stake back; it is paid out after the unbonding time."""
    from consensus.ledger.messages import Unbond
    from gensyn_node.primitives.bech32 import decode_address
    from gensyn_node.primitives.money import format_amount, parse_amount

    nano = parse_amount(amount)
    message = Unbond(decode_address(validator), nano)
    question = f"Take {format_amount(nano)} of your stake back from {validator}? {_unbonding_note(by)}"
    done = f"{format_amount(nano)} are on their way out"
    _send(message, question, done, by)


@app.command()
@signed
def edit(
    validator: ValidatorArgument,
    name: Annotated[str | None, typer.Option("--name", help="What it is called.", show_default=False)] = None,
    commission: Annotated[
        float | None,
        typer.Option("--commission", help="Percent of the rewards that you keep.", min=0, max=100, show_default=False),
    ] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option("--endpoint", help="Where it is reached; several at once.", show_default=False)
    ] = None,
    *,
    by: Signing,
) -> None:
    """Change your validator's name, commission or endpoints; what is left out stays."""
    from consensus.ledger.messages import EditValidator
    from gensyn_node.primitives.bech32 import decode_address

    with by.client() as client:
        one = _candidate(client.whole_list("candidates"), validator)
    message = EditValidator(
        decode_address(validator),
        one["name"] if name is None else name,
        one["commission_bps"] if commission is None else round(commission * 100),
        tuple(one["endpoints"]) if endpoint is None else tuple(endpoint),
    )
    question = f"Call it {message.name!r}, with a commission of {message.commission_bps / 100:g} %?"
    _send(message, question, "Changed", by)


@app.command()
@signed
def unjail(validator: ValidatorArgument, *, by: Signing) -> None:
    """Your validator was down and is back: let it sign again."""
    from consensus.ledger.messages import Unjail
    from gensyn_node.primitives.bech32 import decode_address

    message = Unjail(decode_address(validator))
    question = "Does its node run again, and has it caught up?"
    _send(message, question, "It signs again in two blocks", by)


# --- inside


def _send(message: Message, question: str, done: str, by: Signing) -> None:
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.transactions import send

    if not confirm(question, by.yes):
        raise typer.Abort
    with by.client() as client:
        outcome = send(client, by.secret(), message)
    value = {
        "transaction_id": outcome.transaction_id.hex(),
        "height": outcome.height,
        "fee_nano": outcome.fee_nano,
    }
    emit(by.as_json, value, lambda: say(f"{done}: block {outcome.height}, fee {format_amount(outcome.fee_nano)}."))


def _unbonding_note(by: Signing) -> str:
    with by.client() as client:
        return UNBONDING_NOTE.format(blocks=client.call("parameters")["unbonding_blocks"])


def _candidate(candidates: list[dict[str, Any]], validator: str) -> dict[str, Any]:
    from consensus.ledger.reasons import UNKNOWN_VALIDATOR
    from gensyn_node.primitives.errors import Rejection

    for one in candidates:
        if one["address"] == validator:
            return one
    raise Rejection(UNKNOWN_VALIDATOR, f"{validator} has no place among the validators")


def _state(one: dict[str, Any]) -> str:
    until = f" until {one['unjail_height']}" if one["unjail_height"] else ""
    missed = f", missed {one['missed_blocks']}" if one["missed_blocks"] else ""
    return f"{one['state']}{until}{missed}"
