"""Blobs between real hosts: resumed, verified, from several peers, in spite of liars and stalled peers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from p2p_hosts import Attacker, attacker, config_of, pair, run, until

from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.limits import BLOB_CHUNK_BYTES, MIB
from p2p import download
from p2p.api import BlobProgress, BlobUnavailable
from p2p.blobstore import Summary
from p2p.download import SENT, SUMMARY
from p2p.frames import read_frame, write_frame
from p2p.host import Stream
from p2p.network import LibP2PNetwork, open_network
from p2p.reasons import WRONG_FRAME
from proofs import blobs

pytestmark = pytest.mark.integration
BLOB_PROTOCOL = "/gensyn/test-chain/blob/1"
Answer = Callable[[download.Ask], bytes]


def serve_lies(mallory: Attacker, answer: Answer) -> None:
    """Make the attacker a provider that answers as it likes."""

    async def serve(stream: Stream) -> None:
        while True:
            await write_frame(stream, answer(download.decode_ask(await read_frame(stream, 64, WRONG_FRAME))))

    mallory.host.handle(BLOB_PROTOCOL, serve)


async def join(network: LibP2PNetwork, mallory: Attacker, directory: Path) -> None:
    """Connect the attacker, hands shaken."""
    await mallory.shake_hands(network.addresses[0], config_of(directory, "mallory"))


@pytest.mark.parametrize("size", [0, 1, BLOB_CHUNK_BYTES, BLOB_CHUNK_BYTES + 1, 5 * MIB + 12345])
def test_blob_arrives_whole(size: int, tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            data = os.urandom(size)
            blob_id = await alice.blobs.add_bytes(data)
            assert blob_id == blobs.blob_id_of(data)
            seen: list[BlobProgress] = []
            path = await bob.blobs.fetch(blob_id, progress=seen.append)
            assert path.read_bytes() == data and bob.blobs.has(blob_id) and list(bob.blobs.ids()) == [blob_id]
            done = [progress.bytes_done for progress in seen]
            assert done == sorted(done) and (seen[-1].bytes_done, seen[-1].bytes_total) == (size, size)

    run(test)


def test_two_providers_share_the_work_and_several_downloads_take_turns(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob), open_network(config_of(tmp_path, "carol")) as carol:
            await carol.peers.connect(alice.addresses[0])
            await carol.peers.connect(bob.addresses[0])
            data = os.urandom(20 * MIB)
            blob_id = await alice.blobs.add_bytes(data)
            await bob.blobs.fetch(blob_id)
            before = alice.counters()["blob_bytes_sent"]
            path = await carol.blobs.fetch(blob_id)
            assert path.read_bytes() == data
            assert bob.counters()["blob_bytes_sent"] > 0 and alice.counters()["blob_bytes_sent"] > before
            small = [await alice.blobs.add_bytes(os.urandom(MIB)) for _ in range(8)]
            async with trio.open_nursery() as nursery:
                for each in small:
                    nursery.start_soon(carol.blobs.fetch, each, [alice.peer_id])
            assert all(carol.blobs.has(each) for each in small)

    run(test)


def test_interrupted_download_goes_on_where_it_was(tmp_path: Path) -> None:
    async def test() -> None:
        async with open_network(config_of(tmp_path, "alice")) as alice:
            data = os.urandom(12 * MIB)
            blob_id = await alice.blobs.add_bytes(data)
            # Paced, so that the interruption comes in the middle.
            async with open_network(config_of(tmp_path, "bob", blob_bytes_per_second=10 * MIB)) as bob:
                await bob.peers.connect(alice.addresses[0])

                def stop(progress: BlobProgress) -> None:
                    if progress.bytes_done >= 5 * MIB:
                        scope.cancel()

                with trio.CancelScope() as scope:
                    await bob.blobs.fetch(blob_id, progress=stop)
                assert not bob.blobs.has(blob_id)
            partial = tmp_path / "bob" / "blobs" / "partial" / blob_id.hex()
            with partial.open("r+b") as file:  # and the disk loses one of the chunks
                file.seek(2 * MIB + 7)
                file.write(b"rot")
            async with open_network(config_of(tmp_path, "bob")) as bob:
                await bob.peers.connect(alice.addresses[0])
                seen: list[BlobProgress] = []
                path = await bob.blobs.fetch(blob_id, progress=seen.append)
                assert path.read_bytes() == data
                assert 4 * MIB <= seen[0].bytes_done < 12 * MIB
                assert bob.counters()["blob_bytes_received"] == 12 * MIB - seen[0].bytes_done

    run(test)


def corrupt_chunk(data: bytes) -> Answer:
    """Right hashes, wrong bytes in the third chunk."""
    summary = Summary(len(data), b"".join(blobs.hash_chunks(data)))

    def answer(ask: download.Ask) -> bytes:
        if ask.number == SUMMARY:
            return SENT + encode(summary)
        chunk = data[ask.number * BLOB_CHUNK_BYTES :][:BLOB_CHUNK_BYTES]
        return SENT + (b"!" + chunk[1:] if ask.number == 2 else chunk)

    return answer


LIES: dict[str, Callable[[bytes], Answer]] = {
    "corrupt chunk": corrupt_chunk,
    "hashes of another blob": lambda data: lambda ask: SENT + encode(Summary(5, blobs.chunk_hash(b"other"))),
    "no summary": lambda data: lambda ask: SENT + b"\xc1",
    "unknown status": lambda data: lambda ask: b"\x07",
    "too large": lambda data: lambda ask: SENT + bytes(2 * MIB),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_liar_is_banned_and_the_blob_comes_from_another(lie: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob), attacker(tmp_path) as mallory:
            data = os.urandom(4 * MIB)
            blob_id = await alice.blobs.add_bytes(data)
            serve_lies(mallory, LIES[lie](data))
            await join(bob, mallory, tmp_path)
            with pytest.raises(BlobUnavailable):
                await bob.blobs.fetch(blob_id, [mallory.peer_id])
            assert not bob.blobs.has(blob_id)
            assert any(name.startswith("rejected_") for name in bob.counters())
            path = await bob.blobs.fetch(blob_id, [mallory.peer_id, alice.peer_id])
            assert path.read_bytes() == data

    run(test)


def test_liar_in_the_middle_of_a_download_costs_its_chunk_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob), attacker(tmp_path) as mallory:
            data = os.urandom(8 * MIB)
            blob_id = await alice.blobs.add_bytes(data)
            serve_lies(mallory, corrupt_chunk(data))
            await join(bob, mallory, tmp_path)
            path = await bob.blobs.fetch(blob_id, [mallory.peer_id, alice.peer_id])
            assert path.read_bytes() == data

    run(test)


def test_stalled_provider_does_not_hold_up_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SLOW_S", 0.3)

    async def test() -> None:
        async with pair(tmp_path) as (alice, bob), attacker(tmp_path) as mallory:
            data = os.urandom(6 * MIB)
            blob_id = await alice.blobs.add_bytes(data)

            async def stall(stream: Stream) -> None:
                await trio.sleep_forever()

            mallory.host.handle(BLOB_PROTOCOL, stall)
            await join(bob, mallory, tmp_path)
            await bob.blobs.fetch(blob_id, [alice.peer_id])
            await bob.blobs.remove(blob_id)
            hashes = tmp_path / "bob" / "blobs" / "hashes" / blob_id.hex()
            hashes.write_bytes((tmp_path / "alice" / "blobs" / "hashes" / blob_id.hex()).read_bytes())
            with trio.fail_after(20):  # a chunk may take 30 s before its provider is given up
                path = await bob.blobs.fetch(blob_id, [mallory.peer_id, alice.peer_id])
            assert path.read_bytes() == data

    run(test)


def test_alias_leads_to_a_blob_that_is_checked(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            name = b"n" * 32
            blob_id = await alice.blobs.add_bytes(b"checkpoint")
            alice.blobs.add_alias(name, blob_id)
            assert await bob.blobs.lookup(name) == {blob_id: [alice.peer_id]}
            with pytest.raises(BlobUnavailable, match="not what the name stands for"):
                await bob.blobs.fetch_alias(name, accept=lambda path: False)
            assert not bob.blobs.has(blob_id) and bob.blobs.resolve(name) is None
            assert await bob.blobs.fetch_alias(name, accept=lambda path: path.read_bytes() == b"checkpoint") == blob_id
            assert bob.blobs.resolve(name) == blob_id
        async with open_network(config_of(tmp_path, "bob")) as bob:  # remembered
            assert bob.blobs.resolve(name) == blob_id
            await bob.blobs.remove(blob_id)
            assert bob.blobs.resolve(name) is None

    run(test)


def test_nobody_has_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            assert await bob.blobs.lookup(b"x" * 32) == {}
            with pytest.raises(BlobUnavailable, match="no provider"):
                await bob.blobs.fetch(b"x" * 32)
            with pytest.raises(BlobUnavailable, match="does not hold"):
                await bob.blobs.fetch(b"x" * 32, [alice.peer_id])
            assert alice.peers.connected()[0].score == 0

    run(test)


def test_damaged_blob_is_not_served_and_repaired_by_the_next_fetch(tmp_path: Path) -> None:
    async def test() -> None:
        async with pair(tmp_path) as (alice, bob):
            data = os.urandom(3 * MIB)
            blob_id = await alice.blobs.add_bytes(data)
            await bob.blobs.fetch(blob_id)
            with alice.blobs.path(blob_id).open("r+b") as file:
                file.seek(MIB + 5)
                file.write(b"rot")
            with pytest.raises(BlobUnavailable, match="damaged"):
                await alice.blobs.read_chunk(blob_id, 1)
            assert not alice.blobs.has(blob_id)
            path = await alice.blobs.fetch(blob_id)
            assert path.read_bytes() == data
            assert alice.counters()["blob_bytes_received"] == MIB

    run(test)


def test_pace_is_kept(tmp_path: Path) -> None:
    async def test() -> float:
        async with pair(tmp_path, blob_bytes_per_second=4 * MIB) as (alice, bob):
            blob_id = await alice.blobs.add_bytes(os.urandom(4 * MIB))
            started = trio.current_time()
            await bob.blobs.fetch(blob_id)
            return trio.current_time() - started

    # Four chunks: the first at once, the others a quarter of a second apart. Only the lower bound is a promise.
    assert run(test) >= 0.74


def test_provider_that_goes_away_is_survived(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            open_network(config_of(tmp_path, "bob", blob_bytes_per_second=20 * MIB)) as bob,
            open_network(config_of(tmp_path, "alice")) as alice,
        ):
            data = os.urandom(10 * MIB)
            blob_id = await alice.blobs.add_bytes(data)
            async with open_network(config_of(tmp_path, "carol")) as carol:
                await carol.blobs.add_bytes(data)
                await bob.peers.connect(alice.addresses[0])
                await bob.peers.connect(carol.addresses[0])
                gone = trio.Event()

                def leave(progress: BlobProgress) -> None:
                    if progress.bytes_done >= 3 * MIB:
                        gone.set()

                async with trio.open_nursery() as nursery:

                    async def hang_up() -> None:
                        await gone.wait()
                        await carol.peers.disconnect(bob.peer_id, "test")

                    nursery.start_soon(hang_up)
                    path = await bob.blobs.fetch(blob_id, [carol.peer_id, alice.peer_id], progress=leave)
                assert path.read_bytes() == data
            await until(lambda: not bob._host.is_connected(carol.peer_id), "carol gone")

    run(test)
