"""The program that is traced: `power_cut_workload.py HOME SAYING SESSIONS BLOCKS TRANSFERS [BUG]`.

It makes a home, then opens it several times and commits blocks with real votes each time. What has left the node is
said, one line each, right after it left: `made`; `signed H R S MESSAGE`; `committed H DIGEST` with a digest over the
whole database. `BUG` names a mistake that is made on purpose, to see that the judge finds it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import trio
from chaos_home import Validator, make_home, opened_home, signed_thing, store_digest

from consensus.tendermint.types import ConsensusMessage
from gensyn_node.app.chain import CommittedBlock
from gensyn_node.app.settings import NodeSettings
from gensyn_node.app.startup import Opened
from gensyn_node.storage import files, leveldb
from gensyn_node.storage.leveldb import Database

WRITE_BUFFER_BYTES = 64 << 10
"""The least that LevelDB takes: its log is replaced and tables are merged while the workload runs."""


def skip_fsync(module: ModuleType, *, folders: bool) -> None:
    """In this module, fsync does nothing to folders, or to files."""

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}") is not folders:
            os.fsync(descriptor)

    module.os = _Namespace(os, fsync)  # type: ignore[attr-defined]


class _Namespace:
    """`os` with another fsync."""

    def __init__(self, module: ModuleType, fsync: Callable[[int], None]) -> None:
        self._module, self.fsync = module, fsync

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


def _write_unsynced(self: Database, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool = True) -> None:
    usual_write(self, changes, sync=False)


usual_write = Database.write
BUGS: dict[str, Callable[[], None]] = {
    "files are not synced": lambda: skip_fsync(files, folders=False),
    "folders are not synced": lambda: skip_fsync(files, folders=True),
    "blocks are not synced": lambda: setattr(Database, "write", _write_unsynced),
}


def main(path: Path, saying: Path, sessions: int, blocks: int, transfers: int, bug: str = "") -> None:
    """Run the sessions."""
    if bug:
        BUGS[bug]()
    leveldb.WRITE_BUFFER_BYTES = WRITE_BUFFER_BYTES
    descriptor = os.open(saying, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(line: str) -> None:
        os.write(descriptor, line.encode() + b"\n")

    make_home(path)
    say("made")
    for session in range(1, sessions + 1):
        with opened_home(path) as (settings, opened):
            trio.run(_session, say, settings, opened, session * blocks, transfers)


async def _session(
    say: Callable[[str], None], settings: NodeSettings, opened: Opened, last: int, transfers: int
) -> None:
    def sent(message: ConsensusMessage) -> None:
        if (signed := signed_thing(message)) is not None:
            (height, round_, step), covered = signed
            say(f"signed {height} {round_} {step} {covered.hex()}")

    def committed(block: CommittedBlock) -> None:
        say(f"committed {block.head.height} {store_digest(validator.chain.store)}")
        if block.head.height < last:
            validator.pay(transfers)

    validator = Validator(settings, opened, sent=sent, committed=committed)
    if validator.chain.head.height == 0:
        say(f"committed 0 {store_digest(validator.chain.store)}")
    validator.pay(transfers)
    await validator.run_to(last)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6]), *sys.argv[6:])
