"""Options that many commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gensyn_node.config.home import Home
    from gensyn_node.primitives.crypto import SecretKey
    from gensyn_node.sdk.client import NodeClient

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="The home folder (else GENSYN_HOME, else ~/.gensyn).", show_default=False)
]
NodeOption = Annotated[
    str | None,
    typer.Option("--node", help="Address of a node's RPC (else the node of the home).", show_default=False),
]
TokenOption = Annotated[
    Path | None, typer.Option("--token-file", help="The node's token, when it is not in the home.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
KeyOption = Annotated[str, typer.Option("--key", help="Name of the key that signs and pays.")]
PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File with the passphrase.", show_default=False)
]
PlainOption = Annotated[
    bool, typer.Option("--insecure-plain", help="Store the key without a passphrase. For devnets only.")
]


@dataclass(frozen=True)
class Signing:
    """Who signs and pays, through which node, asked or not: what every command that sends a transaction is told."""

    key: KeyOption = "account"
    home: HomeOption = None
    node: NodeOption = None
    token_file: TokenOption = None
    passphrase_file: PassphraseOption = None
    yes: YesOption = False
    as_json: JsonOption = False

    def secret(self) -> SecretKey:
        """The key; asks for its passphrase when it has one."""
        return key_of(self.home, self.key, self.passphrase_file)

    def client(self) -> NodeClient:
        """A client that may send."""
        return client_of(self.home, self.node, self.token_file)


def signed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose last parameter is `by: Signing` one option for each field of it instead."""
    own = inspect.signature(command, eval_str=True)
    fields = inspect.signature(Signing, eval_str=True).parameters
    parameters = [one for name, one in own.parameters.items() if name != "by"] + list(fields.values())

    @functools.wraps(command)
    def told(**given: Any) -> None:
        by = Signing(**{name: given.pop(name) for name in fields})
        command(**given, by=by)

    told.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    told.__annotations__ = {one.name: one.annotation for one in parameters}
    return told


def home_of(given: Path | None) -> Home:
    """The home that the options name."""
    from gensyn_node.config.home import find_home

    return find_home(given)


def client_of(home: Path | None, node: str | None, token_file: Path | None) -> NodeClient:
    """A client of the node that the options name."""
    from gensyn_node.sdk.client import connect

    return connect(home_of(home), node, token_file)


def address_of(home: Path | None, who: str) -> str:
    """`who` if it is an address, else the address of the key of that name."""
    from gensyn_node.keys.keyring import Keyring
    from gensyn_node.primitives import crypto
    from gensyn_node.primitives.bech32 import PREFIX, encode_address

    if who.startswith(f"{PREFIX}1"):
        return who
    return encode_address(crypto.address_of(Keyring(home_of(home).keys).stored(who).public))


def key_of(home: Path | None, name: str, passphrase_file: Path | None = None) -> SecretKey:
    """The named key; asks for its passphrase only when it has one."""
    from gensyn_node.keys.keyring import Keyring
    from gensyn_node.keys.memory import forbid_dumps
    from gensyn_node.keys.passphrase import find_passphrase

    ring = Keyring(home_of(home).keys)
    forbid_dumps()
    passphrase = find_passphrase(file=passphrase_file) if ring.is_encrypted(name) else ""
    return ring.open(name, passphrase)
