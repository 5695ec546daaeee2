"""The program that is traced: `power_cut_workload.py HOME SAYING SESSIONS BLOCKS TRANSFERS`.

It makes a home, then opens it several times and commits blocks with real votes each time. What has left the node is
said, one line each, right after it left: `made`; `signed H R S MESSAGE`; `committed H DIGEST` with a digest over the
whole database.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import trio
from chaos_home import Validator, make_home, opened_home, signed_thing, store_digest

from consensus.tendermint.types import ConsensusMessage
from gensyn_node.app.chain import CommittedBlock
from gensyn_node.app.settings import NodeSettings
from gensyn_node.app.startup import Opened
from gensyn_node.storage import leveldb

WRITE_BUFFER_BYTES = 64 << 10
"""The least that LevelDB takes: its log is replaced and tables are merged while the workload runs."""


def main(path: Path, saying: Path, sessions: int, blocks: int, transfers: int) -> None:
    """Run the sessions."""
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
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:6]))
