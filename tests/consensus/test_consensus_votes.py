"""Properties of counting votes and of whole heights, for arbitrary messages in arbitrary order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.tendermint import round as machine
from consensus.tendermint.height import HeightMachine
from consensus.tendermint.types import NIL, Step, VoteType, has_honest, is_quorum
from consensus.tendermint.votes import FUTURE_ROUNDS_MAX, VoteKeeper

PREVOTE = VoteType.PREVOTE
VALUES = st.sampled_from([NIL, b"a", b"b", b"c"])
KINDS = st.sampled_from(list(VoteType))
POWERS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(st.integers(0, 100), st.integers(1, 100))
def test_thresholds_are_strict(power: int, total: int) -> None:
    assert is_quorum(power, total) == (power > 2 * total / 3)
    assert has_honest(power, total) == (power > total / 3)


@settings(max_examples=200, deadline=None)
@given(POWERS, st.data())
def test_no_validator_counts_twice(powers: list[int], data: st.DataObject) -> None:
    keeper = VoteKeeper(powers)
    vote = st.tuples(KINDS, st.integers(0, 2), st.integers(0, len(powers) - 1), VALUES)
    first: dict[tuple[VoteType, int, int], bytes] = {}
    for kind, round, position, value in data.draw(st.lists(vote, max_size=40)):
        counted, conflict = keeper.add(kind, round, position, value, b"", current_round=5)
        assert counted == ((kind, round, position) not in first)
        before = first.setdefault((kind, round, position), value)
        assert conflict is None or (conflict.first[0], conflict.second[0]) == (before, value)
    for kind in VoteType:
        for round in range(3):
            voted = {p: v for (k, r, p), v in first.items() if (k, r) == (kind, round)}
            for value in (NIL, b"a", b"b", b"c"):
                power = sum(powers[p] for p, v in voted.items() if v == value)
                assert (keeper.quorum(kind, round) == value) == is_quorum(power, sum(powers))
            assert keeper.quorum_any(kind, round) == is_quorum(sum(powers[p] for p in voted), sum(powers))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(KINDS, st.integers(0, 10**6), st.integers(0, 3), VALUES), max_size=120))
def test_one_validator_cannot_fill_the_memory(votes: list[tuple[VoteType, int, int, bytes]]) -> None:
    keeper = VoteKeeper([1, 1, 1, 1])
    for kind, round, position, value in votes:
        keeper.add(kind, round, position, value, b"", current_round=0)
        above = [r for r in keeper.rounds if r > 0]
        assert len(above) <= 4 * FUTURE_ROUNDS_MAX
        for p in range(4):
            rounds = [r for r in above if any(p in keeper.rounds[r].of(k).first for k in VoteType)]
            assert len(rounds) <= FUTURE_ROUNDS_MAX
    for round in keeper.rounds:
        for kind in VoteType:
            vote_set = keeper.rounds[round].of(kind)
            assert vote_set.power_any == len(vote_set.first) == sum(vote_set.power.values())


def test_a_higher_round_pushes_out_the_lowest() -> None:
    keeper = VoteKeeper([1, 1, 1, 1])
    for round in (3, 5, 7, 9):
        keeper.add(PREVOTE, round, 0, NIL, b"", current_round=0)
    assert sorted(keeper.rounds) == [5, 7, 9]
    assert keeper.add(PREVOTE, 4, 0, NIL, b"", current_round=0) == (False, None)
    assert keeper.add(PREVOTE, 4, 0, NIL, b"", current_round=4) == (True, None)


def test_a_certificate_counts_signers_that_equivocated_and_accuses_them() -> None:
    keeper = VoteKeeper([1, 1, 1, 1])
    keeper.add(PREVOTE, 0, 3, NIL, b"nil", current_round=0)
    keeper.add(PREVOTE, 0, 0, b"a", b"0", current_round=0)
    (conflict,) = keeper.add_certificate(PREVOTE, 0, b"a", [(0, b"0"), (1, b"1"), (3, b"3")])
    assert (conflict.position, conflict.first, conflict.second) == (3, (NIL, b"nil"), (b"a", b"3"))
    assert keeper.quorum(PREVOTE, 0) == b"a"
    assert keeper.rounds[0].prevotes.power == {NIL: 1, b"a": 3}
    assert keeper.rounds[0].prevotes.power_any == 3
    assert keeper.add_certificate(PREVOTE, 0, b"a", [(0, b"0"), (1, b"1"), (3, b"3")]) == []
    assert keeper.rounds[0].prevotes.power == {NIL: 1, b"a": 3}


MESSAGES = st.one_of(
    st.tuples(st.just("vote"), KINDS, st.integers(0, 2), st.integers(0, 3), VALUES),
    st.tuples(st.just("proposal"), st.integers(0, 2), st.sampled_from([b"a", b"b"]), st.integers(-1, 1)),
    st.tuples(st.just("timeout"), st.integers(0, 2), st.sampled_from(list(Step))),
)


def play(height: HeightMachine, messages: list[tuple[object, ...]]) -> list[object]:
    """Feed messages; rounds are entered as a non-proposer."""
    said: list[object] = []
    outputs = list(height.enter_round(0, False))
    queue = list(messages)
    while outputs or queue:
        if not outputs:
            match queue.pop(0):
                case ("vote", VoteType() as kind, int(round), int(position), bytes(value)):
                    outputs = height.add_vote(kind, round, position, value)[1]
                case ("proposal", int(round), bytes(value), int(valid_round)):
                    outputs = height.add_proposal(round, value, valid_round, valid=True)
                case ("timeout", int(round), Step() as step):
                    outputs = height.timeout(round, step)
            continue
        output = outputs.pop(0)
        said.append(output)
        if isinstance(output, machine.MoveToRound):
            outputs += height.enter_round(output.round, False)
    return said


@settings(max_examples=300, deadline=None)
@given(st.lists(MESSAGES, max_size=40))
def test_a_process_keeps_the_rules_whatever_it_hears(messages: list[tuple[object, ...]]) -> None:
    height = HeightMachine(1, [1, 1, 1, 1])
    said = play(height, messages)
    votes = [output for output in said if isinstance(output, machine.CastVote)]
    places = [(vote.round, vote.kind) for vote in votes]
    assert places == sorted(set(places)), "one vote of each kind per round, in order"
    for vote in votes:
        if vote.kind is VoteType.PRECOMMIT and vote.value != NIL:
            assert height.votes.quorum(PREVOTE, vote.round) == vote.value, "precommits rest on a polka"
    state = height.state
    assert state.locked_round <= state.valid_round
    if state.decision is not None:
        assert height.votes.quorum(VoteType.PRECOMMIT, state.decision_round) == state.decision


@settings(max_examples=150, deadline=None)
@given(st.permutations([(kind, position) for kind in VoteType for position in range(4)]), st.integers(0, 8))
def test_a_decision_does_not_depend_on_the_order_of_messages(
    votes: list[tuple[VoteType, int]], proposal_at: int
) -> None:
    height = HeightMachine(1, [1, 1, 1, 1])
    messages: list[tuple[object, ...]] = [("vote", kind, 0, position, b"a") for kind, position in votes]
    messages.insert(proposal_at, ("proposal", 0, b"a", -1))
    play(height, messages)
    assert height.state.decision == b"a"
