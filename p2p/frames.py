"""Length-prefixed frames on a stream: four bytes, big endian, then as many bytes."""

from __future__ import annotations

from typing import Protocol

from gensyn_node.primitives.errors import Reason, Rejection

PREFIX_BYTES = 4


class ByteStream(Protocol):
    """What a frame travels on; `OSError` when it breaks."""

    async def read_exactly(self, count: int) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


async def write_frame(stream: ByteStream, payload: bytes) -> None:
    """Write one frame in one piece."""
    await stream.write(len(payload).to_bytes(PREFIX_BYTES, "big") + payload)


async def read_frame(stream: ByteStream, max_bytes: int, too_large: Reason) -> bytes:
    """Read one frame; `Rejection(too_large)` before a byte of an oversized one is read."""
    size = int.from_bytes(await stream.read_exactly(PREFIX_BYTES), "big")
    if size > max_bytes:
        raise Rejection(too_large, f"a frame of {size} bytes is announced, at most {max_bytes} are accepted")
    return await stream.read_exactly(size)
