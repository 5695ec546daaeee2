"""Every decoder reads a message and gives the same bytes again, or refuses it: nothing else, whatever the bytes."""

from __future__ import annotations

import random

import pytest

from tests.fuzz import call_sites, table
from tests.fuzz.campaign import attempt, run_target, seeds_of, targets

INPUTS = 60
"""For each decoder in `make test`; a campaign takes a million."""
TARGETS = targets()


def test_every_place_that_decodes_is_in_the_table() -> None:
    known = {target.name for target in table.codec_targets()}
    unknown = {(site.module, site.expression) for site in call_sites.decode_sites() if site.type_ is None}
    assert unknown == set(table.RUN_TIME_TYPES)
    assert len(known) > 30
    readers = set(call_sites.readers())
    listed = table.READER_TARGETS.keys() | table.READS_FILES.keys()
    assert readers - listed == set()
    assert listed - readers - {"gensyn_node.keys.keystore.unpack"} == set()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_decoder_reads_its_valid_messages_and_survives_their_mutations(target: table.Target) -> None:
    seeds = seeds_of(target, 1)
    assert any(attempt(target, seed) == (True, "") for seed in seeds)
    account = run_target(target, range(INPUTS), 1)
    assert [failure.command for failure in account.failures] == [], account.failures[0].what
    assert account.inputs == INPUTS


def test_a_campaign_makes_the_same_inputs_again_and_notices_a_crash() -> None:
    def broken(data: bytes) -> bytes:
        if len(data) > 40:
            raise KeyError("a bug")
        return data

    target = table.Target("broken", broken, lambda rng: [rng.randbytes(32)], lambda value: value)
    first, second = run_target(target, range(200), 7), run_target(target, range(200), 7)
    assert first.failures and "KeyError" in first.failures[0].what
    assert [one.data for one in first.failures] == [one.data for one in second.failures]
    worse = table.Target("changed", lambda data: data, lambda rng: [b"a"], lambda value: value + b"b")
    assert run_target(worse, range(3), 7).failures


def test_the_mutator_leaves_some_messages_alone_and_changes_most() -> None:
    target = next(one for one in TARGETS if one.name == "decode_transaction")
    seeds = seeds_of(target, 1)
    inputs = [target.mutate(seeds, random.Random(number)) for number in range(400)]
    same = sum(data in seeds for data in inputs)
    assert 5 <= same <= 200
    assert len(set(inputs)) > 300
