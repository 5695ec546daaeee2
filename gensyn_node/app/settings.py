"""What a node is started with: its home, its configuration, its keys and the chain it is for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from msgspec import structs

from consensus.ledger.records import Genesis
from consensus.ledger.upgrades import KNOWN_UPGRADES, Upgrades
from gensyn_node.config.genesis import read_genesis
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import NodeConfig, read_config
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, Keyring
from gensyn_node.primitives.crypto import SecretKey

CHAIN_FOLDER = "chain"
LOG_FOLDER = "wal"
DAMAGED_FILE = "chain.damaged"
"""Written when a read of the running node met damage: the next start sets the database aside."""
SNAPSHOT_FOLDER = "snapshots"
SIGN_STATE_FILE = "last_signed"
EVIDENCE_FILE = "evidence"


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Everything `run_node` needs; nothing else is read from the environment."""

    home: Home
    config: NodeConfig
    genesis: Genesis
    account_key: SecretKey = field(repr=False)
    consensus_key: SecretKey = field(repr=False)
    p2p_key: SecretKey = field(repr=False)
    gossip: bool = True
    """False: neither publish nor listen; everything comes by asking. For tests of liveness."""
    upgrades: Upgrades = field(default_factory=lambda: KNOWN_UPGRADES)
    """The upgrades of the chain's rules that this program can go through."""


def load_settings(home: Home, passphrase: str = "") -> NodeSettings:
    """Read a home. `Rejection` says which file is missing or wrong."""
    keyring = Keyring(home.keys)
    return NodeSettings(
        home=home,
        config=read_config(home),
        genesis=read_genesis(home.genesis),
        account_key=keyring.open(ACCOUNT, passphrase),
        consensus_key=keyring.open(CONSENSUS, passphrase),
        p2p_key=keyring.open(P2P, passphrase),
    )


def with_state_sync(settings: NodeSettings, *, wanted: bool) -> NodeSettings:
    """The settings with state sync switched on when it is wanted; what the file says stays otherwise."""
    if not wanted:
        return settings
    section = structs.replace(settings.config.statesync, enabled=True)
    return replace(settings, config=structs.replace(settings.config, statesync=section))
