"""Keys and the first state of a devnet: a pure function of a seed, a number of nodes and a time."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from consensus.ledger.parameters import Parameters, devnet_parameters
from consensus.ledger.records import Genesis, GenesisAccount, GenesisValidator
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.hashing import tagged_hash
from gensyn_node.primitives.money import NANO_PER_GSN

STAKE_NANO = 1_000 * NANO_PER_GSN
NODE_BALANCE_NANO = 100_000 * NANO_PER_GSN
CLIENT_BALANCE_NANO = 10_000 * NANO_PER_GSN
FAUCET_BALANCE_NANO = 10_000_000 * NANO_PER_GSN
SEED_BYTES = 32
START_PATIENCE = 3
_TIME_OUTS = (
    "start_blocks",
    "heartbeat_blocks",
    "train_blocks_base",
    "verify_blocks_base",
    "reveal_blocks",
    "move_clock_blocks",
    "move_extension_blocks",
    "forced_open_blocks",
    "forced_reveal_blocks",
)
"""Parameters that only matter when somebody is slow; honest stories never wait for them."""


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The three keys of a node."""

    account: SecretKey
    consensus: SecretKey
    p2p: SecretKey


@dataclass(frozen=True, slots=True)
class DevnetKeys:
    """All keys of a devnet."""

    nodes: tuple[NodeKeys, ...]
    client: SecretKey
    """Account of the one who submits tasks."""
    faucet: SecretKey


def derive_keys(seed: bytes, nodes: int) -> DevnetKeys:
    """The keys of a devnet; whoever knows the seed has them all."""

    def key(kind: str, number: int = 0) -> SecretKey:
        return SecretKey(tagged_hash("gensyn/devnet-key", seed, kind.encode(), number.to_bytes(4, "little")))

    made = tuple(NodeKeys(key("account", i), key("consensus", i), key("p2p", i)) for i in range(nodes))
    return DevnetKeys(made, key("client"), key("faucet"))


def patient_parameters(block_ms: int) -> Parameters:
    """The devnet's parameters with time-outs that last as long in seconds, whatever the block interval.

    They count blocks of a second. Starting is given more: several cold workers may compile their kernels on two cores.
    """
    parameters = devnet_parameters()
    scale = max(1, -(-1000 // block_ms))
    stretched = {name: getattr(parameters, name) * scale for name in _TIME_OUTS}
    stretched["start_blocks"] *= START_PATIENCE
    return msgspec.structs.replace(parameters, **stretched)


def make_genesis(
    keys: DevnetKeys, chain_id: str, time_ms: int, parameters: Parameters | None = None, validators: int | None = None
) -> Genesis:
    """Equal stakes, money for everybody, and a faucet. `validators` counts the first nodes that validate (all)."""
    validating = keys.nodes[: len(keys.nodes) if validators is None else validators]
    accounts = [GenesisAccount(node.account.address, NODE_BALANCE_NANO) for node in keys.nodes]
    accounts.append(GenesisAccount(keys.client.address, CLIENT_BALANCE_NANO))
    accounts.append(GenesisAccount(keys.faucet.address, FAUCET_BALANCE_NANO))
    return Genesis(
        chain_id=chain_id,
        time_ms=time_ms,
        validators=tuple(
            GenesisValidator(node.consensus.public, node.account.address, STAKE_NANO, f"node{number}")
            for number, node in enumerate(validating)
        ),
        accounts=tuple(sorted(accounts, key=lambda account: account.address)),
        parameters=parameters or devnet_parameters(),
    )
