"""The light client against published cases: CometBFT's table, and traces generated from the TLA+ specification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from light_world import CHAIN, HOUR_MS, Members, header, members, seal

from consensus.light import reasons
from consensus.light.types import LightBlock, LightOptions, Trusted, check_options, trusted_of
from consensus.light.verify import verify_block
from consensus.tendermint.reasons import BAD_COMMIT
from consensus.tendermint.types import CommitFlag, CommitSlot
from gensyn_node.primitives.errors import Rejection

FOLDER = Path(__file__).parent.parent / "vectors/light"
TABLE = json.loads((FOLDER / "light_verifier.json").read_text())
TRACES = json.loads((FOLDER / "single_step_abstract.json").read_text())["cases"]
START_MS = 10 * HOUR_MS
"""The table's hour 0, so that hour -1 exists."""


def outcome(trusted: Trusted, block: LightBlock, now_ms: int, options: LightOptions) -> str:
    """`ok`, or the name of the reason."""
    try:
        verify_block(CHAIN, trusted, block, now_ms, options)
    except Rejection as rejection:
        return rejection.reason.name
    return "ok"


# --- the table


def powers(*of: int, first: int = 0) -> Members:
    return members({f"v{first + number}": power for number, power in enumerate(of)})


OLD = powers(*TABLE["trusted"]["powers"])
FIRST = seal(header(1, OLD, OLD, time_ms=START_MS), OLD, OLD)

ADJACENT_ERRORS = {
    "same header": reasons.DOES_NOT_FOLLOW,
    "other chain": reasons.BAD_LIGHT_BLOCK,
    "time before old": reasons.DOES_NOT_FOLLOW,
    "time from the future": reasons.FROM_THE_FUTURE,
    "only the 50": BAD_COMMIT,
    "validators not those announced": reasons.DOES_NOT_FOLLOW,
    "validators supplied differ from header": reasons.BAD_LIGHT_BLOCK,
    "old header expired": reasons.TRUST_EXPIRED,
}


def options_of(case: dict[str, Any]) -> LightOptions:
    numerator, denominator = case.get("trust_level", (1, 3))
    return LightOptions(case["trusting_period_h"] * HOUR_MS, TABLE["clock_drift_s"] * 1000, numerator, denominator)


@pytest.mark.parametrize("case", TABLE["adjacent"], ids=lambda case: case["name"])
def test_adjacent(case: dict[str, Any]) -> None:
    twist = case["twist"]
    others = powers(10, 11, 12, 13, first=10)
    validators = others if twist == "valset 10,11,12,13" else OLD
    signers = {f"v{n + (10 if validators is others else 0)}" for n in range(case["signers_from"], case["signers_to"])}
    if twist == "same":
        block = FIRST
    else:
        chain = "other-chain" if twist == "other chain" else CHAIN
        time_ms = START_MS + round(case["new_time_h"] * HOUR_MS)
        head = header(2, validators, validators, chain=chain, time_ms=time_ms, previous=FIRST.id)
        block = seal(head, validators, validators, signers=signers)
    if twist.startswith("supplied"):
        block = LightBlock(block.header, block.commit, others, block.next_validators)
    found = outcome(trusted_of(FIRST), block, START_MS + case["now_h"] * HOUR_MS, options_of(case))
    expected = "ok" if case["expect"] == "ok" else ADJACENT_ERRORS[case["name"]].name
    assert found == expected


@pytest.mark.parametrize("case", TABLE["non_adjacent"], ids=lambda case: case["name"])
def test_non_adjacent(case: dict[str, Any]) -> None:
    of_power = {validator.power: validator for validator in OLD}
    new = tuple(sorted((of_power[power] for power in case["new_powers"]), key=lambda one: -one.power))
    signers = {f"v{index}" for index in case["old_indices_of_new_set_signing"]}
    head = header(case["height"], new, new, time_ms=START_MS + case["new_time_h"] * HOUR_MS)
    found = outcome(
        trusted_of(FIRST), seal(head, new, new, signers=signers), START_MS + case["now_h"] * HOUR_MS, options_of(case)
    )
    expected = {"ok": "ok", "er": BAD_COMMIT.name, "no": reasons.NOT_ENOUGH_TRUST.name}[case["expect"][:2]]
    assert found == expected


@pytest.mark.parametrize("case", TABLE["trust_level"], ids=lambda case: str(case["level"]))
def test_trust_level(case: dict[str, Any]) -> None:
    options = LightOptions(1, 0, *case["level"])
    if case["valid"]:
        assert check_options(options) is options
    else:
        with pytest.raises(Rejection):
            check_options(options)


# --- the traces


def named(validators: list[dict[str, Any]]) -> Members:
    return members({one["name"]: one["power"] for one in validators})


def block_of(case: dict[str, Any], validators: Members, previous: bytes) -> LightBlock:
    """The abstract block in our encoding, with every defect that it names."""
    following = named(case["next_validators"])
    head = header(
        case["height"], validators, following, chain="test-chain", time_ms=case["time_ns"] // 10**6, previous=previous
    )
    signatures = [one for one in case["signatures"] if one["kind"] == "block"]
    block = seal(head, validators, following, signers={one["by"] for one in signatures}, round=case["round"])
    bad = {one["by"] for one in signatures if one["in_validators"] and not one["signature_valid"]}
    spoilt = {validator.address for validator in members(sorted(bad))} if bad else set()
    slots = tuple(
        CommitSlot(CommitFlag.COMMIT, bytes(64)) if validator.address in spoilt else slot
        for validator, slot in zip(block.validators, block.commit.slots, strict=True)
    )
    # A signature of somebody outside the set has no slot: it makes the commit longer than the set.
    slots += tuple(CommitSlot(CommitFlag.COMMIT, bytes(64)) for one in signatures if not one["in_validators"])
    return LightBlock(
        head,
        type(block.commit)(case["commit_height"], case["round"], head.id, slots),
        block.validators,
        block.next_validators,
    )


VERDICTS = {"ok": "SUCCESS", reasons.NOT_ENOUGH_TRUST.name: "NOT_ENOUGH_TRUST"}


@pytest.mark.parametrize("case", TRACES, ids=lambda case: case["name"])
def test_trace_of_the_specification(case: dict[str, Any]) -> None:
    start = case["trusted"]
    trusted = Trusted(start["height"], b"t" * 32, start["time_ns"] // 10**6, named(start["next_validators"]))
    options = LightOptions(case["trusting_period_ns"] // 10**6, clock_drift_ms=0)
    for step in case["steps"]:
        block = block_of(step["block"], named(step["block"]["validators"]), trusted.block_id)
        found = outcome(trusted, block, step["now_ns"] // 10**6, options)
        assert VERDICTS.get(found, "INVALID") == step["verdict"], (case["name"], step["block"]["height"], found)
        if found == "ok":
            trusted = trusted_of(block)


def test_all_of_the_data_is_used() -> None:
    steps = [step for case in TRACES for step in case["steps"]]
    assert (len(TRACES), len(steps)) == (41, 99)
    for step in steps:
        block = step["block"]
        assert block["validators_hash_matches"] and block["next_validators_hash_matches"]
        assert block["chain_id"] == "test-chain" and block["header_hash_is_commit_block"]
        assert all(one["kind"] in ("block", "absent") for one in block["signatures"])
