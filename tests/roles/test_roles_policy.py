"""The pure choices of roles: words, registration, cheats, the bits of a loss."""

from __future__ import annotations

import math
import struct

import msgspec
import pytest
from ledger_world import PROGRAM

from consensus.ledger.messages import PauseProvider, RegisterProvider, ResumeProvider, UpdateProvider
from consensus.ledger.parameters import devnet_parameters, mainnet_parameters
from consensus.ledger.queries import Eligibility
from consensus.ledger.records import Provider
from gensyn_node.primitives.errors import Rejection
from gensyn_node.roles.cheats import Cheats, fault_for, parse_cheat
from gensyn_node.roles.policy import Offer, bond_and_reserve, mask_of, registration, why_idle
from gensyn_node.roles.solver import loss_bits

OFFER = Offer("cpu", 1 << 30, 5_000, 0, ("peer",), "node")


def provider(**changes: object) -> Provider:
    base = Provider(
        address=bytes(20),
        name="node",
        state="active",
        roles=7,
        device_class="cpu",
        memory_bytes=1 << 30,
        ask_price_nano=5_000,
        bond_nano=10**10,
        locked_nano=0,
        endpoints=("peer",),
        solving=0,
        verifying=0,
        work=(),
        misses=0,
        registered_height=0,
        earned_nano=0,
        slashed_nano=0,
    )
    return msgspec.structs.replace(base, **changes)


@pytest.mark.parametrize(
    ("word", "mask"), [("auto", 7), ("solver", 1), ("verifier", 2), ("whistleblower", 4), ("none", 0)]
)
def test_words_of_roles(word: str, mask: int) -> None:
    assert mask_of(word) == mask


@pytest.mark.parametrize("word", ["", "Solver", "all", "7"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(Rejection):
        mask_of(word)


@pytest.mark.parametrize(
    ("present", "mask", "kind"),
    [
        (provider(), 7, None),
        (provider(), 2, UpdateProvider),
        (provider(endpoints=("old",)), 7, UpdateProvider),
        (provider(ask_price_nano=1), 7, UpdateProvider),
        (provider(), 0, PauseProvider),
        (provider(state="paused"), 0, None),
        (provider(state="paused"), 7, ResumeProvider),
        (provider(state="withdrawing"), 7, None),
        (provider(state="withdrawing", endpoints=("old",)), 7, None),
        (provider(state="withdrawing"), 0, None),
    ],
)
def test_the_record_is_brought_in_line_with_the_offer(present: Provider, mask: int, kind: type | None) -> None:
    message = registration(present, mask, OFFER, devnet_parameters(), 10**12)
    assert message is None if kind is None else isinstance(message, kind)


def test_a_raised_bond_is_put_up_when_the_account_can_pay_for_it() -> None:
    offer, parameters = msgspec.structs.replace(OFFER, bond_nano=3 * 10**10), devnet_parameters()
    message = registration(provider(), 7, offer, parameters, 10**12)
    assert isinstance(message, UpdateProvider) and message.add_bond_nano == 2 * 10**10
    assert registration(provider(), 7, offer, parameters, 2 * 10**10) is None, "fees for its duties are left"
    assert registration(provider(bond_nano=4 * 10**10), 7, offer, parameters, 10**12) is None
    more_memory = msgspec.structs.replace(OFFER, memory_bytes=2 << 30)
    assert isinstance(registration(provider(), 7, more_memory, parameters, 10**12), UpdateProvider)


def test_who_cannot_pay_for_its_duties_does_not_register() -> None:
    for parameters in (devnet_parameters(), mainnet_parameters()):
        need = bond_and_reserve(0, parameters)
        assert need > parameters.provider_bond_min_nano
        assert registration(None, 7, OFFER, parameters, need - 1) is None
        message = registration(None, 7, OFFER, parameters, need)
        assert isinstance(message, RegisterProvider) and message.bond_nano == parameters.provider_bond_min_nano
        assert registration(None, 0, OFFER, parameters, need) is None


def test_idleness_is_explained() -> None:
    excluded = Eligibility(bytes(20), 1, b"\xab" * 32, 0, False, "memory", 5, 9)
    able = Eligibility(bytes(20), 1, b"\xab" * 32, 0, True, "", 0, 0)
    for mask, present, balance, tasks, words in (
        (0, None, 0, [], "role is none"),
        (7, None, 5, [], "more than the balance"),
        (7, None, 10, [], "provider.register"),
        (7, provider(state="paused"), 0, [], "is paused"),
        (7, provider(), 0, [able, excluded], "by memory (have 5, need 9)"),
        (7, provider(), 0, [able], "next draw"),
        (7, provider(), 0, [], "no task"),
    ):
        assert words in why_idle(mask, present, 10, balance, tasks)


def test_cheats_are_parsed() -> None:
    assert parse_cheat("") == Cheats()
    assert parse_cheat("lazy-verifier") == Cheats(lazy_verifier=True)
    assert parse_cheat("flip-bit@step=37") == Cheats(flip_bit_step=37)
    assert parse_cheat("skip-step@step=3") == Cheats(skip_step=3)


@pytest.mark.parametrize("text", ["flip-bit", "flip-bit@step=", "flip-bit@step=-1", "flip-bit@step=1x", "lazy", " "])
def test_other_cheats_are_refused(text: str) -> None:
    with pytest.raises(Rejection):
        parse_cheat(text)


def test_the_fault_lies_in_an_operator_of_the_program() -> None:
    assert fault_for(Cheats(), PROGRAM) is None
    fault = fault_for(parse_cheat("flip-bit@step=3"), PROGRAM)
    assert fault is not None and fault.step == 3
    assert PROGRAM.first_node_value <= fault.value < PROGRAM.first_node_value + len(PROGRAM.nodes)


@pytest.mark.parametrize("loss", [0.0, 1.5, -2.25, math.inf, -math.inf, 1e39, -1e300, math.nan, 5e-324])
def test_any_loss_has_bits(loss: float) -> None:
    bits = loss_bits(loss)
    assert 0 <= bits < 1 << 32
    value = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
    if math.isnan(loss):
        assert math.isnan(value)
    elif abs(loss) > 3.5e38:
        assert value == math.copysign(math.inf, loss)
    else:
        assert math.isclose(value, loss, rel_tol=1e-6, abs_tol=1e-44)
