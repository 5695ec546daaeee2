"""A node's roles: their settings from the configuration, and the runner that works beside the chain."""

from __future__ import annotations

import structlog
import trio

from gensyn_node.app.node import Node, RoleSeat
from gensyn_node.app.room import Room
from gensyn_node.config.node_config import check_cheat
from gensyn_node.roles.cheats import parse_cheat
from gensyn_node.roles.runner import RoleRunner, RoleSettings
from ml.worker.kernels import kernel_store

MIB = 1 << 20
NO_ROLE = "none"
ROOM_INTERVAL_S = 2.0

log = structlog.get_logger()


async def serve_roles(node: Node) -> None:
    """The service that works for others, until cancelled; RPC shows and steers it through `node.roles`.

    Raises `Rejection` CHEAT_REFUSED when a cheat is configured outside of a devnet.
    """
    runner = make_role_runner(node)
    node.roles = runner
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_while_tight, node.room, runner)
        await runner.run()


async def hold_while_tight(room: Room, seat: RoleSeat) -> None:
    """Take no task while the disk runs full, long before consensus has to stop; the owner's role comes back after."""
    held = ""
    while True:
        if held and seat.role != NO_ROLE:
            held = ""  # the owner has chosen anew meanwhile
        if not held and room.tight and seat.role != NO_ROLE:
            held = seat.role
            log.warning("role_held", role=held, why="the disk is nearly full", free_bytes=room.free)
            await seat.set_role(NO_ROLE)
        elif held and room.ample:
            log.info("role_again", role=held)
            await seat.set_role(held)
            held = ""
        await trio.sleep(ROOM_INTERVAL_S)


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
        kernels_folder=kernel_store(home.kernels),
        log_path=home.log / "worker.log",
        cheats=parse_cheat(config.devnet.cheat),
        device=config.worker.device,
    )
    return RoleRunner(node, node.settings.account_key, node.network.peer_id, chosen)
