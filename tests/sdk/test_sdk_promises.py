"""A task as a node shows it gives the same promise as its spec, and the words hold the numbers."""

from __future__ import annotations

from consensus.ledger.guarantee import guarantee
from consensus.ledger.messages import TaskSpec
from consensus.ledger.parameters import mainnet_parameters
from gensyn_node.primitives import limits
from gensyn_node.primitives.money import NANO_PER_GSN
from gensyn_node.rpc.json_view import to_json
from gensyn_node.sdk.promises import percent, promise_lines, promise_of

SPEC = TaskSpec(
    "t", bytes(32), (), b"", b"", b"", 1_000, 50, 2, "rep-v1", 2, 2, 20 * NANO_PER_GSN, 400, 10**9, (), 90_000
)
GAS, ASK = 10**9, 50_000_000


def test_the_promise_of_a_task_as_json_is_that_of_its_spec() -> None:
    record = {
        "solver": "gsn1",
        "solver_price_nano": ASK,
        "bid_price_nano": 1,
        "gas_per_step": GAS,
        "watch_bps": mainnet_parameters().watch_bps,
        "spec": to_json(SPEC),
    }
    shown = promise_of({"record": record}, mainnet_parameters())
    assert shown == guarantee(SPEC, GAS, ASK, mainnet_parameters())
    assert shown.solver_stake_nano == 9 * 1_000 * GAS * ASK // 10**9
    waiting = promise_of({"record": {**record, "solver": "", "bid_price_nano": ASK}}, mainnet_parameters())
    assert waiting == shown
    before = promise_of({"record": {**record, "watch_bps": 0}}, mainnet_parameters())
    assert (before.watch_bps, shown.watch_bps) == (0, 2_500), "what the chain drew at its submission counts"


def test_words() -> None:
    lines = dict(promise_lines(guarantee(SPEC, GAS, ASK, mainnet_parameters())))
    assert lines["Checked"] == "4 to 8 of 20 segments"
    assert lines["Looked at again"] == "25 % of the instalments: one verified segment, by a drawn whistleblower"
    assert lines["Chance to catch"] == "one wrong segment 36.0 %, a tenth of them 59.0 %"
    assert lines["Cheat's stake"] == "450 GSN; one wrong segment must be worth more than 253.125 GSN to pay"
    full = TaskSpec(
        **{name: getattr(SPEC, name) for name in SPEC.__struct_fields__}
        | {"samples": limits.SEGMENTS_PER_INSTALMENT_MAX}
    )
    lines = dict(promise_lines(guarantee(full, GAS, ASK, mainnet_parameters())))
    assert lines["Checked"] == "all 20 segments, by every verifier" and "is caught" in lines["Cheat's stake"]


def test_per_cent_is_never_rounded_up() -> None:
    assert [percent(ppm) for ppm in (0, 999, 1_000, 999_999, 1_000_000)] == [
        "0.0 %",
        "0.0 %",
        "0.1 %",
        "99.9 %",
        "100.0 %",
    ]
