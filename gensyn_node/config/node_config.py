"""`config.toml` as one frozen struct. Everything has a default; an unknown key is an error with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from gensyn_node.config import reasons
from gensyn_node.config.home import Home
from gensyn_node.config.strict_toml import load_toml
from gensyn_node.primitives.errors import Rejection

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
ShortText = Annotated[str, Meta(max_length=200)]

Role = Literal["auto", "solver", "verifier", "whistleblower", "none"]
ROLES: tuple[Role, ...] = get_args(Role)
DEVNET_PREFIX = "devnet"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the file's tables."""


class NodeSection(Section, frozen=True):
    """`[node]`: what this machine does."""

    name: ShortText = ""
    role: Role = "auto"
    validator: bool = True
    """Take part in consensus when the key is in the validator set."""


class P2pSection(Section, frozen=True):
    """`[p2p]`: how it is reached and whom it calls first. Addresses are multiaddresses."""

    listen: tuple[ShortText, ...] = ("/ip4/0.0.0.0/tcp/26600",)
    seeds: Annotated[tuple[ShortText, ...], Meta(max_length=64)] = ()
    peers_max: Annotated[int, Meta(ge=1, le=1000)] = 50


class RpcSection(Section, frozen=True):
    """`[rpc]`: the local interface. It binds loopback unless told otherwise."""

    host: ShortText = "127.0.0.1"
    port: Port = 26601
    """0 picks a free port; the address in use is written to `rpc.address` in the home."""
    allowed_hosts: tuple[ShortText, ...] = ()
    """Further `host:port` values accepted in the Host header."""
    connections_max: Annotated[int, Meta(ge=1, le=1024)] = 32
    sockets_max: Annotated[int, Meta(ge=1, le=1024)] = 16


class WorkerSection(Section, frozen=True):
    """`[worker]`: what training may use of this machine."""

    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    memory_mib: Annotated[int, Meta(ge=64, le=1 << 24)] = 4096
    """Tasks that need more are refused."""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """Where exact arithmetic runs; refused unless it gives every known answer (see gensyn node doctor)."""


class ProviderSection(Section, frozen=True):
    """`[provider]`: on which terms it works for others. Amounts are in nano."""

    register: bool = False
    """Register as a provider at the first start (needs the bond in the account)."""
    bond_nano: Annotated[int, Meta(ge=0)] = 0
    """0: the least that the protocol's parameters allow."""
    ask_nano_per_gigagas: Annotated[int, Meta(ge=0)] = 0
    """0: the protocol's reference price."""


class LogSection(Section, frozen=True):
    """`[log]`: what is written to `log/`."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class ConsensusSection(Section, frozen=True):
    """`[consensus]`: local time-outs in milliseconds (grow with the round); not part of the protocol."""

    propose_ms: Annotated[int, Meta(ge=10, le=120_000)] = 3000
    vote_ms: Annotated[int, Meta(ge=10, le=120_000)] = 1000
    delta_ms: Annotated[int, Meta(ge=1, le=120_000)] = 500
    commit_ms: Annotated[int, Meta(ge=0, le=120_000)] = 1000
    """Pause after a commit: the block interval of an idle chain."""
    watch_heights: Annotated[int, Meta(ge=1, le=1000)] = 2
    """After a start: heights without a signature of our key by somebody else before this node signs."""
    watch_ms: Annotated[int, Meta(ge=0, le=600_000)] = 6000
    """The longest that it listens for them; 0: not at all."""


class StorageSection(Section, frozen=True):
    """`[storage]`: what is kept on disk, and when it is too full."""

    keep_blocks: Annotated[int, Meta(ge=0, le=1 << 40)] = 0
    """0: all. Never fewer than evidence and snapshots need."""
    keep_states: Annotated[int, Meta(ge=2, le=1 << 20)] = 256
    """Blocks that one can go back, and heights for which proofs can be asked."""
    snapshot_interval: Annotated[int, Meta(ge=0, le=1 << 30)] = 1000
    """Blocks between two snapshots; 0 makes none."""
    snapshots_kept: Annotated[int, Meta(ge=1, le=16)] = 2
    low_water_mib: Annotated[int, Meta(ge=1, le=1 << 24)] = 256
    """With less free room the node neither signs nor commits, and goes on by itself when there is more."""


class StatesyncSection(Section, frozen=True):
    """`[statesync]`: joining by a snapshot instead of by all blocks."""

    enabled: bool = False
    trusted_height: Annotated[int, Meta(ge=0)] = 0
    """A height whose block id somebody trusted told; 0 trusts the genesis."""
    trusted_hash: Annotated[str, Meta(pattern=r"^([0-9a-f]{64}|)\Z")] = ""
    trust_period_hours: Annotated[int, Meta(ge=1, le=100_000)] = 336
    """A header is believed for this long; it must be shorter than stakes take to unbond."""


CHEAT = (
    r"^(|(flip-bit|skip-step|false-accuser|colluder|staller)@step=[0-9]{1,9}"
    r"|lazy-verifier|copying-verifier|wrong-data|withheld-data|equivocation)\Z"
)
"""How a cheat is written."""


class DevnetSection(Section, frozen=True):
    """`[devnet]`: only on chains whose id starts with `devnet`."""

    cheat: Annotated[str, Meta(pattern=CHEAT)] = ""


class NodeConfig(Section, frozen=True):
    """The whole file."""

    node: NodeSection = NodeSection()
    p2p: P2pSection = P2pSection()
    rpc: RpcSection = RpcSection()
    worker: WorkerSection = WorkerSection()
    provider: ProviderSection = ProviderSection()
    consensus: ConsensusSection = ConsensusSection()
    log: LogSection = LogSection()
    storage: StorageSection = StorageSection()
    statesync: StatesyncSection = StatesyncSection()
    devnet: DevnetSection = DevnetSection()


REMEDIES = {
    "node.role": f"write one of {', '.join(ROLES)}",
    "p2p.listen": 'write a list such as ["/ip4/0.0.0.0/tcp/26600"]',
    "p2p.seeds": 'write a list such as ["/ip4/203.0.113.5/tcp/26600/p2p/12D3KooW…"]',
    "rpc.port": "write a number from 0 to 65535",
    "devnet.cheat": 'write "flip-bit@step=37", "lazy-verifier" or another cheat of gensyn devnet up --help',
    "statesync.trusted_hash": "write the block id as 64 hex digits",
    "log.level": "write debug, info, warning or error",
}


def parse_config(text: str, source: str = "config.toml") -> NodeConfig:
    """The configuration in `text`; `Rejection` BAD_CONFIG or UNKNOWN_CONFIG_KEY with line and field otherwise."""
    return load_toml(
        text,
        NodeConfig,
        source=source,
        bad=reasons.BAD_CONFIG,
        unknown=reasons.UNKNOWN_CONFIG_KEY,
        remedies=REMEDIES,
    )


def read_config(home: Home) -> NodeConfig:
    """The configuration of a home; NO_HOME when there is none."""
    try:
        text = home.config.read_text("utf-8")
    except FileNotFoundError:
        raise Rejection(reasons.NO_HOME, f"there is no {home.config}") from None
    except UnicodeDecodeError as error:
        raise Rejection(reasons.BAD_CONFIG, f"{home.config} is not UTF-8 text: {error}") from None
    return parse_config(text, str(Path(home.config)))


def check_cheat(config: NodeConfig, chain_id: str) -> None:
    """CHEAT_REFUSED when a cheat is configured on a chain that is no devnet."""
    if config.devnet.cheat and not chain_id.startswith(DEVNET_PREFIX):
        raise Rejection(reasons.CHEAT_REFUSED, f"[devnet] cheat = {config.devnet.cheat!r} on the chain {chain_id!r}")
