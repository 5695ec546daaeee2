"""A node's roles: their settings from the configuration, and the runner that works beside the chain."""

from __future__ import annotations

from gensyn_node.app.node import Node
from gensyn_node.config.node_config import check_cheat
from gensyn_node.roles.cheats import parse_cheat
from gensyn_node.roles.runner import RoleRunner, RoleSettings

MIB = 1 << 20


async def serve_roles(node: Node) -> None:
    """The service that works for others, until cancelled; RPC shows and steers it through `node.roles`.

    Raises `Rejection` CHEAT_REFUSED when a cheat is configured outside of a devnet.
    """
    runner = make_role_runner(node)
    node.roles = runner
    await runner.run()


def make_role_runner(node: Node) -> RoleRunner:
    """The runner of a node's roles, as its configuration says."""
    config, home = node.settings.config, node.settings.home
    check_cheat(config, node.settings.genesis.chain_id)
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
    return RoleRunner(node, node.settings.account_key, node.network.peer_id, chosen)
