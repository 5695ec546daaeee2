"""Accounts that do no work: traders, submitters of tasks, operators of validators."""

from __future__ import annotations

import random
from dataclasses import dataclass

from consensus.ledger import keys, queries, staking
from consensus.ledger import messages as m
from consensus.ledger.block import Reader
from consensus.ledger.proposal_messages import CastVote, ChangeParameters, Grant, NewValue, Propose
from consensus.ledger.records import TASK_ENDED
from consensus.ledger.view import State
from gensyn_node.primitives.codec import encode
from proofs.program.types import program_id
from tests.simulator.ledger.toy_program import GSN, PROGRAM, order
from tests.simulator.ledger.wallets import Wallet, key_of


@dataclass
class Trader:
    """Sends money to its like: now and then more than it has, with a gap in its nonces, or twice for one nonce."""

    wallet: Wallet
    partners: list[bytes]
    rng: random.Random
    until: int

    @property
    def address(self) -> bytes:
        """Its account."""
        return self.wallet.address

    def act(self, reader: Reader, height: int) -> list[bytes]:
        """Transactions to send now."""
        sent = self.wallet.again(reader, height)
        if height > self.until or self.rng.random() < 0.6:
            return sent
        self.wallet.refresh(reader)
        waiting = sorted(self.wallet.on_the_way)
        if waiting and self.rng.random() < 0.3:
            sent.append(self.wallet.replace(height, self.rng.choice(waiting), self._transfer()))
        elif len(waiting) < 6:
            skip = self.rng.choice((0, 0, 0, 1)) if not waiting else 0
            sent.append(self.wallet.send(reader, height, height, self._transfer(), skip=skip))
        return sent

    def _transfer(self) -> m.Transfer:
        return m.Transfer(self.rng.choice(self.partners), self.rng.choice((0, 1, GSN, 3 * GSN, 10_000 * GSN)))


@dataclass
class Submitter:
    """Publishes the program and submits tasks; one that is fickle cancels some."""

    wallet: Wallet
    rng: random.Random
    tasks: int
    fickle: bool
    last_submission: int
    """Last height at which it submits."""
    deadline_blocks: int
    forced_error_bps: int = 0
    submitted: int = 0

    @property
    def address(self) -> bytes:
        """Its account."""
        return self.wallet.address

    def act(self, reader: Reader, height: int) -> list[bytes]:
        """Transactions to send now."""
        sent = self.wallet.again(reader, height)
        if queries.program(reader, program_id(PROGRAM)) is None:
            if self.wallet.waits("publish") is None:
                sent.append(self.wallet.send(reader, height, "publish", m.PublishProgram(encode(PROGRAM))))
            return sent
        if self.submitted < self.tasks and height <= self.last_submission and self.rng.random() < 0.5:
            self.submitted += 1
            sent.append(self.wallet.send(reader, height, ("submit", self.submitted), m.SubmitTask(self._order())))
        if self.fickle and self.rng.random() < 0.06:
            mine = [t for t in queries.tasks(reader, 8) if t.submitter == self.address and t.state not in TASK_ENDED]
            if mine:
                chosen = self.rng.choice(mine)
                sent.append(self.wallet.send(reader, height, height, m.CancelTask(chosen.task_id)))
        return sent

    def _order(self) -> m.TaskSpec:
        instalments = self.rng.choice((1, 2, 2, 3))
        return order(
            f"{self.wallet.name} {self.submitted}",
            steps=self.rng.choice((6, 8, 11, 12)),
            segment_steps=2,
            instalments=instalments,
            verifiers=self.rng.choice((1, 2, 2, 3)),
            samples=self.rng.choice((1, 2, 6)),
            deadline_blocks=self.deadline_blocks,
            forced_error_bps=self.forced_error_bps,
        )


@dataclass
class Staker:
    """An operator of a validator or a delegator: stakes, leaves, collects, proposes, votes, comes back from jail."""

    wallet: Wallet
    validators: list[str]
    """Key names of all validators."""
    rng: random.Random
    until: int
    own: str = ""
    """Key name of the validator it operates, if any."""

    @property
    def address(self) -> bytes:
        """Its account."""
        return self.wallet.address

    def act(self, reader: Reader, height: int) -> list[bytes]:
        """Transactions to send now."""
        sent = self.wallet.again(reader, height)
        if height > self.until or self.rng.random() < 0.8 or self.wallet.oldest_age(height) > 0:
            return sent
        self.wallet.refresh(reader)
        sent.append(self.wallet.send(reader, height, height, self._wish(reader)))
        return sent

    def _wish(self, reader: Reader) -> m.Message:
        rng, own = self.rng, key_of(self.own) if self.own else None
        some = key_of(rng.choice(self.validators)).address
        amount = rng.choice((1, 3, 7)) * GSN + rng.choice((0, 1))
        if own is not None and rng.random() < 0.6:
            record = next((one for one in queries.validators(reader) if one.address == own.address), None)
            if record is not None and record.jailed_height and rng.random() < 0.6:
                return m.Unjail(own.address)
            proof = own.sign(m.validator_key_proof_bytes(self.wallet.chain_id, self.address))
            return rng.choice(
                (
                    m.Bond(own.public, amount, proof),
                    m.Unbond(own.address, amount),
                    m.EditValidator(own.address, self.own, rng.choice((0, 300, 900)), ()),
                    CastVote(rng.randrange(3), own.address, 0),
                    CastVote(rng.randrange(3), own.address, 0),
                )
            )
        return rng.choice(
            (
                m.Delegate(some, amount, 10_000),
                m.Delegate(some, amount, 10_000),
                self._leave(reader, some, amount),
                self._leave(reader, some, amount),
                m.WithdrawRewards(some),
                Propose("fees", "", ChangeParameters((NewValue("fee_base_nano", rng.choice((500, 1_000, 2_000))),))),
                Propose("a grant", "", Grant(self.address, rng.choice((1, GSN)))),
                CastVote(rng.randrange(4), some, rng.choice((0, 0, 0, 1, 2, 3))),
                CastVote(rng.randrange(4), some if own is None else own.address, 0),
            )
        )

    def _leave(self, reader: Reader, otherwise: bytes, amount: int) -> m.Undelegate:
        """All or a part of a delegation that it has."""
        state = State(reader)
        held = state.addresses(keys.delegations_of(self.address))
        if not held:
            return m.Undelegate(otherwise, amount)
        validator = self.rng.choice(held)
        return m.Undelegate(
            validator, self.rng.choice((amount, staking.delegated_nano(state, validator, self.address)))
        )
