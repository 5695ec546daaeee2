"""What Byzantine validators do. Twins are two honest nodes with one key; the others are here."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

from consensus.tendermint.block import data_root
from consensus.tendermint.types import (
    NIL,
    Block,
    FullProposal,
    Proposal,
    Vote,
    VoteType,
    proposal_sign_bytes,
    vote_sign_bytes,
)
from tests.simulator.application import CHAIN
from tests.simulator.signatures import Key

Deliver = Callable[[int, int, Any], None]
"""(receiver, delay in ms, message)"""


class RandomAttacker:
    """A key without a node or a plan: it sees everything, votes for anything, and proposes two blocks at once."""

    def __init__(self, key: Key, nodes: int, rng: random.Random, deliver: Deliver) -> None:
        self.key, self.nodes, self.rng, self.deliver = key, nodes, rng, deliver

    def sees(self, message: Any) -> None:
        """Somebody broadcast this."""
        if self.rng.random() < 0.5 or not isinstance(message, Vote | FullProposal):
            return
        seen = message if isinstance(message, Vote) else message.proposal
        round = max(0, seen.round + self.rng.choice([0, 0, 0, 1, 2, 9, -1]))
        block_id = self.rng.choice([seen.block_id, NIL, hashlib.sha256(b"%d" % self.rng.randrange(3)).digest()])
        fields = (self.rng.choice(list(VoteType)), seen.height, round, block_id, self.key.address)
        vote = Vote(*fields, self.key.sign(vote_sign_bytes(CHAIN, Vote(*fields))))
        targets = self.rng.sample(range(self.nodes), self.rng.randint(1, self.nodes))
        self._send(targets, vote)
        if isinstance(message, FullProposal):
            self._propose(message, targets)

    def _propose(self, seen: FullProposal, targets: list[int]) -> None:
        header = seen.block.header
        transactions = (b"bad" if self.rng.random() < 0.5 else b"%d" % self.rng.randrange(9),)
        fields = {name: getattr(header, name) for name in header.__struct_fields__}
        fields["data_root"] = data_root(transactions)
        block = Block(type(header)(**fields), transactions, seen.block.last_commit, seen.block.evidence)
        for round in range(seen.proposal.round, seen.proposal.round + self.nodes):
            valid_round = self.rng.choice([-1, -1, round - 1])
            proposal = Proposal(header.height, round, valid_round, block.id, self.key.address)
            signature = self.key.sign(proposal_sign_bytes(CHAIN, proposal))
            signed = Proposal(header.height, round, valid_round, block.id, proposal.proposer, signature)
            self._send(targets, FullProposal(signed, block))

    def _send(self, targets: list[int], message: Any) -> None:
        for target in targets:
            self.deliver(target, self.rng.randint(5, 60), message)
