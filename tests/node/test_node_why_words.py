"""The sentences of why: each cause once, what has to be solved first first, each with the next command."""

from __future__ import annotations

import msgspec
import pytest

from consensus.ledger import why
from consensus.ledger.records import Provider
from gensyn_node.app.why_words import NodeFacts, causes, change_text, node_sentence, standing_text
from gensyn_node.primitives.limits import MIB
from gensyn_node.primitives.money import NANO_PER_GSN as GSN

FOUND = why.ProviderWhy(bytes(20), 1, 1, (why.Standing(bytes(20), "n", 1, bytes(32), 0, (), 1_250),), ())


def provider(**changes: object) -> Provider:
    base = Provider(bytes(20), "n", "active", 7, "cpu", 0, 1, 0, 0, (), 0, 0, (), 0, 0, 0, 0)
    return msgspec.structs.replace(base, **changes)


def facts(**changes: object) -> NodeFacts:
    base = NodeFacts(
        syncing=False,
        peers=3,
        disk_tight=False,
        role="auto",
        offered=3,
        auto_why="",
        register=True,
        provider=provider(),
        balance_nano=10 * GSN,
        needed_nano=5 * GSN,
        jailed_until=0,
        failures=(),
        found=FOUND,
        open_tasks=2,
    )
    return msgspec.structs.replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "kinds", "words"),
    [
        ({}, [], "12.5 %"),
        ({"syncing": True, "peers": 0}, ["syncing", "no_peers"], "catches up"),
        ({"peers": 0}, ["no_peers"], "gensyn node peers"),
        ({"disk_tight": True}, ["disk"], "disk"),
        ({"role": "none", "offered": 0}, ["role"], "gensyn node role auto"),
        ({"offered": 0, "auto_why": "solver: on its battery"}, ["auto"], "battery"),
        ({"provider": None, "found": None}, ["not_registered"], "wait a few blocks"),
        ({"provider": None, "found": None, "balance_nano": GSN}, ["balance"], "by 4 GSN"),
        (
            {"provider": None, "found": None, "balance_nano": GSN, "register": False},
            ["balance", "not_registered"],
            "send it 4 GSN",
        ),
        ({"provider": provider(state="paused", misses=2)}, ["paused"], "after 2 missed duties"),
        ({"provider": provider(state="withdrawing")}, ["withdrawing"], "leaving"),
        ({"jailed_until": 77}, ["jailed"], "block 77"),
        ({"failures": ("a", "b", "c", "d")}, ["failed"] * 3, "failed lately: b"),
        ({"found": why.ProviderWhy(bytes(20), 0, 0, (), ())}, ["no_draw"], "2 are under way"),
    ],
)
def test_causes_of_a_node(changes: dict[str, object], kinds: list[str], words: str) -> None:
    one = facts(**changes)
    assert [cause.kind for cause in causes(one)] == kinds
    assert words in node_sentence(one, "idle: whatever")
    assert all(cause.text and cause.next for cause in causes(one))
    assert node_sentence(one, "training task ab: step 3 of 9") == "It works: training task ab: step 3 of 9."


@pytest.mark.parametrize(
    ("word", "have", "need", "text"),
    [
        ("memory", 1024 * MIB, 2048 * MIB, "1024 MiB short"),
        ("price", 3 * GSN, 2 * GSN, "1 GSN more than the bid"),
        ("bond", GSN, 3 * GSN, "2 GSN short"),
        ("busy", 4, 4, "4 such jobs"),
        ("role", 2, 1, "solver"),
        ("state", 0, 0, "paused"),
        ("removed", 0, 0, "failed this task"),
        ("submitter", 0, 0, "submitted"),
        ("drawn", 0, 0, "already"),
    ],
)
def test_every_hindrance_is_told_with_its_number(word: str, have: int, need: int, text: str) -> None:
    hindrance = why.Hindrance(word, have, need)
    told = standing_text(why.Standing(bytes(20), "n", 1, bytes(32), 0, (hindrance,), 0))
    assert text in told.reasons[0] and not told.eligible


@pytest.mark.parametrize(
    ("kind", "amount", "text"),
    [
        (why.RAISE_PRICE, 2 * GSN, "2 GSN"),
        (why.LESS_MEMORY, 512 * MIB, "512 MiB"),
        (why.WAIT, 99, "block 99"),
        (why.NEW_PROVIDERS, 2, "one more"),
        (why.LOWER_ASK, GSN, "1 GSN"),
        (why.MORE_MEMORY, MIB + 1, "2 MiB"),
        (why.MORE_BOND, GSN, "1 GSN"),
        (why.RESUME, 0, "resuming"),
        (why.OFFER_ROLE, 3, "solver, verifier"),
    ],
)
def test_every_change_is_told_with_its_amount(kind: str, amount: int, text: str) -> None:
    told = change_text(why.Change(kind, amount, 1))
    assert text in told.text and told.how and (told.kind, told.amount, told.gains) == (kind, amount, 1)
