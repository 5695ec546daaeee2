"""No vote switches the chain off: whatever governance accepts, blocks go on and the next vote works."""

from __future__ import annotations

from typing import get_args, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_world import GSN, PROGRAM, World, key, spec

from consensus.ledger import queries, staking
from consensus.ledger.execute import execute_block
from consensus.ledger.genesis import check_parameters
from consensus.ledger.invariants import check_invariants
from consensus.ledger.messages import Message, PublishProgram, SubmitTask, Transfer
from consensus.ledger.parameter_bounds import BOUNDS, relations, with_changes
from consensus.ledger.parameters import Parameters, devnet_parameters, mainnet_parameters
from consensus.ledger.proposal_messages import YES, CastVote, ChangeParameters, NewValue, Propose
from consensus.ledger.schedule import task_end_bound
from consensus.ledger.view import State
from gensyn_node.primitives import limits
from gensyn_node.primitives.codec import encode
from gensyn_node.primitives.errors import Rejection
from gensyn_node.primitives.money import SUPPLY_NANO_MAX

NAMES = sorted(BOUNDS)
PRESETS = {"devnet": devnet_parameters(), "mainnet": mainnet_parameters()}


def test_every_parameter_has_its_row_with_a_reason() -> None:
    assert set(BOUNDS) == set(Parameters.__struct_fields__)
    hints = get_type_hints(Parameters, include_extras=True)
    for name, bound in BOUNDS.items():
        assert bound.why, name
        if not bound.fixed:
            most = next(meta.le for meta in get_args(hints[name]) if isinstance(meta, msgspec.Meta))
            assert 0 <= bound.least < bound.most <= most, name


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_lie_within_what_can_be_voted_for(preset: str) -> None:
    parameters = PRESETS[preset]
    check_parameters(parameters)
    assert [message for holds, message in relations(parameters) if not holds] == []
    for name, bound in BOUNDS.items():
        assert bound.fixed or bound.least <= getattr(parameters, name) <= bound.most, name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", PRESETS)
def test_no_single_change_leaves_its_row(name: str, preset: str) -> None:
    parameters, bound = PRESETS[preset], BOUNDS[name]
    for value in (0, bound.least - 1, bound.most + 1, SUPPLY_NANO_MAX):
        if value < 0 or (not bound.fixed and bound.least <= value <= bound.most):
            continue
        with pytest.raises(Rejection, match=r"bad_parameter|parameter_fixed"):
            with_changes(parameters, (NewValue(name, value),))


@st.composite
def any_change(draw: st.DrawFn) -> tuple[NewValue, ...]:
    """Some parameters; values mostly within their rows, often at the ends, sometimes anything."""
    changes = []
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)):
        bound, present = BOUNDS[name], getattr(PRESETS["devnet"], name)
        least, most = min(bound.least, bound.most), max(bound.least, bound.most)
        within = st.integers(least, max(least, min(most, 8 * present)))
        ends, beyond = (
            st.sampled_from([least, most]),
            st.sampled_from([0, max(0, least - 1), most + 1, SUPPLY_NANO_MAX]),
        )
        changes.append(NewValue(name, draw(st.one_of(within, within, st.integers(least, most), ends, beyond))))
    return tuple(changes)


class Chain(World):
    """One validator and rich accounts; heights jump, so that a vote of months is a few blocks."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(
            msgspec.structs.replace(parameters, stake_min_nano=GSN, proposal_deposit_nano=GSN, validators_min=1)
        )

    def send(self, name: str, message: Message) -> str:
        """One block with one message under the parameters in force; its code."""
        self.parameters = queries.parameters(self.ledger)
        return self.block((name, message))[0].code

    def jump(self, height: int) -> None:
        """The block at `height` comes next to the present one: nothing is due in between but governance."""
        assert not [key for key, _ in self.ledger.items() if key.startswith(b"due/")]
        self.height = max(self.height + 1, height)
        self.ledger.apply(execute_block(self.ledger, self.context(self.height), []))
        powers = staking.active_powers(State(self.ledger))
        self.sets |= {self.height: powers, self.height + 1: powers, self.height + 2: powers}
        check_invariants(self.ledger.items(), self.height)

    def decide(self, changes: tuple[NewValue, ...]) -> str:
        """Put a change to the vote and through it; the code of its refusal, or the state it ends in."""
        if code := self.send("operator", Propose("change", "", ChangeParameters(changes))):
            return code
        number = State(self.ledger).counters.proposals - 1
        assert self.send("operator", CastVote(number, key("validator").address, YES)) == ""
        self.jump(State(self.ledger).proposal(number).voting_end_height)
        effect = State(self.ledger).proposal(number).effect_height
        if effect > self.height:
            self.jump(effect)
        return State(self.ledger).proposal(number).state


@pytest.mark.parametrize("end", ["least", "most"])
@pytest.mark.parametrize("name", NAMES)
def test_each_end_of_a_row_is_refused_or_harmless(name: str, end: str) -> None:
    bound = BOUNDS[name]
    chain = Chain(PRESETS["mainnet"])
    present = getattr(queries.parameters(chain.ledger), name)
    wanted = max(bound.least, present) if bound.raise_only else getattr(bound, end)
    result = chain.decide((NewValue(name, wanted),))
    assert result == ("E1257" if bound.fixed else result)
    assert chain.decide((NewValue("window_blocks", 77),)) == "enacted"


@settings(max_examples=70, suppress_health_check=[HealthCheck.too_slow])
@given(any_change(), any_change(), st.sampled_from(sorted(PRESETS)))
def test_whatever_is_accepted_blocks_go_on_and_the_next_vote_works(
    first: tuple[NewValue, ...], second: tuple[NewValue, ...], preset: str
) -> None:
    chain = Chain(PRESETS[preset])
    for changes in (first, second):
        before, result = queries.parameters(chain.ledger), chain.decide(changes)
        assert result in ("enacted", "failed", "E1256", "E1257")
        now = queries.parameters(chain.ledger)
        expected = {change.name: change.value for change in changes} if result == "enacted" else {}
        assert now == msgspec.structs.replace(before, **expected)
        assert all(holds for holds, _ in relations(now))
        # Money moves, every message fits a block, the set has power, the heights of the largest task can be stored.
        assert chain.send("alice", Transfer(key("bob").address, 1)) == ""
        assert now.block_units_max >= limits.TRANSACTION_BYTES_MAX + now.referee_units
        assert sum(staking.able_powers(State(chain.ledger)).values()) > 0
        most = spec(samples=limits.SEGMENTS_PER_INSTALMENT_MAX, segment_steps=limits.SEGMENT_STEPS_MAX)
        assert task_end_bound(most, 1 << 50, now) < SUPPLY_NANO_MAX
    # And the next vote works: the fee can be paid, the deposit too, the time ends, one stake decides.
    assert chain.decide((NewValue("window_blocks", 77),)) == "enacted"
    assert queries.parameters(chain.ledger).window_blocks == 77
    assert chain.send("alice", PublishProgram(encode(PROGRAM))) == ""
    order = spec(deadline_blocks=queries.parameters(chain.ledger).task_deadline_blocks_max)
    assert chain.send("alice", SubmitTask(order)) in ("", "E1204", "E1308", "E1310")
