"""The cheapest application: opaque transactions, a state root that hashes the blocks, set changes as scheduled.

Blocks are built and checked by the production `build_block` and `validate_block`; only execution and beacon are toys.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from consensus.tendermint.block import ChainTip, build_block, validate_block
from consensus.tendermint.effects import BuildValue
from consensus.tendermint.evidence import EvidencePool, evidence_height, verify_evidence
from consensus.tendermint.inputs import StartHeight
from consensus.tendermint.reasons import BAD_BLOCK, BAD_EVIDENCE
from consensus.tendermint.types import (
    NIL,
    Block,
    BlockId,
    Commit,
    DuplicateVoteEvidence,
    Evidence,
    Validator,
    ValidatorSet,
)
from consensus.tendermint.validators import new_validator_set, next_validator_set
from gensyn_node.primitives.errors import InvariantViolation, Rejection
from tests.simulator.application import BAD, CHAIN, Surroundings
from tests.simulator.signatures import Key

GENESIS_MS = 900_000


@dataclass(frozen=True)
class ToyState:
    """What the next block must follow from."""

    height: int
    block_id: BlockId
    time_ms: int
    app_hash: bytes
    last_validators: ValidatorSet | None
    validators: ValidatorSet
    next_validators: ValidatorSet

    def tip(self) -> ChainTip:
        """For the production block rules."""
        return ChainTip(
            chain_id=CHAIN,
            height=self.height + 1,
            previous_block_id=self.block_id,
            previous_time_ms=self.time_ms,
            app_hash=self.app_hash,
            results_root=b"",
            beacon=b"",
            validators=self.validators,
            next_validators_hash=self.next_validators.hash,
            last_validators=self.last_validators,
        )


class ToySetting:
    """Shared by the nodes of a run; equal blocks on equal states are executed once for all of them."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.schedule, self.check = surroundings.schedule, surroundings.check
        self.members = [(key.address, key.public) for key in surroundings.keys]
        powers = self.schedule.powers
        validators = new_validator_set([self._validator(p, power) for p, power in enumerate(powers) if power])
        self.genesis = ToyState(0, NIL, GENESIS_MS, b"", None, validators, next_validator_set(validators, []))
        self._after: dict[tuple[BlockId, bytes], ToyState] = {}

    def _validator(self, position: int, power: int) -> Validator:
        return Validator(*self.members[position], power)

    def changes(self, height: int) -> list[Validator]:
        """What the block of this height does to the validator set."""
        return [self._validator(position, power) for position, power in self.schedule.set_changes.get(height, ())]

    def after(self, state: ToyState, block: Block) -> ToyState:
        """The state after one more block."""
        key = (block.id, state.app_hash)
        if key not in self._after:
            self._after[key] = ToyState(
                height=state.height + 1,
                block_id=block.id,
                time_ms=block.header.time_ms,
                app_hash=hashlib.sha256(state.app_hash + block.id).digest(),
                last_validators=state.validators,
                validators=state.next_validators,
                next_validators=next_validator_set(state.next_validators, self.changes(state.height + 1)),
            )
        return self._after[key]

    def application(self, number: int, key: Key, salt: bytes) -> ToyApplication:
        """A node's state at genesis."""
        return ToyApplication(self, key, salt)

    def executed(self, number: int, block: Block) -> None:
        """Nothing that the network's checks do not look at."""

    def act(self, now_ms: int) -> None:
        """No actors."""

    def finish(self, honest: list[int]) -> None:
        """Nothing to add."""

    def seen(self) -> dict[str, int]:
        """No states of its own."""
        return {}


class ToyApplication:
    """One node's chain."""

    def __init__(self, setting: ToySetting, key: Key, salt: bytes) -> None:
        self.setting, self.key, self.salt = setting, key, salt
        self.chain: list[tuple[Block, Commit]] = []
        self.sets = [setting.genesis.validators, setting.genesis.validators, setting.genesis.next_validators]
        self.state = setting.genesis
        self.evidence = EvidencePool()

    @property
    def height(self) -> int:
        """Of the last block."""
        return self.state.height

    @property
    def state_root(self) -> bytes:
        """After the last block."""
        return self.state.app_hash

    def start_input(self) -> StartHeight:
        """Starts the height after the last block."""
        commit = self.chain[-1][1] if self.chain else None
        return StartHeight(self.height + 1, self.state.validators, commit, self.state.last_validators)

    def validators(self, height: int) -> ValidatorSet | None:
        """By height, up to two after the last block."""
        return self.sets[height] if 0 < height < len(self.sets) else None

    def sealed(self, height: int) -> tuple[Block, Commit] | None:
        """By height."""
        return self.chain[height - 1] if 0 < height <= len(self.chain) else None

    def build(self, request: BuildValue, now_ms: int) -> Block:
        """One transaction that nobody else would make, and all evidence."""
        return build_block(
            self.state.tip(),
            proposer=self.key.address,
            time_ms=now_ms,
            transactions=(b"%d/%d/" % (request.height, request.round) + self.key.address + self.salt,),
            last_commit=request.last_commit,
            evidence=tuple(item for item in self.evidence.pending() if evidence_height(item) < request.height),
            beacon_proof=b"",
        )

    def validate(self, block: Block) -> bool:
        """The production rules, and no bad transaction."""
        try:
            self._validate(block)
        except Rejection:
            return False
        return True

    def _validate(self, block: Block) -> None:
        validate_block(
            self.state.tip(),
            block,
            evidence_validators=lambda item: self.validators(evidence_height(item)),
            evidence_pool=self.evidence,
            check=self.setting.check,
            check_beacon=lambda key, alpha, proof: b"",
        )
        if any(BAD in transaction for transaction in block.transactions):
            raise Rejection(BAD_BLOCK, "a bad transaction")

    def execute(self, block: Block, commit: Commit) -> None:
        """The new state, block and commit in one step."""
        if block.header.height != self.height + 1 or block.header.previous_block_id != self.state.block_id:
            raise InvariantViolation(f"block {block.header.height} does not follow {self.height}")
        if block.header.app_hash != self.state.app_hash:
            raise InvariantViolation(f"block {block.header.height} was decided on another state than ours")
        self.state = self.setting.after(self.state, block)
        self.chain.append((block, commit))
        self.sets.append(self.state.next_validators)
        self.evidence.commit(block.evidence, forget_below=0)

    def add_evidence(self, evidence: DuplicateVoteEvidence) -> None:
        """Into the pool, once it is proof."""
        validators = self.validators(evidence.first.height)
        if validators is None:
            raise Rejection(BAD_EVIDENCE, "of a height to come")
        verify_evidence(CHAIN, validators, evidence, self.setting.check)
        self.evidence.add(evidence)

    def pending_evidence(self) -> tuple[Evidence, ...]:
        """The pool."""
        return self.evidence.pending()

    def receive(self, sender: int, message: Any) -> None:
        """Toys do not talk."""

    def gossip(self, now_ms: int) -> list[Any]:
        """Toys do not talk."""
        return []

    def crash(self) -> None:
        """The pool is memory; what blocks carried is on disk."""
        self.evidence = EvidencePool()
        for block, _ in self.chain:
            self.evidence.commit(block.evidence, forget_below=0)
