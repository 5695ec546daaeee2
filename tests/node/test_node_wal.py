"""The input log: what a crash may leave is cut, everything else is set aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.primitives.errors import InvariantViolation
from gensyn_node.storage.wal import RECORD_BYTES_MAX, WriteAheadLog, frame, log_path, parse_log

RECORDS = (b"first", b"", b"\x00" * 40, b"last record")
DATA = b"".join(frame(record) for record in RECORDS)
ENDS = [len(b"".join(frame(r) for r in RECORDS[:n])) for n in range(len(RECORDS) + 1)]


def written(directory: Path, height: int = 4) -> Path:
    log = WriteAheadLog.open(directory, height).log
    for record in RECORDS:
        log.append(record)
    log.sync()
    log.close()
    return log_path(directory, height)


def test_round_trip_and_append_after_reopening(tmp_path: Path) -> None:
    written(tmp_path)
    opened = WriteAheadLog.open(tmp_path, 4)
    assert opened.records == RECORDS
    opened.log.append(b"more")
    opened.log.close()
    assert WriteAheadLog.open(tmp_path, 4).records == (*RECORDS, b"more")


def test_every_truncation_keeps_exactly_the_whole_records() -> None:
    for length in range(len(DATA) + 1):
        content = parse_log(DATA[:length])
        whole = max(number for number, end in enumerate(ENDS) if end <= length)
        assert (content.records, content.good_bytes, content.corrupt) == (RECORDS[:whole], ENDS[whole], False)


@pytest.mark.parametrize("zeros", [1, 12, 4096])
def test_zeros_after_the_last_record_are_a_torn_tail(zeros: int) -> None:
    """File systems may extend a file before its content arrives."""
    content = parse_log(DATA + bytes(zeros))
    assert content.records == RECORDS
    assert not content.corrupt


def test_a_last_record_of_zeros_is_torn() -> None:
    torn = DATA[: ENDS[3] + 14] + bytes(ENDS[4] - ENDS[3] - 14 + 100)
    content = parse_log(torn)
    assert (content.records, content.corrupt) == (RECORDS[:3], False)


def test_every_flipped_bit_before_the_last_record_is_corruption() -> None:
    for position in range(ENDS[3]):
        for bit in (0x01, 0x80):
            flipped = DATA[:position] + bytes([DATA[position] ^ bit]) + DATA[position + 1 :]
            content = parse_log(flipped)
            assert content.corrupt, position
            assert content.records == RECORDS[: len(content.records)]


def test_no_flipped_bit_is_ever_read_as_a_record() -> None:
    for position in range(len(DATA)):
        flipped = DATA[:position] + bytes([DATA[position] ^ 4]) + DATA[position + 1 :]
        assert len(parse_log(flipped).records) < len(RECORDS)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_parse_without_an_error(data: bytes) -> None:
    content = parse_log(data)
    assert b"".join(frame(record) for record in content.records) == data[: content.good_bytes]


def test_torn_tail_is_cut_on_disk(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(DATA[:-3])
    opened = WriteAheadLog.open(tmp_path, 4)
    assert opened.records == RECORDS[:3]
    assert opened.quarantined is None
    opened.log.append(b"after")
    opened.log.close()
    assert WriteAheadLog.open(tmp_path, 4).records == (*RECORDS[:3], b"after")


def test_corrupt_file_is_set_aside_whole_and_never_used(tmp_path: Path) -> None:
    path = written(tmp_path)
    damaged = bytearray(DATA)
    damaged[13] ^= 1
    path.write_bytes(damaged)
    opened = WriteAheadLog.open(tmp_path, 4)
    assert opened.records == ()
    assert opened.quarantined is not None
    assert opened.quarantined.read_bytes() == damaged
    opened.log.close()
    assert WriteAheadLog.open(tmp_path, 4).quarantined is None
    path.write_bytes(damaged)
    again = WriteAheadLog.open(tmp_path, 4).quarantined
    assert again is not None
    assert again != opened.quarantined


def test_records_before_the_damage_go_on_and_the_file_is_kept(tmp_path: Path) -> None:
    path = written(tmp_path)
    damaged = bytearray(DATA)
    damaged[ENDS[2] + 20] ^= 1
    path.write_bytes(damaged)
    opened = WriteAheadLog.open(tmp_path, 4)
    assert opened.records == RECORDS[:2]
    assert opened.quarantined is not None
    assert opened.quarantined.read_bytes() == damaged
    assert opened.log.synced_records == 2
    opened.log.append(b"after")
    opened.log.close()
    assert WriteAheadLog.open(tmp_path, 4).records == (*RECORDS[:2], b"after")


def test_synced_records_are_counted_over_restarts_and_heights(tmp_path: Path) -> None:
    written(tmp_path)
    log = WriteAheadLog.open(tmp_path, 4).log
    log.append(b"more")
    assert log.synced_records == len(RECORDS)
    log.sync()
    assert log.synced_records == len(RECORDS) + 1
    log.next_height(5)
    assert log.synced_records == 0
    log.close()


def test_finished_heights_are_removed(tmp_path: Path) -> None:
    written(tmp_path, 4)
    log = WriteAheadLog.open(tmp_path, 5).log
    assert not log_path(tmp_path, 4).exists()
    log.append(b"of five")
    log.next_height(6)
    assert not log_path(tmp_path, 5).exists()
    log.close()
    assert WriteAheadLog.open(tmp_path, 6).records == ()


def test_heights_do_not_go_back(tmp_path: Path) -> None:
    log = WriteAheadLog.open(tmp_path, 5).log
    with pytest.raises(InvariantViolation):
        log.next_height(5)


def test_oversize_record_is_our_bug(tmp_path: Path) -> None:
    log = WriteAheadLog.open(tmp_path, 5).log
    with pytest.raises(InvariantViolation):
        log.append(bytes(RECORD_BYTES_MAX + 1))
