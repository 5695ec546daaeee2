"""The `config.toml` that `gensyn node init` writes: every key, its default and what it means."""

from __future__ import annotations

import json

from gensyn_node.config.node_config import NodeConfig

_COMMENTS: dict[str, str] = {
    "node": "What this machine does.",
    "node.name": "A name that others see; may stay empty.",
    "node.role": "auto | solver | verifier | whistleblower | none. Changed live with `gensyn node role`.",
    "node.validator": "Take part in consensus when the key is in the validator set.",
    "p2p": "How the node is reached, and whom it calls first. A seed that is down is retried, never fatal.",
    "p2p.listen": "Multiaddresses to listen on.",
    "p2p.seeds": "Multiaddresses with peer id, such as /ip4/203.0.113.5/tcp/26600/p2p/12D3KooW…",
    "p2p.peers_max": "Connections in total.",
    "rpc": "The local interface. Writing needs the token in rpc.token.",
    "rpc.host": "Keep it on loopback: there is no encryption here.",
    "rpc.port": "0 picks a free port.",
    "rpc.allowed_hosts": "Further host:port values that the Host header may have.",
    "rpc.connections_max": "Connections at once, WebSockets not counted.",
    "rpc.sockets_max": "WebSockets at once.",
    "worker": "What training may use of this machine.",
    "worker.threads": "Threads of one training.",
    "worker.memory_mib": "Tasks that need more are refused.",
    "worker.device": "cpu, cuda or mps; used only where gensyn node doctor finds it exact.",
    "provider": "On which terms the node works for others.",
    "provider.register": "Register as a provider at the first start; needs the bond in the account.",
    "provider.bond_nano": "Bond; 0 is the least that the chain allows.",
    "provider.ask_nano_per_gigagas": "Price of 10^9 gas; 0 is the chain's reference price.",
    "consensus": "Local time-outs in milliseconds; they grow with the round.",
    "consensus.propose_ms": "Wait for a proposal.",
    "consensus.vote_ms": "Wait for votes.",
    "consensus.delta_ms": "Added each round.",
    "consensus.commit_ms": "Pause after a block: the block interval of an idle chain.",
    "consensus.watch_heights": "After a start: blocks without our key signing elsewhere before this node signs.",
    "consensus.watch_ms": "The longest time to listen for that, when no blocks come; 0 signs at once.",
    "log": "What is written to log/.",
    "log.level": "debug | info | warning | error",
    "storage": "What is kept on disk, and when the disk counts as full.",
    "storage.keep_blocks": "Blocks kept; 0 is all. Never fewer than evidence and snapshots need.",
    "storage.keep_states": "States kept: how far `gensyn node rollback` can go, how old a height a proof can be of.",
    "storage.snapshot_interval": "Blocks between two snapshots for those who join; 0 makes none.",
    "storage.snapshots_kept": "The newest so many are kept.",
    "storage.low_water_mib": "With less free room the node takes no task, signs nothing, and waits for room.",
    "statesync": "Joining by a snapshot instead of by all blocks; only a home without blocks does.",
    "statesync.enabled": "The same as `gensyn node run --state-sync`.",
    "statesync.trusted_height": "A height that somebody you trust told you; 0 trusts the genesis.",
    "statesync.trusted_hash": "The block id of that height.",
    "statesync.trust_period_hours": "How long a header is believed; shorter than stakes take to unbond.",
    "devnet": "Cheats for demonstrations; refused on any chain whose id does not start with `devnet`.",
    "devnet.cheat": "flip-bit@step=37 | lazy-verifier | …; gensyn devnet up --help names them all",
}


def _value(value: object) -> str:
    """A TOML literal (booleans, integers, strings and lists of strings: JSON's syntax is TOML's here)."""
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def render_config(config: NodeConfig) -> str:
    """`config` as a commented TOML file; `parse_config` of it gives `config` back."""
    lines = ["# gensyn node configuration. An unknown key is an error. Protocol parameters are in the genesis."]
    for section in config.__struct_fields__:
        lines += ["", f"# {_COMMENTS[section]}", f"[{section}]"]
        table = getattr(config, section)
        for key in table.__struct_fields__:
            lines += [f"# {_COMMENTS[f'{section}.{key}']}", f"{key} = {_value(getattr(table, key))}"]
    return "\n".join(lines) + "\n"
