"""A node's roles: their settings from the configuration, and the runner that works beside the chain."""

from __future__ import annotations

from gensyn_node.app.settings import NodeSettings
from gensyn_node.config.node_config import check_cheat
from gensyn_node.roles.api import NodeApi
from gensyn_node.roles.cheats import parse_cheat
from gensyn_node.roles.runner import RoleRunner, RoleSettings

MIB = 1 << 20


def make_role_runner(settings: NodeSettings, node: NodeApi, peer_id: str) -> RoleRunner:
    """The runner of a node's roles. `Rejection` CHEAT_REFUSED when a cheat is configured outside of a devnet."""
    config, home = settings.config, settings.home
    check_cheat(config, settings.genesis.chain_id)
    home.log.mkdir(parents=True, exist_ok=True)
    chosen = RoleSettings(
        role=config.node.role,
        register=config.provider.register,
        name=config.node.name,
        ask_price_nano=config.provider.ask_nano_per_gigagas,
        bond_nano=config.provider.bond_nano,
        memory_bytes=config.worker.memory_mib * MIB,
        threads=config.worker.threads,
        work_folder=home.work,
        log_path=home.log / "worker.log",
        cheats=parse_cheat(config.devnet.cheat),
    )
    return RoleRunner(node, settings.account_key, peer_id, chosen)
