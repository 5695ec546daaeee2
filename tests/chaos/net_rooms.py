"""Nodes in network namespaces of their own, joined by a bridge, whose cables can be cut in any direction.

Each room has one virtual cable to the bridge. Cutting the cable takes the room off the network at once and without a
word to either side; a black-hole route inside a room cuts it off from one other room, in one direction alone.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000


class Rooms:
    """`count` rooms, of which each has an address."""

    def __init__(self, count: int) -> None:
        self.tag = f"{os.getpid() & 0xFFFF:04x}"
        self.count = count
        self.bridge = f"gb{self.tag}"
        self._subnet = f"10.{128 + (os.getpid() >> 8) % 120}.{os.getpid() % 250}"

    def name(self, room: int) -> str:
        """The namespace's name."""
        return f"gensyn-{self.tag}-{room}"

    def address(self, room: int) -> str:
        """The room's address."""
        return f"{self._subnet}.{room + 1}"

    def _cable(self, room: int) -> str:
        return f"gv{self.tag}{room}"

    def build(self) -> None:
        """Make bridge, rooms and cables."""
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("link", "set", self.bridge, "up")
        for room in range(self.count):
            name, cable = self.name(room), self._cable(room)
            _ip("netns", "add", name)
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", cable, "master", self.bridge)
            _ip("link", "set", cable, "up")
            _ip("-n", name, "addr", "add", f"{self.address(room)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")

    def remove(self) -> None:
        """Take everything away, whatever of it there is."""
        for room in range(self.count):
            _ip("netns", "del", self.name(room), check=False)
            _ip("link", "del", self._cable(room), check=False)
        _ip("link", "del", self.bridge, check=False)

    def enter(self, room: int) -> Callable[[], None]:
        """What a process calls to move into a room."""
        return lambda: _enter(self.name(room))

    def unplug(self, room: int) -> None:
        """Nothing reaches the room and nothing leaves it."""
        _ip("link", "set", self._cable(room), "down")

    def plug_in(self, room: int) -> None:
        """Undo `unplug`."""
        _ip("link", "set", self._cable(room), "up")

    def block(self, room: int, other: int) -> None:
        """What `room` sends to `other` is lost; the other way is not touched."""
        _ip("-n", self.name(room), "route", "add", "blackhole", f"{self.address(other)}/32")

    def unblock(self, room: int, other: int) -> None:
        """Undo `block`."""
        _ip("-n", self.name(room), "route", "del", "blackhole", f"{self.address(other)}/32")


@contextmanager
def rooms(count: int) -> Iterator[Rooms]:
    """Rooms that are gone afterwards."""
    made = Rooms(count)
    try:
        made.build()
        yield made
    finally:
        made.remove()


def why_not() -> str:
    """Why network namespaces cannot be used here; empty when they can."""
    if shutil.which("ip") is None:
        return "the program ip (iproute2) is not installed"
    probe = Rooms(1)
    try:
        probe.build()
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted: {error.stderr.strip()}"
    finally:
        probe.remove()
    return ""


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def _enter(name: str) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
    if library.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {name}")
    os.close(descriptor)
