"""A home whose database is damaged begins again by itself; what it has signed it never signs again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from chain_maker import ChainMaker
from msgspec import structs
from node_cluster import Cluster, make_cluster

from gensyn_node.app.settings import CHAIN_FOLDER, DAMAGED_FILE, LOG_FOLDER, SIGN_STATE_FILE, NodeSettings
from gensyn_node.app.startup import begin_again, check_chain, open_home, open_or_begin_again
from gensyn_node.config.node_config import StorageSection
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.signer import Signer, SignRequest, SignStep
from gensyn_node.storage.wal import WriteAheadLog, log_path

HEIGHT = 9


def used_home(tmp_path: Path) -> tuple[Cluster, NodeSettings]:
    """A validator's home with blocks, a log and a signature above its head."""
    cluster = make_cluster(tmp_path, 1)
    maker = ChainMaker(cluster)
    maker.grow(HEIGHT)
    maker.chain.close()
    settings = cluster.settings[0]
    signer = Signer.open(settings.home.signer / SIGN_STATE_FILE, settings.consensus_key)
    signer.sign(SignRequest(HEIGHT + 1, 0, SignStep.PREVOTE, b"vote", b"vote", 0, 0))
    log_path(settings.home.data / LOG_FOLDER, HEIGHT + 1).parent.mkdir(exist_ok=True)
    log_path(settings.home.data / LOG_FOLDER, HEIGHT + 1).write_bytes(b"")
    return cluster, settings


def damage(settings: NodeSettings) -> None:
    """A byte in the middle of the database's log."""
    chain = settings.home.data / CHAIN_FOLDER
    path = max(chain.glob("*.log"), key=lambda found: found.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def assert_begun_again(settings: NodeSettings) -> None:
    opened = open_or_begin_again(settings)
    assert opened.chain.head.height == 0
    check_chain(opened.chain)
    signer = opened.signer
    assert signer is not None
    for height in (1, HEIGHT, HEIGHT + 1):
        with pytest.raises(Rejection):
            signer.sign(SignRequest(height, 5, SignStep.PRECOMMIT, b"other", b"other", 0, 0))
    assert signer.sign(SignRequest(HEIGHT + 2, 0, SignStep.PREVOTE, b"next", b"next", 0, 0)).signature
    opened.chain.close()
    opened.wal.close()


def test_a_damaged_database_is_set_aside_and_the_sign_state_stays(tmp_path: Path) -> None:
    _, settings = used_home(tmp_path)
    damage(settings)
    with pytest.raises(Rejection) as caught:
        open_home(settings)
    assert caught.value.reason is reasons.STORE_CORRUPT
    assert_begun_again(settings)
    assert (settings.home.data / f"{CHAIN_FOLDER}.old-0").is_dir()


def test_damage_that_only_a_read_finds_is_remembered_for_the_next_start(tmp_path: Path) -> None:
    _, settings = used_home(tmp_path)
    (settings.home.data / DAMAGED_FILE).touch()
    assert_begun_again(settings)
    assert not (settings.home.data / DAMAGED_FILE).exists()


@pytest.mark.parametrize("done", ["logs", "logs and chain"])
def test_a_kill_in_the_middle_of_beginning_again_is_made_good(done: str, tmp_path: Path) -> None:
    _, settings = used_home(tmp_path)
    damage(settings)
    data = settings.home.data
    os.replace(data / LOG_FOLDER, data / f"{LOG_FOLDER}.old-0")
    if done == "logs and chain":
        os.replace(data / CHAIN_FOLDER, data / f"{CHAIN_FOLDER}.old-0")
    assert_begun_again(settings)


def test_a_sound_home_and_other_troubles_are_left_alone(tmp_path: Path) -> None:
    cluster, settings = used_home(tmp_path)
    opened = open_or_begin_again(settings)
    assert opened.chain.head.height == HEIGHT
    opened.chain.close()
    opened.wal.close()
    no_room = structs.replace(settings.config, storage=StorageSection(low_water_mib=1 << 24))
    full = NodeSettings(
        settings.home, no_room, settings.genesis, settings.account_key, settings.consensus_key, settings.p2p_key
    )
    with pytest.raises(Rejection) as caught:
        open_or_begin_again(full)
    assert caught.value.reason is reasons.NO_ROOM
    log_path(settings.home.data / LOG_FOLDER, HEIGHT + 5).write_bytes(b"")
    with pytest.raises(Rejection) as caught:
        open_or_begin_again(settings)
    assert caught.value.reason is reasons.HEADS_DISAGREE
    assert begin_again(settings.home, settings.genesis) == settings.home.data / f"{CHAIN_FOLDER}.old-0"
    assert_begun_again(settings)
    assert cluster.settings[0] is settings


def test_a_database_that_is_locked_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    _, settings = used_home(tmp_path)
    first = open_home(settings)
    with pytest.raises(Rejection) as caught:
        open_or_begin_again(settings)
    assert caught.value.reason is reasons.STORE_UNREADABLE
    first.chain.close()
    first.wal.close()
    assert not list(settings.home.data.glob(f"{CHAIN_FOLDER}.old-*"))


def test_a_lock_that_was_lost_while_the_node_only_followed_is_not_voted_against(tmp_path: Path) -> None:
    """The log that a follower writes of the height signed last is as long as the lost one, and knows no lock."""
    cluster = make_cluster(tmp_path, 1)
    maker = ChainMaker(cluster)
    maker.grow(HEIGHT)
    blocks = [(maker.chain.block(height), maker.chain.commit(height)) for height in range(1, HEIGHT + 1)]
    maker.chain.close()
    settings = cluster.settings[0]
    signer = Signer.open(settings.home.signer / SIGN_STATE_FILE, settings.consensus_key)
    signer.sign(SignRequest(HEIGHT + 1, 0, SignStep.PRECOMMIT, b"lock", b"lock", 0, 3))
    begin_again(settings.home, settings.genesis)
    config = structs.replace(settings.config, node=structs.replace(settings.config.node, validator=False))
    following = open_or_begin_again(replace(settings, config=config))
    assert following.signer is None
    following.chain.close()
    following.wal.close()
    maker = ChainMaker(cluster)
    for block, commit in blocks:
        assert block and commit
        maker.adopt(block, commit)
    maker.chain.close()
    log = WriteAheadLog.open(settings.home.data / LOG_FOLDER, HEIGHT + 1).log
    for _ in range(3):
        log.append(b"input")
    log.sync()
    log.close()
    opened = open_or_begin_again(settings)
    assert opened.signer is not None
    with pytest.raises(Rejection):
        opened.signer.sign(SignRequest(HEIGHT + 1, 1, SignStep.PREVOTE, b"other", b"other", 0, 4))
    assert opened.signer.sign(SignRequest(HEIGHT + 2, 0, SignStep.PREVOTE, b"next", b"next", 0, 1)).signature
    opened.chain.close()
    opened.wal.close()
