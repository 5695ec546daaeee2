"""What a node is started with: its home, its configuration, its keys and the chain it is for."""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.ledger.records import Genesis
from gensyn_node.app.chain import STORED_BYTES_MAX
from gensyn_node.config import reasons
from gensyn_node.config.home import Home
from gensyn_node.config.node_config import NodeConfig, read_config
from gensyn_node.keys.keyring import ACCOUNT, CONSENSUS, P2P, Keyring
from gensyn_node.primitives import codec
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection

CHAIN_FOLDER = "chain"
LOG_FOLDER = "wal"
SIGN_STATE_FILE = "last_signed"


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


def load_settings(home: Home, passphrase: str = "") -> NodeSettings:
    """Read a home. `Rejection` says which file is missing or wrong."""
    keyring = Keyring(home.keys)
    return NodeSettings(
        home=home,
        config=read_config(home),
        genesis=read_genesis(home),
        account_key=keyring.open(ACCOUNT, passphrase),
        consensus_key=keyring.open(CONSENSUS, passphrase),
        p2p_key=keyring.open(P2P, passphrase),
    )


def read_genesis(home: Home) -> Genesis:
    """The genesis of a home; NO_HOME when there is none."""
    try:
        data = home.genesis.read_bytes()
    except FileNotFoundError:
        raise Rejection(reasons.NO_HOME, f"there is no {home.genesis}") from None
    genesis: Genesis = codec.decode(Genesis, data, max_bytes=STORED_BYTES_MAX)
    return genesis
