"""From one head to the next: what a block has to follow from, and what executing it leaves for the one after it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from consensus import beacon
from consensus.ledger.block import (
    DUPLICATE_VOTE,
    LIGHT_CLIENT_ATTACK,
    BlockContext,
    BlockDelta,
    BlockSignature,
    LedgerView,
    Misbehaviour,
    ValidatorUpdate,
)
from consensus.ledger.execute import execute_block
from consensus.ledger.genesis import genesis_hash
from consensus.ledger.records import Genesis
from consensus.ledger.upgrades import KNOWN_UPGRADES, Upgrades
from consensus.tendermint.block import ChainTip
from consensus.tendermint.evidence import evidence_height, offenders
from consensus.tendermint.types import (
    Block,
    BlockId,
    Commit,
    CommitFlag,
    Evidence,
    LightClientAttackEvidence,
    Validator,
    ValidatorSet,
)
from consensus.tendermint.validators import new_validator_set, next_validator_set
from gensyn_node.primitives.codec import Struct
from gensyn_node.primitives.crypto import address_of
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from proofs import merkle


class ChainState(Struct):
    """What the block after the head must agree with, besides the ledger itself."""

    time_ms: int
    """Of the head block."""
    results_root: bytes
    """Of the head block's transactions."""
    beacon: bytes
    """After the head block's proof."""
    last_validators: ValidatorSet | None
    """The set that signed the head; None at genesis."""
    validators: ValidatorSet
    """The set of the next height."""
    next_validators: ValidatorSet
    """The set of the height after that."""


def first_state(genesis: Genesis, delta: BlockDelta) -> ChainState:
    """The state of height 0, from the genesis and its delta."""
    validators = new_validator_set([_validator(update) for update in delta.validator_updates])
    return ChainState(
        time_ms=genesis.time_ms,
        results_root=merkle.root([]),
        beacon=genesis_hash(genesis),
        last_validators=None,
        validators=validators,
        next_validators=next_validator_set(validators, []),
    )


def tip_after(chain_id: str, height: int, block_id: BlockId, app_hash: bytes, state: ChainState) -> ChainTip:
    """What the block after the head (`height`, `block_id`, `app_hash`) has to follow from."""
    return ChainTip(
        chain_id=chain_id,
        height=height + 1,
        previous_block_id=block_id,
        previous_time_ms=state.time_ms,
        app_hash=app_hash,
        results_root=state.results_root,
        beacon=state.beacon,
        validators=state.validators,
        next_validators_hash=state.next_validators.hash,
        last_validators=state.last_validators,
    )


def execute_decided(
    view: LedgerView,
    chain_id: str,
    state: ChainState,
    block: Block,
    signatures_known: Collection[bytes] = (),
    next_beacon: Callable[[bytes, bytes], bytes] = beacon.next_beacon,
    known_upgrades: Upgrades = KNOWN_UPGRADES,
) -> tuple[BlockDelta, ChainState]:
    """What a decided block changes, and the state after it. `signatures_known`: ids of transactions checked before."""
    header = block.header
    context = BlockContext(
        chain_id=chain_id,
        height=header.height,
        time_ms=header.time_ms,
        proposer=header.proposer,
        beacon=next_beacon(state.beacon, header.beacon_proof),
        misbehaviours=tuple(
            Misbehaviour(validator, evidence_height(item), _kind_of(item))
            for item in block.evidence
            for validator in offenders(item)
        ),
        rotation=state.next_validators.rotation_hash,
        signatures=signatures_of(state.last_validators, block.last_commit),
    )
    delta = execute_block(view, context, block.transactions, signatures_known, known_upgrades)
    return delta, next_state(state, block, delta, context.beacon)


def _kind_of(evidence: Evidence) -> str:
    return LIGHT_CLIENT_ATTACK if isinstance(evidence, LightClientAttackEvidence) else DUPLICATE_VOTE


def signatures_of(signers: ValidatorSet | None, commit: Commit | None) -> tuple[BlockSignature, ...]:
    """Who of the previous height's set is in its commit, as the header commits to it; nobody at height 1.

    A vote for nil is a sign of life: its validator did not see the proposal in time, and says so.
    """
    if signers is None or commit is None:
        return ()
    return tuple(
        BlockSignature(one.address, one.power, slot.flag is not CommitFlag.ABSENT)
        for one, slot in zip(signers.validators, commit.slots, strict=True)
    )


def next_state(state: ChainState, block: Block, delta: BlockDelta, new_beacon: bytes) -> ChainState:
    """What the block after `block` must agree with."""
    members = state.next_validators.positions
    changes = [
        _validator(update)
        for update in delta.validator_updates
        if update.power or address_of(update.public_key) in members
    ]
    try:
        following = next_validator_set(state.next_validators, changes)
    except Rejection as error:
        raise InvariantViolation(f"the ledger made an impossible validator set: {error}") from error
    return ChainState(
        time_ms=block.header.time_ms,
        results_root=delta.results_root,
        beacon=new_beacon,
        last_validators=state.validators,
        validators=state.next_validators,
        next_validators=following,
    )


def _validator(update: ValidatorUpdate) -> Validator:
    return Validator(address_of(update.public_key), update.public_key, update.power)
