"""The screen of `gensyn node run`: one table that stays true. Without a terminal there is only the log."""

from __future__ import annotations

from typing import Any

import psutil
import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gensyn_node.app.backend import Backend
from gensyn_node.app.node import Node
from gensyn_node.primitives.bech32 import encode_address
from gensyn_node.primitives.money import format_amount
from gensyn_node.rpc.backend import SeedState, Status

REFRESH_S = 1.0
GIB = 1 << 30


async def show_screen(node: Node) -> None:
    """Redraw once a second until cancelled; the last picture stays on the terminal."""
    backend, console = Backend(node), Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            account = await backend.account(node.settings.account_key.address)
            seeds = [seed for seed in await backend.seeds() if not seed.connected]
            money = (account.balance_nano, account.bonded_nano, account.locked_nano)
            live.update(picture(await backend.status(), money, tuple(seeds)), refresh=True)
            await trio.sleep(REFRESH_S)


def picture(status: Status, money_nano: tuple[int, int, int], seeds_down: tuple[SeedState, ...]) -> Table:
    """The table. `money_nano`: balance, bonded, locked."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    behind = ", catching up" if status.syncing else ""
    interval = f", a block every {status.block_interval_ms / 1000:.1f} s" if status.block_interval_ms else ""
    table.add_row("Chain", f"{status.chain_id}, block {status.height}{interval}{behind}")
    table.add_row("Peers", f"{status.peers}" if status.peers else "none: looking for some")
    for seed in seeds_down:
        table.add_row("Seed down", f"{seed.address}: {seed.note}; next try in {seed.next_attempt_s} s")
    table.add_row("Role", status.role + (" and validator" if status.validator else ""))
    table.add_row("Now", status.activity)
    balance, bonded, locked = (format_amount(amount) for amount in money_nano)
    table.add_row("Money", f"{balance}; bonded {bonded}, of it locked {locked}")
    memory = psutil.virtual_memory()
    table.add_row("Memory", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free{_temperature()}")
    table.add_row("Account", encode_address(status.address))
    table.add_row("", "[dim]Ctrl-C stops the node[/]")
    return table


def _temperature() -> str:
    """The hottest sensor, where the system shows any."""
    sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    readings = [reading.current for group in sensors.values() for reading in group if reading.current]
    return f"; {max(readings):.0f} °C" if readings else ""
