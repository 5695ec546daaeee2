"""Rollback: everything on disk is as it was at the target, and the same blocks lead to the same bytes again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from chain_maker import ChainMaker, dump
from node_cluster import make_cluster

from gensyn_node.app.maintenance import roll_back
from gensyn_node.app.settings import LOG_FOLDER, SIGN_STATE_FILE
from gensyn_node.app.startup import check_chain, open_home
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.signer import Signer, SignRequest, SignStep
from gensyn_node.storage.wal import log_path

HEIGHT = 14


def grown(tmp_path: Path) -> tuple[ChainMaker, dict[int, dict[bytes, bytes]]]:
    """A chain and the dump of its store after each block."""
    maker = ChainMaker(make_cluster(tmp_path, 4))
    dumps = {0: dump(maker.chain)}
    for height in range(1, HEIGHT + 1):
        maker.grow(1)
        dumps[height] = dump(maker.chain)
    return maker, dumps


@pytest.mark.parametrize("target", [13, 9, 3, 0])
def test_the_store_is_as_it_was_and_the_same_blocks_lead_back(target: int, tmp_path: Path) -> None:
    maker, dumps = grown(tmp_path)
    sealed = [(maker.chain.block(height), maker.chain.commit(height)) for height in range(target + 1, HEIGHT + 1)]
    maker.chain.close()
    if target == 0:
        with pytest.raises(Rejection) as caught:  # there is no block 0; a home at its genesis is made by `reset`
            roll_back(maker.settings.home, target)
        assert caught.value.reason is reasons.CANNOT_ROLL_BACK
        return
    head = roll_back(maker.settings.home, target)
    assert head.height == target
    again = ChainMaker(maker.cluster)
    assert dump(again.chain) == dumps[target]
    assert sealed[0][0]
    assert again.chain.head.app_hash == sealed[0][0].header.app_hash
    for height, (block, commit) in enumerate(sealed, target + 1):
        assert block and commit
        again.adopt(block, commit)
        check_chain(again.chain)
        assert dump(again.chain) == dumps[height]
    again.chain.close()


def test_rollbacks_and_other_blocks_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that went back three times, each time onto other blocks, ends with the store of one that never did."""
    monkeypatch.setattr("gensyn_node.app.chain.KEEP_STATES", 6)
    maker = ChainMaker(make_cluster(tmp_path, 4))
    maker.grow(HEIGHT)
    for back in (1, 4, 6):
        target = maker.chain.head.height - back
        maker.chain.close()
        roll_back(maker.settings.home, target)
        maker = ChainMaker(maker.cluster)
        maker.grow(back + 3, transfers=2 + back)  # other blocks than before
        check_chain(maker.chain)
    maker.grow(8)
    reference = ChainMaker(maker.cluster, 1)
    for height in range(1, maker.chain.head.height + 1):
        block, commit = maker.chain.block(height), maker.chain.commit(height)
        assert block and commit
        reference.adopt(block, commit)
    assert dump(maker.chain) == dump(reference.chain)


def test_states_that_are_not_kept_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gensyn_node.app.chain.KEEP_STATES", 5)
    maker, dumps = grown(tmp_path)
    maker.chain.close()
    for target in (HEIGHT - 6, HEIGHT, HEIGHT + 1, -1):
        with pytest.raises(Rejection) as caught:
            roll_back(maker.settings.home, target)
        assert caught.value.reason is reasons.CANNOT_ROLL_BACK
    assert roll_back(maker.settings.home, HEIGHT - 5).height == HEIGHT - 5
    assert dump(ChainMaker(maker.cluster).chain).keys() <= dumps[HEIGHT - 5].keys()


def test_logs_of_later_heights_are_set_aside_and_the_sign_state_stays(tmp_path: Path) -> None:
    maker, _ = grown(tmp_path)
    maker.chain.close()
    home = maker.settings.home
    later = log_path(home.data / LOG_FOLDER, HEIGHT + 1)
    later.parent.mkdir(exist_ok=True)
    later.write_bytes(b"inputs")
    signer = Signer.open(home.signer / SIGN_STATE_FILE, maker.settings.consensus_key)
    signer.sign(SignRequest(HEIGHT + 1, 0, SignStep.PREVOTE, b"vote", b"vote", 0, 1))
    before = (home.signer / SIGN_STATE_FILE).read_bytes()
    roll_back(home, HEIGHT - 2)
    assert (home.signer / SIGN_STATE_FILE).read_bytes() == before
    assert not later.exists()
    assert [path.read_bytes() for path in later.parent.glob("*.corrupt-*")] == [b"inputs"]
    opened = open_home(maker.settings)
    assert opened.chain.head.height == HEIGHT - 2
    assert opened.signer is not None
    for height in (HEIGHT - 1, HEIGHT, HEIGHT + 1):
        with pytest.raises(Rejection):
            opened.signer.sign(SignRequest(height, 3, SignStep.PREVOTE, b"other", b"other", 0, 1))
    opened.chain.close()
    opened.wal.close()


KILLED = """
import os, sys
from pathlib import Path
import gensyn_node.storage.leveldb as leveldb
from gensyn_node.app.maintenance import roll_back
from gensyn_node.config.home import Home
honest = leveldb.Database.write
def write(self, changes, **more):
    if sys.argv[2] == "after":
        honest(self, changes, **more)
    os.kill(os.getpid(), 9)
leveldb.Database.write = write
roll_back(Home(Path(sys.argv[1])), int(sys.argv[3]))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_in_the_middle_leaves_the_old_head_or_the_new(moment: str, tmp_path: Path) -> None:
    maker, dumps = grown(tmp_path)
    maker.chain.close()
    home, target = maker.settings.home, HEIGHT - 4
    done = subprocess.run([sys.executable, "-c", KILLED, str(home.path), moment, str(target)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    again = ChainMaker(maker.cluster)
    height = HEIGHT if moment == "before" else target
    assert again.chain.head.height == height
    assert dump(again.chain) == dumps[height]
    check_chain(again.chain)
    again.chain.close()
    if moment == "before":
        assert roll_back(home, target).height == target
