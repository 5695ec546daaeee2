"""The blob store, scores, the address book, rates and frames, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.limits import MIB
from gensyn_node.primitives.reasons import BAD_SIGNATURE, MALFORMED
from p2p import bounds, reasons, scoring
from p2p.api import BlobUnavailable
from p2p.blobstore import BlobStore, decode_summary
from p2p.book import AddressBook, is_public, parse_address
from p2p.download import decode_ask
from p2p.frames import read_frame, write_frame
from p2p.rates import RateLimiter
from p2p.scoring import BAN_AT, ScoreBoard
from proofs import blobs

PEER = "12D3KooWPcfGdBCrdxX9nqGAdPAdkPMqfKEDjbZWGA4UFBJuY4rP"
OTHER = "12D3KooWQCkBm1BYtkHpocxCwMgR8yjitEeHGx8spzcDLGt2gkBm"


def test_upload_in_parts(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    data = bytes(range(256)) * 4096 + b"end"
    store.add_chunk("u", 0, data[:MIB])
    store.add_chunk("u", 0, data[:MIB])
    store.add_chunk("u", 1, data[MIB:])
    for number, part in [(3, b"x"), (1, b"longer than before"), (0, b"short"), (2, b"x"), (0, b""), (-1, b"x")]:
        with pytest.raises(Rejection) as rejected:
            store.add_chunk("u", number, part)
        assert rejected.value.reason is reasons.BAD_UPLOAD
    blob_id = store.finish_upload("u", blobs.blob_id_of(data))
    assert store.path(blob_id).read_bytes() == data
    assert store.read_chunk(blob_id, 1) == b"end"
    with pytest.raises(Rejection):
        store.read_chunk(blob_id, 2)
    assert BlobStore(tmp_path).ids == {blob_id}


def test_upload_of_another_blob_is_refused_and_gone(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    store.add_chunk("u", 0, b"abc")
    with pytest.raises(Rejection) as rejected:
        store.finish_upload("u", b"x" * 32)
    assert rejected.value.reason is reasons.BLOB_MISMATCH
    assert store.ids == set() and not list((tmp_path / "uploads").iterdir())
    for name in ("../u", "", "a" * 65, "a/b"):
        with pytest.raises(Rejection):
            store.add_chunk(name, 0, b"x")


def test_file_is_copied_or_moved_and_removed_with_its_aliases(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "store")
    source = tmp_path / "file"
    source.write_bytes(b"content")
    blob_id = store.add_file(source, move=False)
    assert source.exists()
    assert store.add_file(source, move=True) == blob_id and not source.exists()
    store.add_alias(b"a" * 32, blob_id)
    store.remove(blob_id)
    assert store.resolve(b"a" * 32) is None and store.resolve(blob_id) is None
    with pytest.raises(BlobUnavailable):
        store.path(blob_id)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_rejected(data: bytes) -> None:
    for read in (decode_ask, lambda data: decode_summary(b"i" * 32, data)):
        try:
            read(data)
        except Rejection:
            continue


def test_score_falls_bans_recovers_and_the_ban_expires() -> None:
    board = ScoreBoard(ban_seconds=60.0)
    rejection = Rejection(MALFORMED, "bad")
    assert board.charge(PEER, rejection, 1000.0) is None
    assert board.score(PEER, 1000.0) == -50
    assert board.score(PEER, 1030.0) == -20
    assert board.score(PEER, 2000.0) == 0
    assert board.charge(PEER, rejection, 1010.0) is None
    ban = board.charge(PEER, rejection, 1010.0)
    assert ban is not None and (ban.code, ban.until) == ("E1002", 1070.0)
    assert board.ban_of(PEER, 1069.9) == ban and board.bans(1069.9) == [ban]
    assert board.ban_of(PEER, 1070.0) is None and board.score(PEER, 1070.0) == 0


def test_forgery_bans_at_once_and_questions_without_answer_are_free() -> None:
    board = ScoreBoard(ban_seconds=60.0)
    assert board.charge(PEER, Rejection(BAD_SIGNATURE, "forged"), 0.0) is not None
    assert board.score(PEER, 0.0) == BAN_AT
    for _ in range(100):
        assert board.charge(OTHER, Rejection(reasons.NO_SUCH_BLOB, "no"), 0.0) is None
    assert board.score(OTHER, 0.0) == 0


def test_scores_and_bans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    board = ScoreBoard(ban_seconds=1e9)
    monkeypatch.setattr(scoring, "PEERS_MAX", 100)
    for number in range(150):
        board.charge(f"peer{number}", Rejection(BAD_SIGNATURE, ""), 0.0)
    assert len(board.bans(1.0)) == 100
    assert board.ban_of("peer149", 1.0) is not None


def test_rate_has_a_burst_and_refills() -> None:
    rate = RateLimiter(2.0)
    burst = int(2.0 * bounds.RATE_BURST_S)
    assert [rate.allow("a", 0.0) for _ in range(burst + 1)] == [True] * burst + [False]
    assert rate.allow("b", 0.0)
    assert not rate.allow("a", 0.4) and rate.allow("a", 0.9)
    for number in range(RateLimiter.KEYS_MAX * 2):
        rate.allow(number, 1.0)
    assert len(rate._buckets) <= RateLimiter.KEYS_MAX


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/ip4/1.2.3.4/tcp/1",
        f"/ip4/1.2.3.400/tcp/1/p2p/{PEER}",
        f"/ip4/1.2.3.4/tcp/0/p2p/{PEER}",
        f"/ip4/1.2.3.4/tcp/65536/p2p/{PEER}",
        f"/ip4/1.2.3.4/udp/1/p2p/{PEER}",
        f"/ip4/1.2.3.4/tcp/1/p2p/{PEER}/extra",
        f"/dns/{'x' * 200}/tcp/1/p2p/{PEER}",
        f"/ip6/1.2.3.4/tcp/1/p2p/{PEER}",
    ],
)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Rejection) as rejected:
        parse_address(text)
    assert rejected.value.reason is reasons.BAD_ADDRESS_TEXT


def test_addresses_are_parsed_and_told_apart() -> None:
    assert parse_address(f"/ip4/1.2.3.4/tcp/7400/p2p/{PEER}") == ("ip4", "1.2.3.4", 7400, PEER)
    assert parse_address(f"/dns4/seed.example/tcp/7400/p2p/{PEER}")[1] == "seed.example"
    assert is_public("/ip4/8.8.8.8/tcp/1") and is_public("/dns/seed.example/tcp/1")
    assert not is_public("/ip4/127.0.0.1/tcp/1") and not is_public("/ip4/192.168.1.1/tcp/1")
    assert not is_public("/ip6/::1/tcp/1")


def address(number: int, peer: str = PEER) -> str:
    """An address of `peer` that depends on the number."""
    return f"/ip4/10.0.{number >> 8}.{number & 255}/tcp/7400/p2p/{peer}"


def test_book_survives_a_restart_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "peers.bin"
    book = AddressBook(path)
    assert book.load() == []
    book.learn(address(1), proven=True, now=5.0)
    book.learn(address(2), proven=False, now=6.0)  # hearsay does not replace what has worked
    book.learn(address(3, OTHER), proven=False, now=7.0)
    board = ScoreBoard(60.0)
    ban = board.ban(OTHER, reasons.BY_OPERATOR, "noisy", 100.0)
    book.save([ban], [OTHER])
    again = AddressBook(path)
    assert again.load() == [ban]
    assert [(entry.peer, entry.address, entry.anchor) for entry in again.entries()] == [
        (OTHER, address(3, OTHER), True),
        (PEER, address(1), False),
    ]
    path.write_bytes(path.read_bytes()[:-3])
    assert AddressBook(path).load() == [] and (tmp_path / "peers.damaged").exists()


def test_book_is_bounded_and_hearsay_cannot_push_out_what_works(tmp_path: Path) -> None:
    book = AddressBook(tmp_path / "peers.bin")
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

    def peer(number: int) -> str:
        return "12D3KooW" + "1" * 40 + alphabet[number // 58 % 58] + alphabet[number % 58]

    for number in range(bounds.BOOK_ENTRIES_MAX - 1):
        book.learn(address(number, peer(number)), proven=True, now=1.0)
    for number in range(2000, 2100):
        book.learn(address(number, peer(number)), proven=False, now=9.0)
    entries = book.entries()
    assert len(entries) == bounds.BOOK_ENTRIES_MAX
    assert sum(entry.proven for entry in entries) == bounds.BOOK_ENTRIES_MAX - 1


class Pipe:
    """A stream in memory."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    async def read_exactly(self, count: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if len(self.data) < count:
            raise ConnectionError("ended")
        part, self.data = self.data[:count], self.data[count:]
        return part

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.data += data


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=100), max_size=5))
def test_frames_come_out_as_they_went_in(payloads: list[bytes]) -> None:
    async def test() -> list[bytes]:
        pipe = Pipe()
        for payload in payloads:
            await write_frame(pipe, payload)
        return [await read_frame(pipe, 100, reasons.WRONG_FRAME) for _ in payloads]

    assert trio.run(test) == payloads


def test_oversized_frame_is_refused_unread() -> None:
    async def test() -> None:
        pipe = Pipe(b"\x00\x00\x00\x65" + b"x" * 101)
        with pytest.raises(Rejection):
            await read_frame(pipe, 100, reasons.WRONG_FRAME)
        assert len(pipe.data) == 101

    trio.run(test)
