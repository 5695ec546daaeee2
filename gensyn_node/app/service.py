"""A node with everything around it: chain, RPC server, roles; what `gensyn node run` runs."""

from __future__ import annotations

import gc
import secrets
from typing import TYPE_CHECKING

import structlog
import trio

from gensyn_node.app.backend import Backend
from gensyn_node.app.node import Node, Service, run_node
from gensyn_node.app.role_service import serve_roles
from gensyn_node.app.settings import NodeSettings
from gensyn_node.config.home import Home
from gensyn_node.rpc.server import RpcSettings, serve_rpc
from gensyn_node.storage.files import replace_file

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger()

COLLECT_AFTER_OBJECTS = 50_000
"""Python's 700 has the collector look through a few thousand transactions again and again, and find nothing."""


async def run_whole_node(settings: NodeSettings, *others: Service) -> None:
    """Run until SIGTERM or SIGINT, with `others` beside the interface and the roles.

    Raises `Rejection` when the home cannot be used, `InvariantViolation` when the node halted itself.
    """
    gc.freeze()  # what the program itself is made of stays
    gc.set_threshold(COLLECT_AFTER_OBJECTS, 10, 10)
    await run_node(settings, (serve_interface, serve_roles, *others))


async def serve_interface(node: Node) -> None:
    """The local RPC server; its address and its token are files in the home."""
    home, rpc = node.settings.home, node.settings.config.rpc
    settings = RpcSettings(
        token=read_token(home),
        host=rpc.host,
        port=rpc.port,
        allowed_hosts=rpc.allowed_hosts,
        connections_max=rpc.connections_max,
        sockets_max=rpc.sockets_max,
    )
    async with trio.open_nursery() as nursery:
        address: str = await nursery.start(_serve, Backend(node), settings)
        replace_file(home.endpoint, address.encode())
        log.info("interface_listens", address=address)


async def _serve(backend: Backend, settings: RpcSettings, *, task_status: TaskStatus[str]) -> None:
    await serve_rpc(backend, settings, task_status=task_status)


def read_token(home: Home) -> str:
    """The RPC token of the home, made at the first start; only its owner can read it."""
    if not home.token.exists():
        replace_file(home.token, secrets.token_hex(32).encode())
    return home.token.read_text("ascii").strip()
