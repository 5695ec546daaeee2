"""Where the money of a devnet is, and whether any was lost or made."""

from __future__ import annotations

from dataclasses import dataclass

from gensyn_node.devnet.layout import FAUCET, Devnet
from gensyn_node.keys.keyring import ACCOUNT, Keyring
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.crypto import address_of
from gensyn_node.sdk.client import NodeClient


@dataclass(frozen=True, slots=True)
class Book:
    """Money at one moment, in nano."""

    accounts: dict[str, int]
    """Balance and stakes and bonds of each named account."""
    supply: dict[str, int]
    """Totals by place; `minted` is the sum of all others."""

    @property
    def total_nano(self) -> int:
        """All places together."""
        return sum(amount for place, amount in self.supply.items() if place != "minted")

    @property
    def conserved(self) -> bool:
        """Whether all places together hold what was minted."""
        return self.total_nano == self.supply["minted"]


def addresses(devnet: Devnet) -> dict[str, str]:
    """Address of each account by name: node0 …, client, faucet."""
    found = {home.path.name: _address(Keyring(home.keys), ACCOUNT) for home in devnet.homes}
    client = Keyring(devnet.client.keys)
    return {**found, "client": _address(client, ACCOUNT), "faucet": _address(client, FAUCET)}


def read_book(client: NodeClient, devnet: Devnet) -> Book:
    """The money now."""
    accounts = {}
    for name, address in addresses(devnet).items():
        view = client.call("account", address=address)
        accounts[name] = int(view["balance_nano"]) + int(view["bonded_nano"])
    return Book(accounts, {place: int(amount) for place, amount in client.call("supply").items()})


def _address(ring: Keyring, name: str) -> str:
    return encode_address(address_of(ring.stored(name).public))
