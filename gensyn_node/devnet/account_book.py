"""Where the money of a devnet is, and whether any was lost or made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gensyn_node.devnet.layout import FAUCET, Devnet
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, Keyring
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.crypto import address_of
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.sdk.client import NodeClient

FEES_MAX_NANO = NANO_PER_GSN // 50
"""More than the transactions of any story cost one account: a dispute's move costs some 0.0002 GSN."""


@dataclass(frozen=True, slots=True)
class Book:
    """Money at one moment, in nano."""

    accounts: dict[str, int]
    """Balance and stakes and bonds of each named account."""
    supply: dict[str, int]
    """Totals by place; `minted` is the sum of all others."""
    block_reward_nano: int = 0
    """New money a block."""
    bonded: dict[str, int] = field(default_factory=dict)
    """Of each named account, the part that is staked or bonded."""

    @property
    def total_nano(self) -> int:
        """All places together."""
        return sum(amount for place, amount in self.supply.items() if place != "minted")

    @property
    def conserved(self) -> bool:
        """Whether all places together hold what was minted."""
        return self.total_nano == self.supply["minted"]


@dataclass(frozen=True, slots=True)
class Line:
    """What a story did to one account, in nano."""

    name: str
    part: str
    """`honest`, a node's cheat, `killed`, `client` or `faucet`."""
    before_nano: int
    after_nano: int
    earned_nano: int
    """For work and finds: as provider, and for the proof of a double vote in a block of its own."""
    slashed_nano: int
    """As provider and as validator: by how much what it has bonded and staked fell."""
    noted_nano: int
    """What the ledger notes beside a provider as slashed; another amount would be a bug."""

    @property
    def change_nano(self) -> int:
        """What it has more now. Block rewards are not in it: they wait with the validator until they are drawn."""
        return self.after_nano - self.before_nano

    @property
    def fees_nano(self) -> int:
        """What a provider paid for its transactions: nothing else is between its pay, its slashes and its change."""
        return self.earned_nano - self.slashed_nano - self.change_nano

    @property
    def lies(self) -> bool:
        """Whether it is a cheat's."""
        return self.part not in ("honest", "killed", "client", "faucet")


def draw_up(
    client: NodeClient,
    devnet: Devnet,
    before: Book,
    after: Book,
    parts: dict[str, str],
    finders: Mapping[str, int] | None = None,
) -> tuple[Line, ...]:
    """A line an account, from the chain's state. `parts` names what is not honest.

    `finders`: nano by address that were paid for proofs of double votes, which no record of an account tells.
    """
    providers = {one["address"]: one for one in client.call("providers")}
    lines = []
    for name, address in addresses(devnet).items():
        found = providers.get(address, {"earned_nano": 0, "slashed_nano": before.bonded[name] - after.bonded[name]})
        lines.append(
            Line(
                name=name,
                part=parts.get(name, name if name in ("client", FAUCET) else "honest"),
                before_nano=before.accounts[name],
                after_nano=after.accounts[name],
                earned_nano=int(found["earned_nano"]) + (finders or {}).get(address, 0),
                slashed_nano=before.bonded[name] - after.bonded[name],
                noted_nano=int(found["slashed_nano"]),
            )
        )
    return tuple(lines)


def whole(lines: tuple[Line, ...]) -> list[str]:
    """What is wrong with these lines: a liar that gained, somebody honest that lost. Empty when nothing is."""
    wrong = []
    for line in lines:
        if line.slashed_nano != line.noted_nano:
            wrong.append(f"{line.name}: the bond fell by {line.slashed_nano} nano, slashed were {line.noted_nano}")
        if line.lies and line.slashed_nano <= line.earned_nano:
            wrong.append(f"{line.name} ({line.part}) earned {line.earned_nano} nano and lost {line.slashed_nano}")
        if line.part == "honest" and (line.slashed_nano or not 0 <= line.fees_nano <= FEES_MAX_NANO):
            wrong.append(f"{line.name} is honest, lost {line.slashed_nano} nano of bond, {line.fees_nano} otherwise")
    return wrong


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


def names_on_chain(devnet: Devnet) -> dict[str, str]:
    """Name by address, of accounts and of validators."""
    validators = {_address(Keyring(home.keys), CONSENSUS): home.path.name for home in devnet.homes}
    return validators | {address: name for name, address in addresses(devnet).items()}


def read_book(client: NodeClient, devnet: Devnet) -> Book:
    """The money now."""
    accounts, bonded = {}, {}
    for name, address in addresses(devnet).items():
        view = client.call("account", address=address)
        bonded[name] = int(view["bonded_nano"])
        accounts[name] = int(view["balance_nano"]) + bonded[name]
    supply = {place: int(amount) for place, amount in client.call("supply").items()}
    return Book(accounts, supply, int(client.call("parameters")["block_reward_nano"]), bonded)


def _address(ring: Keyring, name: str) -> str:
    return encode_address(address_of(ring.stored(name).public))
