"""Blob download against plain TCP: `python tests/bench/bench_blobs.py [MIB]`.

Five ways in one run, the sender always in a process of its own, the bytes always random: plain trio TCP into memory,
plain TCP into a file with each chunk hashed, one libp2p stream into memory, a blob from one peer and from two.
Blob figures include the look-up, verification, writing and the final fsync.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES, MIB
from p2p.api import NetworkConfig
from p2p.host import Stream
from p2p.network import LibP2PNetwork, open_network
from proofs import blobs

REPEATS = 3
STREAM_PROTOCOL = "/gensyn/bench/stream/1"


def config_of(directory: Path, name: str) -> NetworkConfig:
    """A host of this benchmark."""
    return NetworkConfig(
        chain_id="bench",
        genesis_hash=bytes(32),
        identity_seed=hashlib.sha256(name.encode()).digest(),
        directory=directory / name,
        listen=("/ip4/127.0.0.1/tcp/0",),
    )


async def serve(directory: Path, name: str) -> None:
    """The sending process: a host with the blob, and a plain TCP server with the same bytes."""
    source = directory / "source"
    data = source.read_bytes()

    async def send(stream: trio.SocketStream) -> None:
        async with stream:
            for start in range(0, len(data), BLOB_CHUNK_BYTES):
                await stream.send_all(data[start : start + BLOB_CHUNK_BYTES])

    async with open_network(config_of(directory, name)) as network, trio.open_nursery() as nursery:
        await network.blobs.add_file(source)

        async def push(stream: Stream) -> None:
            await stream.read_exactly(1)
            for start in range(0, len(data), BLOB_CHUNK_BYTES):
                await stream.write(data[start : start + BLOB_CHUNK_BYTES])

        network._host.handle(STREAM_PROTOCOL, push)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(json.dumps([network.addresses[0], listeners[0].socket.getsockname()[1]]), flush=True)
        nursery.start_soon(trio.serve_listeners, send, listeners)
        await trio.sleep_forever()


@contextmanager
def sender(directory: Path, name: str) -> Iterator[tuple[str, int]]:
    """Run `serve` in another process; its address and TCP port."""
    command = [sys.executable, __file__, "serve", str(directory), name]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        address, port = json.loads(process.stdout.readline())
        yield address, port
    finally:
        process.kill()
        process.wait()


async def plain(port: int, size: int) -> None:
    """Receive everything and keep nothing."""
    received = 0
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        while received < size:
            received += len(await stream.receive_some(BLOB_CHUNK_BYTES))


async def plain_to_disk(port: int, size: int, path: Path) -> None:
    """What a download must do anyway: every chunk hashed and written, one fsync."""
    waiting = bytearray()
    done = 0
    with path.open("wb") as file:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            while done < size:
                waiting += await stream.receive_some(BLOB_CHUNK_BYTES)
                while len(waiting) >= BLOB_CHUNK_BYTES or (waiting and done + len(waiting) == size):
                    chunk = bytes(waiting[:BLOB_CHUNK_BYTES])
                    del waiting[:BLOB_CHUNK_BYTES]
                    blobs.chunk_hash(chunk)
                    file.write(chunk)
                    done += len(chunk)
        file.flush()
        os.fsync(file.fileno())


async def best(action: Callable[[], Awaitable[None]], size: int) -> float:
    """MB/s of the best of a few repetitions: the others say more about the machine's other work."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        await action()
        seconds.append(time.perf_counter() - started)
    return size / 1e6 / min(seconds)


async def measure(directory: Path, size: int) -> dict[str, float]:
    """All four ways, MB/s."""
    source = directory / "source"
    source.write_bytes(os.urandom(size))
    blob_id = blobs.blob_id_of(source.read_bytes())
    with sender(directory, "first") as (first, port), sender(directory, "second") as (second, _):
        async with open_network(config_of(directory, "receiver")) as network:

            async def fetch_from(network: LibP2PNetwork, peers: list[str]) -> None:
                await network.blobs.remove(blob_id)
                await network.blobs.fetch(blob_id, peers)

            async def read_stream() -> None:
                async with network._host.stream(one, STREAM_PROTOCOL) as stream:
                    await stream.write(b"!")
                    for start in range(0, size, BLOB_CHUNK_BYTES):
                        await stream.read_exactly(min(BLOB_CHUNK_BYTES, size - start))

            one, two = await network.peers.connect(first), await network.peers.connect(second)
            return {
                "plain TCP": await best(lambda: plain(port, size), size),
                "plain TCP, hashed, to disk": await best(lambda: plain_to_disk(port, size, directory / "plain"), size),
                "one libp2p stream": await best(read_stream, size),
                "blob from one peer": await best(lambda: fetch_from(network, [one]), size),
                "blob from two peers": await best(lambda: fetch_from(network, [one, two]), size),
            }


def main() -> None:
    """Print a table and one JSON line."""
    if len(sys.argv) > 1 and sys.argv[1] == "serve":
        trio.run(serve, Path(sys.argv[2]), sys.argv[3])
        return
    size = int(sys.argv[1]) * MIB if len(sys.argv) > 1 else 100 * MIB
    with tempfile.TemporaryDirectory() as directory:
        figures = trio.run(measure, Path(directory), size)
    base = figures["plain TCP"]
    print(f"{size // MIB} MiB over loopback, best of {REPEATS}")
    for name, megabytes in figures.items():
        print(f"  {name:28} {megabytes:8.1f} MB/s   {megabytes / base:6.3f} of plain TCP")
    print(json.dumps({"bench": "blobs", "bytes": size} | {key: round(value, 1) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
