"""Making a home's files, and checking against each other what a run before this one left."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

import structlog

from consensus.chain_state import first_state
from consensus.ledger import keys, tree
from consensus.ledger.genesis import genesis_delta, genesis_hash
from consensus.ledger.records import ConsensusRecord, Genesis
from consensus.tendermint.block import verify_commit
from consensus.tendermint.types import NIL
from gensyn_node.app.chain import Chain
from gensyn_node.app.doppelganger import check_own_commit
from gensyn_node.app.room import free_bytes
from gensyn_node.app.settings import CHAIN_FOLDER, DAMAGED_FILE, LOG_FOLDER, SIGN_STATE_FILE, NodeSettings
from gensyn_node.config.home import Home
from gensyn_node.primitives import codec, limits
from gensyn_node.primitives.crypto import SecretKey
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from gensyn_node.storage import reasons
from gensyn_node.storage.chain_store import ChainStore, Head
from gensyn_node.storage.files import replace_file, sync_directory
from gensyn_node.storage.signer import Signer, log_is_short
from gensyn_node.storage.wal import WriteAheadLog, log_heights
from proofs.arithmetic.self_check import check_machine

CHECKED_LINKS = 16
"""Blocks below the head whose links are checked at every start."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """The files of a home, open and consistent."""

    chain: Chain
    wal: WriteAheadLog
    records: tuple[bytes, ...]
    signer: Signer | None


def init_storage(home: Home, genesis: Genesis, consensus_key: SecretKey) -> None:
    """Write the genesis, the database at height 0 and an empty sign state. `Rejection` STORE_EXISTS for a used home."""
    home.make()
    signer_path = home.signer / SIGN_STATE_FILE
    if (home.data / CHAIN_FOLDER).exists() or signer_path.exists():
        raise Rejection(reasons.STORE_EXISTS, f"{home.path} is initialised already")
    replace_file(home.genesis, codec.encode(genesis))
    create_chain(home, genesis).close()
    Signer.create(signer_path, consensus_key)
    for folder in (home.path, home.path.parent):
        sync_directory(folder)


def create_chain(home: Home, genesis: Genesis) -> Chain:
    """A database with the genesis as its head."""
    delta = genesis_delta(genesis)
    state = first_state(genesis, delta)
    store = ChainStore.create(
        home.data / CHAIN_FOLDER,
        genesis_hash(genesis),
        Head(0, NIL, delta.app_hash, codec.encode(state)),
        validators=[(1, codec.encode(state.validators)), (2, codec.encode(state.next_validators))],
        ledger_writes=delta.writes,
        tree_nodes=delta.new_nodes,
    )
    return Chain(store, genesis)


def open_home(settings: NodeSettings) -> Opened:
    """Open database, log and sign state, and check them against each other. Raises `Rejection` (E20…).

    `InvariantViolation` when this process would rule wrongly in disputes.
    """
    check_machine()
    folder = settings.home.data / CHAIN_FOLDER
    chain = Chain.open(folder, settings.genesis, settings.config.storage.keep_states)
    try:
        return _open_beside(chain, settings)
    except BaseException:
        chain.close()
        raise


def _open_beside(chain: Chain, settings: NodeSettings) -> Opened:
    """Log and sign state, checked against the open chain."""
    home = settings.home
    signer = _open_signer(settings)
    check_chain(chain)
    if signer is not None and settings.config.node.validator:
        _check_own_commits(chain, signer)
    height = chain.head.height + 1
    _check_logs(home, height)
    opened = WriteAheadLog.open(home.data / LOG_FOLDER, height)
    if opened.quarantined is not None:
        log.error("log_corrupt", set_aside=str(opened.quarantined), code=reasons.LOG_CORRUPT.code)
    if signer is not None and log_is_short(signer.state, height, records=len(opened.records)):
        log.error("log_short", height=height, signed=signer.state.height, records=len(opened.records))
        signer.sit_out()
    return Opened(chain, opened.log, opened.records, signer if settings.config.node.validator else None)


def _open_signer(settings: NodeSettings) -> Signer | None:
    """The record, also of a node that only follows now: the log that it begins anew knows no lock of before."""
    try:
        return Signer.open(settings.home.signer / SIGN_STATE_FILE, settings.consensus_key)
    except Rejection as rejection:
        if settings.config.node.validator:
            raise
        log.info("sign_state_unused", why=str(rejection))
        return None


def _check_own_commits(chain: Chain, signer: Signer) -> None:
    """`Rejection` SIGN_STATE_BEHIND when the newest blocks have signatures that the signer does not know."""
    head = chain.head.height
    for height in range(head, max(chain.base - 1, signer.state.height - 1, head - CHECKED_LINKS, 0), -1):
        commit, validators = chain.commit(height), chain.validators(height)
        if commit is not None and validators is not None:
            check_own_commit(chain.chain_id, signer.state, commit, validators)


def open_or_begin_again(settings: NodeSettings) -> Opened:
    """`open_home`; a database that fails its own checks is set aside, and the node synchronises again.

    Keys and sign state stay, so nothing is signed again at or below the height signed last. Whatever else is wrong is
    refused: a database that only cannot be read now, files that contradict each other, a disk that is full.
    """
    home = settings.home
    low_water = settings.config.storage.low_water_mib * limits.MIB
    if (free := free_bytes(home.data)) < low_water:
        raise Rejection(reasons.NO_ROOM, f"{free} bytes are free on the disk of {home.data}, {low_water} are needed")
    damaged = home.data / DAMAGED_FILE
    if damaged.exists():
        log.error("store_corrupt", set_aside=str(begin_again(home, settings.genesis)), why="a read met damage")
        damaged.unlink()
    try:
        return open_home(settings)
    except Rejection as rejection:
        half_reset = rejection.reason is reasons.STORE_MISSING and any(home.data.glob(f"{CHAIN_FOLDER}.old-*"))
        if rejection.reason is not reasons.STORE_CORRUPT and not half_reset:
            raise
        log.error("store_corrupt", set_aside=str(begin_again(home, settings.genesis)), why=rejection.message)
    return open_home(settings)


def begin_again(home: Home, genesis: Genesis) -> Path | None:
    """Put the genesis in the place of the chain; where the old database is now. The caller holds the home.

    A kill in between is made good by the next start: logs go first, and without them nothing is signed that was before.
    """
    aside = None
    for folder in (LOG_FOLDER, CHAIN_FOLDER):
        path = home.data / folder
        if path.exists():
            aside = next(free for n in count() if not (free := path.with_name(f"{folder}.old-{n}")).exists())
            os.replace(path, aside)
            sync_directory(home.data)
    create_chain(home, genesis).close()
    return aside


def check_chain(chain: Chain) -> None:
    """`Rejection` HEADS_DISAGREE unless head, blocks, commits and ledger state fit together."""
    head = chain.head
    _check_ledger(chain)
    expected = head.block_id
    for height in range(head.height, max(chain.base - 1, head.height - CHECKED_LINKS), -1):
        block, commit = chain.block(height), chain.commit(height)
        if block is None or commit is None or block.id != expected or commit.block_id != expected:
            raise Rejection(reasons.HEADS_DISAGREE, f"block {height} is missing or is another one")
        expected = block.header.previous_block_id
    if head.height:
        _check_state(chain)
        _check_index(chain)


def _check_state(chain: Chain) -> None:
    """What consensus goes on with is what the head block and the ledger under its app hash say."""
    head, state = chain.head, chain.state
    block, commit = chain.block(head.height), chain.commit(head.height)
    if block is None or commit is None or state.last_validators is None or state.time_ms != block.header.time_ms:
        raise Rejection(reasons.HEADS_DISAGREE, "the head's state is not that of its block")
    try:
        verify_commit(chain.chain_id, state.last_validators, commit)
    except Rejection as rejection:
        raise Rejection(reasons.HEADS_DISAGREE, f"the head's commit: {rejection.message}") from None
    for height, members in ((head.height + 1, state.validators), (head.height + 2, state.next_validators)):
        if chain.validators(height) != members:
            raise Rejection(reasons.HEADS_DISAGREE, f"the stored validator set of {height} is not the head's")
    encoded = chain.view().get(keys.CONSENSUS)
    if encoded is None or encoded != codec.encode(ConsensusRecord(state.beacon, state.validators.rotation_hash)):
        raise Rejection(reasons.HEADS_DISAGREE, "beacon or proposer rotation are not those that the ledger names")


def _check_index(chain: Chain) -> None:
    """The head's transactions and results are found; the block of a snapshot comes without them."""
    height = chain.head.height
    if height == chain.store.began:
        return
    names, results = chain.names(height), chain.results(height)
    if results is None or len(results) != len(names.transaction_ids):
        raise Rejection(reasons.HEADS_DISAGREE, f"the results of block {height} are missing")
    for index, (name, result) in enumerate(zip(names.transaction_ids, results, strict=True)):
        if not result.charged:
            continue  # the index may lead to another copy, or did until a rollback
        place = chain.place_of(name)
        if place is None or place.height != height or names.transaction_ids[place.index] != name:
            raise Rejection(reasons.HEADS_DISAGREE, f"transaction {index} of block {height} is not in the index")


def _check_ledger(chain: Chain) -> None:
    """The state tree has the root that the head names, and the ledger holds what the tree says (the supply record)."""
    view = chain.view()
    try:
        if sha256(view.read_node(view.root)).digest() != chain.head.app_hash:
            raise Rejection(reasons.HEADS_DISAGREE, "the state tree's root is not the head's app hash")
        proof = tree.prove(view.root, view.read_node, keys.SUPPLY)
    except InvariantViolation as violation:
        raise Rejection(reasons.HEADS_DISAGREE, str(violation)) from violation
    if not tree.verify(view.root, keys.SUPPLY, view.get(keys.SUPPLY), proof):
        raise Rejection(reasons.HEADS_DISAGREE, "the ledger's records are not those of its state tree")


def _check_logs(home: Home, height: int) -> None:
    latest = max(log_heights(home.data / LOG_FOLDER), default=0)
    if latest > height:
        raise Rejection(
            reasons.HEADS_DISAGREE, f"there is a log of height {latest}, and the database's next is {height}"
        )
