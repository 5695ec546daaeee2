"""Flipped bytes: damage one byte of a home, start a node on it, read everything, compare.

A flip passes when every read gives what it gave before, or when it is refused with a code, at the start or at the read.
The input log may end early if what is left is all that was signed on, or if the validator sits out.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from chaos_home import Validator, make_home, opened_home, store_items
from crash_disk import is_diary

from consensus.tendermint.types import ConsensusMessage
from gensyn_node.app.settings import NodeSettings
from gensyn_node.app.startup import Opened
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import leveldb
from gensyn_node.storage.signer import Signed, SignRequest, SignStep

SAME, SHORTER, SITS_OUT = "read the same", "log cut behind what was signed on", "sits out"
LOG_BLOCK_BYTES = 32_768
"""LevelDB reads logs and manifests in such pieces; a record's header has 7 bytes (checksum, length, kind)."""
HEADER_BYTES = 7
WRITE_BUFFER_BYTES = 64 << 10
"""As in the power-cut workload: tables, a merged one among them, a log and a manifest with several edits."""


@dataclass(frozen=True, slots=True)
class Flip:
    """One damaged byte."""

    path: str
    position: int
    byte: int


@dataclass(frozen=True, slots=True)
class Sound:
    """A home and what is read from it."""

    files: dict[str, bytes | None]
    settings: NodeSettings
    items: dict[bytes, bytes]
    records: tuple[bytes, ...]
    state: object


class Stopped(Exception):  # noqa: N818  (it names the event)
    """The process ends in the middle of a height."""


def build(folder: Path, *, sessions: int = 4, blocks: int = 6, transfers: int = 12) -> Sound:
    """A home that ended in the middle of a height: its log has inputs and its sign state a prevote."""
    usual, leveldb.WRITE_BUFFER_BYTES = leveldb.WRITE_BUFFER_BYTES, WRITE_BUFFER_BYTES
    try:
        make_home(folder)
        for session in range(1, sessions + 1):
            with opened_home(folder) as (settings, opened):
                trio.run(_run, settings, opened, session * blocks, transfers, session == sessions)
        files = read_files(folder)
        with opened_home(folder) as (settings, opened):
            assert opened.signer is not None
            return Sound(files, settings, dict(store_items(opened.chain.store)), opened.records, opened.signer.state)
    finally:
        leveldb.WRITE_BUFFER_BYTES = usual


async def _run(settings: NodeSettings, opened: Opened, last: int, transfers: int, stop_within: bool) -> None:
    assert opened.signer is not None
    sign = opened.signer.sign

    def sign_until(request: SignRequest) -> Signed:
        if (request.height, request.step) == (last + 1, SignStep.PRECOMMIT):
            raise Stopped
        return sign(request)

    def sent(_: ConsensusMessage) -> None:
        if validator.chain.head.height < last and not len(validator.pool):
            validator.pay(transfers)

    validator = Validator(settings, opened, sent=sent, committed=lambda _: None)
    validator.pay(transfers)
    if not stop_within:
        await validator.run_to(last)
        return
    opened.signer.sign = sign_until  # type: ignore[method-assign]
    with pytest.RaisesGroup(Stopped, flatten_subgroups=True):
        await validator.run_to(last + 1)


def read_files(folder: Path) -> dict[str, bytes | None]:
    """Relative path → content, None for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def kind_of(path: str) -> str:
    """Which kind of file this is, for figures."""
    name = path.rsplit("/", 1)[-1]
    if is_diary(path):
        return "diary"
    if path.startswith("data/chain/"):
        if name.startswith("MANIFEST"):
            return "manifest"
        return {"CURRENT": "CURRENT"}.get(name, "table" if name.endswith(".ldb") else "database log")
    if path.startswith("data/wal/"):
        return "input log"
    return {"last_signed": "sign state", "genesis.bin": "genesis", "config.toml": "configuration"}.get(name, "key")


def flips(sound: Sound, seed: int, count: int) -> Iterator[Flip]:
    """`count` different flips: as many in each kind of file as it has room for, half of them where structure is."""
    chance = random.Random(seed)
    by_kind: dict[str, list[str]] = {}
    for path, content in sound.files.items():
        if content and not is_diary(path):
            by_kind.setdefault(kind_of(path), []).append(path)
    seen: set[Flip] = set()
    places = {path: structure(path, sound.files[path] or b"") for paths in by_kind.values() for path in paths}
    tries = 0
    while len(seen) < count and tries < 50 * count:
        tries += 1
        path = chance.choice(by_kind[chance.choice(sorted(by_kind))])
        content = sound.files[path] or b""
        pointed = places[path] and chance.random() < 0.5
        position = chance.choice(places[path]) if pointed else chance.randrange(len(content))
        flipped = content[position] ^ (1 << chance.randrange(8) if chance.random() < 0.7 else chance.randrange(1, 256))
        flip = Flip(path, position, flipped)
        if flip not in seen:
            seen.add(flip)
            yield flip


def structure(path: str, content: bytes) -> list[int]:
    """Positions that say how the rest is to be read: record headers of logs, the ends of tables."""
    kind = kind_of(path)
    if kind in ("database log", "manifest"):
        return [start + byte for start, _ in log_records(content) for byte in range(HEADER_BYTES)]
    if kind == "table":
        return list(range(max(0, len(content) - 512), len(content)))
    return []


def log_records(content: bytes) -> list[tuple[int, int]]:
    """(start of the header, length of the payload) of each record of a LevelDB log."""
    found, position = [], 0
    while position + HEADER_BYTES <= len(content):
        left = LOG_BLOCK_BYTES - position % LOG_BLOCK_BYTES
        if left < HEADER_BYTES:
            position += left
            continue
        (length,) = struct.unpack_from("<H", content, position + 4)
        found.append((position, length))
        position += HEADER_BYTES + length
    return found


class Fault(AssertionError):  # noqa: N818  (it names what was found)
    """A read that gave something else, without a word."""


def judge(sound: Sound, flip: Flip, target: Path) -> str:
    """Start on the damaged home and read all of it: what was said, or `Fault`."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path, content in sound.files.items():
        if content is None:
            (target / path).mkdir()
        elif path == flip.path:
            damaged = bytearray(content)
            damaged[flip.position] = flip.byte
            (target / path).write_bytes(damaged)
        else:
            (target / path).write_bytes(content)
    try:
        with opened_home(target) as (settings, opened):
            return _read_all(sound, settings, opened)
    except Rejection as rejection:
        return f"refused {rejection.reason.code} {rejection.reason.name}"


def _read_all(sound: Sound, settings: NodeSettings, opened: Opened) -> str:
    assert opened.signer is not None
    state = opened.signer.state
    if settings.genesis != sound.settings.genesis or settings.consensus_key != sound.settings.consensus_key:
        raise Fault("another genesis or key was read")
    reader = opened.chain.store.database
    refused = ""
    for name, value in sound.items.items():
        try:
            found = reader.get(name)
        except Rejection as rejection:
            refused = f"refused {rejection.reason.code} {rejection.reason.name} when read"
        else:
            if found != value:
                raise Fault(f"{name[:12]!r} is {'missing' if found is None else 'another value'}")
    try:
        items = dict(store_items(opened.chain.store))
    except Rejection as rejection:
        refused = f"refused {rejection.reason.code} {rejection.reason.name} when read"
    else:
        if items != sound.items:
            raise Fault(f"{len(sound.items)} items became {len(items)}, or others")
    records, sits_out = opened.records, state.silent_through > opened.chain.head.height
    if records != sound.records[: len(records)]:
        raise Fault("another input was read from the log")
    if len(records) < state.log_records and not sits_out:
        raise Fault("inputs that were signed on are forgotten")
    if refused:
        return refused
    return SAME if records == sound.records else SITS_OUT if sits_out else SHORTER


@dataclass(slots=True)
class Outcome:
    """What came of a number of flips, by the kind of file."""

    flips: int = 0
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def campaign(
    sound: Sound, seed: int, count: int, target: Path, progress: Callable[[int], None] = lambda _: None
) -> Outcome:
    """Judge `count` flips; faults are collected, not raised."""
    result = Outcome()
    for flip in flips(sound, seed, count):
        result.flips += 1
        said = result.outcomes.setdefault(kind_of(flip.path), Counter())
        try:
            said[judge(sound, flip, target)] += 1
        except Exception as error:  # noqa: BLE001  (whatever it is, the node would end with it)
            said["FAULT"] += 1
            result.faults.append(f"{flip}: {type(error).__name__}: {error}")
        progress(result.flips)
    return result
