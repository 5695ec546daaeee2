"""`gensyn wallet …`: keys, balances, transfers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.light import (
    GenesisOption,
    LightFlag,
    SeedsOption,
    TrustedOption,
    TrustHoursOption,
    WitnessesOption,
    light_settings,
)
from cli.options import (
    HomeOption,
    JsonOption,
    KeyOption,
    NodeOption,
    PassphraseOption,
    PlainOption,
    TokenOption,
    YesOption,
    address_of,
    client_of,
    home_of,
    key_of,
)
from cli.output import confirm, console, emit, facts, say, table
from cli.progress import waiting

if TYPE_CHECKING:
    from gensyn_node.light.session import LightSettings

app = typer.Typer(help="Keys, balances, transfers.", no_args_is_help=True, rich_markup_mode=None)
NameArgument = Annotated[str, typer.Argument(help="Name of the key.")]


@app.command()
def new(
    name: NameArgument = "account",
    home: HomeOption = None,
    plain: PlainOption = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its recovery words are shown once: write them down."""
    from gensyn_node.keys.keyring import Keyring, new_key
    from gensyn_node.keys.passphrase import find_passphrase
    from gensyn_node.keys.recovery import words_of
    from gensyn_node.primitives.bech32 import encode_address

    key = new_key()
    Keyring(home_of(home).keys).add(name, key, None if plain else find_passphrase(new=True, file=passphrase_file))
    value = {"name": name, "address": encode_address(key.address), "recovery_words": words_of(key)}

    def show() -> None:
        facts([("Name", name), ("Address", value["address"])])
        say("\nRecovery words, the only way back if the file or its passphrase is lost. Write them down now:\n")
        console.print(f"  {value['recovery_words']}\n")

    emit(as_json, value, show)


@app.command("import")
def import_(
    name: NameArgument = "account",
    words_file: Annotated[
        Path | None, typer.Option("--words-file", help="File with the words (else they are asked for).")
    ] = None,
    home: HomeOption = None,
    plain: PlainOption = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a key from its 24 recovery words."""
    import getpass

    from gensyn_node.keys import reasons
    from gensyn_node.keys.keyring import Keyring
    from gensyn_node.keys.passphrase import find_passphrase
    from gensyn_node.keys.recovery import key_of as key_of_words
    from gensyn_node.primitives.bech32 import encode_address
    from gensyn_node.primitives.errors import Rejection

    if words_file is not None:
        try:
            words = words_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Rejection(reasons.BAD_WORDS, f"{words_file} cannot be read: {error}") from None
    elif sys.stdin.isatty():
        words = getpass.getpass("Recovery words: ")
    else:
        words = sys.stdin.readline()
    key = key_of_words(words)
    Keyring(home_of(home).keys).add(name, key, None if plain else find_passphrase(new=True, file=passphrase_file))
    value = {"name": name, "address": encode_address(key.address)}
    emit(as_json, value, lambda: facts(value.items()))


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """The keys of the home."""
    from gensyn_node.keys.keyring import Keyring
    from gensyn_node.primitives.bech32 import encode_address

    listed = [
        {"name": key.name, "address": encode_address(key.address), "encrypted": key.encrypted}
        for key in Keyring(home_of(home).keys).list()
    ]
    rows = [(key["name"], key["address"], "yes" if key["encrypted"] else "NO") for key in listed]
    columns = ("Name", "Address", "Encrypted")
    emit(as_json, listed, lambda: table("Keys", columns, rows, "No key yet: gensyn wallet new"))


@app.command()
def balance(
    who: Annotated[str, typer.Argument(help="Address, or name of a key.")] = "account",
    home: HomeOption = None,
    node: NodeOption = None,
    light: LightFlag = False,
    seeds: SeedsOption = None,
    genesis: GenesisOption = None,
    trusted: TrustedOption = None,
    witnesses: WitnessesOption = 1,
    trust_hours: TrustHoursOption = None,
    as_json: JsonOption = False,
) -> None:
    """Money of an account."""
    from gensyn_node.primitives.money import format_amount

    if light:
        _light_balance(
            light_settings(home, seeds, genesis, trusted, witnesses, trust_hours), address_of(home, who), as_json
        )
        return
    with client_of(home, node, None) as client:
        value = client.call("account", address=address_of(home, who))
    emit(
        as_json,
        value,
        lambda: facts(
            [
                ("Address", value["address"]),
                ("Balance", format_amount(value["balance_nano"])),
                ("Bonded", format_amount(value["bonded_nano"])),
                ("Locked", format_amount(value["locked_nano"])),
                ("Next nonce", value["nonce"]),
            ]
        ),
    )


@app.command()
def send(
    to: Annotated[str, typer.Argument(help="Address that receives.")],
    amount: Annotated[str, typer.Argument(help="Such as '12.5 GSN'.")],
    key: KeyOption = "account",
    home: HomeOption = None,
    node: NodeOption = None,
    token_file: TokenOption = None,
    passphrase_file: PassphraseOption = None,
    light: LightFlag = False,
    seeds: SeedsOption = None,
    genesis: GenesisOption = None,
    trusted: TrustedOption = None,
    witnesses: WitnessesOption = 1,
    trust_hours: TrustHoursOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send money and wait until it is in a block."""
    from consensus.ledger.messages import Transfer
    from gensyn_node.primitives.bech32 import decode_address
    from gensyn_node.primitives.money import format_amount, parse_amount
    from gensyn_node.sdk.light import send as send_light
    from gensyn_node.sdk.transactions import send as send_message

    message = Transfer(decode_address(to), parse_amount(amount))
    if not confirm(f"Send {format_amount(message.amount_nano)} to {to}?", yes):
        raise typer.Abort
    if light:
        settings = light_settings(home, seeds, genesis, trusted, witnesses, trust_hours)
        secret = key_of(home, key, passphrase_file)
        with waiting("Sending over peers, until a verified header has it", as_json):
            outcome = send_light(settings, secret, message)
    else:
        with client_of(home, node, token_file) as client:
            outcome = send_message(client, key_of(home, key, passphrase_file), message)
    value = {
        "transaction_id": outcome.transaction_id.hex(),
        "height": outcome.height,
        "fee_nano": outcome.fee_nano,
        "amount_nano": message.amount_nano,
    }
    text = (
        f"Sent {format_amount(message.amount_nano)} in block {outcome.height}, fee {format_amount(outcome.fee_nano)}."
    )
    emit(as_json, value, lambda: say(text))


def _light_balance(settings: LightSettings, address: str, as_json: bool) -> None:
    from gensyn_node.primitives.bech32 import decode_address
    from gensyn_node.primitives.money import format_amount
    from gensyn_node.sdk.light import proven_account

    with waiting("Verifying over peers", as_json):
        found = proven_account(settings, decode_address(address))
    value = {
        "address": address,
        "balance_nano": found.account.balance_nano,
        "nonce": found.account.nonce,
        "proven_height": found.height,
    }
    lines = [
        ("Address", address),
        ("Balance", format_amount(found.account.balance_nano)),
        ("Next nonce", found.account.nonce),
        ("Proven after block", found.height),
    ]
    emit(as_json, value, lambda: facts(lines))
