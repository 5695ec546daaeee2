"""What a task's verification promises: its spec and price as a node shows them, and the chain's parameters."""

from __future__ import annotations

from typing import Any

import msgspec

from consensus.ledger.guarantee import Guarantee, guarantee
from consensus.ledger.parameters import Parameters
from gensyn_node.primitives.money import format_amount
from gensyn_node.sdk.dispute_replay import spec_from_json
from proofs.classes import REP_V1

NATIVE_MEANING = "near an own execution, or every operator looked at is within its proven bound; not: equal bits"


def promise_of(task: dict[str, Any], parameters: Parameters) -> Guarantee:
    """The promise of a task as JSON, at its solver's price; at its bid while it has no solver."""
    record = task["record"]
    price = record["solver_price_nano"] if record["solver"] else record["bid_price_nano"]
    own = msgspec.structs.replace(parameters, watch_bps=record["watch_bps"])
    return guarantee(spec_from_json(record["spec"]), record["gas_per_step"], price, own)


def promise_lines(promise: Guarantee, arithmetic: str = REP_V1) -> list[tuple[str, str]]:
    """It in words, by heading."""
    if promise.full:
        checked = f"all {promise.segments} segments, by every verifier"
    elif promise.checked_least == promise.checked_most:
        checked = f"{promise.checked_most} of {promise.segments} segments"
    else:
        checked = f"{promise.checked_least} to {promise.checked_most} of {promise.segments} segments"
    one, tenth = percent(promise.one_bad_ppm), percent(promise.tenth_bad_ppm)
    stake = format_amount(promise.solver_stake_nano)
    if promise.gain_max_nano is None:
        pays = f"{stake}; an error in any segment is caught"
    else:
        pays = f"{stake}; one wrong segment must be worth more than {format_amount(promise.gain_max_nano)} to pay"
    meaning = () if arithmetic == REP_V1 else (("Checked means", NATIVE_MEANING),)
    share = f"{promise.watch_bps / 100:g} % of the instalments: one verified segment, by a drawn whistleblower"
    watched = (("Looked at again", share),) if promise.watch_bps else ()
    return [
        ("Checked", checked),
        *meaning,
        *watched,
        ("Chance to catch", f"one wrong segment {one}, a tenth of them {tenth}"),
        ("Cheat's stake", pays),
    ]


def percent(ppm: int) -> str:
    """Parts per million as per cent, never rounded up."""
    return f"{ppm // 1_000 / 10:.1f} %"
