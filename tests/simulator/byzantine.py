"""What Byzantine validators do. Twins are two honest nodes with one key; all others are here.

A `ByzantineNode` is an honest node that deviates in one way, which gets further into the rules than noise does. A
`RandomAttacker` is noise.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from msgspec import structs

from consensus.tendermint.block import commit_root, data_root, evidence_root
from consensus.tendermint.effects import BuildValue, Decide, Effect
from consensus.tendermint.inputs import Input
from consensus.tendermint.types import (
    NIL,
    NO_ROUND,
    Block,
    Certificate,
    Commit,
    CommitFlag,
    CommitSlot,
    DuplicateVoteEvidence,
    FullProposal,
    HeightStatus,
    Proposal,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from tests.simulator.application import BAD, CHAIN, Application
from tests.simulator.node import SimulatedNode, StoredBlocks, World
from tests.simulator.signatures import Key

Deliver = Callable[[int, int, Any], None]
"""(receiver, delay in ms, message)"""
NOISE_ROUNDS = 9


def signed_vote(key: Key, kind: VoteType, height: int, round: int, block_id: bytes) -> Vote:
    """A vote that this key signs without asking anybody."""
    vote = Vote(kind, height, round, block_id, key.address)
    return structs.replace(vote, signature=key.sign(vote_sign_bytes(CHAIN, vote)))


def signed_proposal(key: Key, round: int, valid_round: int, block: Block) -> FullProposal:
    """A proposal that this key signs without asking anybody."""
    proposal = Proposal(block.header.height, round, valid_round, block.id, key.address)
    return FullProposal(structs.replace(proposal, signature=key.sign(proposal_sign_bytes(CHAIN, proposal))), block)


def altered(block: Block, transactions: tuple[bytes, ...]) -> Block:
    """The same block with other transactions, and with the root that belongs to them."""
    return _with(block, transactions=transactions)


def _with(block: Block, **changes: Any) -> Block:
    """Header and body fields changed, roots made to fit again."""
    body = {name: changes.pop(name) for name in ("transactions", "last_commit", "evidence") if name in changes}
    block = structs.replace(block, **body)
    fields = {name: getattr(block.header, name) for name in block.header.__struct_fields__}
    fields["data_root"] = data_root(block.transactions)
    fields["last_commit_root"] = commit_root(block.last_commit)
    fields["evidence_root"] = evidence_root(block.evidence)
    return structs.replace(block, header=type(block.header)(**(fields | changes)))


class ByzantineNode(SimulatedNode):
    """An honest node but for one habit."""

    def __init__(
        self, number: int, key: Key, application: Application, world: World, kind: str, nodes: int, rng: random.Random
    ) -> None:
        super().__init__(number, key, application, world)
        self.kind, self.nodes, self.rng = kind, nodes, rng
        self.withheld = rng.choice([(Vote,), (FullProposal,), (StoredBlocks, Certificate), (Vote, FullProposal)])

    # Forgetting.

    def _step(self, given: Input) -> list[Effect]:
        effects = super()._step(given)
        if self.kind == "amnesia":
            machine = self.core.machine
            machine.state = replace(machine.state, locked_round=NO_ROUND, locked_value=None)
        return effects

    def _perform(self, effect: Effect) -> Input | None:
        if self.kind == "answer liar" and isinstance(effect, Decide):
            super().send(None, self._false_certificate(_as_certificate(effect.commit)))
        return super()._perform(effect)

    # Sending.

    def send(self, receiver: int | None, message: Any) -> None:
        """What this one does to the truth on its way out."""
        match self.kind:
            case "withholder" if isinstance(message, self.withheld):
                return
            case "selective" if receiver is None:
                favoured = random.Random(f"{self.number} {self.core.height}")
                for number in favoured.sample(range(self.nodes), self.nodes // 2):
                    super().send(number, message)
            case "equivocator" if receiver is None and isinstance(message, Vote):
                self._equivocate(message)
            case "double proposer" if receiver is None and isinstance(message, FullProposal):
                self._propose_twice(message)
            case "valid round liar" if receiver is None and isinstance(message, FullProposal):
                valid_round = self.rng.randint(NO_ROUND, message.proposal.round - 1)
                super().send(None, signed_proposal(self.key, message.proposal.round, valid_round, message.block))
            case "answer liar":
                self._lie(receiver, message)
            case "forger" if receiver is None and isinstance(message, Vote | FullProposal):
                super().send(None, message)
                self._forge(message)
            case _:
                super().send(receiver, message)

    def _equivocate(self, vote: Vote) -> None:
        """One half hears this, the other half that, some both."""
        seen = [value for values in self.core.machine.proposals.values() for value in values]
        other = self.rng.choice([NIL, *seen, hashlib.sha256(b"no block").digest()])
        second = signed_vote(self.key, vote.kind, vote.height, vote.round, other)
        for number in range(self.nodes):
            choice = self.rng.random()
            if choice < 0.55:
                super().send(number, vote)
            if choice > 0.45:
                super().send(number, second)

    def _propose_twice(self, message: FullProposal) -> None:
        twin = signed_proposal(
            self.key,
            message.proposal.round,
            NO_ROUND,
            altered(message.block, (b"twin of %d" % self.rng.randrange(3),)),
        )
        for number in range(self.nodes):
            super().send(number, message if self.rng.random() < 0.5 else twin)
            if self.rng.random() < 0.2:
                super().send(number, twin)

    def _forge(self, message: Vote | FullProposal) -> None:
        """In another's name, with our signature or an old one of theirs."""
        victim = self.rng.choice(self.core.validators.validators).address
        if isinstance(message, Vote):
            super().send(None, structs.replace(message, validator=victim))
            return
        proposal = structs.replace(message.proposal, proposer=victim)
        super().send(None, FullProposal(proposal, message.block))
        super().send(None, FullProposal(message.proposal, altered(message.block, (BAD,))))
        body = structs.replace(message.block, transactions=(BAD,))  # another body under the signed header
        super().send(None, FullProposal(message.proposal, body))

    # Answering.

    def _lie(self, receiver: int | None, message: Any) -> None:
        match message:
            case StoredBlocks(sealed, more):
                super().send(receiver, StoredBlocks((self._false_block(*sealed[0]), *sealed[1:]), more))
                super().send(receiver, self._false_certificate(_as_certificate(sealed[0][1])))
            case Certificate():
                super().send(receiver, self._false_certificate(message))
            case HeightStatus():
                super().send(receiver, structs.replace(message, height=message.height + self.rng.randint(-2, 9)))
                super().send(receiver, structs.replace(message, rounds=()))
            case _:
                super().send(receiver, message)

    def _false_block(self, block: Block, commit: Commit) -> tuple[Block, Commit]:
        """An old commit under another block, another body, a commit of one, or with a bad signature at its end."""
        number = self.rng.randrange(6)
        if number == 0:
            return altered(block, (b"never decided",)), commit
        if number == 1:
            false = altered(block, (b"never decided",))
            return false, structs.replace(commit, block_id=false.id)
        if number == 2:
            return structs.replace(block, transactions=(b"never decided",)), commit
        if number == 3:
            alone = [commit.slots[0], *[CommitSlot(CommitFlag.ABSENT, b"")] * (len(commit.slots) - 1)]
            return block, structs.replace(commit, slots=tuple(alone))
        forged = CommitSlot(CommitFlag.COMMIT, self.key.sign(b"something else"))
        return block, structs.replace(commit, slots=(*commit.slots[:-1], forged))

    def _false_certificate(self, certificate: Certificate) -> Certificate:
        """Of another round, of another value, of one, or with a bad signature at its end."""
        number = self.rng.randrange(5)
        if number == 0:
            return structs.replace(certificate, round=certificate.round + 1)
        if number == 1:
            return structs.replace(certificate, block_id=hashlib.sha256(b"no block").digest())
        if number == 2:
            return structs.replace(certificate, signatures=certificate.signatures[:1])
        last = len(self.core.validators.validators) - 1
        kept = [entry for entry in certificate.signatures if entry[0] != last]
        return structs.replace(certificate, signatures=(*kept, (last, self.key.sign(b"something else"))))

    # Proposing.

    def _build(self, request: BuildValue) -> Block:
        block = super()._build(request)
        if self.kind == "time bender":
            offset = self.rng.choice([-100_000, -3_000, -500, 150, 190, 500, 3_000, 100_000])
            return _with(block, time_ms=max(1, block.header.time_ms + offset))
        return self._bad_block(block) if self.kind == "bad proposer" else block

    def _validate(self, block: Block) -> bool:
        return block.header.proposer == self.address or super()._validate(block)

    def _bad_block(self, block: Block) -> Block:
        number, commit = self.rng.randrange(8), block.last_commit
        if number == 0 or (number < 4 and commit is None):
            return altered(block, (BAD,))
        if commit is not None and number == 1:
            return _with(block, last_commit=structs.replace(commit, slots=commit.slots[:-1]))
        if commit is not None and number == 2:
            slots = (*commit.slots[:-1], CommitSlot(CommitFlag.COMMIT, self.key.sign(b"unchecked")))
            return _with(block, last_commit=structs.replace(commit, slots=slots))
        if commit is not None and number == 3:
            return _with(block, last_commit=structs.replace(commit, round=commit.round + 1))
        if number == 4:
            return _with(block, app_hash=hashlib.sha256(b"another state").digest())
        if number == 5:
            return _with(block, next_validators_hash=hashlib.sha256(b"another set").digest())
        if number == 6 and block.evidence:
            return _with(block, evidence=(*block.evidence, block.evidence[0]))
        return _with(block, evidence=(self._false_evidence(block.header.height),))

    def _false_evidence(self, height: int) -> DuplicateVoteEvidence:
        """Against somebody who did nothing, or an offence that was punished long ago."""
        for old in range(height - 1, 0, -1):
            sealed = self.application.sealed(old)
            if sealed is not None and sealed[0].evidence and self.rng.random() < 0.5:
                return sealed[0].evidence[0]
        victim = self.rng.choice(self.core.validators.validators).address
        first = Vote(VoteType.PREVOTE, max(1, height - 1), 0, NIL, victim, self.key.sign(b"first"))
        return DuplicateVoteEvidence(first, structs.replace(first, block_id=hashlib.sha256(b"second").digest()))


def _as_certificate(commit: Commit) -> Certificate:
    signed = [(p, slot.signature) for p, slot in enumerate(commit.slots) if slot.flag is CommitFlag.COMMIT]
    return Certificate(VoteType.PRECOMMIT, commit.height, commit.round, commit.block_id, tuple(signed))


class RandomAttacker:
    """A key without a node or a plan: it sees everything, votes for anything, and proposes two blocks at once."""

    def __init__(self, key: Key, nodes: int, rng: random.Random, deliver: Deliver) -> None:
        self.key, self.nodes, self.rng, self.deliver = key, nodes, rng, deliver

    def sees(self, message: Any) -> None:
        """Somebody broadcast this."""
        if self.rng.random() < 0.5 or not isinstance(message, Vote | FullProposal):
            return
        seen = message if isinstance(message, Vote) else message.proposal
        round = max(0, seen.round + self.rng.choice([0, 0, 0, 1, 2, NOISE_ROUNDS, -1]))
        block_id = self.rng.choice([seen.block_id, NIL, hashlib.sha256(b"%d" % self.rng.randrange(3)).digest()])
        vote = signed_vote(self.key, self.rng.choice(list(VoteType)), seen.height, round, block_id)
        targets = self.rng.sample(range(self.nodes), self.rng.randint(1, self.nodes))
        self._send(targets, vote)
        if isinstance(message, FullProposal):
            transactions = (BAD if self.rng.random() < 0.5 else b"%d" % self.rng.randrange(9),)
            block = altered(message.block, transactions)
            for later in range(seen.round, seen.round + self.nodes):
                valid_round = self.rng.choice([NO_ROUND, NO_ROUND, later - 1])
                self._send(targets, signed_proposal(self.key, later, valid_round, block))

    def _send(self, targets: list[int], message: Any) -> None:
        for target in targets:
            self.deliver(target, self.rng.randint(5, 60), message)
