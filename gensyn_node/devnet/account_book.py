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
    block_reward_nano: int = 0
    """New money a block."""

    @property
    def total_nano(self) -> int:
        """All places together."""
        return sum(amount for place, amount in self.supply.items() if place != "minted")

    @property
    def conserved(self) -> bool:
        """Whether all places together hold what was minted."""
        return self.total_nano == self.supply["minted"]


def rewards_between(before: Book, after: Book) -> int | None:
    """New money between two moments, in nano; None when it is not so many whole block rewards."""
    minted = after.supply["minted"] - before.supply["minted"]
    whole = minted == 0 or (minted > 0 and after.block_reward_nano > 0 and minted % after.block_reward_nano == 0)
    return minted if whole else None


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
    supply = {place: int(amount) for place, amount in client.call("supply").items()}
    return Book(accounts, supply, int(client.call("parameters")["block_reward_nano"]))


def _address(ring: Keyring, name: str) -> str:
    return encode_address(address_of(ring.stored(name).public))
