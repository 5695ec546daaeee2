"""From chunks of a snapshot to a chain that a node can open: every byte of it follows from a verified header."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from consensus.chain_state import ChainState
from consensus.ledger import keys
from consensus.ledger.genesis import genesis_hash
from consensus.ledger.parameters import Parameters
from consensus.ledger.proposal_records import Governance
from consensus.ledger.records import ConsensusRecord, Genesis
from consensus.statesync.manifest import Manifest, check_manifest
from consensus.statesync.reasons import STATE_MISMATCH
from consensus.statesync.restore import (
    PastBlock,
    RestoredSets,
    TreeBuilder,
    check_anchor,
    restored_sets,
    without_rotation,
)
from consensus.statesync.stream import EntryReader
from consensus.tendermint.block import check_roots, verify_commit
from consensus.tendermint.evidence import evidence_id
from consensus.tendermint.types import Block, Commit, Header
from gensyn_node.primitives import codec
from gensyn_node.primitives.errors import Rejection
from gensyn_node.storage.chain_store import Head
from gensyn_node.storage.restore import RestoredBlock, StoreBuilder


@dataclass(frozen=True, slots=True)
class Anchor:
    """The block of a snapshot, its commit, and the verified header after it."""

    block: Block
    commit: Commit
    following: Header


def check_restorable(genesis: Genesis, manifest: Manifest, anchor: Anchor) -> None:
    """Everything that can be refused before a chunk is fetched. `Rejection` BAD_MANIFEST, STATE_MISMATCH, BAD_…"""
    block, commit = anchor.block, anchor.commit
    check_manifest(manifest, genesis.chain_id)
    check_anchor(manifest, block.header, anchor.following)
    check_roots(block)
    if (commit.height, commit.block_id) != (manifest.height, block.id):
        raise Rejection(STATE_MISMATCH, f"the commit is not of block {manifest.height}")
    verify_commit(genesis.chain_id, manifest.last_validators, commit)


def restore(
    genesis: Genesis,
    manifest: Manifest,
    anchor: Anchor,
    chunks: Iterable[bytes],
    folder: Path,
) -> tuple[StoreBuilder, RestoredSets, ConsensusRecord]:
    """Build the ledger in `folder`. `Rejection` (with nothing left behind) when it is not the state of the header."""
    check_restorable(genesis, manifest, anchor)
    builder = StoreBuilder(folder)
    try:
        _fill(builder, manifest, chunks, anchor.following.app_hash)
        record: ConsensusRecord = codec.decode(ConsensusRecord, builder.value(keys.CONSENSUS) or b"")
        return builder, restored_sets(manifest, record), record
    except BaseException:
        builder.discard()
        raise


def _fill(builder: StoreBuilder, manifest: Manifest, chunks: Iterable[bytes], app_hash: bytes) -> None:
    reader, growing = EntryReader(), TreeBuilder(builder.node)
    for chunk in chunks:
        entries = reader.feed(chunk)
        grown = growing.add(entries)
        builder.add_entries(entries)
        builder.change_nodes(grown.new_nodes, grown.stale_nodes, manifest.height)
    reader.finish(manifest.entries)
    if growing.root != app_hash:
        raise Rejection(STATE_MISMATCH, f"root {growing.root.hex()}, the header names {app_hash.hex()}")


def oldest_needed(genesis: Genesis, value: Callable[[bytes], bytes | None], height: int) -> int:
    """The lowest block before the restored one of `height` that evidence may still name; others may not keep more."""
    parameters: Parameters = codec.decode(Parameters, value(keys.PARAMETERS) or b"")
    encoded = value(keys.GOVERNANCE)
    governance: Governance = Governance() if encoded is None else codec.decode(Governance, encoded)
    depth = max(parameters.unbonding_blocks, genesis.parameters.unbonding_blocks)
    return max(1, governance.evidence_floor, height - depth)


def restored_block(
    anchor: Anchor, sets: RestoredSets, record: ConsensusRecord, past: Sequence[PastBlock]
) -> RestoredBlock:
    """What goes into the store beside the ledger. `past`: the blocks before the snapshot's, highest first, verified."""
    block, following = anchor.block, anchor.following
    state = ChainState(
        time_ms=block.header.time_ms,
        results_root=following.results_root,
        beacon=record.beacon,
        last_validators=sets.last,
        validators=sets.validators,
        next_validators=sets.following,
    )
    height = block.header.height
    earlier = [(one.header.height, without_rotation(one.validators)) for one in past]
    members = [*reversed(earlier), (height, sets.last), (height + 1, sets.validators), (height + 2, sets.following)]
    punished = [*block.evidence, *(item for one in past for item in one.evidence)]
    headers = [*(one.header for one in reversed(past)), block.header]
    return RestoredBlock(
        head=Head(height, block.id, following.app_hash, codec.encode(state)),
        block=codec.encode(block),
        commit=codec.encode(anchor.commit),
        validators=tuple((number, codec.encode(one)) for number, one in members),
        evidence=tuple((evidence_id(item), codec.encode(item)) for item in punished),
        past=tuple((one.header.height, codec.encode(one)) for one in past),
        set_changes=tuple(one.height for one in headers if one.next_validators_hash != one.validators_hash),
    )


def finish(builder: StoreBuilder, genesis: Genesis, restored: RestoredBlock, place: Path) -> None:
    """Put the restored chain in place."""
    builder.finish(genesis_hash(genesis), restored, place)
