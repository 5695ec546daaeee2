"""Random sequences of everything that moves stake: the books close, nobody gets more than is fair, replicas agree."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ledger_world import GSN, World, key
from staking_world import ANY, active, bond, record, validator_of

from consensus.ledger import keys, queries, stake_queries
from consensus.ledger.block import Misbehaviour
from consensus.ledger.execute import execute_block
from consensus.ledger.messages import (
    Bond,
    Delegate,
    EditValidator,
    Message,
    Unbond,
    Undelegate,
    Unjail,
    WithdrawRewards,
)
from consensus.ledger.parameters import devnet_parameters
from consensus.ledger.stake_records import ValidatorRecord
from consensus.ledger.view import State
from gensyn_node.primitives.codec import encode

OPERATORS = ("operator", "alice", "bob")
PEOPLE = ("operator", "alice", "bob", "dave", "erin", "submitter")

amounts = st.sampled_from([0, 1, 2, 3, 7, GSN // 3, GSN, 10 * GSN + 1, 99 * GSN, 100 * GSN, 333 * GSN])
operators = st.sampled_from(OPERATORS)
people = st.sampled_from(PEOPLE)


class Stakes(RuleBasedStateMachine):
    """A chain of three validators whose parameters make everything happen within a few blocks."""

    @initialize(slash=st.sampled_from([1, 500, 3_333, 9_999]), least=st.sampled_from([1, 2]))
    def begin(self, slash: int, least: int) -> None:
        parameters = msgspec.structs.replace(
            devnet_parameters(),
            unbonding_blocks=6,
            voting_blocks=5,
            delegation_min_nano=1,
            stake_min_nano=1,
            power_unit_nano=8,
            validators_min=least,
            validators_active_max=2,
            equivocation_slash_bps=slash,
            downtime_window_blocks=6,
            downtime_slash_bps=slash // 2,
            jail_blocks=2,
            commission_rise_max_bps=3_000,
            commission_rise_blocks=2,
            block_reward_nano=1_000_003,
        )
        self.world = World(parameters, OPERATORS[1:])

    def send(self, who: str, message: Message) -> None:
        """A block with a message, executed by a second replica as well."""
        before = {address: self.record_of(address) for address in self.listed()}
        account = queries.account(self.world.ledger, key(who).address)
        self.block((self.world.sign(who, message, account.nonce),))
        for address, was in before.items():
            now = self.record_of(address)
            if was.shares and now.shares and not self.slashed_just_now(address):
                better = Fraction(now.stake_nano, now.shares) >= Fraction(was.stake_nano, was.shares)
                assert better, "who stays pays for the rounding of who comes or goes"

    def block(self, data: tuple[bytes, ...] = (), **changes: Any) -> None:
        context = msgspec.structs.replace(self.world.context(self.world.height + 1), **changes)
        replica = self.world.ledger.copy()
        self.world.block_in(context, *data)
        assert encode(execute_block(replica, context, data)) == encode(self.world.deltas[-1])

    def record_of(self, address: bytes) -> ValidatorRecord:
        return record(self.world, address)

    def listed(self) -> tuple[bytes, ...]:
        return State(self.world.ledger).addresses(keys.VALIDATORS)

    def slashed_just_now(self, address: bytes) -> bool:
        return any(e.kind == "stake_slashed" and e.subject == address for e in self.world.deltas[-1].events)

    @rule(who=operators, amount=amounts, first=st.booleans())
    def bond(self, who: str, amount: int, first: bool) -> None:
        public = key("validator" if who == "operator" else f"{who}'s validator").public
        self.send(who, bond("dave", amount) if first else Bond(public, amount, b""))

    @rule(who=people, to=operators, amount=amounts)
    def delegate(self, who: str, to: str, amount: int) -> None:
        self.send(who, Delegate(validator_of(to), amount, ANY))

    @rule(who=people, of=operators, amount=amounts, everything=st.booleans())
    def take_out(self, who: str, of: str, amount: int, everything: bool) -> None:
        validator = validator_of(of)
        shown = {
            one.validator: one.stake_nano for one in stake_queries.delegations(self.world.ledger, key(who).address)
        }
        amount = shown.get(validator, 0) if everything else amount
        self.send(who, Unbond(validator, amount) if who == of else Undelegate(validator, amount))

    @rule(who=people, of=operators)
    def withdraw(self, who: str, of: str) -> None:
        self.send(who, WithdrawRewards(validator_of(of)))

    @rule(who=operators, commission=st.sampled_from([0, 1, 2_999, 5_000, 10_000, 10_001]))
    def edit(self, who: str, commission: int) -> None:
        self.send(who, EditValidator(validator_of(who), who, commission, ()))

    @rule(who=operators)
    def unjail(self, who: str) -> None:
        self.send(who, Unjail(validator_of(who)))

    @rule(of=operators, age=st.integers(0, 6), finder=operators)
    def accuse(self, of: str, age: int, finder: str) -> None:
        height = self.world.height + 1
        offence = Misbehaviour(validator_of(of), max(0, height - 1 - age))
        self.block(misbehaviours=(offence, offence), proposer=validator_of(finder))

    @rule(down=st.sets(operators, max_size=2), count=st.integers(1, 5))
    def time_passes(self, down: set[str], count: int) -> None:
        self.world.absent = {validator_of(name) for name in down}
        for _ in range(count):
            self.block()

    @invariant()
    def the_chain_can_go_on(self) -> None:
        assert active(self.world), "no power is left"
        assert len(active(self.world)) <= 2

    @invariant()
    def nobody_gets_more_back_than_was_put_in(self) -> None:
        """Staked, leaving and paid out together never exceed what was staked: whatever was slashed and rounded."""
        put_in = {who: 100 * GSN if who in OPERATORS else 0 for who in PEOPLE}
        got_out = dict.fromkeys(PEOPLE, 0)
        names = {key(who).address: who for who in PEOPLE}
        for event in self.world.events:
            amount = event.get("amount_nano")
            if event.kind in ("bonded", "delegated"):
                put_in[names[event.get("operator") or event.get("delegator")]] += amount
            elif event.kind == "paid_out":
                got_out[names[event.subject]] += amount
        for who in PEOPLE:
            shown = stake_queries.delegations(self.world.ledger, key(who).address)
            held = sum(one.stake_nano + sum(entry.amount_nano for entry in one.unbonding) for one in shown)
            assert held + got_out[who] <= put_in[who]

    def teardown(self) -> None:
        """Everybody takes everything out: no more comes back than went in, and nothing is left over but dust."""
        if not hasattr(self, "world"):
            return
        for _ in range(2):
            for who in PEOPLE:
                for one in stake_queries.delegations(self.world.ledger, key(who).address):
                    mine = self.record_of(one.validator).operator == key(who).address
                    message = Unbond if mine else Undelegate
                    self.send(who, message(one.validator, one.stake_nano))
            self.world.absent = set()
            for _ in range(10):
                self.block()
        supply = queries.supply(self.world.ledger)
        assert supply.unbonding_nano == 0
        left = [self.record_of(address) for address in self.listed() if self.record_of(address).shares]
        assert 1 <= len(left) <= 2 + (self.world.parameters.validators_min == 2)


TestStakes = Stakes.TestCase
TestStakes.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
