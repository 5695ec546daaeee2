"""Keystore files: what is stored comes back; what is wrong, damaged or too expensive is refused cleanly."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gensyn_node.keys import keyring, keystore, passphrase, recovery
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import Rejection

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/wallet/bip39_english.json").read_text())["english"]
KEY = SecretKey(bytes(range(32)))
LOCKED = keystore.pack(keystore.lock(KEY, "correct horse", keystore.LIGHT))


def code(error: pytest.ExceptionInfo[Rejection]) -> str:
    return error.value.reason.code


def test_locked_key_opens_with_its_passphrase_only() -> None:
    stored = keystore.unpack(LOCKED)
    assert keystore.unlock(stored, "correct horse") == KEY
    assert KEY.seed not in LOCKED
    for wrong in ("", "correct horse ", "Correct horse"):
        with pytest.raises(Rejection) as error:
            keystore.unlock(stored, wrong)
        assert code(error) == "E2052"


def test_each_damaged_byte_is_noticed() -> None:
    for position in range(len(LOCKED)):
        for flip in (0x01, 0x80):
            damaged = bytearray(LOCKED)
            damaged[position] ^= flip
            with pytest.raises(Rejection) as error:
                keystore.unpack(bytes(damaged))
            assert code(error) == "E2051"


def test_each_truncation_and_any_addition_is_noticed() -> None:
    for length in range(len(LOCKED)):
        with pytest.raises(Rejection) as error:
            keystore.unpack(LOCKED[:length])
        assert code(error) == "E2051"
    with pytest.raises(Rejection):
        keystore.unpack(LOCKED + b"\0")


def forged(cost: keystore.Cost) -> bytes:
    """The locked key with another cost in its header and a checksum that fits."""
    stored = keystore.unpack(LOCKED)
    assert isinstance(stored, keystore.LockedKey)
    checksum = keystore._checksum("locked", stored.public, encode(cost), stored.salt, stored.box)
    return keystore.pack(keystore.LockedKey(stored.public, cost, stored.salt, stored.box, checksum))


@pytest.mark.parametrize(
    "cost",
    [
        keystore.Cost(1, 64 << 30),
        keystore.Cost(1, keystore.MEMORY_BYTES_MAX + 1),
        keystore.Cost(keystore.OPERATIONS_MAX + 1, keystore.MEMORY_BYTES_MIN),
        keystore.Cost(0, keystore.MEMORY_BYTES_MIN),
        keystore.Cost(1, 8192),
    ],
)
def test_a_file_cannot_ask_for_too_much_or_too_little_work(cost: keystore.Cost) -> None:
    with pytest.raises(Rejection) as error:
        keystore.unpack(forged(cost))
    assert code(error) == "E2051"


def test_header_is_authenticated() -> None:
    stored = keystore.unpack(forged(keystore.Cost(2, keystore.MEMORY_BYTES_MIN)))
    with pytest.raises(Rejection) as error:
        keystore.unlock(stored, "correct horse")
    assert code(error) == "E2052"


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused(data: bytes) -> None:
    for file in (data, keystore.MAGIC + data):
        with pytest.raises(Rejection) as error:
            keystore.unpack(file)
        assert code(error) == "E2051"


def test_keyring(tmp_path: Path) -> None:
    ring = keyring.Keyring(tmp_path / "keys")
    ring.add("mine", KEY, "secret", keystore.LIGHT)
    ring.add("dev", keyring.new_key(), None)
    assert stat.S_IMODE(ring.path("mine").stat().st_mode) == 0o600
    assert [(key.name, key.encrypted) for key in ring.list()] == [("dev", False), ("mine", True)]
    assert ring.open("mine", "secret") == KEY
    assert ring.open("dev").public == ring.list()[0].public
    assert sorted(path.name for path in ring.folder.iterdir()) == ["dev.key", "mine.key"]
    with pytest.raises(Rejection) as error:
        ring.add("mine", keyring.new_key(), None)
    assert code(error) == "E2054"
    assert ring.open("mine", "secret") == KEY


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "a" * 41, ".", "é", "a\n"])
def test_key_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(Rejection) as error:
        keyring.Keyring(tmp_path).add(name, KEY, None)
    assert code(error) == "E2055"
    assert list(tmp_path.iterdir()) == []


def test_missing_key_is_said(tmp_path: Path) -> None:
    with pytest.raises(Rejection) as error:
        keyring.Keyring(tmp_path).open("nobody")
    assert code(error) == "E2053"


def test_nothing_printable_shows_a_seed() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert repr(KEY.seed) not in repr(KEY)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector[0][:8])
def test_bip39_vectors(vector: list[str]) -> None:
    assert recovery.entropy_of(vector[1]) == bytes.fromhex(vector[0])
    if len(vector[0]) == 64:
        key = recovery.key_of(vector[1])
        assert key.seed == bytes.fromhex(vector[0])
        assert recovery.words_of(key) == vector[1]


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=50, deadline=None)
def test_words_restore_every_key(seed: bytes) -> None:
    assert recovery.key_of(recovery.words_of(SecretKey(seed))).seed == seed


def test_a_thousand_keys_come_back_from_their_words() -> None:
    for number in range(1_000):
        key = SecretKey(hashlib.sha256(number.to_bytes(4, "big")).digest())
        assert recovery.key_of(recovery.words_of(key)) == key


WORDS = recovery.words_of(KEY).split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "not 0"),
        (" ".join(WORDS[:23]), "not 23"),
        (" ".join(["abandon"] * 11 + ["about"]), "24 words are needed, not 12"),
        (" ".join([*WORDS[:4], "gensyn", *WORDS[5:]]), "word 5 "),
        (" ".join([WORDS[1], WORDS[0], *WORDS[2:]]), "checksum"),
    ],
)
def test_wrong_words_say_what_is_wrong(words: str, said: str) -> None:
    with pytest.raises(Rejection) as error:
        recovery.key_of(words)
    assert code(error) == "E2056"
    assert said in error.value.message


def test_passphrase_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "phrase"
    file.write_text("from a file\n")
    monkeypatch.setenv(passphrase.PASSPHRASE_VARIABLE, "from the environment")
    assert passphrase.find_passphrase(file=file) == "from a file"
    assert passphrase.find_passphrase() == "from the environment"
    monkeypatch.setenv(passphrase.PASSPHRASE_FILE_VARIABLE, str(file))
    assert passphrase.find_passphrase() == "from a file"
    file.write_bytes(b"\xff")
    with pytest.raises(Rejection) as error:
        passphrase.find_passphrase()
    assert code(error) == "E2057"


def test_no_terminal_no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(passphrase.PASSPHRASE_VARIABLE, raising=False)
    monkeypatch.delenv(passphrase.PASSPHRASE_FILE_VARIABLE, raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(Rejection) as error:
        passphrase.find_passphrase()
    assert code(error) == "E2057"
