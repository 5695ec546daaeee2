"""LevelDB's logs: what an interrupted write leaves passes, what one wrong byte hides does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import plyvel
import pytest
from test_node_store import GENESIS, new_store, record

from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.chain_store import ChainStore
from gensyn_node.storage.leveldb_files import BLOCK_BYTES, log_fault

HEADER_BYTES = 7


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """LevelDB's own log of some hundred batches, of which some go over the ends of blocks."""
    path = tmp_path_factory.mktemp("log")
    database = plyvel.DB(str(path), create_if_missing=True)
    for number in range(300):
        database.put(b"key%d" % number, bytes([number % 251]) * (number % 40 * 11), sync=False)
    database.put(b"last", b"value of the last record")
    database.close()
    (file,) = path.glob("*.log")
    return file.read_bytes()


def headers(data: bytes) -> list[int]:
    found, position = [], 0
    while position + HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < HEADER_BYTES:
            position += left
            continue
        found.append(position)
        position += HEADER_BYTES + int.from_bytes(data[position + 4 : position + 6], "little")
    return found


def test_a_sound_log_and_each_interrupted_write_of_it_pass(log: bytes) -> None:
    assert len(log) > 2 * BLOCK_BYTES
    last = headers(log)[-2:]
    for end in (*range(last[0] - 1, len(log) + 1), *headers(log)[::20], 0, 5, BLOCK_BYTES, BLOCK_BYTES + 3):
        assert log_fault(log[:end]) is None, end


def test_zeros_at_the_end_pass_and_zeros_before_data_do_not(log: bytes) -> None:
    assert log_fault(log + bytes(5_000)) is None
    start, following = headers(log)[-2:]
    assert log_fault(log[:start] + bytes(len(log) - start)) is None
    fault = log_fault(log[:start] + bytes(following - start) + log[following:])
    assert fault is not None
    assert "zeros" in fault


def test_a_longer_length_is_found_wherever_it_leads(log: bytes) -> None:
    """Past the end of the file LevelDB calls it an unfinished write and drops what follows; we do not."""
    found = 0
    for start in [start for start in headers(log) if start >= len(log) // BLOCK_BYTES * BLOCK_BYTES]:
        for bit in range(16):
            damaged = bytearray(log)
            damaged[start + 4 + bit // 8] ^= 1 << bit % 8
            length = int.from_bytes(damaged[start + 4 : start + 6], "little")
            if start + HEADER_BYTES + length > len(log):
                assert log_fault(bytes(damaged)) is not None, (start, bit)
                found += 1
    assert found > 100


def test_a_manifest_that_would_lose_its_last_edit_is_refused(tmp_path: Path) -> None:
    """Each byte of each record header, each value: refused, or every block is there."""
    store = new_store(tmp_path / "sound")
    for height in range(1, 30):
        store.write_block(record(height), keep_versions=2)
    store.close()
    ChainStore.open(tmp_path / "sound", GENESIS).close()  # the log becomes a table, which the manifest names
    (manifest,) = (tmp_path / "sound").glob("MANIFEST-*")
    sound = manifest.read_bytes()
    refused = 0
    for start in headers(sound):
        for position in range(start + 4, start + HEADER_BYTES):
            for flip in (0x01, 0x10, 0x80, 0xFF):
                shutil.rmtree(tmp_path / "damaged", ignore_errors=True)
                shutil.copytree(tmp_path / "sound", tmp_path / "damaged")
                damaged = bytearray(sound)
                damaged[position] ^= flip
                (tmp_path / "damaged" / manifest.name).write_bytes(damaged)
                with pytest.raises(Rejection) as caught:
                    ChainStore.open(tmp_path / "damaged", GENESIS)
                assert caught.value.reason is reasons.STORE_CORRUPT
                refused += 1
    assert refused >= 24
